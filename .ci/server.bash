# shellcheck shell=bash
# What .ci/run and .ci/image need to start a server and to speak to it. Sourced by both.

# certificate DIRECTORY: writes tls.crt and tls.key, for localhost, valid for a day.
certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost \
        -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' \
        -keyout "$1/tls.key" -out "$1/tls.crt" 2>/dev/null
}

# listening FILE LISTENER: the address that the server, whose standard error goes to FILE, says it has bound.
listening() {
    local address deadline=$((SECONDS + 60))
    while ((SECONDS < deadline)); do
        # The last line may be half written: jq is given whole lines only.
        address=$(grep -a '}$' "$1" | jq -r --arg listener "$2" \
            'select(.msg == "listening" and .listener == $listener).address' 2>/dev/null || true)
        if [[ -n $address ]]; then
            echo "$address"
            return 0
        fi
        sleep 0.05
    done
    echo "the server did not say that it listens ($2); what it said:" >&2
    cat "$1" >&2
    return 1
}

# review UID: an AdmissionReview as an API server sends it.
review() {
    printf '{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"%s",' "$1"
    printf '"kind":{"group":"","version":"v1","kind":"ConfigMap"},"resource":{"group":"","version":"v1","resource":"configmaps"},'
    printf '"name":"example","namespace":"default","operation":"CREATE","userInfo":{"username":"kubernetes-admin"},'
    printf '"object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"example"},"data":{"a":"1"}},"oldObject":null,'
    printf '"dryRun":false,"options":{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}}}\n'
}

# recorded ADDRESS CERTIFICATE LOG: sends a review to the server and demands the right reply and the right line.
recorded() {
    local uid reply line
    uid=$(cat /proc/sys/kernel/random/uuid)
    reply=$(review "$uid" | curl --silent --show-error --fail --max-time 30 --cacert "$2" --tls13-ciphers TLS_AES_128_GCM_SHA256 \
        --header 'Content-Type: application/json' --data-binary @- "https://$1/log-request?timeout=1s")
    line=$(grep -a -F "$uid" "$3")
    if [[ $reply != '{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"'$uid'","allowed":true}}' ]]; then
        echo "unexpected reply: $reply" >&2
        return 1
    fi
    # All that was sent, and one member more.
    if [[ $line != "$(review "$uid" | sed 's/}$//'),\"requestReceivedTimestamp\":\"2"*'Z"}' ]]; then
        echo "unexpected line: $line" >&2
        return 1
    fi
}
