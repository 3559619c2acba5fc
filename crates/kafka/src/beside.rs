//! Two things that block, at the same time: most of what opening costs is waiting for answers.

use crate::Error;
use std::panic::resume_unwind;
use std::thread;

/// Does `one` on a thread of its own while `other` is done here, and waits for both.
pub(crate) fn beside<A: Send, B>(
    one: impl FnOnce() -> Result<A, Error> + Send,
    other: impl FnOnce() -> Result<B, Error>,
) -> (Result<A, Error>, Result<B, Error>) {
    thread::scope(|scope| {
        let spawned = thread::Builder::new().name("kafka opening".into()).spawn_scoped(scope, one);
        let other = other();
        let one = match spawned {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(error) => {
                let reason = error.to_string();
                Err(Error::Client { doing: "starting a thread".into(), reason })
            }
        };
        (one, other)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn both_are_under_way_at_once() {
        let (there, here) = mpsc::channel();
        let (back, answer) = mpsc::channel();
        let (one, other) = beside(
            move || {
                there.send(1).expect("heard");
                Ok(answer.recv().expect("answered"))
            },
            move || {
                back.send(2).expect("heard");
                Ok(here.recv().expect("answered"))
            },
        );
        assert_eq!((one.expect("done"), other.expect("done")), (2, 1));
    }
}
