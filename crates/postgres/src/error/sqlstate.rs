//! Error kinds by SQLSTATE. Where one code stands for several causes, words of the message decide:
//! they are the same from 11 to 18, and another language only makes the error less specific.

use super::Error;

/// What a walsender does when it reports an error in the stream.
pub(crate) const STREAMING: &str = "streaming";

/// The kind of an `ErrorResponse`.
pub(super) fn error(code: &str, message: &str, doing: &str) -> Error {
    let reason = || message.to_owned();
    let says = |words: &str| message.contains(words);
    match code {
        "28000" | "28P01" => Error::Authentication { reason: reason() },
        "3D000" => Error::DatabaseMissing { reason: reason() },
        "42501" => not_authorized(message, doing),
        "53300" | "57P03" => Error::Unreachable { host: "source.hosts".into(), reason: reason() },
        "53400" if says("replication slots") => Error::NoFreeSlot { reason: reason() },
        "55000" if says("wal_level") => Error::WalLevel { reason: reason() },
        "55000" | "58P01" if lost(message) => Error::SlotLost { reason: reason() },
        // Whose process it is was looked at before, and will be again.
        "55006" if says("replication slot") => {
            Error::SlotBusy { slot: quoted(message), pid: number_at_end(message) }
        }
        "42704" if says("replication slot") => Error::SlotMissing { slot: quoted(message) },
        "42704" if says("publication") => Error::PublicationMissing { reason: reason() },
        "22P05" | "22021" => Error::Untranslatable { reason: reason() },
        // Of a walsender it can be nothing else.
        "42883" if doing == STREAMING => Error::NoBinaryForm { reason: reason() },
        // It makes one message of a change (`enlargeStringInfo`, `palloc`).
        "54000" if doing == STREAMING => Error::ChangeTooLarge { reason: reason() },
        "XX000" if doing == STREAMING && says("memory alloc request size") => {
            Error::ChangeTooLarge { reason: reason() }
        }
        "42P01" => Error::TableMissing { table: quoted(message) },
        "55P03" => Error::lock_timeout(doing, "a table"),
        "57P01" | "57P02" | "57P05" => Error::closed(message),
        // PostgreSQL itself knows all that are sent.
        "08P01" if says("startup parameter") => Error::Pooler { reason: reason() },
        code if code.starts_with("08") => Error::closed(message),
        code => Error::Server { code: code.into(), message: reason(), doing: doing.into() },
    }
}

fn not_authorized(message: &str, doing: &str) -> Error {
    // Up to 15 "superuser or replication role to start walsender", later "to start WAL sender".
    let lower = message.to_lowercase();
    let is_replication =
        ["replication", "walsender", "wal sender"].iter().any(|it| lower.contains(it));
    let remedy = if is_replication {
        "ALTER ROLE … REPLICATION for the task's role"
    } else {
        "GRANT what is missing to the task's role"
    };
    Error::NotAuthorized { doing: format!("{doing} ({message})"), remedy: remedy.into() }
}

/// A slot whose WAL is gone: up to 17 "can no longer get changes from", since 18 "access".
fn lost(message: &str) -> bool {
    message.contains("can no longer get changes from replication slot")
        || message.contains("can no longer access replication slot")
        || (message.contains("WAL segment") && message.contains("removed"))
}

/// The first quoted name of a message.
fn quoted(message: &str) -> String {
    message.split('"').nth(1).unwrap_or(message).to_owned()
}

fn number_at_end(message: &str) -> i32 {
    let digits = message.rsplit(|letter: char| !letter.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str, message: &str) -> Error {
        error(code, message, "starting the stream")
    }

    #[test]
    fn names_and_numbers_come_from_the_message() {
        let found = kind("55006", "replication slot \"a b\" is active for PID 4711");
        let Error::SlotBusy { slot, pid } = found else { panic!("{found}") };
        assert_eq!((slot.as_str(), pid), ("a b", 4711));
        let found = kind("42704", "replication slot \"s\" does not exist");
        assert!(matches!(found, Error::SlotMissing { slot } if slot == "s"));
    }

    #[test]
    fn a_code_with_several_causes_is_told_apart_by_words() {
        let found = kind("55000", "logical decoding requires wal_level >= logical");
        assert!(matches!(found, Error::WalLevel { .. }));
        let found = kind("55000", "can no longer access replication slot \"s\"");
        assert!(matches!(found, Error::SlotLost { .. }));
        let found = kind("55000", "something else is not as it should be");
        assert!(matches!(found, Error::Server { .. }));
        let found = kind("58P01", "could not open file \"x\"");
        assert!(matches!(found, Error::Server { .. }));
    }

    #[test]
    fn a_change_that_fits_no_message_is_told_from_other_troubles_of_the_server() {
        let large = |code: &str, message: &str, doing: &str| {
            matches!(error(code, message, doing), Error::ChangeTooLarge { .. })
        };
        let of_buffers = "string buffer exceeds maximum allowed length (1073741823 bytes)";
        assert!(large("54000", of_buffers, STREAMING));
        assert!(large("54000", "out of memory", STREAMING));
        assert!(large("XX000", "invalid memory alloc request size 1073741824", STREAMING));
        assert!(!large("XX000", "something else", STREAMING));
        assert!(!large("54000", of_buffers, "reading a table"));
    }

    #[test]
    fn a_role_that_may_not_replicate_hears_how_it_may() {
        for message in [
            "must be superuser or replication role to start walsender",
            "permission denied to start WAL sender",
        ] {
            assert!(kind("42501", message).to_string().contains("ALTER ROLE"), "{message}");
        }
        let other = kind("42501", "permission denied for table t").to_string();
        assert!(other.contains("GRANT"), "{other}");
    }

    #[test]
    fn a_server_that_starts_or_stops_is_a_matter_of_the_connection() {
        for code in ["57P01", "57P02", "57P03", "53300", "08006", "57P05"] {
            assert!(kind(code, "text").is_connection(), "{code}");
        }
        for code in ["28P01", "3D000", "42501", "42P01", "55P03", "XX000"] {
            assert!(!kind(code, "text").is_connection(), "{code}");
        }
    }
}
