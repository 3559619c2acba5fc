//! The table of `docs/formats.md`: every sample as each format writes it. `UPDATE=1` writes it anew.

use crate::samples::{Sample, samples};
use crate::scene::{Did, Sent, column, encode, plan, table, v};
use wal::table::ReplicaIdentity::Full;
use wal::types::{Type, oid};

/// A column of the table: the format's word, what its tasks need beside it, and how the value of the
/// column `v` is found in a record.
type Format = (&'static str, &'static str, fn(&Sent) -> Option<String>);

const FORMATS: &[Format] = &[
    ("debezium-json", "", of_json),
    ("canal-json", "", of_json),
    ("maxwell-json", "", of_json),
    ("shareplex-json", "", of_json),
];

fn of_json(record: &Sent) -> Option<String> {
    let value = record.value.as_deref()?;
    // Canal names each column's types, too; the row comes first.
    crate::member(value, "v").map(str::to_owned)
}

/// The value of a sample as a format writes it; why not, where it does not.
fn rendered(format: &Format, sample: &Sample) -> String {
    let (word, more, find) = format;
    let columns = vec![
        column("id", Type::builtin(oid::INT4, "int4"), -1),
        column("v", sample.type_.clone(), sample.modifier),
    ];
    let table = table("t", columns, 1, Full);
    let (task, plan) = plan(&table, &format!("format: {word}, {more}"), "", 1).expect("a plan");
    let row = [v("1"), v(sample.text)];
    let batch = crate::scene::batch(&table, crate::transaction(0, 8), &[Did::Insert(&row)]);
    match encode(&task, &plan, &batch) {
        Ok(sent) => find(&sent[0]).unwrap_or_else(|| "left out".into()),
        Err(error) => error.to_string(),
    }
}

fn cell(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn types() -> String {
    let mut lines = vec![
        format!("| PostgreSQL | server's text |{}", row(|format| format!(" {} |", format.0))),
        format!("|---|---|{}", row(|_| "---|".into())),
    ];
    for sample in samples() {
        let cells = row(|format| format!(" {} |", cell(&rendered(format, &sample))));
        lines.push(format!("| {} | {} |{cells}", sample.name, cell(sample.text)));
    }
    lines.join("\n")
}

fn row(cell: impl Fn(&Format) -> String) -> String {
    FORMATS.iter().map(cell).collect()
}

const START: &str =
    "<!-- rendered by crates/record/tests/formats/documented.rs; UPDATE=1 writes it anew -->\n";
const END: &str = "\n<!-- end -->";

#[test]
fn the_documentation_shows_what_the_encoders_write() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats.md");
    let text = std::fs::read_to_string(path).expect("docs/formats.md");
    let (before, rest) = text.split_once(START).expect("where the table begins");
    let (shown, after) = rest.split_once(END).expect("where the table ends");
    let types = types();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, format!("{before}{START}{types}{END}{after}")).expect("written");
    } else {
        assert!(shown == types, "docs/formats.md is not as the encoders write: run with UPDATE=1");
    }
}
