//! Values that leave the source as something else: masked columns, and texts of a database without an
//! encoding (`columns.mask`, `source.sql_ascii`).
//!
//! Rows are rewritten before they are routed, so that keys, partitions, before images, dead letters and
//! whatever a lane or a link sees hold the new values only.

use crate::plan::TablePlan;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use config::SqlAscii;
use encoding_rs::Encoding;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use wal::change::{Old, Span};
use wal::{ChangeBatch, Datum, Tuple};

/// Shorter keys can be guessed.
pub const MASK_KEY_BYTES_MIN: usize = 16;

/// The key of the masks. Never shown.
#[derive(Clone)]
pub struct MaskKey(Hmac<Sha256>);

/// Such a key would protect nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "mask_key: the key has {bytes} bytes, and a key of less than {MASK_KEY_BYTES_MIN} can be guessed; \
     make one with `openssl rand -hex 32`"
)]
pub struct MaskKeyTooShort {
    pub bytes: usize,
}

impl MaskKey {
    /// Takes a key in.
    ///
    /// # Errors
    /// When it is too short.
    pub fn new(key: &[u8]) -> Result<Self, MaskKeyTooShort> {
        let short = MaskKeyTooShort { bytes: key.len() };
        if key.len() < MASK_KEY_BYTES_MIN {
            return Err(short);
        }
        // HMAC takes keys of any length (RFC 2104, section 2).
        Hmac::new_from_slice(key).map(Self).map_err(|_| short)
    }

    /// HMAC-SHA-256 of a value's text, as hexadecimal digits.
    fn mask(&self, value: &[u8]) -> [u8; 64] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut mac = self.0.clone();
        mac.update(value);
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(mac.finalize().into_bytes()) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 0xF)];
        }
        text
    }
}

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskKey(***)")
    }
}

/// What becomes of the values of one table version.
#[derive(Debug)]
pub(crate) struct Rewrite {
    /// By column, whether it is masked.
    pub(crate) masked: Box<[bool]>,
    pub(crate) key: Option<MaskKey>,
    pub(crate) texts: Texts,
}

/// What becomes of texts that may be no UTF-8.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Texts {
    Kept,
    Base64,
    Replaced,
    /// ISO 8859-1 byte by byte; the library knows it as another one.
    Latin1,
    Decoded(&'static Encoding),
}

/// Texts that begin so are base64 under the policy of that name.
const BASE64_PREFIX: &str = "base64:";

impl Texts {
    pub(crate) fn of(policy: SqlAscii) -> Self {
        match policy {
            SqlAscii::Fail => Self::Kept,
            SqlAscii::Base64 => Self::Base64,
            SqlAscii::Replace => Self::Replaced,
            SqlAscii::Encoding("LATIN1") => Self::Latin1,
            SqlAscii::Encoding(name) => decoder(name).map_or(Self::Kept, Self::Decoded),
        }
    }

    /// The text as UTF-8. What the encoding does not know stays as it is: no format takes it, and
    /// `sink.unrepresentable` decides.
    fn written<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned().into_bytes());
        match self {
            Self::Kept => Cow::Borrowed(text),
            _ if text.is_ascii() && !text.starts_with(BASE64_PREFIX.as_bytes()) => {
                Cow::Borrowed(text)
            }
            Self::Base64 => match std::str::from_utf8(text) {
                Ok(known) if !known.starts_with(BASE64_PREFIX) => Cow::Borrowed(text),
                Ok(_) | Err(_) => {
                    Cow::Owned(format!("{BASE64_PREFIX}{}", STANDARD.encode(text)).into_bytes())
                }
            },
            Self::Replaced => match String::from_utf8_lossy(text) {
                Cow::Borrowed(_) => Cow::Borrowed(text),
                replaced @ Cow::Owned(_) => owned(replaced),
            },
            Self::Latin1 => owned(encoding_rs::mem::decode_latin1(text)),
            Self::Decoded(encoding) => {
                match encoding.decode_without_bom_handling_and_without_replacement(text) {
                    Some(decoded) => owned(decoded),
                    None => Cow::Borrowed(text),
                }
            }
        }
    }
}

/// The WHATWG encoding for PostgreSQL's name of it; GBK holds all of EUC_CN.
fn decoder(name: &str) -> Option<&'static Encoding> {
    let label = match name {
        "UTF8" => "utf-8",
        "LATIN2" => "iso-8859-2",
        "LATIN3" => "iso-8859-3",
        "LATIN4" => "iso-8859-4",
        "LATIN6" => "iso-8859-10",
        "LATIN7" => "iso-8859-13",
        "LATIN8" => "iso-8859-14",
        "LATIN9" => "iso-8859-15",
        "LATIN10" => "iso-8859-16",
        "ISO_8859_5" => "iso-8859-5",
        "ISO_8859_6" => "iso-8859-6",
        "ISO_8859_7" => "iso-8859-7",
        "ISO_8859_8" => "iso-8859-8",
        "WIN866" => "ibm866",
        "WIN874" => "windows-874",
        "KOI8R" => "koi8-r",
        "KOI8U" => "koi8-u",
        "EUC_JP" => "euc-jp",
        "EUC_KR" | "UHC" => "euc-kr",
        "EUC_CN" | "GBK" => "gbk",
        "GB18030" => "gb18030",
        "SJIS" => "shift_jis",
        "BIG5" => "big5",
        windows => return Encoding::for_label(windows.replace("WIN", "windows-").as_bytes()),
    };
    Encoding::for_label(label.as_bytes())
}

impl Rewrite {
    fn tuple(&self, tuple: Tuple<'_>, out: &mut Vec<u8>) {
        // A tuple's own count is what its head says, and that is 16 bits.
        out.extend_from_slice(&u16::try_from(tuple.len()).unwrap_or(u16::MAX).to_be_bytes());
        for (index, datum) in tuple.iter().enumerate() {
            let masked = self.masked.get(index).copied().unwrap_or(false);
            match datum {
                Datum::Null => out.push(b'n'),
                Datum::Unchanged => out.push(b'u'),
                Datum::Text(value) | Datum::Binary(value) if masked => match &self.key {
                    Some(key) => put(b't', &key.mask(value), out),
                    // Nobody rewrites without the key; should one, nothing leaks.
                    None => out.push(b'n'),
                },
                Datum::Text(text) => put(b't', &self.texts.written(text), out),
                Datum::Binary(value) => put(b'b', value, out),
            }
        }
    }
}

fn put(kind: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    // No value is longer than a message of the server, 1 GiB; base64 of it is still below 4 GiB.
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(value);
}

/// Rewrites the rows of a batch whose tables ask for it. `plans`: by [`wal::Change::table`]. Rows of tables
/// without a plan, which nobody writes, are left empty then.
pub fn rewrite(batch: &mut ChangeBatch, plans: &[Option<Arc<TablePlan>>]) {
    if plans.iter().flatten().all(|plan| plan.rewrite.is_none()) {
        return;
    }
    let mut bytes: Vec<u8> = Vec::with_capacity(batch.bytes.len());
    let old_bytes = std::mem::take(&mut batch.bytes);
    for change in &mut batch.changes {
        let plan = plans.get(change.table as usize).and_then(Option::as_ref);
        let mut moved = |span: Span| {
            let start = narrow(bytes.len());
            let tuple = old_bytes.get(span.start as usize..span.end as usize).unwrap_or_default();
            match plan.map(|plan| &plan.rewrite) {
                Some(Some(rewrite)) => rewrite.tuple(Tuple::trusted(tuple), &mut bytes),
                Some(None) => bytes.extend_from_slice(tuple),
                None => bytes.extend_from_slice(&[0, 0]),
            }
            Span { start, end: narrow(bytes.len()) }
        };
        change.old = change.old.map(|old| match old {
            Old::Key(span) => Old::Key(moved(span)),
            Old::Row(span) => Old::Row(moved(span)),
        });
        change.new = change.new.map(&mut moved);
    }
    for message in &mut batch.messages {
        for span in [&mut message.prefix, &mut message.content] {
            let start = narrow(bytes.len());
            let kept = old_bytes.get(span.start as usize..span.end as usize);
            bytes.extend_from_slice(kept.unwrap_or_default());
            *span = Span { start, end: narrow(bytes.len()) };
        }
    }
    batch.bytes = Bytes::from(bytes);
    for (table, plan) in batch.tables.iter_mut().zip(plans) {
        if let Some(plan) = plan {
            *table = Arc::clone(plan.table());
        }
    }
}

fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mask_is_hmac_sha_256() {
        // By another library (Python, `hmac`).
        let key = MaskKey::new(b"0123456789abcdef").expect("long enough");
        assert_eq!(std::str::from_utf8(&key.mask(b"what do ya want for nothing?")), Ok(EXPECTED));
        assert_eq!(format!("{key:?}"), "MaskKey(***)");
    }

    #[test]
    fn a_short_key_is_refused_without_being_shown() {
        let error = MaskKey::new(b"hunter2").expect_err("too short").to_string();
        assert!(error.contains("7 bytes") && !error.contains("hunter2"), "{error}");
    }

    #[track_caller]
    fn written(policy: SqlAscii, text: &[u8]) -> Vec<u8> {
        Texts::of(policy).written(text).into_owned()
    }

    #[test]
    fn texts_without_an_encoding_become_utf_8_by_policy() {
        assert_eq!(written(SqlAscii::Replace, b"a\xE9b"), "a\u{FFFD}b".as_bytes());
        assert_eq!(written(SqlAscii::Base64, b"a\xE9b"), b"base64:Yeli");
        assert_eq!(written(SqlAscii::Base64, b"base64:x"), b"base64:YmFzZTY0Ong=");
        assert_eq!(written(SqlAscii::Base64, "größe".as_bytes()), "größe".as_bytes());
        assert_eq!(written(SqlAscii::Encoding("LATIN1"), b"a\xE9\x80"), "aé\u{80}".as_bytes());
        assert_eq!(written(SqlAscii::Encoding("EUC_JP"), b"\xC6\xFC\xCB\xDC"), "日本".as_bytes());
        assert_eq!(written(SqlAscii::Encoding("EUC_CN"), b"\xD6\xD0"), "中".as_bytes());
        // What is none stays, and is refused by the encoders.
        assert_eq!(written(SqlAscii::Encoding("EUC_JP"), b"\xC6"), b"\xC6");
    }

    #[test]
    fn every_encoding_that_a_spec_may_name_is_known() {
        for name in config::encoding::ENCODINGS {
            let texts = Texts::of(SqlAscii::parse(name).expect("known"));
            assert!(!matches!(texts, Texts::Kept), "{name}");
        }
    }

    proptest! {
        #[test]
        fn base64_is_reversible_and_utf_8(text: Vec<u8>) {
            let written = String::from_utf8(written(SqlAscii::Base64, &text)).expect("UTF-8");
            let back = match written.strip_prefix(BASE64_PREFIX) {
                Some(encoded) => STANDARD.decode(encoded).expect("base64"),
                None => written.into_bytes(),
            };
            prop_assert_eq!(back, text);
        }

        #[test]
        fn replaced_and_latin_1_are_always_utf_8(text: Vec<u8>) {
            for policy in [SqlAscii::Replace, SqlAscii::Encoding("LATIN1")] {
                prop_assert!(std::str::from_utf8(&written(policy, &text)).is_ok());
            }
        }
    }

    const EXPECTED: &str = "e9265dc1bf18d4ec36915d9e82226c7ea0fa4e7f8077f611515bd5e29ec9988c";
}
