//! How actors live and die: credit, lifelines, failure classes, restart policies. The only package that knows.
//!
//! `actix::Supervisor` cannot survive a panic and has no delay and no limit; and an actix mailbox
//! bounds nothing (`do_send` ignores its capacity). Hence [`credit`] bounds memory, a [`Lifeline`]
//! reports every end of a stage, panics included, and a pure [`FailureLog`] decides what follows.

pub mod class;
pub mod credit;
pub mod lifeline;
pub mod restart;
pub mod throttle;

pub use class::FailureClass;
pub use credit::{Budget, Credit, Lent, TellLender};
pub use lifeline::{Lifeline, Stage, StageFailed};
pub use restart::{FailureLog, RestartPolicy, Verdict};
pub use throttle::{Limits, Throttle};
