//! A reader on a thread of its own.
//!
//! It sleeps there while more comes ([`open_stream`](crate::source::open_stream)), and decrypts beside the decoder.

use crate::reader::{Obey, Order, Parts, Reader};
use actix::{Actor, Addr};
use actix_rt::{Arbiter, ArbiterHandle};

/// Ends with whoever holds it, the connection too.
pub(crate) struct ThreadedReader {
    reader: Addr<Reader>,
    thread: ArbiterHandle,
}

impl ThreadedReader {
    pub(super) fn start(parts: Parts) -> Self {
        let thread = Arbiter::new().handle();
        let reader = Reader::start_in_arbiter(&thread, move |_| Reader::new(parts));
        Self { reader, thread }
    }

    pub(super) fn obey(&self, order: Order) {
        self.reader.do_send(Obey(order));
    }

    pub(super) fn is_there(&self) -> bool {
        self.reader.connected()
    }
}

impl Drop for ThreadedReader {
    fn drop(&mut self) {
        self.thread.stop();
    }
}
