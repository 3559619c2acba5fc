# Steps with their time, a total at the end, and what a build needs of the machine.

steps_done=() steps_failed=() tests_passed=0 tests_failed=0 tests_ignored=0
steps_begun=$SECONDS

# Runs a step and goes on where it fails, so that one run shows everything that is wrong. While suites run beside it
# (`beside_suites`), what it says comes in one piece.
# Arguments: title, command...
step() {
    local title=$1 begun=$SECONDS code=0 log
    shift
    log=$(mktemp "$logs/XXXXXX")
    # A subshell with errexit of its own: a function called in a condition would run on after a failure.
    set +e
    if [[ -n ${beside_suites:-} ]]; then
        (set -e && "$@") >"$log" 2>&1 </dev/null
        code=$?
        say_in_one_piece "$title" "$code" $((SECONDS - begun)) "$log"
    else
        printf '\n━━ %s\n' "$title"
        (set -e && "$@") 2>&1 </dev/null | tee "$log"
        code=${PIPESTATUS[0]}
        say_ended "$title" "$code" $((SECONDS - begun))
    fi
    set -e
    count_tests "$log"
    note_step "$code" $((SECONDS - begun)) "$title"
    return 0
}

say_ended() { printf '━━ %s: %s, %d s\n' "$1" "$( (($2 == 0)) && echo ok || echo FAILED)" "$3"; }

# Arguments: title, exit code, seconds, file with what was said.
say_in_one_piece() {
    (
        flock 9
        printf '\n━━ %s\n' "$1"
        cat "$4"
        say_ended "$1" "$2" "$3"
    ) 9>"$logs/lock"
}

# Arguments: exit code, seconds, title.
note_step() {
    if (($1 == 0)); then
        steps_done+=("$(printf 'ok      %6s  %s' "$2 s" "$3")")
    else
        steps_done+=("$(printf 'FAILED  %6s  %s' "$2 s" "$3")")
        steps_failed+=("$3")
    fi
}

# A step without which the others make no sense. It runs in this shell, so that it can set variables.
must() {
    local title=$1 begun=$SECONDS
    shift
    printf '\n━━ %s\n' "$title"
    "$@"
    steps_done+=("$(printf 'ok      %6s  %s' "$((SECONDS - begun)) s" "$title")")
    printf '━━ %s: ok, %s\n' "$title" "$((SECONDS - begun)) s"
}

# Lets a command run beside what follows, as a process group, so that nothing of it goes on after the end of this run.
# Arguments: file for what it says, command...
preparing=
begin_beside() {
    local log=$1
    shift
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    preparing=$!
    set +m
}

# Until it has ended; shows what it said. Argument: the file.
await_beside() {
    local code=0
    wait "$preparing" || code=$?
    preparing=
    cat "$1"
    return "$code"
}

end_beside() { [[ -z $preparing ]] || kill -- "-$preparing" 2>/dev/null || true; }

count_tests() {
    local passed failed ignored
    while read -r passed failed ignored; do
        tests_passed=$((tests_passed + passed))
        tests_failed=$((tests_failed + failed))
        tests_ignored=$((tests_ignored + ignored))
    done < <(sed -n -E 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored;.*/\1 \2 \3/p' "$1")
}

total() {
    printf '\n━━ total\n'
    printf '%s\n' "${steps_done[@]}"
    printf '%d tests passed, %d failed, %d ignored, in %d s\n' \
        "$tests_passed" "$tests_failed" "$tests_ignored" "$((SECONDS - steps_begun))"
    ((${#steps_failed[@]} == 0)) || die "failed: $(printf '%s; ' "${steps_failed[@]}")"
}

# librdkafka is compiled from its source and links the system's OpenSSL.
build_packages() { apt_packages build-essential pkg-config libssl-dev; }

require_rust() {
    command -v cargo >/dev/null ||
        die "cargo is missing" "Install Rust 1.95 or later with rustup (https://rustup.rs), with rustfmt and clippy."
}
