//! Worker and coordinator: membership, placement, links, task lifecycle, admin service, HTTP port.

mod control;
pub mod coordinator;
mod doors;
pub mod front;
pub mod http;
pub mod leader;
pub mod link;
pub mod membership;
pub mod placement;
pub mod state;
pub mod task_state;
pub mod windows;
pub mod worker;
