#!/bin/sh
# Follows the audit log of every replica as a table: who did what to which object. The image holds the program and nothing
# else, no shell and no cat, so the program itself reads the log. Each exec is a request like any other, and recorded.
#
# usage: read-the-log.sh [FLAG...]      the flags of "kube-audit-rest read", such as --since=10m or --user=alice
# environment: NAMESPACE, NAME (both: kube-audit-rest), KUBECTL (kubectl)
#
# One replica's rows come as they are written; those of different replicas, side by side. To look back instead of
# following, or for whole lines (which hold Secrets):
#   kubectl -n kube-audit-rest exec POD -- /kube-audit-rest read --format=summary
#   kubectl -n kube-audit-rest exec POD -- /kube-audit-rest read --format=line --since=1h
set -eu
namespace=${NAMESPACE:-kube-audit-rest}
name=${NAME:-kube-audit-rest}
kubectl=${KUBECTL:-kubectl}
command -v "$kubectl" >/dev/null || {
    echo "read-the-log.sh: no $kubectl in PATH: install it" >&2
    exit 1
}
pods=$("$kubectl" -n "$namespace" get pods --selector app="$name" \
    --field-selector status.phase=Running -o 'jsonpath={.items[*].metadata.name}')
if [ -z "$pods" ]; then
    echo "read-the-log.sh: no pod of $name is running in the namespace $namespace" >&2
    exit 1
fi
followers=
# Each is a word of its own.
# shellcheck disable=SC2086
trap 'kill $followers 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM
for pod in $pods; do
    "$kubectl" -n "$namespace" exec "$pod" --container=kube-audit-rest -- \
        /kube-audit-rest read --follow --format=table "$@" &
    followers="$followers $!"
done
wait
