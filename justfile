# The verbs. Nothing needs just: each is one command.

# List the verbs.
default:
    @just --list

# Format everything.
fmt:
    cargo fmt --all

# Format, lints and docs as CI has them: warnings are denied.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

# Unit tests; no server, seconds once built.
test *args:
    cargo test --workspace --exclude tests {{ args }}

# One suite on real servers; `--full` runs its long form.
it suite *args:
    ./cluster/local/test {{ suite }} {{ args }}

# `decode` and `encode` need no server; `drain`, `debezium`, `cluster`, `latency`, `memory`, `snapshot`, `streaming`, `tables`, `kafka_lane` and `walsender` take `--help`.
# One benchmark, whose figures go to BENCHMARKS.md; each takes `--quick`.
bench name *args:
    cargo build --release -p cli --bin distributary
    cargo bench --bench {{ name }} -- {{ args }}

# A cluster of N coordinators and N workers on loopback, with real servers and a shop to carry; run again, it changes only what differs.
up *args="3":
    ./cluster/local/up {{ args }}

# End what `up` has started; `--wipe` deletes its data, too.
down *args:
    ./cluster/local/down {{ args }}

# Whether an event costs more CPU than in the last release; `--write` takes what is found as the new figures.
guard *args:
    cargo bench --bench guard -- {{ args }}

# The same by instructions of the tests' build, as CI does it; needs valgrind.
guard-instructions *args:
    cargo test --locked --workspace --bench guard -- --instructions {{ args }}

# Start servers and leave them running, by default the ones that most work needs.
servers *names="postgres-15 kafka":
    ./cluster/local/servers start {{ names }}

# What must be green.
ci:
    ./.ci/run

# Fuzz one of fuzz/fuzz_targets, by default for a minute; for the stable compiler, as there is no unsafe code to look into.
fuzz target *args="-max_total_time=60":
    RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        --cfg fuzzing -Ccodegen-units=1" \
        cargo run --locked --manifest-path fuzz/Cargo.toml --target {{ arch() }}-unknown-linux-gnu --bin {{ target }} -- {{ args }}

# What the program is made of, as a bill of materials (CycloneDX): target/sbom/distributary.cdx.json.
sbom:
    command -v cargo-cyclonedx >/dev/null || cargo install --locked cargo-cyclonedx@0.5.9
    cargo cyclonedx --manifest-path crates/cli/Cargo.toml --format json --spec-version 1.5 --describe binaries
    mkdir -p target/sbom
    mv crates/cli/distributary_bin.cdx.json target/sbom/distributary.cdx.json
    # It writes one for each program of the workspace.
    rm -f tests/*_bin.cdx.json

# Licences, bans and sources of all dependencies, and known holes in them (whose list comes from the network).
deny:
    command -v cargo-deny >/dev/null || cargo install --locked cargo-deny@0.20.2
    cargo deny check
