"""Evaluates every matchCondition under k8s/ on recorded AdmissionReviews, as the API server would: what is heartbeat
is left out, all else is recorded, by exactly one webhook, and no expression ever fails (a failed one is a lost event).

usage: conditions.py ADMISSION.JSONL MANIFEST...     needs cel-python and PyYAML
"""

import copy
import json
import sys

import celpy
import yaml


def programs(webhook: dict) -> list:
    environment = celpy.Environment()
    return [(c["name"], environment.program(environment.compile(c["expression"]))) for c in webhook.get("matchConditions", [])]


def as_the_api_server(request: dict) -> dict:
    """AdmissionRequest through its `omitempty` members: empty ones are absent, as has() sees it."""
    # No condition of ours looks into the objects, whose numbers do not all fit this library's integers.
    request = {name: copy.deepcopy(value) for name, value in request.items() if name not in ("object", "oldObject", "options")}
    for member in ("subResource", "name", "namespace", "dryRun"):
        if not request.get(member):
            request.pop(member, None)
    return request


def asked(webhook: dict, request: dict) -> bool:
    """Whether namespaceSelector and rules of a webhook take a request."""
    namespace = request.get("namespace")
    for expression in (webhook.get("namespaceSelector") or {}).get("matchExpressions", []):
        assert expression["key"] == "kubernetes.io/metadata.name", expression
        # What is cluster-scoped is never left out by a selector.
        if namespace and (namespace in expression["values"]) != (expression["operator"] == "In"):
            return False
    resource, sub = request["resource"], request.get("subResource")
    return any(
        ("*" in rule["operations"] or request["operation"] in rule["operations"])
        and ("*" in rule["apiGroups"] or resource.get("group", "") in rule["apiGroups"])
        and any(fits(pattern, resource["resource"], sub) for pattern in rule["resources"])
        and (rule.get("scope") != "Namespaced" or namespace)
        for rule in webhook["rules"]
    )


def fits(pattern: str, resource: str, sub: str | None) -> bool:
    wanted, _, wanted_sub = pattern.partition("/")
    return wanted in ("*", resource) and (wanted_sub == "*" or wanted_sub == (sub or ""))


def main() -> None:
    recorded = [json.loads(line)["request"] for line in open(sys.argv[1], encoding="utf-8")]

    def made(resource: str, group: str, operation: str, user: dict, **more) -> dict:
        return {"uid": "made", "resource": {"group": group, "version": "v1", "resource": resource},
                "operation": operation, "userInfo": user, **more}

    node = {"username": "system:node:a", "groups": ["system:nodes", "system:authenticated"]}
    alice = {"username": "alice", "groups": ["system:authenticated"]}
    bare = {}
    heartbeats = [
        made("leases", "coordination.k8s.io", "UPDATE", node, namespace="kube-node-lease"),
        made("leases", "coordination.k8s.io", "UPDATE", alice, namespace="shop"),
        made("nodes", "", "UPDATE", node, subResource="status"),
    ]
    others = [
        made("leases", "coordination.k8s.io", "CREATE", node, namespace="kube-node-lease"),
        made("nodes", "", "UPDATE", alice, subResource="status"),
        made("nodes", "", "UPDATE", bare, subResource="status"),
        made("nodes", "", "UPDATE", node),
        made("pods", "", "CONNECT", alice, subResource="exec", namespace="shop"),
        made("secrets", "", "CREATE", alice, namespace="kube-system"),
        made("deployments", "apps", "DELETE", bare, namespace="kube-audit-rest"),
        made("namespaces", "", "CREATE", alice, namespace="new"),
        made("configmaps", "", "UPDATE", alice, namespace="kube-audit-rest"),
        made("secrets", "", "DELETE", alice, namespace="kube-audit-rest"),
        made("pods", "", "CONNECT", alice, subResource="exec", namespace="kube-audit-rest"),
        made("pods", "", "CREATE", node, namespace="kube-audit-rest"),
    ]

    # Without these a cluster cannot get the node on which the receiver would start, nor elect a leader.
    def service_account(namespace: str) -> dict:
        return {"username": f"system:serviceaccount:{namespace}:{namespace}",
                "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]}

    indispensable = [
        made("nodeclaims", "karpenter.sh", "CREATE", service_account("karpenter")),
        made("machines", "cluster.x-k8s.io", "CREATE", service_account("capi-system"), namespace="clusters"),
        made("nodes", "", "CREATE", {"username": "eks:node-manager", "groups": ["system:authenticated"]}),
        made("pods", "", "CREATE", {"username": "eks:fargate-scheduler", "groups": ["system:authenticated"]},
             subResource="binding", namespace="shop"),
        made("nodes", "", "UPDATE", {"username": "aksService", "groups": ["system:masters"]}),
        made("ipamblocks", "crd.projectcalico.org", "UPDATE", service_account("calico-system")),
        made("leases", "coordination.k8s.io", "CREATE", service_account("shop"), namespace="shop"),
        made("leases", "coordination.k8s.io", "DELETE", alice, namespace="shop"),
        made("deployments", "apps", "UPDATE", alice, namespace="kube-audit-rest"),
    ]
    refused_while_down = [
        made("deployments", "apps", "CREATE", alice, namespace="shop"),
        made("pods", "", "CONNECT", service_account("shop"), subResource="exec", namespace="shop"),
        made("clusterrolebindings", "rbac.authorization.k8s.io", "CREATE", alice),
    ]

    def heartbeat(request: dict) -> bool:
        resource = (request["resource"].get("group", ""), request["resource"]["resource"])
        if resource == ("coordination.k8s.io", "leases"):
            return request["operation"] == "UPDATE"
        groups = request["userInfo"].get("groups", [])
        return resource == ("", "nodes") and request.get("subResource") == "status" and "system:nodes" in groups

    def own_recorded(request: dict) -> bool:
        """Of our own namespace: the policy and Secrets, and ways into a pod."""
        resource, operation = request["resource"]["resource"], request["operation"]
        return resource in ("configmaps", "secrets") or operation == "CONNECT" and resource == "pods"

    for path in sys.argv[2:]:
        for document in yaml.safe_load_all(open(path, encoding="utf-8")):
            if not document or document.get("kind") != "ValidatingWebhookConfiguration":
                continue
            webhooks = [(w, programs(w)) for w in document["webhooks"]]
            gap = any(w.get("namespaceSelector") for w in document["webhooks"])
            fail_closed = any(w["failurePolicy"] == "Fail" for w in document["webhooks"])
            sent = left_out = 0
            for request in recorded + heartbeats + others + indispensable + refused_while_down:
                seen = as_the_api_server(request)
                activation = {"request": celpy.json_to_cel(seen)}
                matching = []
                for webhook, conditions in webhooks:
                    verdicts = []
                    for condition, program in conditions:
                        try:
                            verdicts.append(bool(program.evaluate(activation)))
                        except celpy.CELEvalError as why:
                            sys.exit(f"{path}: {condition} fails on {json.dumps(seen)[:400]}: {why}")
                    if all(verdicts) and asked(webhook, request):
                        matching.append(webhook["name"])
                if "less-is-recorded" in path:
                    continue
                refused = [w["name"] for w, _ in webhooks if w["name"] in matching and w["failurePolicy"] == "Fail"]
                if request in indispensable and refused:
                    sys.exit(f"{path}: {refused} would refuse {json.dumps(seen)[:400]}")
                if request in refused_while_down and not refused and fail_closed:
                    sys.exit(f"{path}: {json.dumps(seen)[:400]} would pass unrecorded")
                own = request.get("namespace") == "kube-audit-rest"
                expected = 0 if heartbeat(request) or gap and own and not own_recorded(request) else 1
                if len(matching) != expected:
                    sys.exit(f"{path}: {matching} record {json.dumps(seen)[:400]}")
                sent += expected
                left_out += 1 - expected
            if "less-is-recorded" in path:
                print(f"{path}: no expression failed")
                continue
            print(f"{path}: {sent} requests recorded once, {left_out} heartbeats left out, no expression failed")


main()
