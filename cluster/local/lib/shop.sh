# The quick start's parts: a shop database with customers in it, the task that carries it, and what is seen of it.

shop_sql() {
    psql -X -q -A -t -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$(port_of "$postgres")" -U postgres -d "${database:-shop}" "$@"
}

port_of() { servers address "$1" | cut -d : -f 2; }

# Does nothing where the shop is there already.
shop_create() {
    [[ -n $(database=postgres shop_sql -c "SELECT 1 FROM pg_database WHERE datname = 'shop'") ]] ||
        database=postgres shop_sql -c 'CREATE DATABASE shop OWNER distributary'
    # In one transaction: whole or not at all.
    [[ -n $(shop_sql -c "SELECT to_regnamespace('shop')") ]] ||
        shop_sql -1 -c 'SET ROLE distributary' -f "$here/shop/schema.sql" -c 'RESET ROLE' -c 'ANALYZE'
    shop_sql -c "SELECT format('%s: %s rows', relname, reltuples) FROM pg_class
        WHERE relnamespace = 'shop'::regnamespace AND relkind = 'r' ORDER BY 1"
}

# Runs in the background, in a session of its own: Ctrl-C is for this script, which ends things in their order.
shop_workload() {
    local pgbench=/usr/lib/postgresql/15/bin/pgbench
    setsid "$pgbench" -n -c 2 -R "$rate" -T "${workload_seconds:-604800}" --max-tries 5 -h 127.0.0.1 -p "$(port_of "$postgres")" -U postgres \
        -f "$here/shop/order.sql@300" -f "$here/shop/progress.sql@400" -f "$here/shop/cancel.sql@100" \
        -f "$here/shop/browse.sql@198" -f "$here/shop/sweep.sql@2" shop >"$folder/workload.log" 2>&1 </dev/null 6>&- &
    workload=$!
}

# Argument: the variable that holds the password (default SHOP_PASSWORD).
shop_task() {
    cp "$(servers tls "$postgres")/ca.pem" "$folder/ca.pem"
    cat >"$folder/task.yaml" <<YAML
version: 1
task: shop
source:
  hosts: ["$(servers address "$postgres")"]
  database: shop
  user: distributary
  password: \${env:${1:-SHOP_PASSWORD}}
  tls: {mode: verify-full, ca: ca.pem}
sink:
  brokers: ["$(servers address "$kafka")"]
objects:
  - table: shop.*
YAML
    sed 's/^/    /' "$folder/task.yaml"
}

# Done when the slot is being read.
shop_run() {
    SHOP_PASSWORD=distributary setsid "$binaries/distributary" run "$folder/task.yaml" \
        >"$folder/distributary.log" 2>&1 </dev/null 6>&- &
    distributary=$!
    local begun=$SECONDS
    until [[ $(shop_sql -c 'SELECT count(*) FROM pg_replication_slots WHERE active AND NOT temporary') == 1 ]]; do
        alive "$distributary" && ((SECONDS - begun < 60)) ||
            die "distributary does not stream; the last lines of its log:" "$(tail -n 30 "$folder/distributary.log")"
        sleep 0.2
    done
    # Not `head`: whoever writes to it after its end fails.
    sed -n '1,12s/^/    /p' "$folder/distributary.log"
}

shop_read() {
    setsid "$binaries/watch" --brokers "$(servers address "$kafka")" --prefix shop. --rows "$folder/rows" </dev/null 6>&- &
    reader=$!
}

# Ends the workload, waits until the slot has confirmed all of it, and lets the reader finish.
shop_close() {
    kill -TERM "$workload"
    await_end "$workload" 20 || die "the workload does not end"
    workload=
    local end begun=$SECONDS
    end=$(shop_sql -c 'SELECT pg_current_wal_flush_lsn()')
    until [[ $(shop_sql -c "SELECT bool_and(confirmed_flush_lsn >= '$end') FROM pg_replication_slots") == t ]]; do
        alive "$distributary" && ((SECONDS - begun < 60)) ||
            die "position $end was not confirmed; the last lines of distributary's log:" \
                "$(tail -n 30 "$folder/distributary.log")"
        sleep 0.2
    done
    kill -TERM "$reader"
    wait "$reader" || die "the reader failed"
    reader=
}

# The claim of it all: a consumer holds exactly the rows that the database holds.
shop_compare() {
    local table source topics differs=0
    printf '\n    %-12s %12s %12s\n' 'rows of' 'PostgreSQL' 'Kafka'
    for table in customers products orders order_lines carts; do
        source=$(shop_sql -c "SELECT count(*) FROM shop.$table")
        topics=$(sed -n "s/^shop\.$table //p" "$folder/rows")
        printf '    %-12s %12s %12s\n' "$table" "$source" "${topics:-0}"
        [[ $source == "${topics:-0}" ]] || differs=1
    done
    ((differs == 0)) || die "the topics hold other rows than the database"
}

shop_cost() {
    local ticks peak
    ticks=$(awk '{ print $14 + $15 }' "/proc/$distributary/stat")
    peak=$(awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$distributary/status")
    printf '\n    distributary used %s s of CPU and %s MiB of memory at most\n' \
        "$(awk -v t="$ticks" -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.1f", t / hz }')" "$peak"
}

# What Ctrl-C does to it: it drains, commits, and keeps its slot.
shop_stop() {
    local code=0 lines
    lines=$(wc -l <"$folder/distributary.log")
    kill -INT "$distributary"
    wait "$distributary" || code=$?
    distributary=
    tail -n +$((lines + 1)) "$folder/distributary.log" | sed 's/^/    /'
    ((code == 0)) || die "distributary ended with exit code $code"
}
