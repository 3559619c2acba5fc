# The nodes of the local cluster: coordinators c1, c2, …, workers w1, w2, …, each with a folder of its own.

# Ports lie beside those of named servers, and say which node it is.
nodes_max=9

# Sets name, role, dir, listen and http, so that the functions for servers (pid, running) work for nodes, too.
select_node() {
    name=$1
    local digit=${1#?}
    case "$1" in
        c[1-9]) role=coordinator listen=127.0.0.1:2510$digit http=127.0.0.1:2511$digit ;;
        w[1-9]) role=worker listen=127.0.0.1:2520$digit http=127.0.0.1:2521$digit ;;
        *) die "unknown node \`$1\`" ;;
    esac
    dir=$folder/$name
}

known_nodes() {
    local spec
    for spec in "$folder"/[cw][1-9]/node.yaml; do
        [[ ! -f $spec ]] || basename "$(dirname "$spec")"
    done
}

# Arguments: letter, how many.
node_names() {
    local number
    for ((number = 1; number <= $2; number++)); do echo "$1$number"; done
}

# Addresses of coordinators, separated by commas. Argument: how many.
coordinators() {
    local node all=
    for node in $(node_names c "$1"); do
        select_node "$node"
        all+=,$listen
    done
    echo "${all#,}"
}

# Without tls and auth a node listens on loopback only, which is where it shall listen here.
# Arguments: address of Kafka, how many coordinators there are.
node_spec() {
    cat <<YAML
node: $name
listen: $listen
http: $http
control: {brokers: ["$1"]}
data_dir: $dir/spool
secrets_dir: $folder/secrets
YAML
    [[ $role == coordinator ]] || echo "coordinators: [$(all=$(coordinators "$2") && echo "${all//,/, }")]"
}

# Starts a node, anew where its spec or its binary has changed. Arguments: name, address of Kafka, how many coordinators.
node_start() {
    select_node "$1"
    mkdir -p "$dir/spool"
    node_spec "$2" "$3" >"$dir/node.yaml.new"
    if running && cmp -s "$dir/node.yaml" "$dir/node.yaml.new" && [[ /proc/$(pid)/exe -ef $binary ]]; then
        rm "$dir/node.yaml.new"
        return
    fi
    node_stop
    mv "$dir/node.yaml.new" "$dir/node.yaml"
    for server_port in "${listen#*:}" "${http#*:}"; do refuse_foreign_port; done
    (cd "$dir" && exec setsid env DISTRIBUTARY_SECRET_SHOP=distributary \
        "$binary" "$role" --config "$dir/node.yaml") >>"$dir/log" 2>&1 </dev/null 6>&- &
    echo $! >"$dir/pid"
}

# Of the selected node. Longer than a worker waits for others to take over and for its own tasks to drain.
node_stop() {
    local id
    id=$(pid)
    running || return 0
    say "$name: stopping"
    kill -TERM "$id" 2>/dev/null || true
    await_end "$id" 45 || { say "$name: does not stop, ending it" && kill_tree "$id"; }
}

# Side by side: each that leaves waits until others have taken over. Arguments: names.
nodes_stop() {
    local node jobs=() job failed=0
    for node in "$@"; do
        (select_node "$node" && node_stop) &
        jobs+=($!)
    done
    for job in ${jobs[@]+"${jobs[@]}"}; do wait "$job" || failed=1; done
    return "$failed"
}

# The command line, with all coordinators that there are.
distributary() { "$binary" "$@" --coordinator "$(coordinators "$(known_nodes | grep -c '^c')")"; }

# Nothing where no such task is known.
task_state() {
    distributary task status shop -o json 2>/dev/null </dev/null |
        sed -n -E 's/^ *"state": "([^"]*)".*/\1/p' | sed -n 1p || true
}

workload_runs() {
    [[ -s $folder/workload.pid ]] && workload=$(<"$folder/workload.pid") && alive "$workload" &&
        tr '\0' ' ' <"/proc/$workload/cmdline" | grep "pgbench .* -p $(port_of "$postgres") " >/dev/null
}

workload_stop() {
    workload_runs || return 0
    kill -TERM "$workload" 2>/dev/null || true
    await_end "$workload" 20 || kill_tree "$workload"
}
