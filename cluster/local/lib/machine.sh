# What any script here needs from the machine: words to the operator, locks, packages, processes.

say() { printf '%s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '%s\n' "$@" >&2
    exit 1
}

# Runs a command while holding a lock file. The lock is not inherited by servers, which would hold it for ever:
# whoever starts one closes descriptor 9.
locked() {
    local lock=$1 held
    shift
    mkdir -p "$(dirname "$lock")"
    exec 9>"$lock"
    flock 9
    "$@"
    held=$?
    exec 9>&-
    return "$held"
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        die "this needs root, and sudo asks for a password: $*" "Run it by hand, then start again."
    fi
}

# Installs Debian packages that are not there yet. Arguments: packages.
apt_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || die "not a Debian machine; install by hand: ${missing[*]}"
    say "apt-get install ${missing[*]}"
    locked "$state/lib/apt.lock" apt_install "${missing[@]}"
}

# At run level 1 no package starts a service of its own (invoke-rc.d).
apt_install() {
    local log=$state/lib/apt.log
    if ! { as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends "$@" ||
        { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install -y --no-install-recommends "$@"; }; } >"$log" 2>&1 9>&- </dev/null; then
        die "apt-get install $* failed:" "$(tail -n 20 "$log")"
    fi
}

# Maven with fixed plugin versions; checksums must match.
maven() {
    local log
    log=$(mktemp)
    if ! mvn -B -q -C -Dstyle.color=never "$@" >"$log" 2>&1 9>&- </dev/null; then
        local text
        text=$(tail -n 20 "$log")
        rm -f "$log"
        die "mvn $* failed:" "$text"
    fi
    rm -f "$log"
}

maven_dependency_plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

java_and_maven() {
    command -v javac >/dev/null || apt_packages openjdk-17-jdk-headless
    command -v mvn >/dev/null || apt_packages maven
}

# Ends a server and all its children at once. Argument: its process id.
kill_tree() {
    local pid=$1 child children
    children=$(cat "/proc/$pid/task/"*/children 2>/dev/null || true)
    kill -KILL "$pid" 2>/dev/null || true
    for child in $children; do kill -KILL "$child" 2>/dev/null || true; done
    for child in "$pid" $children; do
        await_end "$child" 10 || die "process $child does not end"
    done
}

# Waits until a process is gone. Arguments: process id, seconds at most.
await_end() {
    local begun=$SECONDS
    while alive "$1"; do
        ((SECONDS - begun < $2)) || return 1
        sleep 0.05
    done
}

# A zombie counts as ended: its parent has not collected it yet, but nothing of it runs.
alive() {
    [[ -r /proc/$1/stat ]] && [[ $(cut -d ' ' -f 3 "/proc/$1/stat" 2>/dev/null) != [ZX] ]]
}
