//! What `postgres` reads from the catalog of real servers, and what it changes there.
//!
//! The short form runs on the oldest and the newest server and one between; the long one
//! (`DISTRIBUTARY_FULL=1`) on all five, and with ten times as many tables.

#[path = "postgres_catalog/ground.rs"]
mod ground;
#[path = "postgres_catalog/prechecks.rs"]
mod prechecks;
#[path = "postgres_catalog/publications.rs"]
mod publications;
#[path = "postgres_catalog/slots.rs"]
mod slots;
#[path = "postgres_catalog/snapshots.rs"]
mod snapshots;
#[path = "postgres_catalog/tables.rs"]
mod tables;
#[path = "postgres_catalog/values.rs"]
mod values;
