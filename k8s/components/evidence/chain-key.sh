#!/bin/sh
# Makes the key of --chain-key-filename and stores it as a Secret. Needs openssl and kubectl.
set -eu

usage() {
    cat <<'TEXT'
usage: chain-key.sh [PUBLIC]     a new key; the public one is written to PUBLIC (chain.pub), for the auditor
A key that is there already is replaced; keep its public key, which proves the lines that it has signed.
environment: NAMESPACE, NAME (both: kube-audit-rest), KUBECTL (kubectl)
TEXT
}

case ${1:-} in
-h | --help)
    usage
    exit 0
    ;;
-*)
    usage >&2
    exit 2
    ;;
esac
namespace=${NAMESPACE:-kube-audit-rest}
name=${NAME:-kube-audit-rest}
kubectl=${KUBECTL:-kubectl}
public=${1:-chain.pub}

for program in "$kubectl" openssl; do
    command -v "$program" >/dev/null || {
        echo "chain-key.sh: no $program in PATH: install it" >&2
        exit 1
    }
done
if [ -e "$public" ]; then
    echo "chain-key.sh: $public exists, and may be all that proves older lines; it is not overwritten" >&2
    exit 1
fi
umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# The public key is written first: lines signed with a key whose public half nobody has prove little.
{
    openssl genpkey -algorithm ed25519 -out "$work/chain.key" &&
        openssl pkey -in "$work/chain.key" -pubout -out "$work/chain.pub" &&
        cat "$work/chain.pub" >"$public"
} || {
    echo "chain-key.sh: the key cannot be made; the reason stands above, and nothing was changed" >&2
    exit 1
}

# Server-side: a client-side apply would copy the key into an annotation.
"$kubectl" apply --server-side --force-conflicts --field-manager=kube-audit-rest-chain -f - <<TEXT || {
apiVersion: v1
kind: Secret
metadata:
  name: $name-chain
  namespace: $namespace
  labels:
    app: kube-audit-rest
    app.kubernetes.io/name: kube-audit-rest
    app.kubernetes.io/component: audit-log
type: Opaque
data:
  chain.key: $(openssl base64 -A -in "$work/chain.key")
TEXT
    rm -f "$public"
    echo "chain-key.sh: kubectl cannot store the Secret $name-chain in $namespace; its reason stands above" >&2
    exit 1
}
echo "the public key is in $public: give it to whoever audits, and keep it"
