# One server: its name, folder, port, settings and process.

state=${DISTRIBUTARY_LOCAL_DIR:-/var/tmp/distributary-local}

# PostgreSQL refuses to run as root, so its user must be able to pass through the folders.
state_folder() {
    mkdir -p "$state/lib"
    chmod 755 "$state" "$state/lib" 2>/dev/null || true
}

# Ports lie below 32768: from there on Linux gives them to outgoing connections, of which tests make thousands.
# Sets name, kind, number (version or node), instance, dir and port_default. Argument: NAME or NAME:INSTANCE.
select_instance() {
    name=$1
    local base=${1%%:*}
    instance=
    [[ $1 != *:* ]] || instance=${1#*:}
    [[ $1 != *:* || $instance =~ ^[a-z0-9][a-z0-9_-]*$ ]] ||
        die "an instance is named by lower-case letters, digits, - and _, not \`$instance\`"
    case "$base" in
        postgres-11 | postgres-14 | postgres-15 | postgres-17 | postgres-18)
            kind=postgres number=${base#postgres-} port_default=243$number step=0
            ;;
        kafka) kind=kafka number=0 port_default=29092 step=0 ;;
        kafka-[1234]) kind=kafka number=${base#kafka-} port_default=$((29092 + number * 100)) step=$(((number - 1) * 100)) ;;
        registry) kind=registry number=0 port_default=28080 step=0 ;;
        *) die "unknown server \`$1\`" "Known: postgres-11|14|15|17|18, kafka, kafka-1..4, registry, each also as NAME:INSTANCE." ;;
    esac
    dir=$state/$base${instance:+.$instance}
}

known_instances() {
    local settings folder
    for settings in "$state"/*/settings; do
        [[ -f $settings ]] || continue
        folder=$(basename "$(dirname "$settings")")
        if [[ $folder == *.* ]]; then echo "${folder%%.*}:${folder#*.}"; else echo "$folder"; fi
    done
}

# Keeps port and settings with the instance, so that a later start or restart needs no repeating.
# Arguments: port or empty, KEY=VALUE...
remember_settings() {
    local wanted=$1 set
    shift
    mkdir -p "$dir"
    chmod 755 "$dir"
    touch "$dir/settings"
    if [[ -n $wanted ]]; then
        echo $((wanted + step)) >"$dir/port"
    elif [[ ! -s $dir/port ]]; then
        if [[ -z $instance ]]; then echo "$port_default" >"$dir/port"; else locked_port; fi
    fi
    for set in "$@"; do
        grep -v -F -- "${set%%=*}=" "$dir/settings" >"$dir/settings.new" || true
        [[ $set == *= ]] || echo "$set" >>"$dir/settings.new"
        mv "$dir/settings.new" "$dir/settings"
    done
}

# Ports of instances that did not ask for one. Kafka takes the next one too, for its controller. Each state folder
# begins elsewhere: what another one has chosen and not yet started cannot be seen.
locked_port() {
    ((step == 0)) || die "$name: give --port, which is that of the cluster's first broker"
    exec 8>"$state/lib/ports.lock"
    flock 8
    local candidate offset first
    first=$(cksum <<<"$state") first=$((${first%% *} % 300 * 2))
    for ((offset = 0; offset < 600; offset += 2)); do
        candidate=$((24400 + (first + offset) % 600))
        if ! grep -q -s -x "$candidate" "$state"/*/port && ! listening "$candidate" && ! listening $((candidate + 1)); then
            echo "$candidate" >"$dir/port"
            exec 8>&-
            return
        fi
    done
    die "no free port between 24400 and 25000"
}

listening() { (exec 7<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

load_settings() {
    [[ -s $dir/port ]] || die "$name was never started here"
    server_port=$(<"$dir/port")
}

settings_now() { cat "$dir/port" "$dir/settings"; }

settings_are_current() { [[ -f $dir/settings.running ]] && settings_now | cmp -s - "$dir/settings.running"; }

pid() { head -n 1 "$dir/pid" 2>/dev/null || true; }

# True while the process of the pid file lives and is this instance's: the number alone may belong to someone else by now.
running() {
    local id
    id=$(pid)
    [[ $id =~ ^[0-9]+$ ]] && alive "$id" && grep -q -s -F -- "$dir/" "/proc/$id/cmdline"
}

# Another program on our port would be taken for our server. One that was just killed may keep it for a moment.
refuse_foreign_port() {
    local tries
    for ((tries = 0; tries < 50; tries++)); do
        listening "$server_port" || return 0
        sleep 0.1
    done
    die "$name: port $server_port is taken by another program"
}

print_address() {
    select_instance "$1"
    if [[ -s $dir/port ]]; then
        echo "127.0.0.1:$(<"$dir/port")"
    elif [[ -z $instance ]]; then
        echo "127.0.0.1:$port_default"
    else
        die "$name has no port yet: it was never started"
    fi
}

print_status() {
    select_instance "$1"
    if [[ ! -s $dir/port ]]; then
        echo "$name absent"
    elif running; then
        load_settings
        local readiness=starting
        ! "${kind}_ready" || readiness=ready
        echo "$name $readiness 127.0.0.1:$server_port pid $(pid)"
    else
        echo "$name stopped 127.0.0.1:$(<"$dir/port")"
    fi
}

print_log() { select_instance "$1" && echo "$dir/log"; }
