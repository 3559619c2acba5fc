//! As `drain`, and beside them Debezium's PostgreSQL connector in a standalone worker of Kafka Connect, whose jars come by
//! Maven, with its own defaults.
//!
//! usage: just bench debezium [--backlog rows|pgbench|large]... [--rows N] [--runs N] [--heap SIZE] [--quick]

mod backlog;

fn main() -> std::io::Result<()> {
    backlog::drain("debezium", true)
}
