#!/bin/sh
# Follows one replica's audit log. The image holds the program and nothing else, so "kubectl exec" finds neither a shell
# nor cat; this adds an ephemeral container that shares the program's process namespace and reads the file through
# /proc/1/root. Same user (255999), no rights beyond that: it fits the namespace's "restricted" pod security. The ephemeral
# container ends with this command, and stays listed in the pod until the pod goes.
#
# usage: read-the-log.sh [POD]      environment: IMAGE (busybox:1.37: anything with sh and tail), KUBECTL
#
# Where a sidecar ships the log, it can be asked instead if its image has a shell:
#   kubectl -n kube-audit-rest exec POD -c fluent-bit -- tail /var/log/kube-audit-rest/POD.log      (the -debug image)
set -eu
kubectl=${KUBECTL:-kubectl}
pod=${1:-}
if [ -z "$pod" ]; then
    pod=$("$kubectl" -n kube-audit-rest get pods --selector app=kube-audit-rest \
        --field-selector status.phase=Running -o 'jsonpath={.items[0].metadata.name}')
fi
exec "$kubectl" -n kube-audit-rest debug "$pod" --stdin --tty --quiet --profile=restricted \
    "--image=${IMAGE:-busybox:1.37}" --target=kube-audit-rest -- \
    tail -n 20 -F "/proc/1/root/var/log/kube-audit-rest/$pod.log"
