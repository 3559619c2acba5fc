//! `source.sql_ascii`: what becomes of texts of a database that does not say how they are encoded.

/// The setting, read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SqlAscii {
    /// The task does not start.
    #[default]
    Fail,
    /// A text that is no UTF-8, or that begins with `base64:`, becomes `base64:` and the base64 of its
    /// bytes. Every text comes back.
    Base64,
    /// U+FFFD in place of what is no UTF-8.
    Replace,
    /// The texts are in this encoding, by PostgreSQL's name for it.
    Encoding(&'static str),
}

/// PostgreSQL's names ("Character Set Support") of encodings that are read here.
pub const ENCODINGS: &[&str] = &[
    "UTF8",
    "LATIN1",
    "LATIN2",
    "LATIN3",
    "LATIN4",
    "LATIN6",
    "LATIN7",
    "LATIN8",
    "LATIN9",
    "LATIN10",
    "ISO_8859_5",
    "ISO_8859_6",
    "ISO_8859_7",
    "ISO_8859_8",
    "WIN866",
    "WIN874",
    "WIN1250",
    "WIN1251",
    "WIN1252",
    "WIN1253",
    "WIN1254",
    "WIN1255",
    "WIN1256",
    "WIN1257",
    "WIN1258",
    "KOI8R",
    "KOI8U",
    "EUC_JP",
    "EUC_KR",
    "EUC_CN",
    "SJIS",
    "BIG5",
    "GBK",
    "GB18030",
    "UHC",
];

impl SqlAscii {
    /// Reads the setting; names of encodings in any case. `None`: it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "fail" => Some(Self::Fail),
            "base64" => Some(Self::Base64),
            "replace" => Some(Self::Replace),
            name => {
                let known = ENCODINGS.iter().find(|known| known.eq_ignore_ascii_case(name));
                known.copied().map(Self::Encoding)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_or_an_encoding() {
        assert_eq!(SqlAscii::parse("base64"), Some(SqlAscii::Base64));
        assert_eq!(SqlAscii::parse("euc_jp"), Some(SqlAscii::Encoding("EUC_JP")));
        assert_eq!(SqlAscii::parse("latin-1"), None);
    }
}
