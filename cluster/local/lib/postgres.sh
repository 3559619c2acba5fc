# PostgreSQL: 15 from Debian's packages, the others from Maven's embedded binaries. Debian's own cluster is left alone.

postgres_embedded() {
    case "$1" in
        11) echo 11.22.1 ;;
        14) echo 14.10.0 ;;
        17) echo 17.11.0 ;;
        18) echo 18.6.0 ;;
    esac
}

postgres_bin() {
    if [[ $number == 15 ]]; then echo /usr/lib/postgresql/15/bin; else echo "$state/lib/postgres-$number/bin"; fi
}

postgres_install() {
    [[ -x /usr/lib/postgresql/15/bin/postgres ]] || [[ $number != 15 ]] || apt_packages postgresql-15
    command -v psql >/dev/null || apt_packages postgresql-client
    [[ $number == 15 || -x $(postgres_bin)/postgres ]] || locked "$state/lib/postgres-$number.lock" postgres_unpack
}

# Extensions are built for one version of the server, and Debian has them for its own.
postgres_extend() {
    [[ $number == 15 ]] || die "$name: Debian has PostGIS and orafce for postgres-15 only"
    apt_packages postgresql-15-postgis-3 postgresql-15-orafce
}

postgres_unpack() {
    [[ ! -x $(postgres_bin)/postgres ]] || return 0
    java_and_maven
    command -v unzip >/dev/null || apt_packages unzip
    command -v xz >/dev/null || apt_packages xz-utils
    local machine version unpacked artifact
    case "$(uname -m)" in
        x86_64) machine=linux-amd64 ;;
        aarch64) machine=linux-arm64v8 ;;
        *) die "no embedded PostgreSQL for $(uname -m)" ;;
    esac
    version=$(postgres_embedded "$number") unpacked=$state/lib/postgres-$number
    artifact=io.zonky.test.postgres:embedded-postgres-binaries-$machine:$version
    say "mvn: PostgreSQL $version"
    rm -rf "$unpacked.new" "$unpacked"
    mkdir -p "$unpacked.new"
    maven "$maven_dependency_plugin:copy" "-Dartifact=$artifact" "-DoutputDirectory=$unpacked.new"
    unzip -q -o "$unpacked.new"/*.jar '*.txz' -d "$unpacked.new"
    tar -xJf "$unpacked.new"/*.txz -C "$unpacked.new"
    rm -f "$unpacked.new"/*.jar "$unpacked.new"/*.txz
    chmod -R a+rX "$unpacked.new"
    mv "$unpacked.new" "$unpacked"
}

# PostgreSQL refuses to run as root.
postgres_user() {
    if ((EUID == 0)); then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

postgres_owner() {
    if ((EUID == 0)); then
        id postgres >/dev/null 2>&1 || as_root useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin postgres
        chown postgres "$@"
    fi
}

postgres_launch() {
    refuse_foreign_port
    tls_files
    postgres_owner "$dir"
    [[ -f $dir/complete ]] || postgres_create
    postgres_configure
    say "$name: starting on 127.0.0.1:$server_port"
    touch "$dir/log"
    postgres_owner "$dir/log"
    ln -sfn "$dir/data/postmaster.pid" "$dir/pid"
    rm -f "$dir/data/postmaster.pid"
    # The server detaches from whoever started it, and keeps neither its lock nor its pipes.
    (cd / && postgres_detached "$(postgres_bin)/postgres" -D "$dir/data") >>"$dir/log" 2>&1 </dev/null 9>&- &
    local begun=$SECONDS
    until running || ((SECONDS - begun > 10)); do sleep 0.05; done
    running || die "$name did not start; the last lines of $dir/log:" "$(tail -n 20 "$dir/log")"
}

postgres_detached() {
    if ((EUID == 0)); then exec setsid setpriv --reuid postgres --regid postgres --init-groups "$@"; else exec setsid "$@"; fi
}

postgres_create() {
    say "$name: initdb ($("$(postgres_bin)/postgres" --version | cut -d ' ' -f 3))"
    rm -rf "$dir/data"
    postgres_user "$(postgres_bin)/initdb" -D "$dir/data" -U postgres -E UTF8 --locale=C.UTF-8 -A trust --no-sync \
        >"$dir/initdb.log" 2>&1 || die "initdb failed:" "$(tail -n 20 "$dir/initdb.log")"
    echo "include '$dir/server.conf'" >>"$dir/data/postgresql.conf"
    postgres_configure
    # One statement a line; no password hash of another kind than SCRAM is made, also on 11 to 13.
    postgres_user "$(postgres_bin)/postgres" --single -D "$dir/data" postgres >>"$dir/initdb.log" 2>&1 <<'SQL' ||
SET password_encryption = 'scram-sha-256'
CREATE ROLE distributary LOGIN REPLICATION PASSWORD 'distributary'
SQL
        die "creating the role failed:" "$(tail -n 20 "$dir/initdb.log")"
    touch "$dir/complete"
}

# Host rules by role: tests create roles of these names where they need another way in.
postgres_configure() {
    local key
    for key in server client; do
        install -m 600 "$state/tls/$key.key" "$dir/$key.key"
        postgres_owner "$dir/$key.key"
    done
    cat >"$dir/pg_hba.conf" <<TEXT
host      all,replication  postgres           127.0.0.1/32  trust
host      replication      postgres           127.0.0.1/32  trust
hostssl   all              tls_only           127.0.0.1/32  scram-sha-256
hostssl   replication      tls_only           127.0.0.1/32  scram-sha-256
host      all              tls_only           127.0.0.1/32  reject
host      replication      tls_only           127.0.0.1/32  reject
hostnossl all              plain_only         127.0.0.1/32  scram-sha-256
hostnossl replication      plain_only         127.0.0.1/32  scram-sha-256
host      all              plain_only         127.0.0.1/32  reject
host      replication      plain_only         127.0.0.1/32  reject
hostssl   all              certificate_only   127.0.0.1/32  cert map=certificates
hostssl   replication      certificate_only   127.0.0.1/32  cert map=certificates
host      all              md5_only           127.0.0.1/32  md5
host      replication      md5_only           127.0.0.1/32  md5
host      all              clear_only         127.0.0.1/32  password
host      replication      clear_only         127.0.0.1/32  password
host      all              nobody             127.0.0.1/32  reject
host      all              all                127.0.0.1/32  scram-sha-256
host      replication      all                127.0.0.1/32  scram-sha-256
TEXT
    echo 'certificates distributary certificate_only' >"$dir/pg_ident.conf"
    cat >"$dir/server.conf" <<TEXT
listen_addresses = '127.0.0.1'
port = $server_port
unix_socket_directories = ''
hba_file = '$dir/pg_hba.conf'
ident_file = '$dir/pg_ident.conf'
ssl = on
ssl_cert_file = '$state/tls/server.pem'
ssl_key_file = '$dir/server.key'
ssl_ca_file = '$state/tls/ca.pem'
password_encryption = 'scram-sha-256'
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_prepared_transactions = 20
fsync = off
full_page_writes = off
max_wal_size = 2GB
log_replication_commands = on
log_line_prefix = '%m [%p] %a '
lc_messages = 'C'
timezone = 'UTC'
TEXT
    sed -E "s/^([^=]+)=(.*)$/\1 = '\2'/" "$dir/settings" >>"$dir/server.conf"
    chmod 644 "$dir/pg_hba.conf" "$dir/pg_ident.conf" "$dir/server.conf"
}

postgres_ready() {
    PGCONNECT_TIMEOUT=5 psql -X -q -A -t -h 127.0.0.1 -p "$server_port" -U postgres -d postgres -c 'SELECT 1' >/dev/null 2>&1 </dev/null
}

# Fast shutdown: sessions are ended, walsenders are waited for; after a while at once.
postgres_stop() {
    local id
    id=$(pid)
    say "$name: stopping"
    kill -INT "$id" 2>/dev/null || true
    await_end "$id" 20 || { say "$name: does not stop, ending it" && kill -QUIT "$id" && await_end "$id" 10; } || kill_tree "$id"
}
