"""Holds the Helm chart to the kustomize overlays: what `helm template` makes of each file in k8s/chart/ci is what
kustomize makes of the overlay of that name, object for object, but for the Namespace and Helm's own labels. Renders other
values, too, to be checked against schemas; and sees that a value that does not exist is refused.

usage: chart.py BUILT     BUILT: the overlays as NAME.yaml; what else the chart makes is written there. Needs helm, PyYAML
"""

import pathlib
import subprocess
import sys

import yaml

CHART = pathlib.Path(__file__).resolve().parents[2] / "k8s/chart"
HELMS_OWN = ("app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart")


def template(values: str, release: str = "kube-audit-rest", namespace: str = "kube-audit-rest") -> subprocess.CompletedProcess:
    return subprocess.run(["helm", "template", release, str(CHART), "--namespace", namespace, "--values", "-"],
                          input=values, text=True, capture_output=True)


def objects(text: str) -> dict:
    """By kind and name, without the Namespace and Helm's own labels."""
    found = {}
    for document in yaml.safe_load_all(text):
        if not document or document["kind"] == "Namespace":
            continue
        for label in HELMS_OWN:
            document["metadata"].get("labels", {}).pop(label, None)
        key = f"{document['apiVersion']} {document['kind']} {document['metadata']['name']}"
        assert key not in found, f"{key} twice"
        found[key] = document
    return found


def differences(path: str, ours: object, theirs: object) -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = sorted(ours.keys() | theirs.keys())
        return [text for name in names for text in differences(f"{path}.{name}", ours.get(name), theirs.get(name))]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [text for i, pair in enumerate(zip(ours, theirs)) for text in differences(f"{path}[{i}]", *pair)]
    return [] if ours == theirs else [f"{path}: the chart has {ours!r}, kustomize {theirs!r}"]


def main() -> None:
    built = pathlib.Path(sys.argv[1])
    names = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
    overlays = {path.name for path in (CHART.parent / "overlays").iterdir()}
    # The one without values of its own is the base, and a script beside it.
    assert overlays - set(names) == {"openssl"}, f"overlays without values: {overlays - set(names)}"
    for name in names:
        answer = template((CHART / "ci" / f"{name}.yaml").read_text())
        if answer.returncode:
            sys.exit(f"{name}: {answer.stderr}")
        theirs = objects((built / f"{name}.yaml").read_text())
        if name in ("monitoring", "networkpolicy"):
            theirs |= objects((built / "base.yaml").read_text())
        found = differences(name, objects(answer.stdout), theirs)
        if found:
            sys.exit("\n".join(found[:20]))
    print(f"{len(names)} files of values make what kustomize makes: {' '.join(names)}")

    # Another name and namespace, and everything at once.
    everything = yaml.safe_dump({
        "persistence": {"enabled": True, "storageClassName": "fast"},
        "certificate": {"from": "certManager", "issuerRef": {"name": "corporate", "kind": "ClusterIssuer", "group": "cert-manager.io"}},
        "sources": {"enabled": True}, "evidence": {"enabled": True}, "failClosed": {"enabled": True}, "auditWebhook": {"enabled": True},
        "hostNetwork": True, "serverPort": 9443, "priorityClass": {"name": "system-cluster-critical"},
        "policy": {"preset": "people-only"}, "platform": "aks", "networkPolicy": {"enabled": True},
        "webhook": {"extraMatchConditions": [{"name": "not-a-dry-run", "expression": "!(has(request.dryRun) && request.dryRun == true)"}],
                    "annotations": {"example.com/owner": "security"}},
        "monitoring": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
                       "rules": {"enabled": True, "labels": {"release": "prometheus"}}, "dashboard": {"enabled": True}},
        "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "registry"}]},
        "tolerations": [{"operator": "Exists"}], "nodeSelector": {"kubernetes.io/os": "linux"},
        "initContainers": [{"name": "shipper", "image": "shipper:1", "restartPolicy": "Always"}],
        "volumes": [{"name": "shipper", "emptyDir": {}}], "volumeMounts": [{"name": "shipper", "mountPath": "/shipper"}], "extraArgs": ["--verbosity"], "podLabels": {"team": "security"},
    })
    answer = template(everything, release="audit", namespace="security")
    if answer.returncode:
        sys.exit(answer.stderr)
    for document in yaml.safe_load_all(answer.stdout):
        name, namespace = document["metadata"]["name"], document["metadata"].get("namespace")
        assert name.startswith("audit-kube-audit-rest"), name
        assert namespace in (None, "security"), f"{document['kind']} {name} is in {namespace}"
        webhooks = document.get("webhooks", [])
        assert not any("path" in webhook["clientConfig"]["service"] for webhook in webhooks), "an upgrade would take the token away"
    assert 'namespace="kube-audit-rest"' not in answer.stdout and 'pod=~"kube-audit-rest-' not in answer.stdout, "an alert looks elsewhere"
    (built / "chart-everything.yaml").write_text(answer.stdout)

    secret = template('certificate: {from: secret, secretName: mine, caBundle: "Q0E="}\npolicy: {content: "kind: Policy"}\n')
    webhooks = objects(secret.stdout)["admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration kube-audit-rest"]["webhooks"]
    assert [webhook["clientConfig"]["caBundle"] for webhook in webhooks] == ["Q0E=", "Q0E="]
    assert objects(secret.stdout)["v1 ConfigMap kube-audit-rest-policy"]["data"] == {"policy.yaml": "kind: Policy"}

    # What users change, and what has to follow from it.
    def made(values: str, kind: str, namespace: str = "kube-audit-rest") -> dict | None:
        answer = template(values, namespace=namespace)
        if answer.returncode:
            sys.exit(f"{values}: {answer.stderr}")
        return next((found for found in yaml.safe_load_all(answer.stdout) if found["kind"] == kind), None)

    assert made("enabled: true", "Service"), "the condition of a chart that has this one as a dependency is refused"
    assert made("replicas: 1", "PodDisruptionBudget") is None, "the only pod's node could never be drained"
    assert made("{failClosed: {enabled: true}, replicas: 2}", "PodDisruptionBudget")["spec"]["minAvailable"] == 1
    assert made("{}", "Service", namespace="123")["metadata"]["namespace"] == "123", "a namespace of digits is a number"
    pod = made("{log: {maxSize: 1000}, resources: {requests: null}}", "Deployment")["spec"]["template"]["spec"]
    assert pod["volumes"][1]["emptyDir"]["sizeLimit"] == "6400Mi", "the log outgrows its volume"
    assert pod["containers"][0]["resources"]["limits"]["ephemeral-storage"] == "7680Mi"
    claim = made('persistence: {enabled: true, storageClassName: ""}', "StatefulSet")["spec"]["volumeClaimTemplates"][0]
    assert claim["spec"]["storageClassName"] == "", "the empty class, which asks for a volume that is there, is lost"
    ingress = made("{networkPolicy: {enabled: true}, auditWebhook: {enabled: true}}", "NetworkPolicy")["spec"]["ingress"]
    assert [port["port"] for port in ingress[0]["ports"]] == ["https", "http"], "the policy cuts the audit webhook off"
    mounts = made("volumeMounts: [{name: ca, mountPath: /etc/ca}]", "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert mounts["volumeMounts"][-1]["name"] == "ca"

    refused = {
        "failclosed: {enabled: true}": "failclosed", "platform: gke": "platform", "certificate: {from: secret}": "secretName",
        "hostNetwork: true": "kubelet", "replicas: many": "replicas", "extraArgs: [read]": "extraArgs",
        "fullnameOverride: 1audit": "fullnameOverride", "certificate: {secretName: mine}": "secretName",
        'certificate: {caBundle: "Q0E="}': "caBundle", "certificate: {issuerRef: {name: corporate}}": "issuerRef",
        "certificate: {from: certManager, issuerRef: {kind: ClusterIssuer}}": "issuerRef",
        "serverPort: 55555": "serverPort", "{serverPort: 8080, auditWebhook: {enabled: true}}": "serverPort",
        "priorityClass: {create: true, name: mine}": "priorityClass", "webhook: null": "webhook",
        "networkPolicy: {enabled: true, from: []}": "networkPolicy/from", "enabled: false": "enabled",
    }
    for values, why in refused.items():
        answer = template(values)
        assert answer.returncode and why in answer.stderr, f"{values} is not refused, or not by name: {answer.stderr}"
    print(f"another name and namespace, a given certificate, what users change, and {len(refused)} wrong values: as they should")


main()
