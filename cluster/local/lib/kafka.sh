# Kafka in KRaft mode: one node that is broker and controller, or three of them, to which a fourth broker may come.

kafka_libs=$state/lib/kafka-4.3.1

kafka_install() {
    [[ -f $kafka_libs/complete.jar ]] || locked "$state/lib/kafka.lock" kafka_fetch
    [[ -n ${DISTRIBUTARY_KAFKA_CLASSES:-} || -f $kafka_libs/archived ]] ||
        locked "$state/lib/kafka-archive.lock" kafka_archive
}

kafka_fetch() {
    [[ ! -f $kafka_libs/complete.jar ]] || return 0
    java_and_maven
    say "mvn: Kafka 4.3.1"
    rm -rf "$kafka_libs"
    mkdir -p "$kafka_libs/ours"
    maven -f "$here/kafka/pom.xml" "$maven_dependency_plugin:copy-dependencies" "-DoutputDirectory=$kafka_libs"
    javac -cp "$kafka_libs/*" -d "$kafka_libs/ours" "$here/kafka/Ready.java"
    # An archive of classes can be made of jars only. The last step, so its file says that the others were done.
    jar -c -f "$kafka_libs/ours.new" -C "$kafka_libs/ours" Ready.class
    mv "$kafka_libs/ours.new" "$kafka_libs/complete.jar"
}

# The classes that a start needs, kept parsed and verified (class data sharing): a broker is there in half of the time
# and of the processor time. Which they are is asked of a broker. A JVM that cannot use the archive starts without it.
kafka_archive() {
    [[ ! -f $kafka_libs/archived ]] || return 0
    local lists
    lists=$(mktemp -d)
    say "Kafka: noting the classes of a first start"
    DISTRIBUTARY_KAFKA_CLASSES=$lists "$here/servers" start kafka:classes
    "$here/servers" wipe kafka:classes
    awk '!seen[$0]++' "$lists"/*.classes >"$lists/all"
    java -Xshare:dump -XX:SharedClassListFile="$lists/all" -XX:SharedArchiveFile="$kafka_libs/classes.new" \
        -cp "$kafka_libs/*" >"$kafka_libs/archive.log" 2>&1 9>&- </dev/null &&
        mv -f "$kafka_libs/classes.new" "$kafka_libs/classes.jsa" ||
        say "Kafka: this JVM makes no archive of classes ($kafka_libs/archive.log); brokers start without it"
    rm -rf "$lists"
    touch "$kafka_libs/archived"
}

# Sets java_options: what each program of Kafka's starts with.
kafka_java_options() {
    local sharing=("-XX:SharedArchiveFile=$kafka_libs/classes.jsa")
    [[ -z ${DISTRIBUTARY_KAFKA_CLASSES:-} ]] ||
        sharing=(-Xshare:off "-XX:DumpLoadedClassList=$(mktemp -u "$DISTRIBUTARY_KAFKA_CLASSES/XXXXXX").classes")
    java_options=("${sharing[@]}" "-Dlog4j2.configurationFile=$here/kafka/log4j2.properties" -cp "$kafka_libs/*")
}

kafka_java() {
    local java_options
    kafka_java_options
    java "${java_options[@]}" "$@"
}

# The listener of the controllers is the port after the brokers'.
kafka_voters() {
    if ((number == 0)); then
        echo "1@127.0.0.1:$((server_port + 1))"
    else
        local first=$((server_port - step + 1))
        echo "1@127.0.0.1:$first,2@127.0.0.1:$((first + 100)),3@127.0.0.1:$((first + 200))"
    fi
}

kafka_configure() {
    local replicas=1 in_sync=1 node=1 roles=broker,controller controller=,CONTROLLER://127.0.0.1:$((server_port + 1))
    ((number == 0)) || replicas=3 in_sync=2 node=$number
    ((number < 4)) || roles=broker controller=
    cat >"$dir/server.properties" <<TEXT
process.roles=$roles
node.id=$node
controller.quorum.voters=$(kafka_voters)
listeners=PLAINTEXT://127.0.0.1:$server_port$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$server_port
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
log.dirs=$dir/data
auto.create.topics.enable=false
unclean.leader.election.enable=false
default.replication.factor=$replicas
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$replicas
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$in_sync
group.initial.rebalance.delay.ms=0
log.segment.bytes=134217728
log.index.size.max.bytes=524288
log.retention.hours=6
log.retention.bytes=8589934592
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.backoff.ms=2000
num.network.threads=2
num.io.threads=4
controlled.shutdown.max.retries=1
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=4000
TEXT
    # What comes later in a properties file wins.
    ! kafka_secure || kafka_secure_listeners >>"$dir/server.properties"
    { grep -v '^secure=' "$dir/settings" || true; } >>"$dir/server.properties"
}

# Every way in beside the plaintext one, for `--set secure=yes`; the ports follow that of the controller.
kafka_secure() { grep -q -x 'secure=yes' "$dir/settings"; }

kafka_user=distributary
# Unlike any other word here, so that a test can look for it where it must not be.
kafka_password=k4fka-pa55

# The certificate of ELSEWHERE names 127.0.0.1, not the address where it listens.
kafka_secure_listeners() {
    local at=127.0.0.1 first=$((server_port + 2)) secure modules=org.apache.kafka.common.security
    ((number == 0)) || die "$name: only a single broker can be secure"
    secure=SSL://$at:$first,MTLS://$at:$((first + 1)),SASL_PLAINTEXT://$at:$((first + 2)),SASL_SSL://$at:$((first + 3))
    secure+=,ELSEWHERE://127.0.0.2:$((first + 4))
    cat <<TEXT
listeners=PLAINTEXT://$at:$server_port,CONTROLLER://$at:$((server_port + 1)),$secure
advertised.listeners=PLAINTEXT://$at:$server_port,$secure
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,MTLS:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,ELSEWHERE:SSL
ssl.keystore.type=PEM
ssl.keystore.location=$state/tls/server-keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location=$state/tls/ca.pem
listener.name.mtls.ssl.client.auth=required
listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=$modules.plain.PlainLoginModule required user_$kafka_user="$kafka_password";
listener.name.sasl_ssl.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=$modules.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=$modules.scram.ScramLoginModule required;
TEXT
}

kafka_launch() {
    refuse_foreign_port
    tls_files
    kafka_configure
    if [[ ! -f $dir/data/meta.properties ]]; then
        local users=() mechanism
        if kafka_secure; then
            for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
                users+=(--add-scram "$mechanism=[name=$kafka_user,password=$kafka_password]")
            done
        fi
        say "$name: formatting"
        rm -rf "$dir/data"
        kafka_java -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format --config "$dir/server.properties" \
            --cluster-id "$(kafka_cluster_id)" ${users[@]+"${users[@]}"} >"$dir/format.log" 2>&1 </dev/null 9>&- ||
            die "formatting the log folder failed:" "$(tail -n 20 "$dir/format.log")"
    fi
    say "$name: starting on 127.0.0.1:$server_port"
    local options java_options
    read -ra options <<<"${DISTRIBUTARY_KAFKA_JAVA:-}"
    kafka_java_options
    (cd / && exec setsid java "-Xmx${DISTRIBUTARY_KAFKA_HEAP:-512m}" -XX:+UseG1GC ${options[@]+"${options[@]}"} \
        "${java_options[@]}" kafka.Kafka "$dir/server.properties") >>"$dir/log" 2>&1 </dev/null 9>&- &
    echo $! >"$dir/pid"
}

# Nodes of one cluster agree on it without talking: it follows from the cluster's name.
kafka_cluster_id() {
    local cluster=kafka
    ((number == 0)) || cluster=kafka-three
    printf '%s' "$cluster:$instance" | md5sum | head -c 16 | base64 | tr '+/' '-_' | tr -d '='
}

# Ready: every broker of the cluster is in the metadata, and the transaction coordinator gives out a producer id.
# One look takes a Java start, so the program itself waits, and who has once been found ready is not looked at again for
# each of a suite's tests; `wait` looks.
kafka_ready() {
    local nodes=1 found
    ((number == 0)) || nodes=$(kafka_started_nodes)
    listening "$server_port" || return 1
    found="$(pid) of $nodes"
    [[ ${verb:-} == wait || $(cat "$dir/ready" 2>/dev/null) != "$found" ]] || return 0
    kafka_java -Xmx64m -XX:TieredStopAtLevel=1 Ready "127.0.0.1:$server_port" "$nodes" \
        "${DISTRIBUTARY_START_SECONDS_MAX:-120}" >>"$dir/ready.log" 2>&1 </dev/null && echo "$found" >"$dir/ready"
}

# How many nodes of this cluster have a living process.
kafka_started_nodes() {
    local count=0 node
    for node in 1 2 3 4; do
        (select_instance "kafka-$node${instance:+:$instance}" && running) && count=$((count + 1))
    done
    echo "$count"
}

kafka_stop() {
    local id
    id=$(pid)
    say "$name: stopping"
    kill -TERM "$id" 2>/dev/null || true
    # The last broker of a cluster finds no controller to take leave of.
    await_end "$id" 20 || { say "$name: does not stop, ending it" && kill_tree "$id"; }
}

# Moves every replica of one broker to another one of its cluster, and waits for it. Arguments: names.
kafka_move() {
    local from
    (($# == 2)) || die "move takes two brokers of one cluster: servers move kafka-3 kafka-4"
    select_instance "$1"
    from=$number
    select_instance "$2"
    [[ $kind == kafka ]] && ((from && number)) || die "only brokers of a cluster can be moved: kafka-1 to kafka-4"
    load_settings
    kafka_brokers move "$from" "$number" "${DISTRIBUTARY_START_SECONDS_MAX:-120}"
}

# Lets the others forget a broker that was stopped for good. Arguments: its name, and that of one that stays.
kafka_forget() {
    local gone
    (($# == 2)) || die "forget takes the broker that is gone and one that stays: servers forget kafka-3 kafka-1"
    select_instance "$1"
    gone=$number
    select_instance "$2"
    load_settings
    kafka_brokers forget "$gone"
}

kafka_brokers() {
    kafka_java -Xmx64m -XX:TieredStopAtLevel=1 "$here/kafka/Brokers.java" "127.0.0.1:$server_port" "$@" \
        >"$dir/brokers.log" 2>&1 </dev/null || die "$1 failed:" "$(tail -n 20 "$dir/brokers.log")"
}

# Gives rights to the user of a secure broker. Arguments: the name; the rights are those of --rights.
kafka_permit() {
    [[ -n $rights ]] || die "permit takes --rights TYPE:PREFIX:OPERATION,…, e.g. TOPIC:shop.:WRITE"
    select_instance "$1"
    load_settings
    kafka_java -Xmx64m -XX:TieredStopAtLevel=1 "$here/kafka/Rights.java" "127.0.0.1:$server_port" "$kafka_user" \
        "$rights" >"$dir/rights.log" 2>&1 </dev/null || die "permit failed:" "$(tail -n 20 "$dir/rights.log")"
}
