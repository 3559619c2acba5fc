//! The actix system that a command runs on: this thread.

use std::mem::ManuallyDrop;

/// Runs `future` to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    // The system's drop would wait for calls that still block on a server, after Ctrl-C for example;
    // the process ends right after a command, and they with it.
    ManuallyDrop::new(actix_rt::System::new()).block_on(future)
}
