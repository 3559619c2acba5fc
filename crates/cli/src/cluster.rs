//! `distributary task`, `cluster` and `connection`: what a person tells a cluster, and what it answers.

mod apply;
mod begin;
mod connection;
mod figures;
mod nodes;
mod people;
mod reach;
mod refusal;
mod settings;
mod task;
mod view;
mod watch;

pub(crate) use connection::connections;
pub(crate) use nodes::nodes;
pub(crate) use task::tasks;
