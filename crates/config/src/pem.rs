//! Certificates of a spec: the name of a file, or the text itself, which a cluster's spec carries. Pure.

use crate::Problem;
use crate::check::problem;

/// How anything in PEM form begins, and with it a setting that is no file's name.
const ANY: &str = "-----BEGIN ";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// What every kind of private key has at its ends.
const PRIVATE_KEY: &str = "PRIVATE KEY-----";
/// More than any chain, or any bundle that a single service needs.
pub const BYTES_MAX: usize = 64 << 10;

/// What a setting for a certificate holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pem<'a> {
    /// Itself, in PEM form.
    Text(&'a str),
    /// The name of a file.
    File(&'a str),
}

impl<'a> Pem<'a> {
    #[must_use]
    pub fn of(setting: &'a str) -> Self {
        if setting.trim_start().starts_with(ANY) {
            Self::Text(setting)
        } else {
            Self::File(setting)
        }
    }
}

/// Why no certificates can be taken from a text. Shows nothing of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoCertificate {
    #[error("holds a private key, which goes nowhere; give a file with certificates only")]
    PrivateKey,
    #[error("holds no certificate; give one in PEM form ({BEGIN})")]
    Missing,
    #[error("ends within a certificate; give it whole")]
    Cut,
    #[error("has more than {} KiB of certificates; give only those that are needed", BYTES_MAX >> 10)]
    TooLarge,
}

/// The certificates of a text, without what stands between them.
///
/// # Errors
/// There are none, too many, or something that must not leave the machine.
pub fn certificates(text: &str) -> Result<String, NoCertificate> {
    if text.contains(PRIVATE_KEY) {
        return Err(NoCertificate::PrivateKey);
    }
    let mut found = String::new();
    for piece in text.split(BEGIN).skip(1) {
        let (body, _) = piece.split_once(END).ok_or(NoCertificate::Cut)?;
        let lines = body.lines().map(str::trim).filter(|line| !line.is_empty());
        let body: Vec<_> = lines.collect();
        found.push_str(&format!("{BEGIN}\n{}\n{END}\n", body.join("\n")));
        if BYTES_MAX < found.len() {
            return Err(NoCertificate::TooLarge);
        }
    }
    if found.is_empty() { Err(NoCertificate::Missing) } else { Ok(found) }
}

/// What is wrong with settings for certificates, and with such for keys, as far as their texts tell.
pub(crate) fn problems<'a>(
    certificates: impl Iterator<Item = (String, &'a str)>,
    keys: impl Iterator<Item = (&'static str, &'a str)>,
) -> Vec<Problem> {
    let mut found = Vec::new();
    for (path, setting) in certificates {
        if let Pem::Text(text) = Pem::of(setting)
            && let Err(error) = self::certificates(text)
        {
            found.push(problem(&path, error.to_string()));
        }
    }
    for (path, setting) in keys {
        if matches!(Pem::of(setting), Pem::Text(_)) {
            let text = "holds a key itself; give the name of a file that only its owner can read";
            found.push(problem(path, text));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Task;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\nAA==\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_are_taken_and_what_explains_them_is_not() {
        let text = format!("Issuer: CN=a\n{}subject: b\r\n{ONE}", ONE.replace('\n', "\r\n"));
        let taken = certificates(&text).expect("two");
        assert_eq!(taken, format!("{ONE}{ONE}"));
        assert_eq!(certificates(&taken), Ok(taken.clone()), "taken again it is the same");
        assert!(matches!(Pem::of(&taken), Pem::Text(_)));
        assert_eq!(Pem::of("ca.pem"), Pem::File("ca.pem"));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let key =
            format!("{ONE}-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\n");
        assert_eq!(certificates(&key), Err(NoCertificate::PrivateKey));
        assert_eq!(certificates("ca.pem"), Err(NoCertificate::Missing));
        assert_eq!(certificates(&ONE[..40]), Err(NoCertificate::Cut));
        assert_eq!(certificates(&ONE.repeat(2000)), Err(NoCertificate::TooLarge));
    }

    #[test]
    fn a_spec_with_a_key_in_it_is_refused_without_showing_it() {
        let spec = |tls: &str| {
            format!(
                "version: 1\ntask: shop\nsource:\n  hosts: [db]\n  database: d\n  user: u\n  \
                 tls: {tls}\nsink: {{brokers: [k]}}\nobjects: [{{table: \"*.*\"}}]\n"
            )
        };
        let inline = ONE.replace('\n', "\\n");
        assert!(Task::parse(&spec(&format!("{{ca: \"{inline}\"}}"))).is_ok());
        let key = "-----BEGIN PRIVATE KEY-----\\nhunter2\\n-----END PRIVATE KEY-----";
        for (tls, path) in [
            (format!("{{ca: \"{key}\"}}"), "source.tls.ca"),
            (format!("{{ca: \"{inline}{key}\"}}"), "source.tls.ca"),
            (format!("{{cert: c.pem, key: \"{key}\"}}"), "source.tls.key"),
        ] {
            let refused = Task::parse(&spec(&tls)).expect_err("refused");
            assert_eq!(refused.0[0].path, path);
            assert!(!refused.to_string().contains("hunter2"), "{refused}");
        }
    }
}
