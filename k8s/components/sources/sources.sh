#!/bin/sh
# Keeps the Secret of --sources-filename: lines "NAME TOKEN". Needs openssl and kubectl.
set -eu

usage() {
    cat <<'TEXT'
usage: sources.sh add NAME     a new token for NAME, beside those it has; printed once, for other clusters to use
       sources.sh use NAME     this cluster's webhook sends NAME's newest token from now on
       sources.sh list         the names, and how many tokens each has
       sources.sh prune NAME   NAME keeps its newest token only
       sources.sh remove NAME  NAME may write no more, from two minutes on
To rotate: add; wait two minutes, until every pod has it; use; prune.
environment: NAMESPACE, NAME (both: kube-audit-rest), KUBECTL (kubectl)
TEXT
}

namespace=${NAMESPACE:-kube-audit-rest}
name=${NAME:-kube-audit-rest}
kubectl=${KUBECTL:-kubectl}
command=${1:-}
source=${2:-}

case $command in
add | use | prune | remove)
    case $source in
    '' | *[!a-z0-9.-]* | [.-]* | *[.-] | *.[.-]* | *-.*)
        echo "sources.sh: a source's name is made of lowercase letters, digits, '.' and '-', with a letter or digit at" >&2
        echo "both ends of each part" >&2
        exit 2
        ;;
    esac
    if [ "${#source}" -gt 63 ]; then
        echo "sources.sh: a source's name has 63 characters at most" >&2
        exit 2
    fi
    ;;
list) ;;
-h | --help)
    usage
    exit 0
    ;;
*)
    usage >&2
    exit 2
    ;;
esac

for program in "$kubectl" openssl; do
    command -v "$program" >/dev/null || {
        echo "sources.sh: no $program in PATH: install it" >&2
        exit 1
    }
done

umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# --ignore-not-found: no Secret yet is no lines yet; any other failure must not end in an empty file that is stored.
"$kubectl" -n "$namespace" get secret "$name-sources" --ignore-not-found -o 'jsonpath={.data.sources}' >"$work/base64" || {
    echo "sources.sh: kubectl cannot read the Secret $name-sources in $namespace; its reason stands above" >&2
    exit 1
}
openssl base64 -d -A -in "$work/base64" >"$work/sources" || {
    echo "sources.sh: the Secret $name-sources cannot be decoded; its lines are left as they are" >&2
    exit 1
}

store() {
    # Server-side: a client-side apply would copy the tokens into an annotation.
    "$kubectl" apply --server-side --force-conflicts --field-manager=kube-audit-rest-sources -f - <<TEXT
apiVersion: v1
kind: Secret
metadata:
  name: $name-sources
  namespace: $namespace
  labels:
    app: kube-audit-rest
    app.kubernetes.io/name: kube-audit-rest
    app.kubernetes.io/component: audit-log
type: Opaque
data:
  sources: $(openssl base64 -A -in "$work/sources")
TEXT
}

newest() {
    while read -r who token; do
        if [ "$who" = "$source" ]; then echo "$token"; fi
    done <"$work/sources" | sed -n '$p'
}

case $command in
add)
    # 48 hexadecimal digits: 192 bits, and a name by DNS-1123, as a segment of a Service's path must be.
    token=$(openssl rand -hex 24)
    echo "$source $token" >>"$work/sources"
    store >&2
    echo "$token"
    ;;
use)
    token=$(newest)
    if [ -z "$token" ]; then
        echo "sources.sh: $source has no token: sources.sh add $source" >&2
        exit 1
    fi
    webhooks=$("$kubectl" get validatingwebhookconfiguration "$name" \
        -o 'jsonpath={range .webhooks[*]}{.name}{"\n"}{end}') || {
        echo "sources.sh: kubectl cannot read the ValidatingWebhookConfiguration $name; its reason stands above" >&2
        exit 1
    }
    patch=
    index=0
    for webhook in $webhooks; do
        patch="$patch${patch:+,}{\"op\":\"test\",\"path\":\"/webhooks/$index/name\",\"value\":\"$webhook\"}"
        patch="$patch,{\"op\":\"add\",\"path\":\"/webhooks/$index/clientConfig/service/path\""
        patch="$patch,\"value\":\"/log-request/$token\"}"
        index=$((index + 1))
    done
    "$kubectl" patch validatingwebhookconfiguration "$name" --type=json -p "[$patch]"
    ;;
list)
    while read -r who _; do
        case $who in '' | '#'*) ;; *) echo "$who" ;; esac
    done <"$work/sources" | sort | uniq -c
    ;;
prune | remove)
    token=$(newest)
    if [ -z "$token" ]; then
        echo "sources.sh: $source has no token" >&2
        exit 1
    fi
    while IFS= read -r line; do
        case $line in
        "$source "* | "$source	"*) ;;
        *) printf '%s\n' "$line" ;;
        esac
    done <"$work/sources" >"$work/kept"
    if [ "$command" = prune ]; then
        echo "$source $token" >>"$work/kept"
    elif ! grep -q '^[a-z0-9]' "$work/kept"; then
        echo "sources.sh: $source is the last source; without any the receiver would go on with the old ones" >&2
        exit 1
    fi
    mv "$work/kept" "$work/sources"
    store
    ;;
esac
