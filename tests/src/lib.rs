//! Harness for real servers, suites, fault injection, benchmarks.
//!
//! It knows the product only from outside: its binary, its spec, its exit codes and what it writes
//! to Kafka. Nothing here skips: a server that cannot start, or a binary that cannot be built,
//! fails the test that needs it.

pub mod bench;
pub mod catalog;
pub mod checker;
pub mod cluster;
pub mod collector;
pub mod deadline;
pub mod decode;
pub mod disk;
pub mod event;
pub mod form;
pub mod java;
pub mod lan;
pub mod network;
pub mod probe;
pub mod process;
pub mod procfs;
pub mod pulse;
pub mod reader;
pub mod receiver;
pub mod registry;
pub mod scene;
pub mod schema_change;
pub mod seed;
pub mod segments;
pub mod servers;
pub mod site;
pub mod sql;
pub mod standby;
pub mod status;
pub mod task;
pub mod topics;
pub mod workload;
