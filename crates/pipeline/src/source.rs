//! The replication stream of `postgres` as the reader's port.

use crate::failure::Failure;
use crate::reader::{Answer, OpenStream, Received, WalStream};
use postgres::replication::{Replication, StreamOptions};
use postgres::settings::Settings;
use std::time::Duration;
use supervision::FailureClass;
use wal::Lsn;

/// Opens a connection and starts the stream on it, on a thread that has nothing else to do.
#[must_use]
pub fn open_stream(settings: Settings, options: StreamOptions) -> OpenStream {
    Box::new(move || {
        Box::pin(async move {
            let connection = Replication::connect(&settings).await?;
            let stream = connection.start(&options).await?;
            Ok(Box::new(Stream(stream.on_own_thread())) as Box<dyn WalStream>)
        })
    })
}

struct Stream(postgres::replication::WalStream);

impl WalStream for Stream {
    fn read(&mut self) -> Answer<'_, Received> {
        Box::pin(async move {
            let postgres::replication::Received { bytes, server_end, reply_requested } =
                self.0.read().await?;
            Ok(Received { bytes, server_end, reply_requested })
        })
    }

    fn report(&mut self, received: Lsn, confirmed: Lsn, reply: bool) -> Answer<'_, ()> {
        Box::pin(async move { Ok(self.0.report(received, confirmed, reply).await?) })
    }

    fn close(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(async move { Ok(self.0.close().await?) })
    }

    fn status_interval(&self) -> Duration {
        self.0.status_interval()
    }
}

/// What an error that is no lost connection means. No `_` arm: whoever adds an error decides here.
fn classify(error: &postgres::Error) -> FailureClass {
    use postgres::Error;
    match error {
        Error::Unreachable { .. }
        | Error::NoPrimary { .. }
        | Error::NoStandby { .. }
        | Error::StandbyBehind { .. }
        | Error::Closed { .. }
        | Error::ServerChanged { .. } => FailureClass::Connection,
        // A person may be at it: a password is changed, a right is granted, a lock is given up.
        Error::Authentication { .. }
        | Error::Pooler { .. }
        | Error::Tls { .. }
        | Error::NotAuthorized { .. }
        | Error::NoFreeSlot { .. }
        | Error::SlotBusy { .. }
        | Error::TableMissing { .. }
        | Error::TableRewritten { .. }
        | Error::LockTimeout { .. }
        | Error::Protocol { .. }
        | Error::Server { .. }
        | Error::Damaged(_) => FailureClass::Transient,
        // The same value comes again.
        Error::Untranslatable { .. }
        | Error::NoBinaryForm { .. }
        | Error::ChangeTooLarge { .. } => FailureClass::Poison,
        Error::DatabaseMissing { .. }
        | Error::WalLevel { .. }
        | Error::SlotInUse { .. }
        | Error::SlotMissing { .. }
        | Error::SlotLost { .. }
        | Error::SlotAhead { .. }
        | Error::ServerBehind { .. }
        | Error::PublicationMissing { .. }
        | Error::Config(_)
        | Error::Unsupported { .. } => FailureClass::Fatal,
    }
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Self {
        let class = if error.is_connection() { FailureClass::Connection } else { classify(&error) };
        Self { class, cause: error.to_string() }
    }
}
