//! Lifeline: a drop guard through which every end of a stage is reported, a panic's too.

use crate::FailureClass;
use actix::{Message, Recipient};
use std::fmt;

/// A stage of a pipeline.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stage {
    Reader,
    Decoder,
    Router,
    Acknowledger,
    Snapshot,
    /// The lane's number.
    Producer(u8),
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reader => f.write_str("reader"),
            Self::Decoder => f.write_str("decoder"),
            Self::Router => f.write_str("router"),
            Self::Acknowledger => f.write_str("acknowledger"),
            Self::Snapshot => f.write_str("snapshot"),
            Self::Producer(lane) => write!(f, "producer {lane}"),
        }
    }
}

/// A stage has ended and somebody must decide what follows.
#[derive(Clone, Debug, Eq, Message, PartialEq)]
#[rtype(result = "()")]
pub struct StageFailed {
    /// The life that the stage belonged to: of the front, or of one lane's producer.
    pub generation: u64,
    pub stage: Stage,
    pub class: FailureClass,
    /// Cause and remedy, for people. Never holds secrets or row values.
    pub cause: String,
}

/// Held by a stage for as long as it lives. Dropped without [`Lifeline::release`] it reports the end.
#[derive(Debug)]
pub struct Lifeline {
    guardian: Option<Recipient<StageFailed>>,
    generation: u64,
    stage: Stage,
}

impl Lifeline {
    /// A line to `guardian` for one life of `stage`.
    #[must_use]
    pub fn new(guardian: Recipient<StageFailed>, generation: u64, stage: Stage) -> Self {
        Self { guardian: Some(guardian), generation, stage }
    }

    /// Reports a failure. Later pulls of the same line say nothing: the first cause counts.
    pub fn pull(&mut self, class: FailureClass, cause: String) {
        if let Some(guardian) = self.guardian.take() {
            let Self { generation, stage, .. } = *self;
            guardian.do_send(StageFailed { generation, stage, class, cause });
        }
    }

    /// An end in good order: nothing is reported.
    pub fn release(&mut self) {
        self.guardian = None;
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        let cause = if std::thread::panicking() {
            "the stage panicked; see the log line of the panic"
        } else {
            "the stage ended without being told to"
        };
        self.pull(FailureClass::Transient, cause.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix::{Actor, Context, Handler};
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    struct Probe(UnboundedSender<StageFailed>);

    impl Actor for Probe {
        type Context = Context<Self>;
    }

    impl Handler<StageFailed> for Probe {
        type Result = ();

        fn handle(&mut self, failed: StageFailed, _: &mut Context<Self>) {
            let _ = self.0.send(failed);
        }
    }

    fn line() -> (Lifeline, UnboundedReceiver<StageFailed>) {
        let (sender, reports) = unbounded_channel();
        (Lifeline::new(Probe(sender).start().recipient(), 7, Stage::Producer(3)), reports)
    }

    #[actix_rt::test]
    async fn a_dropped_line_reports_the_end_of_its_stage() {
        let (line, mut reports) = line();
        drop(line);
        let report = reports.recv().await.expect("a report");
        assert_eq!((report.generation, report.stage), (7, Stage::Producer(3)));
        assert_eq!(report.class, FailureClass::Transient);
    }

    #[actix_rt::test]
    async fn the_first_cause_counts() {
        let (mut line, mut reports) = line();
        line.pull(FailureClass::Fatal, "slot lost".into());
        line.pull(FailureClass::Transient, "connection closed".into());
        drop(line);
        assert_eq!(reports.recv().await.expect("a report").cause, "slot lost");
        assert_eq!(reports.recv().await, None);
    }

    #[actix_rt::test]
    async fn a_panicking_stage_is_reported_as_such() {
        let (line, mut reports) = line();
        let stage = actix_rt::spawn(async move {
            let _line = line;
            panic!("planted");
        });
        assert!(stage.await.is_err());
        assert!(reports.recv().await.expect("a report").cause.contains("panicked"));
    }

    #[actix_rt::test]
    async fn a_released_line_is_silent() {
        let (mut line, mut reports) = line();
        line.release();
        drop(line);
        assert_eq!(reports.recv().await, None);
    }
}
