"""Lines as the receiver writes them, with credentials that no shipper may let out; or the check of what came out.

usage: redaction.py lines > LINES      redaction.py check < OUTPUT
"""
import json
import sys
SECRET = "aHVudGVyMg=="
annotated = {"metadata": {"name": "db", "namespace": "shop", "managedFields": [{"manager": "kubectl"}], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"data":{"password":"%s"}}' % SECRET, "note": "plain"}},
             "kind": "Secret", "apiVersion": "v1", "data": {"password": SECRET}, "stringData": {"password": "hunter2"}}
def review(resource, kind, obj, old=None, sub=None, group="", operation="CREATE"):
    request = {"uid": "u-" + resource + "-" + operation, "kind": {"group": group, "version": "v1", "kind": kind},
               "resource": {"group": group, "version": "v1", "resource": resource}, "name": "db", "namespace": "shop",
               "operation": operation, "userInfo": {"username": "alice"}, "object": obj, "oldObject": old, "dryRun": False, "options": None}
    if sub: request["subResource"] = sub
    return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request, "requestReceivedTimestamp": "2026-11-20T21:34:38.123456789Z"}
def event(resource, request, response, sub=None, verb="create"):
    ref = {"resource": resource, "namespace": "shop", "name": "db", "apiVersion": "v1"}
    if sub: ref["subresource"] = sub
    return {"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": "a-" + resource + verb, "stage": "ResponseComplete", "verb": verb,
            "user": {"username": "alice"}, "objectRef": ref, "requestObject": request, "responseObject": response, "stageTimestamp": "2026-11-20T21:34:38.123456Z"}
lines = [
    review("secrets", "Secret", annotated),
    review("secrets", "Secret", annotated, annotated, operation="UPDATE"),
    review("secrets", "Secret", None, annotated, operation="DELETE"),
    review("serviceaccounts", "TokenRequest", {"kind": "TokenRequest", "metadata": {"name": "sa"}, "spec": {}, "status": {"token": SECRET}}, sub="token", group=""),
    review("tokenreviews", "TokenReview", {"kind": "TokenReview", "metadata": {}, "spec": {"token": SECRET}}, group="authentication.k8s.io"),
    event("secrets", annotated, annotated),
    event("secrets", None, {"kind": "SecretList", "items": [annotated]}, verb="list"),
    event("secrets", [{"op": "add", "path": "/data/x", "value": SECRET}], annotated, verb="patch"),
    event("serviceaccounts", {"spec": {}}, {"status": {"token": SECRET}}, sub="token"),
    review("configmaps", "ConfigMap", {"kind": "ConfigMap", "metadata": {"name": "c", "managedFields": [1]}, "data": {"keep": "me"}}),
    event("configmaps", {"data": {"keep": "me"}}, {"data": {"keep": "me"}}),
    review("pods", "PodExecOptions", {"kind": "PodExecOptions", "command": ["id"]}, sub="exec", operation="CONNECT"),
]
UNREADABLE = ["not JSON " + SECRET, '["an array"]']


def check() -> None:
    """Of each line one came out, without the credential; those that hold none are whole but for managedFields."""
    raw = sys.stdin.read()
    assert SECRET not in raw and "hunter2" not in raw, "a credential came out"
    out = [json.loads(text) for text in raw.splitlines()]
    assert len(out) == len(lines) + len(UNREADABLE), f"{len(out)} lines came out"
    for line, got in zip(lines, out):
        what = json.dumps(got)
        request = line.get("request", {})
        resource = request.get("resource", line.get("objectRef"))["resource"]
        for member in ("requestReceivedTimestamp", "stageTimestamp", "auditID", "verb", "objectRef", "user"):
            assert got.get(member) == line.get(member), f"{member}: {what}"
        for member in ("uid", "operation", "userInfo", "name", "resource"):
            assert got.get("request", {}).get(member) == request.get(member), f"{member}: {what}"
        pairs = [(request.get(m), got.get("request", {}).get(m)) for m in ("object", "oldObject")]
        pairs += [(line.get(m), got.get(m)) for m in ("requestObject", "responseObject")]
        for before, after in pairs:
            if before is None:
                continue
            if resource in ("configmaps", "pods"):
                expected = json.loads(json.dumps(before))
                expected.get("metadata", {}).pop("managedFields", None)
                assert after == expected, f"changed: {what}"
            else:
                assert after["redacted"] is True and set(after) <= {"metadata", "redacted"}, what
                assert "annotations" not in (after.get("metadata") or {}), what
        assert got["document_id"], what
    assert all("unreadable" in got for got in out[len(lines) :]), "what can't be judged stays inside"
    print(f"{len(out)} lines came out as they should")


if sys.argv[1] == "check":
    check()
else:
    for line in lines:
        print(json.dumps(line, separators=(",", ":")))
    print("\n".join(UNREADABLE))
