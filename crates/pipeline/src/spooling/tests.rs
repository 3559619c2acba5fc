use super::*;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use wal::frame::{Frame, Frames, append_xlog_data};

/// What a server would send, buffer by buffer; then nothing more.
struct Script(VecDeque<Received>, Arc<Mutex<Vec<Lsn>>>);

impl WalStream for Script {
    fn read(&mut self) -> Answer<'_, Received> {
        match self.0.pop_front() {
            Some(received) => Box::pin(std::future::ready(Ok(received))),
            None => Box::pin(std::future::pending()),
        }
    }

    fn report(&mut self, received: Lsn, _: Lsn, _: bool) -> Answer<'_, ()> {
        self.1.lock().expect("alone").push(received);
        Box::pin(std::future::ready(Ok(())))
    }

    fn close(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn status_interval(&self) -> Duration {
        Duration::from_secs(10)
    }
}

fn framed(messages: &[Vec<u8>]) -> Bytes {
    let mut out = BytesMut::new();
    for message in messages {
        append_xlog_data(&mut out, Lsn(7), Lsn(7), 0, &[message]);
    }
    out.freeze()
}

fn start(xid: u32, is_first: bool) -> Vec<u8> {
    [&b"S"[..], &xid.to_be_bytes(), &[u8::from(is_first)]].concat()
}

/// An insert of a text of so many bytes.
fn row(xid: u32, bytes: u32) -> Vec<u8> {
    let text = vec![b'x'; bytes as usize];
    let tuple = [&b"\0\x01t"[..], &bytes.to_be_bytes(), &text].concat();
    [&b"I"[..], &xid.to_be_bytes(), &16_u32.to_be_bytes(), b"N", &tuple].concat()
}

fn commit(xid: u32) -> Vec<u8> {
    let end = [9_u64.to_be_bytes(), 10_u64.to_be_bytes(), [0; 8]].concat();
    [&b"c"[..], &xid.to_be_bytes(), b"\0", &end].concat()
}

fn abort(xid: u32, subtransaction: u32) -> Vec<u8> {
    [&b"A"[..], &xid.to_be_bytes(), &subtransaction.to_be_bytes()].concat()
}

fn stream(folder: &Path, bytes_max: u64, buffers: Vec<Bytes>) -> (Spooling, Arc<Progress>) {
    let received = |bytes| Received { bytes, server_end: Lsn(11), reply_requested: false };
    let script = Script(buffers.into_iter().map(received).collect(), Arc::default());
    let progress = Arc::new(Progress::default());
    let options = SpoolOptions { folder: folder.join("made"), bytes_max };
    (Spooling::new(Box::new(script), options, Arc::clone(&progress)), progress)
}

fn figures(progress: &Progress) -> (u64, u64) {
    (progress.spool_bytes.load(Relaxed), progress.spool_transactions.load(Relaxed))
}

fn tags(bytes: &Bytes) -> String {
    let tag = |frame| match frame {
        Ok(Frame::XLogData { payload, .. }) => char::from(bytes[payload.start]),
        Ok(Frame::Keepalive { .. }) => 'k',
        Err(error) => panic!("{error}"),
    };
    Frames::new(bytes).map(tag).collect()
}

#[actix_rt::test]
async fn a_large_transaction_is_replayed_piece_by_piece() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut buffers = vec![framed(&[start(5, true), row(5, 700_000)])];
    buffers.extend((0..40).map(|_| framed(&[row(5, 30_000)])));
    buffers.push(framed(&[b"E".to_vec(), commit(5), b"B".to_vec()]));
    let (mut spooling, progress) = stream(folder.path(), 1 << 30, buffers);
    for number in 0..41 {
        let received = spooling.next().await.expect("spooled");
        assert!(received.bytes.is_empty(), "buffer {number} is of a transaction in progress");
        assert_eq!(received.server_end, Lsn(11));
    }
    let (bytes, transactions) = figures(&progress);
    assert!(1_900_000 < bytes && transactions == 1, "{bytes} bytes of {transactions}");
    let file = spooling.spools.values().next().expect("a spool").metadata().expect("its state");
    assert_eq!((file.mode() & 0o777, file.nlink(), file.size()), (0o600, 0, bytes));
    let (mut seen, mut largest_of_small) = (String::new(), 0);
    while !seen.ends_with('B') || seen.len() == 1 {
        let Received { bytes, .. } = spooling.next().await.expect("replayed");
        let tags = tags(&bytes);
        if tags.len() != 1 {
            largest_of_small = largest_of_small.max(bytes.len());
        }
        seen += &tags;
    }
    assert_eq!(seen, format!("B{}CB", "I".repeat(41)));
    assert!(largest_of_small <= PIECE_BYTES + 100, "{largest_of_small} bytes at once");
    assert_eq!(figures(&progress), (0, 0));
}

#[actix_rt::test]
async fn what_is_rolled_back_gives_its_room_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let stop = || b"E".to_vec();
    let (mut spooling, progress) = stream(
        folder.path(),
        1 << 30,
        vec![
            framed(&[start(5, true), row(5, 100), row(6, 5_000), stop()]),
            framed(&[abort(5, 6)]),
            framed(&[start(8, true), row(8, 300), stop()]),
            framed(&[abort(8, 8)]),
            framed(&[start(5, false), row(7, 50), stop(), commit(5)]),
        ],
    );
    let mut sizes = Vec::new();
    for _ in 0..4 {
        assert!(spooling.next().await.expect("spooled").bytes.is_empty());
        let size = |file: &File| file.metadata().expect("its state").len();
        let on_disk: u64 = spooling.spools.values().map(size).sum();
        assert_eq!(figures(&progress), (on_disk, spooling.spools.len() as u64));
        sizes.push(on_disk);
    }
    assert!(5_000 < sizes[0] && sizes[1] < 200 && sizes[1] < sizes[2] && sizes[3] == sizes[1]);
    let all = spooling.next().await.expect("replayed").bytes;
    assert_eq!(tags(&all), "BIIC");
    drop(spooling);
    assert_eq!(figures(&progress), (0, 0));
}

#[actix_rt::test]
async fn more_than_may_be_spooled_parks_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let buffer = framed(&[start(5, true), row(5, 5_000)]);
    let (mut spooling, progress) = stream(folder.path(), 4_000, vec![buffer]);
    let failure = spooling.next().await.expect_err("above the limit");
    assert_eq!(failure.class, FailureClass::Fatal);
    assert!(failure.cause.contains("`source.spool_bytes_max`"), "{failure}");
    assert_eq!(figures(&progress), (0, 0));
}

#[actix_rt::test]
async fn a_folder_that_cannot_be_written_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("made"), "a file").expect("written");
    let buffer = framed(&[start(5, true), row(5, 5)]);
    let (mut spooling, _) = stream(folder.path(), 4_000, vec![buffer]);
    let failure = spooling.next().await.expect_err("no folder");
    assert_eq!(failure.class, FailureClass::Transient);
    let folder = folder.path().join("made").display().to_string();
    assert!(failure.cause.contains(&folder) && failure.cause.contains("data_dir"), "{failure}");
}
