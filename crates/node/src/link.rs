//! Lanes and stages on other nodes: both ends of the `Link` service.
//!
//! * [`client`]: a lane of ours that another node writes. It takes orders and reports as a thread does.
//! * [`server`]: a lane of another node's task that this node writes.
//! * `chunks`: both ends for what reads tables beside the stream.
//! * [`stage`]: both ends for a stage before the router.
//! * `trace`: to which span of its caller a call belongs.
//! * [`peers`]: connections, one for each node, shared by all of them.

pub(crate) mod chunks;
pub mod client;
mod convert;
pub mod peers;
pub mod server;
pub mod stage;
pub(crate) mod trace;
