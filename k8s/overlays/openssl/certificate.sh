#!/bin/sh
# Makes a CA and a server certificate (ECDSA P-256), stores the certificate in the Secret that the pods mount, and
# tells the API server the CA. Needs openssl (1.1.1 or later) and kubectl, nothing else. Renewing is the same command
# again: the API server is told the new CA beside the one before, and only then is the new certificate stored, so that
# no call fails in between; the pods have it about a minute later, when the kubelet has renewed their volume.
#
# The CA's key signs one certificate and is thrown away: nobody can sign another with it.
set -eu

usage() {
    cat <<'TEXT'
usage: certificate.sh [--days N] [--san DNS:NAME | --san IP:ADDRESS]... [--output DIRECTORY]
  --days N            how long the certificate is valid (365)
  --san ...           another name or address by which the receiver is called (audit webhooks, other clusters)
  --output DIRECTORY  write ca.crt, tls.crt and tls.key there and leave the cluster alone
environment: NAMESPACE, NAME (both: kube-audit-rest), KUBECTL (kubectl)
TEXT
}

days=365
sans=
output=
namespace=${NAMESPACE:-kube-audit-rest}
name=${NAME:-kube-audit-rest}
kubectl=${KUBECTL:-kubectl}

while [ $# -gt 0 ]; do
    case $1 in
    --days | --san | --output)
        if [ $# -lt 2 ]; then
            echo "certificate.sh: $1 needs a value" >&2
            exit 2
        fi
        case $1 in
        --days) days=$2 ;;
        --san)
            case $2 in
            DNS:?* | IP:?*) sans="$sans,$2" ;;
            *)
                echo "certificate.sh: --san $2: neither DNS:NAME nor IP:ADDRESS" >&2
                exit 2
                ;;
            esac
            ;;
        --output) output=$2 ;;
        esac
        shift 2
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        echo "certificate.sh: unknown argument: $1" >&2
        usage >&2
        exit 2
        ;;
    esac
done
case $days in
'' | *[!0-9]* | 0)
    echo "certificate.sh: --days $days: not a number of days" >&2
    exit 2
    ;;
esac

umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

webhooks=
if [ -z "$output" ]; then
    command -v "$kubectl" >"$work/answer" || {
        echo "certificate.sh: no $kubectl in PATH: install it, or name it in KUBECTL" >&2
        exit 1
    }
    # Asked first, so that a typing error or a missing right ends here and changes nothing.
    must_exist() {
        # What kubectl says stands above: not found, no right, or no API server.
        "$kubectl" get "$@" >"$work/answer" || {
            echo "certificate.sh: kubectl get $1 $2 failed; if there is none: apply the manifests first" >&2
            exit 1
        }
    }
    must_exist namespace "$namespace" -o name
    must_exist validatingwebhookconfiguration "$name" -o 'jsonpath={range .webhooks[*]}{.name}{"\n"}{end}'
    webhooks=$(cat "$work/answer")
    "$kubectl" get validatingwebhookconfiguration "$name" \
        -o 'jsonpath={.webhooks[0].clientConfig.caBundle}' >"$work/bundle.base64"
fi

cat >"$work/config" <<TEXT
[req]
distinguished_name = subject
prompt = no
[subject]
CN = $name.$namespace.svc
[ca]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
subjectAltName = DNS:$name.$namespace.svc,DNS:$name.$namespace.svc.cluster.local$sans
TEXT

command -v openssl >"$work/answer" || {
    echo "certificate.sh: no openssl in PATH: install it" >&2
    exit 1
}
say_why() {
    cat "$work/errors" >&2
    echo "certificate.sh: openssl failed, its reason stands above; nothing was changed" >&2
    exit 1
}
{
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/ca.key" &&
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/tls.key" &&
        # The time in the subject tells this CA from the one before; a bundle may hold both.
        openssl req -new -x509 -sha256 -key "$work/ca.key" -days "$days" -config "$work/config" -extensions ca \
            -subj "/CN=$name CA $(date -u +%Y-%m-%dT%H:%M:%SZ)" -out "$work/ca.crt" &&
        openssl req -new -sha256 -key "$work/tls.key" -config "$work/config" -out "$work/tls.csr" &&
        openssl x509 -req -sha256 -in "$work/tls.csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" -CAcreateserial \
            -days "$days" -extfile "$work/config" -extensions server -out "$work/tls.crt" &&
        openssl verify -CAfile "$work/ca.crt" -purpose sslserver -verify_hostname "$name.$namespace.svc" \
            "$work/tls.crt"
} >"$work/errors" 2>&1 || say_why
rm "$work/ca.key"

if [ -n "$output" ]; then
    mkdir -p "$output"
    cp "$work/ca.crt" "$work/tls.crt" "$work/tls.key" "$output"
    echo "$output/ca.crt, $output/tls.crt and $output/tls.key are written; keep tls.key to yourself"
    exit 0
fi

# The new CA, then the newest of those that the API server knows: what runs now stays trusted until its certificate is
# replaced, and older ones leave the bundle.
cp "$work/ca.crt" "$work/bundle"
if [ -s "$work/bundle.base64" ]; then
    openssl base64 -d -A -in "$work/bundle.base64" | openssl x509 >>"$work/bundle" 2>"$work/errors" ||
        echo "certificate.sh: the caBundle that is there is not a certificate; it is replaced" >&2
fi
bundle=$(openssl base64 -A -in "$work/bundle")
patch=
index=0
for webhook in $webhooks; do
    patch="$patch${patch:+,}{\"op\":\"test\",\"path\":\"/webhooks/$index/name\",\"value\":\"$webhook\"}"
    patch="$patch,{\"op\":\"add\",\"path\":\"/webhooks/$index/clientConfig/caBundle\",\"value\":\"$bundle\"}"
    index=$((index + 1))
done
"$kubectl" patch validatingwebhookconfiguration "$name" --type=json -p "[$patch]"

# Server-side: a client-side apply would copy the key into an annotation.
"$kubectl" apply --server-side --force-conflicts --field-manager=kube-audit-rest-certificate -f - <<TEXT
apiVersion: v1
kind: Secret
metadata:
  name: $name
  namespace: $namespace
  labels:
    app: kube-audit-rest
    app.kubernetes.io/name: kube-audit-rest
    app.kubernetes.io/component: audit-log
type: kubernetes.io/tls
data:
  tls.crt: $(openssl base64 -A -in "$work/tls.crt")
  tls.key: $(openssl base64 -A -in "$work/tls.key")
  ca.crt: $(openssl base64 -A -in "$work/ca.crt")
TEXT
echo "valid until $(openssl x509 -in "$work/tls.crt" -noout -enddate | cut -d= -f2); run this again before then"
