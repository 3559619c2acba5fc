//! What can go wrong with a schema registry, and what helps.

/// A call to the registry has failed. Holds no secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RegistryError {
    #[error("schema registry {registry} cannot be reached ({doing}): {reason}")]
    Unreachable { registry: Box<str>, doing: Box<str>, reason: String },
    #[error(
        "schema registry {registry} does not let us in ({doing}): {reason}; correct `user` and \
         `password`, or `token`, of `sink.registry`, or grant the right"
    )]
    NotAuthorized { registry: Box<str>, doing: Box<str>, reason: String },
    #[error(
        "no TLS with schema registry {registry} ({doing}): {reason}; correct `sink.registry.tls`"
    )]
    Tls { registry: Box<str>, doing: Box<str>, reason: String },
    #[error(
        "subject `{subject}`: the registry does not take the table's new schema beside the older one: \
         {reason}; no row of the new version was written. Undo the change of the table, or let the \
         subject take it (set its compatibility to NONE for a moment, or delete its versions), then \
         start the task again"
    )]
    Incompatible { subject: Box<str>, reason: String },
    #[error("schema registry {registry} refuses ({doing}): {reason}")]
    Refused { registry: Box<str>, doing: Box<str>, reason: String },
    #[error(
        "schema registry {registry} gave an answer that cannot be used ({doing}): {reason}; is \
         `sink.registry.url` the address of its REST interface?"
    )]
    Answer { registry: Box<str>, doing: Box<str>, reason: String },
}

/// What is shown of a text of the registry, in characters.
const SHOWN_MAX: usize = 600;

/// A text of the other side as one line of bounded length.
pub(super) fn shown(text: &str) -> String {
    let mut words = String::new();
    for word in text.split(|it: char| it.is_whitespace() || it.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    match words.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_side_says_is_one_bounded_line() {
        assert_eq!(shown(" a\n\tb\u{1b}[2J  c "), "a b [2J c");
        assert_eq!(shown(&"ä".repeat(700)).chars().count(), SHOWN_MAX + 1);
        assert_eq!(shown(""), "");
    }
}
