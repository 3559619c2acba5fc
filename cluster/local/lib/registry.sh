# Apicurio Registry, which speaks the Confluent API below /apis/ccompat/v7; it keeps its schemas in memory.

registry_home=$state/lib/registry-2.6.13

registry_install() {
    [[ -f $registry_home/complete ]] || locked "$state/lib/registry.lock" registry_fetch
}

registry_fetch() {
    [[ ! -f $registry_home/complete ]] || return 0
    java_and_maven
    say "mvn: Apicurio Registry 2.6.13"
    rm -rf "$registry_home"
    mkdir -p "$registry_home"
    maven "$maven_dependency_plugin:copy" "-DoutputDirectory=$registry_home" \
        -Dartifact=io.apicurio:apicurio-registry-app:2.6.13.Final:tar.gz:all
    tar -xzf "$registry_home"/*.tar.gz -C "$registry_home"
    rm -f "$registry_home"/*.tar.gz
    touch "$registry_home/complete"
}

registry_launch() {
    refuse_foreign_port
    say "$name: starting on 127.0.0.1:$server_port"
    local options=(-Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=$server_port") set
    while IFS= read -r set; do options+=("-D$set"); done <"$dir/settings"
    (cd "$dir" && exec setsid java -Xmx384m "-Ddistributary.folder=$dir/" "${options[@]}" \
        -jar "$registry_home/apicurio-registry-app-2.6.13.Final-runner.jar") >>"$dir/log" 2>&1 </dev/null 9>&- &
    echo $! >"$dir/pid"
}

# Spoken by hand, so that no HTTP client has to be installed for one question.
registry_ready() {
    local status=
    {
        exec 7<>"/dev/tcp/127.0.0.1/$server_port" &&
            printf 'GET /apis/ccompat/v7/subjects HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&7 &&
            IFS= read -r -t 5 status <&7
    } 2>/dev/null
    exec 7>&-
    [[ $status == *' 200 '* ]]
}

registry_stop() {
    local id
    id=$(pid)
    say "$name: stopping"
    kill -TERM "$id" 2>/dev/null || true
    await_end "$id" 15 || kill_tree "$id"
}
