//! Records in parts (`sink.oversize: chunk`): what is larger than its topic takes.
//!
//! Each part is a record of the same partition with the same key, headers and timestamp, a piece of the
//! value, and the header `distributary.chunk`: its number from 1, `/`, and how many there are, e.g. `2/7`. The
//! parts of a record are neighbours in their partition, in their order. `docs/large-records.md` shows how
//! they are put together again.

use crate::Record;

/// Name of the header.
pub const HEADER: &str = "distributary.chunk";
/// The header with its largest numbers.
const HEADER_BYTES: u64 = 64;
/// A part holds at least so much of the value.
const PART_BYTES_MIN: u64 = 256;

/// Hands the parts of a record to `send`, each of at most `bytes_max` ([`Record::bytes`]); a record that is
/// no larger as it is. `None`: key and headers alone leave no room.
pub fn cut<E>(
    record: &Record<'_>,
    bytes_max: u64,
    send: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
) -> Option<Result<(), E>> {
    if record.bytes() <= bytes_max {
        return Some(send(*record));
    }
    let value = record.value?;
    let rest = Record { value: None, ..*record }.bytes() + HEADER_BYTES;
    let room = bytes_max.checked_sub(rest).filter(|room| PART_BYTES_MIN <= *room)?;
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let count = value.len().div_ceil(room);
    for (number, part) in (1..).zip(value.chunks(room)) {
        let number: usize = number;
        let label = format!("{number}/{count}");
        let own = (HEADER, label.as_bytes());
        let headers: Vec<_> = record.headers.iter().copied().chain([own]).collect();
        if let Err(error) = send(Record { value: Some(part), headers: &headers, ..*record }) {
            return Some(Err(error));
        }
    }
    Some(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn record<'a>(key: &'a [u8], value: &'a [u8]) -> Record<'a> {
        Record {
            topic: "t",
            partition: 3,
            key: Some(key),
            value: Some(value),
            headers: &[("distributary.seq", b"7")],
            timestamp_ms: 1,
        }
    }

    #[track_caller]
    fn parts(record: &Record<'_>, bytes_max: u64) -> Vec<(Vec<u8>, Option<String>)> {
        let mut parts = Vec::new();
        let sent = cut(record, bytes_max, &mut |part| {
            assert!(part.bytes() <= bytes_max, "{} bytes", part.bytes());
            assert_eq!(
                (part.partition, part.key, part.headers[0]),
                (3, record.key, record.headers[0])
            );
            let label = part.headers.iter().find(|(name, _)| *name == HEADER);
            let label = label.map(|(_, label)| String::from_utf8_lossy(label).into_owned());
            parts.push((part.value.expect("a value").to_vec(), label));
            Ok::<(), Infallible>(())
        });
        assert_eq!(sent, Some(Ok(())));
        parts
    }

    #[test]
    fn a_record_that_fits_is_not_cut() {
        assert_eq!(parts(&record(b"k", b"value"), 1000), [(b"value".to_vec(), None)]);
    }

    #[test]
    fn a_key_without_room_for_a_value_cannot_be_cut() {
        let (key, value) = ([b'k'; 900], [b'v'; 900]);
        let cut = cut(&record(&key, &value), 1000, &mut |_| Ok::<(), Infallible>(()));
        assert_eq!(cut, None);
    }

    proptest! {
        #[test]
        fn the_parts_are_the_value_in_order_and_numbered(
            value in prop::collection::vec(any::<u8>(), 0..20_000), bytes_max in 600_u64..5_000,
        ) {
            let parts = parts(&record(b"key", &value), bytes_max);
            let whole: Vec<u8> = parts.iter().flat_map(|(part, _)| part.clone()).collect();
            prop_assert_eq!(whole, value);
            let count = parts.len();
            if 1 < count {
                for (number, (_, label)) in (1..).zip(&parts) {
                    let expected = format!("{number}/{count}");
                    prop_assert_eq!(label.as_deref(), Some(&*expected));
                }
            }
        }
    }
}
