//! A string of SQL → its statements.

/// One statement of a string.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    /// Without what stands around it.
    pub(super) text: &'a str,
    /// Keywords and names, as the server folds them.
    pub(super) words: Vec<String>,
}

impl Piece<'_> {
    /// Whether the server would give it this command tag.
    pub(super) fn is_of(&self, tag: &str) -> bool {
        let mut words = self.words.iter().map(String::as_str);
        let verb = words.next().unwrap_or_default();
        if tag == "SELECT INTO" {
            return self.has("into");
        }
        let tag = tag.strip_suffix(" AS").unwrap_or(tag).to_lowercase();
        let Some((wanted, kind)) = tag.split_once(' ') else { return verb == tag };
        // Between verb and kind: OR REPLACE, TEMPORARY, UNIQUE and the like.
        const BETWEEN: [&str; 9] = [
            "or",
            "replace",
            "temp",
            "temporary",
            "global",
            "local",
            "unlogged",
            "unique",
            "recursive",
        ];
        let mut rest = words.skip_while(|word| BETWEEN.contains(word));
        verb == wanted && kind.split(' ').all(|kind| rest.next() == Some(kind))
    }

    /// Whether it holds this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.words.iter().any(|word| word == name)
    }
}

/// Splits at the semicolons that end statements: not those in strings, comments, parentheses and the
/// bodies of SQL functions, as psql does it (`psqlscan.l`). What is not closed goes to the end.
pub(super) fn pieces(sql: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    let (mut words, mut depth, mut blocks) = (Vec::<String>::new(), 0_usize, 0_usize);
    let mut at = 0;
    while let Some(token) = Token::at(sql, at) {
        let (start, end) = (at, at + token.len);
        at = end;
        match token.kind {
            Kind::Blank => continue,
            Kind::Other(b';') if depth == 0 && blocks == 0 => {
                close(sql, &mut open, &mut words, &mut found);
                continue;
            }
            Kind::Other(b'(') => depth += 1,
            Kind::Other(b')') => depth = depth.saturating_sub(1),
            Kind::Literal | Kind::Other(_) => {}
            Kind::Quoted => {
                let inner = sql[start + 1..end].strip_suffix('"').unwrap_or(&sql[start + 1..end]);
                words.push(inner.replace("\"\"", "\""));
            }
            Kind::Word => {
                let word = sql[start..end].to_ascii_lowercase();
                match word.as_str() {
                    "atomic" if words.last().is_some_and(|it| it == "begin") => blocks = 1,
                    "case" if 0 < blocks => blocks += 1,
                    "end" => blocks = blocks.saturating_sub(1),
                    _ => {}
                }
                words.push(word);
            }
        }
        open = Some((open.map_or(start, |(start, _)| start), end));
    }
    close(sql, &mut open, &mut words, &mut found);
    found
}

/// The statements of a tag as the event trigger counts them: the number of each, and its place among them. A rollback
/// takes the trigger's count back, so that a number can come again.
pub(super) fn numbers(pieces: &[Piece<'_>], tag: &str) -> Vec<(usize, usize)> {
    let (mut count, mut before, mut found) = (0, 0, Vec::new());
    let mut savepoints: Vec<(&str, usize)> = Vec::new();
    for piece in pieces {
        let noise = |word: &&str| !matches!(*word, "work" | "transaction" | "savepoint");
        let (verb, rest) =
            piece.words.split_first().map_or(("", &[][..]), |it| (it.0.as_str(), it.1));
        let rest: Vec<&str> = rest.iter().map(String::as_str).filter(noise).collect();
        let place = |name: &str| savepoints.iter().rposition(|it| it.0 == name);
        match (verb, rest.as_slice()) {
            ("savepoint", [name]) => savepoints.push((name, count)),
            ("release", [name]) => savepoints.truncate(place(name).unwrap_or(savepoints.len())),
            ("rollback" | "abort", ["to", name]) => {
                if let Some(place) = place(name) {
                    count = savepoints[place].1;
                    savepoints.truncate(place + 1);
                }
            }
            (_, ["prepared", ..]) => {}
            ("rollback" | "abort", _) => (count, savepoints) = (before, Vec::new()),
            ("commit" | "end", _) => (before, savepoints) = (count, Vec::new()),
            _ if piece.is_of(tag) => {
                count += 1;
                found.push((count, found.len()));
            }
            _ => {}
        }
    }
    found
}

fn close<'a>(
    sql: &'a str,
    open: &mut Option<(usize, usize)>,
    words: &mut Vec<String>,
    found: &mut Vec<Piece<'a>>,
) {
    if let Some((start, end)) = open.take() {
        found.push(Piece { text: &sql[start..end], words: std::mem::take(words) });
    }
}

/// The statement without the CASCADE or RESTRICT that ends it, or an action of it. What a foreign key says of
/// changes of the other table stays, and so do names.
pub(super) fn without_drop_behavior(sql: &str) -> String {
    const BEFORE_A_NAME: [&str; 11] = [
        "alter",
        "column",
        "constraint",
        "delete",
        "drop",
        "exists",
        "function",
        "procedure",
        "table",
        "to",
        "view",
    ];
    let mut kept = String::with_capacity(sql.len());
    // Where the last token that is no blank ends in `kept`, whether a clause may follow it, and the clause that
    // stands behind it.
    let (mut last_end, mut may_follow, mut clause) = (0, false, None);
    let mut at = 0;
    while let Some(token) = Token::at(sql, at) {
        let text = &sql[at..at + token.len];
        at += token.len;
        if matches!(token.kind, Kind::Blank) {
            kept.push_str(text);
            continue;
        }
        if let Some(start) =
            clause.take().filter(|_| matches!(token.kind, Kind::Other(b',' | b';')))
        {
            kept.truncate(start);
        }
        let word = match token.kind {
            Kind::Word => text.to_ascii_lowercase(),
            Kind::Blank | Kind::Quoted | Kind::Literal | Kind::Other(_) => String::new(),
        };
        if may_follow && matches!(word.as_str(), "cascade" | "restrict") {
            clause = Some(last_end);
        }
        kept.push_str(text);
        last_end = kept.len();
        may_follow = match token.kind {
            Kind::Word => word != "update" && !BEFORE_A_NAME.contains(&word.as_str()),
            Kind::Quoted | Kind::Other(b')') => true,
            Kind::Blank | Kind::Literal | Kind::Other(_) => false,
        };
    }
    if let Some(start) = clause {
        kept.truncate(start);
    }
    kept
}

/// What begins at a place of the string.
struct Token {
    kind: Kind,
    /// In bytes, at least one.
    len: usize,
}

enum Kind {
    /// White space or a comment.
    Blank,
    Word,
    /// An identifier in quotes.
    Quoted,
    /// A string.
    Literal,
    /// Anything else, by its first byte.
    Other(u8),
}

impl Token {
    /// PostgreSQL, "Lexical Structure" (4.1).
    fn at(sql: &str, at: usize) -> Option<Self> {
        let rest = &sql[at..];
        let first = rest.chars().next()?;
        let token = |kind, len| Some(Self { kind, len });
        match first {
            '-' if rest.starts_with("--") => {
                token(Kind::Blank, rest.find('\n').map_or(rest.len(), |end| end + 1))
            }
            '/' if rest.starts_with("/*") => token(Kind::Blank, comment(rest)),
            '"' => token(Kind::Quoted, 1 + quoted(&rest[1..], '"', false)),
            '\'' => token(Kind::Literal, 1 + quoted(&rest[1..], '\'', false)),
            'e' | 'E' if rest[1..].starts_with('\'') => {
                token(Kind::Literal, 2 + quoted(&rest[2..], '\'', true))
            }
            '$' => match tag(rest) {
                Some(tag) => {
                    let body = &rest[tag.len()..];
                    let end = body.find(tag).map_or(body.len(), |end| end + tag.len());
                    token(Kind::Literal, tag.len() + end)
                }
                None => token(Kind::Other(b'$'), 1),
            },
            _ if first.is_whitespace() => token(Kind::Blank, first.len_utf8()),
            _ if is_letter(first) => {
                let end = rest.find(|it| !(is_letter(it) || it.is_ascii_digit() || it == '$'));
                token(Kind::Word, end.unwrap_or(rest.len()))
            }
            _ => token(Kind::Other(rest.as_bytes()[0]), first.len_utf8()),
        }
    }
}

fn is_letter(it: char) -> bool {
    it == '_' || it.is_ascii_alphabetic() || !it.is_ascii()
}

/// Length up to and with the closing quote, which stands for itself where it is doubled.
fn quoted(text: &str, quote: char, escapes: bool) -> usize {
    let mut characters = text.char_indices().peekable();
    while let Some((at, it)) = characters.next() {
        if escapes && it == '\\' {
            characters.next();
        } else if it == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    text.len()
}

/// Length of a comment; comments nest.
fn comment(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if rest.starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The tag of a dollar-quoted string, with its dollars.
fn tag(text: &str) -> Option<&str> {
    let end = 1 + text[1..].find('$')?;
    let mut inner = text[1..end].chars();
    let is_tag =
        inner.next().is_none_or(is_letter) && inner.all(|it| is_letter(it) || it.is_ascii_digit());
    is_tag.then(|| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(sql: &str, expected: &[&str]) {
        let found: Vec<_> = pieces(sql).into_iter().map(|piece| piece.text).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn only_the_semicolon_that_ends_a_statement_splits() {
        check("CREATE TABLE a ();;\n DROP TABLE a ; ", &["CREATE TABLE a ()", "DROP TABLE a"]);
        check(
            "-- x;\nSELECT ';', $a$;$a$, \"a;\" /* ; */; b",
            &["SELECT ';', $a$;$a$, \"a;\"", "b"],
        );
        check(
            "CREATE RULE r AS ON INSERT TO a DO (DELETE FROM b; SELECT 1); x",
            &["CREATE RULE r AS ON INSERT TO a DO (DELETE FROM b; SELECT 1)", "x"],
        );
        let body = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END";
        check(&format!("{body}; SELECT 3"), &[body, "SELECT 3"]);
        check(
            "COMMENT ON TABLE ä IS 'ü'; DROP TABLE ö",
            &["COMMENT ON TABLE ä IS 'ü'", "DROP TABLE ö"],
        );
        check("", &[]);
        check("SELECT 'open", &["SELECT 'open"]);
    }

    #[test]
    fn only_the_clause_of_a_drop_is_cut() {
        let cut = |sql: &str, expected: &str| assert_eq!(without_drop_behavior(sql), expected);
        cut("DROP TABLE a, \"b\" CASCADE", "DROP TABLE a, \"b\"");
        cut("drop function f(int) restrict", "drop function f(int)");
        cut(
            "ALTER TABLE t DROP COLUMN a /* x */ CASCADE, ADD b int",
            "ALTER TABLE t DROP COLUMN a, ADD b int",
        );
        for kept in [
            "DROP TABLE cascade",
            "DROP TABLE IF EXISTS restrict, cascade",
            "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES o ON DELETE CASCADE, ADD b int",
            "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES o ON UPDATE RESTRICT",
            "ALTER TABLE t ADD COLUMN cascade int",
            "ALTER TABLE t RENAME TO cascade",
            "ALTER TABLE t ALTER a SET DEFAULT ' CASCADE'",
            "DROP TABLE s.cascade",
        ] {
            cut(kept, kept);
        }
    }

    #[test]
    fn a_statement_is_known_by_its_tag() {
        let is = |sql: &str, tag: &str| pieces(sql)[0].is_of(tag);
        assert!(is("create or replace view v as select 1", "CREATE VIEW"));
        assert!(is("CREATE UNIQUE INDEX i ON t (a)", "CREATE INDEX"));
        assert!(is("create materialized view v as select 1", "CREATE MATERIALIZED VIEW"));
        assert!(is("create unlogged table t as select 1", "CREATE TABLE AS"));
        assert!(is("select 1 as a into t", "SELECT INTO"));
        assert!(!is("create table t ()", "CREATE VIEW"));
        assert!(!is("drop table t", "CREATE TABLE"));
    }

    proptest! {
        #[test]
        fn pieces_are_parts_of_the_string_in_order(sql in "(?s).{0,60}|[a-z;'\"$(){} \n-]{0,60}") {
            let mut rest = sql.as_str();
            for piece in pieces(&sql) {
                let at = rest.find(piece.text);
                prop_assert!(at.is_some());
                rest = &rest[at.unwrap_or_default() + piece.text.len()..];
            }
        }
    }
}
