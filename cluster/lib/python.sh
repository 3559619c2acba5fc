# Python packages of the checks, in an environment of their own beside the servers.

# Sets python, the folder with the environment's programs. Arguments: packages, each NAME==VERSION.
python_packages() {
    python=$state/lib/python/bin
    locked "$state/lib/python.lock" python_install "$@"
}

python_install() {
    local log=$state/lib/python.log missing=() package
    [[ -x $python/pip ]] || { python3 -m venv "$state/lib/python" >"$log" 2>&1 9>&- || rm -rf "$state/lib/python"; }
    if [[ ! -x $python/pip ]]; then
        apt_packages python3-venv
        python3 -m venv "$state/lib/python" >"$log" 2>&1 9>&- || die "python3 -m venv failed:" "$(tail -n 5 "$log")"
    fi
    for package in "$@"; do
        [[ -f $state/lib/python/$package ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    say "pip install ${missing[*]}"
    "$python/pip" install --quiet --disable-pip-version-check "${missing[@]}" >"$log" 2>&1 9>&- </dev/null ||
        die "pip install ${missing[*]} failed:" "$(tail -n 20 "$log")"
    for package in "${missing[@]}"; do touch "$state/lib/python/$package"; done
}
