#!/bin/sh
# Why --audit-to-std-log is dangerous: creates a Secret in a cluster whose receiver prints its lines, without a policy, and
# then reads the password as somebody who may read pod logs and nothing else. Use a cluster for play.
#
# With a receiver's binary instead of a cluster:  stdout-is-dangerous.sh --local PATH-TO-kube-audit-rest
set -eu
kubectl=${KUBECTL:-kubectl}
password=correct-horse-battery-staple

find_password() {
    # What a pod-log reader sees -> the "data" of the Secret -> base64 undone.
    sed -n 's/.*"kind":"Secret".*"DB_PASSWORD":"\([A-Za-z0-9+/=]*\)".*/\1/p' | sed -n '$p' | openssl base64 -d -A
}

if [ "${1:-}" = --local ]; then
    binary=${2:?"--local needs the path to kube-audit-rest"}
    here=$(cd "$(dirname "$0")" && pwd)
    work=$(mktemp -d)
    receiver=
    trap 'if [ -n "$receiver" ]; then kill "$receiver" 2>/dev/null || true; fi; rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    "$here/../overlays/openssl/certificate.sh" --output "$work" --san DNS:localhost >/dev/null
    : >"$work/stderr"
    "$binary" --audit-to-std-log --cert-filename="$work/tls.crt" --cert-key-filename="$work/tls.key" \
        --server-address=127.0.0.1 --server-port=0 --metrics-address=127.0.0.1 --metrics-port=0 \
        >"$work/stdout" 2>"$work/stderr" &
    receiver=$!
    port=
    tries=0
    while [ -z "$port" ]; do
        port=$(sed -n 's/.*"listener":"https".*"address":"127.0.0.1:\([0-9]*\)".*/\1/p;s/.*"address":"127.0.0.1:\([0-9]*\)".*"listener":"https".*/\1/p' "$work/stderr")
        tries=$((tries + 1))
        if [ "$tries" -gt 200 ]; then
            cat "$work/stderr" >&2
            exit 1
        fi
        sleep 0.05
    done
    cat >"$work/review.json" <<JSON
{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"0df28fbd-5f5f-11e8-bc74-36e6bb280816","kind":{"group":"","version":"v1","kind":"Secret"},"resource":{"group":"","version":"v1","resource":"secrets"},"name":"hacking-creds","namespace":"hacker","operation":"CREATE","userInfo":{"username":"alice"},"object":{"kind":"Secret","apiVersion":"v1","metadata":{"name":"hacking-creds","namespace":"hacker"},"data":{"DB_PASSWORD":"$(printf %s "$password" | openssl base64 -A)"},"type":"Opaque"},"oldObject":null,"dryRun":false,"options":null}}
JSON
    curl -sS --cacert "$work/ca.crt" -H 'Content-Type: application/json' --data-binary "@$work/review.json" \
        "https://localhost:$port/log-request" >/dev/null
    found=$(find_password <"$work/stdout")
else
    # Without the policy, if there is one: the base's keeps what Secrets hold out of the log.
    arguments=$("$kubectl" -n kube-audit-rest get deployment kube-audit-rest \
        -o 'jsonpath={.spec.template.spec.containers[0].args}')
    set_arguments() {
        "$kubectl" -n kube-audit-rest patch deployment kube-audit-rest --type=json \
            -p "[{\"op\":\"replace\",\"path\":\"/spec/template/spec/containers/0/args\",\"value\":$1}]"
    }
    # Whatever happens from here on, the Deployment is left as it was.
    undo() {
        "$kubectl" delete namespace hacker --ignore-not-found=true --wait=false
        set_arguments "$arguments"
    }
    trap undo EXIT
    trap 'exit 1' HUP INT TERM
    set_arguments "$(printf '%s' "$arguments" | sed 's/"--policy-filename=[^"]*",\{0,1\}//; s/,\{0,1\}]$/,"--audit-to-std-log"]/; s/^\[,/[/')"
    "$kubectl" -n kube-audit-rest rollout status deployment kube-audit-rest --timeout=120s
    "$kubectl" create namespace hacker
    "$kubectl" -n hacker create secret generic hacking-creds "--from-literal=DB_PASSWORD=$password"
    sleep 2
    found=$("$kubectl" -n kube-audit-rest logs --selector app=kube-audit-rest --container kube-audit-rest --tail=-1 |
        find_password)
fi

if [ "$found" = "$password" ]; then
    echo "read from the pod's log: DB_PASSWORD=$found"
    echo 'Whoever may "get pods/log" reads every Secret that is written while this flag is on and no policy leaves it out,'
    echo 'and so does every log collector on the node. Without the flag the lines are in a file that only the receiver and its sidecar see.'
else
    echo "the password was not found in what the receiver printed" >&2
    exit 1
fi
