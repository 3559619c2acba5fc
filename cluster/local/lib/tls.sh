# One self-made certificate authority for all servers here, and a second one that nobody should trust.

tls_files() {
    [[ -f $state/tls/complete ]] || locked "$state/lib/tls.lock" tls_make
}

tls_make() {
    [[ ! -f $state/tls/complete ]] || return 0
    command -v openssl >/dev/null || apt_packages openssl
    mkdir -p "$state/tls"
    chmod 755 "$state/tls"
    tls_authority ca "distributary local tests"
    tls_authority stranger-ca "a stranger"
    tls_leaf server localhost serverAuth
    tls_leaf client distributary clientAuth
    touch "$state/tls/complete"
}

# Arguments: file name, common name.
tls_authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=$2" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
        -keyout "$state/tls/$1.key" -out "$state/tls/$1.pem" 2>/dev/null
    chmod 600 "$state/tls/$1.key"
}

# Arguments: file name, common name, extended key usage.
tls_leaf() {
    local request extensions
    request=$(mktemp) extensions=$(mktemp)
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=%s\n' "$3" >"$extensions"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" \
        -keyout "$state/tls/$1.key" -out "$request" 2>/dev/null
    openssl x509 -req -in "$request" -CA "$state/tls/ca.pem" -CAkey "$state/tls/ca.key" -CAcreateserial \
        -days 3650 -extfile "$extensions" -out "$state/tls/$1.pem" 2>/dev/null
    rm -f "$request" "$extensions"
    chmod 600 "$state/tls/$1.key"
    # Java reads a key and its chain from one file.
    cat "$state/tls/$1.key" "$state/tls/$1.pem" "$state/tls/ca.pem" >"$state/tls/$1-keystore.pem"
    chmod 600 "$state/tls/$1-keystore.pem"
}
