//! Replication connections to real servers: slots, the stream, and what can go wrong with them.
//!
//! The short form runs on the oldest and the newest server and one between; the long one
//! (`DISTRIBUTARY_FULL=1`) on all five.

#[path = "postgres_stream/facts.rs"]
mod facts;
#[path = "postgres_stream/flow.rs"]
mod flow;
#[path = "postgres_stream/ground.rs"]
mod ground;
#[path = "postgres_stream/refusals.rs"]
mod refusals;
#[path = "postgres_stream/slots.rs"]
mod slots;
#[path = "postgres_stream/wire.rs"]
mod wire;
