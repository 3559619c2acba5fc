//! Drains backlogs that wait behind replication slots: `distributary` into Kafka, exactly once
//! and at least once, beside `pg_recvlogical` to nowhere, in turns. Prints tables for
//! BENCHMARKS.md.
//!
//! usage: just bench drain [--backlog rows|pgbench|large|tables]... [--rows N] [--runs N] [--wire|--streams] [--quick]

mod backlog;

fn main() -> std::io::Result<()> {
    backlog::drain("drain", false)
}
