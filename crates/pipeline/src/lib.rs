//! The stages as actors, what supervises them, and how a task runs, in one process or with stages elsewhere.
//!
//! * [`reader`] → [`decoder`] → [`router`] → [`producer`] (with its [`lane`] thread) → Kafka;
//!   [`acknowledger`] finds what may be confirmed. [`batch`]: what travels between them.
//! * [`spooling`]: before the reader, where transactions are sent while they are in progress.
//! * [`task`]: one life of a task: where it begins ([`start`]), its [`snapshot`], its [`front`]s and
//!   [`lanes`], what follows a [`failure`].
//! * [`streams`]: a task of several slots, each of which is a task of its own.
//! * [`hosts`]: where stages and lanes run; [`upstream`]: the stages before the router, here or elsewhere; [`link`]:
//!   what stages on different nodes hand to each other, as bytes.
//! * [`chunk`], [`copying`]: reading tables while the stream runs; [`reading`]: by connections here or elsewhere.
//! * [`capture`]: which tables are published and read; [`tables`]: those that come and go; [`planner`]: their topics, pins and plans.
//! * [`mod@precheck`], [`mod@objects`], [`mod@tail`], [`slots`]: what looks without writing (but for orphaned slots). [`progress`], [`rate`], [`health`]: figures.

pub mod acknowledger;
pub mod alerts;
pub mod batch;
pub mod capture;
pub mod chunk;
pub mod commit;
pub mod copying;
pub mod decoder;
pub mod describe;
pub mod descriptions;
pub mod failure;
pub mod front;
pub mod frontier;
pub mod guardian;
pub mod health;
pub mod heartbeat;
pub mod hosts;
pub mod lane;
pub mod lanes;
pub mod lineage;
pub mod link;
pub mod meta;
pub mod misfit;
pub mod objects;
mod omission;
pub mod planner;
pub mod precheck;
pub mod producer;
pub mod progress;
pub mod rate;
pub mod reader;
pub mod reading;
pub mod router;
pub mod routing;
pub mod slots;
pub mod snapshot;
pub mod source;
pub mod spooling;
pub mod start;
pub mod streams;
pub mod tables;
pub mod tail;
pub mod task;
mod transactions;
pub mod turns;
pub mod upstream;

pub use failure::Failure;
pub use objects::{ObjectRow, objects};
pub use precheck::precheck;
pub use progress::Progress;
pub use tail::tail;
pub use task::{Options, Outcome, run, run_on};
