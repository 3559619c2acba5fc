//! Splitting of the replication connection into messages.
#![allow(clippy::needless_pass_by_value, clippy::unwrap_used, reason = "a test may fail here")]

mod encode;

use encode::{backend, copy_data, join, keepalive, xlog_data};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use wal::Lsn;
use wal::frame::{Error, Frame, Frames, OtherKind, Scan, part, scan};

#[track_caller]
fn check_scan(bytes: &[u8], expected: Expect) {
    expected.assert_eq(&match scan(bytes) {
        Ok(Scan { complete, server_end, reply_requested, other, missing }) => {
            let end = server_end.map_or("none".to_owned(), |lsn| lsn.to_string());
            let other = other.map(|other| (other.kind, other.body));
            format!("{complete} bytes, end {end}, reply {reply_requested}, {other:?}, -{missing}")
        }
        Err(error) => format!("error: {error}"),
    });
}

#[track_caller]
fn check_frames(bytes: &[u8], expected: Expect) {
    let frame = |frame: Result<Frame, Error>| match frame {
        Ok(Frame::XLogData { start, server_end, clock, payload }) => {
            format!("{start} to {server_end} at {clock}: {:?}", &bytes[payload])
        }
        Ok(Frame::Keepalive { server_end, clock, reply }) => {
            format!("keepalive {server_end} at {clock}, reply {reply}")
        }
        Err(error) => format!("error: {error}"),
    };
    expected.assert_eq(&Frames::new(bytes).map(frame).collect::<Vec<_>>().join("\n"));
}

#[test]
fn frames_are_told_apart() {
    let bytes = [xlog_data(0x10, b"abc"), keepalive(0x20, true), xlog_data(0x30, b"")].concat();
    check_frames(
        &bytes,
        expect![[r#"
        0/10 to 0/10 at 0: [97, 98, 99]
        keepalive 0/20 at 0, reply true
        0/30 to 0/30 at 0: []"#]],
    );
    check_frames(b"", expect![""]);
}

#[test]
fn what_is_no_frame_ends_the_iteration() {
    let whole = keepalive(1, false);
    check_frames(
        &join(&[&whole, &backend(b'N', b"x"), &whole]),
        expect![[r#"
        keepalive 0/1 at 0, reply false
        error: backend message 0x4e where only CopyData is expected"#]],
    );
    check_frames(
        &join(&[&whole, &whole[..4]]),
        expect![[r#"
        keepalive 0/1 at 0, reply false
        error: CopyData is cut off after 4 bytes"#]],
    );
    check_frames(
        &join(&[&whole, &whole[..9]]),
        expect![[r#"
        keepalive 0/1 at 0, reply false
        error: CopyData is cut off after 9 bytes"#]],
    );
    check_frames(&copy_data(b""), expect!["error: CopyData is empty"]);
    check_frames(&copy_data(b"x"), expect!["error: CopyData of unknown kind 0x78"]);
    check_frames(
        &copy_data(b"w0123"),
        expect!["error: CopyData of kind 0x77 has 5 bytes, expected 25"],
    );
    check_frames(
        &copy_data(b"k01234567012345670+"),
        expect!["error: CopyData of kind 0x6b has 19 bytes, expected 18"],
    );
    check_frames(
        b"d\0\0\0\x03w",
        expect!["error: backend message 0x64 names a length of 3 bytes, below the least of 4"],
    );
    check_frames(
        b"d\x40\0\0\0w",
        expect![
            "error: backend message 0x64 names a length of 1073741824 bytes, above the limit of 1073741823 bytes"
        ],
    );
}

#[test]
fn a_growing_buffer_is_looked_through_up_to_its_last_whole_message() {
    let bytes = [xlog_data(0x30, b"abc"), keepalive(0x20, true), keepalive(0x21, false)].concat();
    check_scan(&bytes, expect!["79 bytes, end 0/30, reply true, None, -0"]);
    check_scan(&bytes[..bytes.len() - 1], expect!["56 bytes, end 0/30, reply true, None, -1"]);
    check_scan(&bytes[..3], expect!["0 bytes, end none, reply false, None, -2"]);
    check_scan(b"", expect!["0 bytes, end none, reply false, None, -0"]);
}

#[test]
fn another_message_is_shown_once_it_is_whole() {
    let notice = backend(b'N', b"SNOTICE\0\0");
    let bytes = [keepalive(1, false), notice.clone(), keepalive(2, false)].concat();
    check_scan(
        &bytes,
        expect!["23 bytes, end 0/1, reply false, Some((NoticeResponse, 28..37)), -0"],
    );
    check_scan(&bytes[..30], expect!["23 bytes, end 0/1, reply false, None, -7"]);
    let found = scan(&bytes).unwrap();
    let behind = found.complete + found.other.unwrap().total();
    check_scan(&bytes[behind..], expect!["23 bytes, end 0/2, reply false, None, -0"]);
    let kinds = b"ENScCZ?".map(|tag| scan(&backend(tag, b"")).unwrap().other.unwrap().kind);
    assert_eq!(
        kinds,
        [
            OtherKind::ErrorResponse,
            OtherKind::NoticeResponse,
            OtherKind::ParameterStatus,
            OtherKind::CopyDone,
            OtherKind::CommandComplete,
            OtherKind::ReadyForQuery,
            OtherKind::Unknown(b'?'),
        ]
    );
}

#[test]
fn lengths_that_cannot_be_are_refused_before_their_bytes_come() {
    check_scan(
        b"d\0\0\0\x03",
        expect!["error: backend message 0x64 names a length of 3 bytes, below the least of 4"],
    );
    check_scan(
        b"d\x40\0\0\0",
        expect![
            "error: backend message 0x64 names a length of 1073741824 bytes, above the limit of 1073741823 bytes"
        ],
    );
    check_scan(b"d\x3f\xff\xff\xff", expect!["0 bytes, end none, reply false, None, -1073741819"]);
    check_scan(
        b"N\xff\xff\xff\xff",
        expect![
            "error: backend message 0x4e names a length of 4294967295 bytes, above the limit of 1073741823 bytes"
        ],
    );
}

proptest! {
    #[test]
    fn no_input_panics(bytes: Vec<u8>) {
        let _ = scan(&bytes);
        let _ = Frames::new(&bytes).count();
        let _ = Frames::new(&copy_data(&bytes)).count();
    }

    #[test]
    fn reading_in_pieces_finds_the_same_messages(
        payloads in prop::collection::vec((any::<u32>(), any::<Vec<u8>>()), 0..8),
        piece in 1..60usize,
    ) {
        let message = |(lsn, payload): &(u32, Vec<u8>)| xlog_data(u64::from(*lsn), payload);
        let stream: Vec<u8> = payloads.iter().flat_map(message).collect();
        let mut buffer = Vec::new();
        let mut found = Vec::new();
        for piece in stream.chunks(piece) {
            buffer.extend(piece);
            let scanned = scan(&buffer).unwrap();
            let whole: Vec<u8> = buffer.drain(..scanned.complete).collect();
            for frame in Frames::new(&whole) {
                match frame.unwrap() {
                    Frame::XLogData { start, payload, .. } => {
                        found.push((start, whole[payload].to_vec()));
                    }
                    Frame::Keepalive { .. } => panic!("no keepalive was sent"),
                }
            }
            // The missing bytes are never overstated: a reader may wait for so many.
            prop_assert_eq!(buffer.is_empty(), scanned.missing == 0);
        }
        let sent: Vec<_> =
            payloads.into_iter().map(|(lsn, payload)| (Lsn(u64::from(lsn)), payload)).collect();
        prop_assert_eq!(found, sent);
        prop_assert!(buffer.is_empty());
    }
}

proptest! {
    #[test]
    fn parts_are_whole_messages_within_their_limits(
        messages in prop::collection::vec((prop::sample::select(vec![b'I', b'U', b'D', b'B']), 0..60usize), 1..40),
        rows_max in 1u64..5, bytes_max in 1u64..300,
    ) {
        let message = |&(tag, length): &(u8, usize)| xlog_data(7, &[&[tag], vec![9; length].as_slice()].concat());
        let bytes: Vec<u8> = messages.iter().flat_map(message).collect();
        let (mut rest, mut rows_all) = (bytes.as_slice(), 0);
        while !rest.is_empty() {
            let (end, rows) = part(rest, rows_max, bytes_max);
            let taken = Frames::new(&rest[..end]).collect::<Result<Vec<_>, _>>().unwrap();
            prop_assert!(taken.len() == 1 || (rows <= rows_max && end as u64 <= bytes_max));
            rows_all += rows;
            rest = &rest[end..];
        }
        prop_assert_eq!(rows_all, messages.iter().filter(|(tag, _)| *tag != b'B').count() as u64);
    }
}
