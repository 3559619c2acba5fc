//! One connection's random transactions.

use super::types;
use crate::deadline::await_some;
use crate::servers::Server;
use crate::sql::{Sql, explain};
use rand::Rng;
use rand::rngs::SmallRng;
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// Writes transaction after transaction.
pub(super) struct Writer {
    sql: Sql,
    rng: SmallRng,
    version: u32,
    again: Option<(Server, String)>,
}

/// Errors that writers who get in each other's way meet. The transaction is rolled back.
const COLLISIONS: [&SqlState; 5] = [
    &SqlState::T_R_DEADLOCK_DETECTED,
    &SqlState::T_R_SERIALIZATION_FAILURE,
    &SqlState::UNIQUE_VIOLATION,
    &SqlState::FOREIGN_KEY_VIOLATION,
    &SqlState::LOCK_NOT_AVAILABLE,
];

const STREET: &str = "\"Größe & Co\".\"Straße \"\"x\"\".y\"";

/// Of each connection.
const SETTINGS: &str = "SET lock_timeout = '4s'";

/// What a server says that goes down or comes up.
const RESTARTS: [&SqlState; 4] = [
    &SqlState::ADMIN_SHUTDOWN,
    &SqlState::CRASH_SHUTDOWN,
    &SqlState::CANNOT_CONNECT_NOW,
    &SqlState::CONNECTION_FAILURE,
];
/// How long a server may be away.
const AWAY_MAX: Duration = Duration::from_secs(120);

impl Writer {
    /// With `again`, a lost connection is made again in place of a failure.
    pub(super) fn new(sql: Sql, rng: SmallRng, again: Option<(Server, String)>) -> Self {
        let mut writer = Self { sql, rng, version: 0, again };
        writer.sql.run(SETTINGS);
        writer.version = writer.sql.version();
        writer
    }

    /// Whether the connection was lost and is there again.
    fn reconnect(&mut self, error: &tokio_postgres::Error) -> bool {
        let restart = error.code().is_none_or(|code| RESTARTS.contains(&code));
        let Some((server, database)) = &self.again else { return false };
        if !restart {
            return false;
        }
        self.sql = await_some("the server of the workload", AWAY_MAX, || {
            // It may go down again before it has taken the settings.
            let mut sql = Sql::try_connect(server, database).ok()?;
            sql.attempt(SETTINGS).ok().map(|()| sql)
        });
        true
    }

    /// One transaction. Whether it was committed.
    pub(super) fn transaction(&mut self) -> bool {
        let mut statements = vec!["BEGIN".to_owned()];
        let parts = self.rng.random_range(1..=6);
        for _ in 0..parts {
            match self.rng.random_range(0..12) {
                0 => {
                    statements.push("SAVEPOINT a".into());
                    statements.push(self.statement());
                    statements.push("SAVEPOINT b".into());
                    statements.push(self.statement());
                    let outcome = ["ROLLBACK TO a", "ROLLBACK TO b", "RELEASE a"];
                    statements.push(outcome[self.rng.random_range(0..3)].into());
                }
                1 => {
                    statements.push("SAVEPOINT c".into());
                    statements.push(self.statement());
                    statements.push("RELEASE c".into());
                }
                _ => statements.push(self.statement()),
            }
        }
        let committed = self.rng.random_range(0..10) != 0;
        statements.push(if committed { "COMMIT" } else { "ROLLBACK" }.into());
        let text = statements.join(";\n");
        let Err(error) = self.sql.attempt(&text) else { return committed };
        if self.reconnect(&error) {
            // Whether it was committed nobody was told.
            return false;
        }
        assert!(
            error.code().is_some_and(|code| COLLISIONS.contains(&code)),
            "{}\n{text}",
            explain(&error)
        );
        // The server may go down between the two.
        if let Err(error) = self.sql.attempt("ROLLBACK")
            && !self.reconnect(&error)
        {
            panic!("{}\nROLLBACK", explain(&error));
        }
        false
    }

    fn number(&mut self, below: u32) -> u32 {
        self.rng.random_range(0..below)
    }

    fn statement(&mut self) -> String {
        match self.number(100) {
            0..20 => self.orders(),
            20..30 => self.lines(),
            30..40 => self.events(),
            40..46 => self.stock(),
            46..54 => self.streets(),
            54..64 => self.documents(),
            64..74 => self.regions(),
            74..82 => self.readings(),
            82..95 => self.kinds(),
            _ => self.scratch(),
        }
    }

    fn orders(&mut self) -> String {
        let (id, other, cents) = (self.number(1200), self.number(1200), self.number(1_000_000));
        match self.number(8) {
            0..2 => format!(
                "INSERT INTO shop.orders VALUES ({id}, 'new', {cents} / 100.0, now()) \
                 ON CONFLICT (id) DO UPDATE SET total = excluded.total"
            ),
            2..4 => {
                format!("UPDATE shop.orders SET total = total + {cents} / 1000.0 WHERE id = {id}")
            }
            // The key changes, and with it that of its lines.
            4 => format!("UPDATE shop.orders SET id = {other} WHERE id = {id}"),
            5 => format!("DELETE FROM shop.orders WHERE id = {id}"),
            6 => format!("UPDATE shop.orders SET note = NULL WHERE id % 97 = {}", id % 97),
            // A change that changes nothing is one all the same.
            _ => format!("UPDATE shop.orders SET id = id WHERE id BETWEEN {id} AND {id} + 3"),
        }
    }

    fn lines(&mut self) -> String {
        let (id, line) = (self.number(1200), self.number(6));
        match self.number(5) {
            0..2 => format!(
                "INSERT INTO shop.lines SELECT id, {line}, 'x', 1 FROM shop.orders WHERE id = {id} \
                 ON CONFLICT DO NOTHING"
            ),
            2 => format!("UPDATE shop.lines SET quantity = quantity + 1 WHERE order_id = {id}"),
            3 => format!(
                "UPDATE shop.lines SET line = {line} WHERE order_id = {id} AND line = {}",
                (line + 1) % 6
            ),
            _ => format!("DELETE FROM shop.lines WHERE order_id = {id} AND line = {line}"),
        }
    }

    fn events(&mut self) -> String {
        let (kind, count) = (self.number(6), self.number(4) + 1);
        let body = if self.number(4) == 0 { "repeat(md5(random()::text), 120)" } else { "NULL" };
        let some = format!(
            "ctid = ANY (ARRAY(SELECT ctid FROM shop.events WHERE kind = 'kind {kind}' LIMIT \
             {count}))"
        );
        match self.number(4) {
            0..2 => format!(
                "INSERT INTO shop.events SELECT timestamp '2024-06-01', 'kind {kind}', '{{\"k\": \
                 {kind}}}', {body} \
                 FROM generate_series(1, {count})"
            ),
            2 => format!("UPDATE shop.events SET at = at + interval '1 ms' WHERE {some}"),
            _ => format!("DELETE FROM shop.events WHERE {some}"),
        }
    }

    fn stock(&mut self) -> String {
        let (n, other) = (self.number(300), self.number(300));
        match self.number(4) {
            0 => format!(
                "INSERT INTO shop.stock VALUES ({n}, 's{}', md5('{n}')::uuid) ON CONFLICT DO \
                 NOTHING",
                n % 9
            ),
            1 => format!("UPDATE shop.stock SET amount = {other} WHERE place = md5('{n}')::uuid"),
            2 => format!(
                "UPDATE shop.stock SET place = md5('{other}')::uuid WHERE place = \
                 md5('{n}')::uuid AND shelf = 's{}'",
                n % 9
            ),
            _ => format!("DELETE FROM shop.stock WHERE place = md5('{n}')::uuid"),
        }
    }

    fn streets(&mut self) -> String {
        let (n, other) = (self.number(260), self.number(260));
        match self.number(4) {
            0 => format!(
                "INSERT INTO {STREET} VALUES ('Weg {n} \"ß\" 😀', NULL, {other}, '') ON CONFLICT \
                 DO NOTHING"
            ),
            1 => format!("UPDATE {STREET} SET \"naïve.dot\" = {other} WHERE \"naïve.dot\" = {n}"),
            2 => format!(
                "UPDATE {STREET} SET \"Schlüssel\" = 'Gasse {other}' WHERE \"naïve.dot\" = {n}"
            ),
            _ => format!("DELETE FROM {STREET} WHERE \"naïve.dot\" = {n}"),
        }
    }

    fn documents(&mut self) -> String {
        let (id, other) = (self.number(150), self.number(150));
        match self.number(7) {
            // The large values stay as they are.
            0..3 => format!("UPDATE shop.documents SET revision = revision + 1 WHERE id = {id}"),
            3 => format!(
                "UPDATE shop.documents SET body = repeat(md5('{other}'), 300) WHERE id = {id}"
            ),
            4 => format!("UPDATE shop.documents SET id = {other} WHERE id = {id}"),
            5 => format!("DELETE FROM shop.documents WHERE id = {id}"),
            _ => format!(
                "INSERT INTO shop.documents VALUES ({id}, 'new', repeat(md5('{id}'), 250), NULL, \
                 1) ON CONFLICT DO NOTHING"
            ),
        }
    }

    fn regions(&mut self) -> String {
        let regions = ["north", "south", "Nørd", "east", "west"];
        let (n, from, to) = (self.number(300), self.number(5) as usize, self.number(5) as usize);
        let (from, to) = (regions[from], regions[to]);
        match self.number(5) {
            0 => format!(
                "INSERT INTO shop.regions VALUES ('{to}', {n}, {n} / 7.0, NULL) ON CONFLICT DO \
                 NOTHING"
            ),
            1 => format!("UPDATE shop.regions SET reading = reading * 1.5 WHERE id = {n}"),
            2..4 => format!(
                "UPDATE shop.regions SET region = '{to}' WHERE region = '{from}' AND id = {n}"
            ),
            _ => format!("DELETE FROM shop.regions WHERE id = {n}"),
        }
    }

    fn readings(&mut self) -> String {
        let (day, to) = (self.number(30), self.number(30));
        match self.number(4) {
            0 => format!("INSERT INTO shop.readings VALUES ({day}, {to} / 4.0, repeat('n', {to}))"),
            1 => format!("UPDATE shop.readings SET value = value + 1 WHERE day = {day}"),
            // Moves rows to other partitions.
            2 => format!("UPDATE shop.readings SET day = {to} WHERE day = {day}"),
            _ => format!("DELETE FROM shop.readings WHERE day = {day} AND value < 1"),
        }
    }

    fn kinds(&mut self) -> String {
        let id = self.number(60);
        let columns: Vec<_> = types::columns(self.version).collect();
        let column = columns[self.rng.random_range(0..columns.len())];
        let choice = self.rng.random_range(0..column.choices());
        match self.number(5) {
            0 => {
                let mut value = |column: &&types::Column| {
                    column.value(self.rng.random_range(0..column.choices()))
                };
                let values: Vec<_> = columns.iter().map(&mut value).collect();
                format!(
                    "INSERT INTO shop.kinds VALUES ({id}, {}) ON CONFLICT DO NOTHING",
                    values.join(", ")
                )
            }
            1 => format!("DELETE FROM shop.kinds WHERE id = {id}"),
            _ => format!(
                "UPDATE shop.kinds SET {} = {} WHERE id % 20 = {}",
                column.name(),
                column.value(choice),
                id % 20
            ),
        }
    }

    fn scratch(&mut self) -> String {
        match self.number(12) {
            0 => "TRUNCATE shop.scratch_a, shop.scratch_b".into(),
            1 => "TRUNCATE shop.scratch_a RESTART IDENTITY".into(),
            2 if self.number(6) == 0 => "TRUNCATE shop.orders CASCADE".into(),
            3 => "TRUNCATE shop.readings".into(),
            4..8 => "INSERT INTO shop.scratch_b SELECT n FROM generate_series(1, 5) n".into(),
            8 => "UPDATE shop.scratch_b SET value = value + 1 WHERE value = 3".into(),
            _ => "INSERT INTO shop.scratch_a (value) SELECT n FROM generate_series(1, 5) n".into(),
        }
    }
}
