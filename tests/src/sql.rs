//! SQL for tests: one connection, text in and text out, and every error a panic that shows the
//! statement.

use crate::servers::Server;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// The role that tasks and workloads connect as, and its password.
pub const ROLE: &str = "distributary";
pub const PASSWORD: &str = "distributary";

/// Values come as the server prints them under fixed settings.
const SETTINGS: &str = "SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = \
 'UTC'; \
     SET bytea_output = 'hex'; SET extra_float_digits = 3; SET client_min_messages = 'warning'";

/// A row: text, or null.
pub type Row = Vec<Option<String>>;

/// One connection.
pub struct Sql {
    // The connection is driven by whoever waits for an answer.
    runtime: Runtime,
    client: Client,
}

impl Sql {
    /// Connects as the role of the tests.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn connect(server: &Server, database: &str) -> Self {
        Self::connect_as(server, database, ROLE, Some(PASSWORD))
    }

    /// Connects as the superuser.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn superuser(server: &Server, database: &str) -> Self {
        Self::connect_as(server, database, "postgres", None)
    }

    /// Connects.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn connect_as(server: &Server, database: &str, user: &str, password: Option<&str>) -> Self {
        Self::attempt_as(server, database, user, password).unwrap_or_else(|error| {
            panic!("{} refuses {user} on {database}: {}", server.name, explain(&error))
        })
    }

    /// Connects as the role of the tests.
    ///
    /// # Errors
    /// When the server refuses or is away.
    pub fn try_connect(server: &Server, database: &str) -> Result<Self, tokio_postgres::Error> {
        Self::attempt_as(server, database, ROLE, Some(PASSWORD))
    }

    fn attempt_as(
        server: &Server,
        database: &str,
        user: &str,
        password: Option<&str>,
    ) -> Result<Self, tokio_postgres::Error> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (host, port) = server.host_and_port();
        let mut config = Config::new();
        config.host(host).port(port).dbname(database).user(user).application_name("tests");
        if let Some(password) = password {
            config.password(password);
        }
        let (client, connection) = runtime.block_on(config.connect(NoTls))?;
        // Its error is that of the statement which meets it.
        runtime.spawn(async move { drop(connection.await) });
        let mut sql = Self { runtime, client };
        sql.attempt(SETTINGS)?;
        Ok(sql)
    }

    /// Runs statements.
    ///
    /// # Errors
    /// What the server says.
    pub fn attempt(&mut self, statements: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.client.batch_execute(statements))
    }

    /// Runs statements.
    ///
    /// # Panics
    /// When the server refuses one.
    pub fn run(&mut self, statements: &str) {
        if let Err(error) = self.attempt(statements) {
            panic!("{}\n{statements}", explain(&error));
        }
    }

    /// Rows of the last query of `statements` that has any.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn rows(&mut self, statements: &str) -> Vec<Row> {
        let messages = self
            .runtime
            .block_on(self.client.simple_query(statements))
            .unwrap_or_else(|error| panic!("{}\n{statements}", explain(&error)));
        let row = |message: SimpleQueryMessage| {
            let SimpleQueryMessage::Row(row) = message else { return None };
            Some((0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect())
        };
        messages.into_iter().filter_map(row).collect()
    }

    /// The only value of a query; null is empty.
    ///
    /// # Panics
    /// When the server refuses, or the answer is not one value.
    pub fn value(&mut self, query: &str) -> String {
        let mut rows = self.rows(query);
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) if row.len() == 1 => {
                row.into_iter().next().flatten().unwrap_or_default()
            }
            _ => panic!("not one value: {query}"),
        }
    }

    /// `server_version_num / 10000`.
    ///
    /// # Panics
    /// Never, with a server that PostgreSQL's documentation describes.
    pub fn version(&mut self) -> u32 {
        self.value("SHOW server_version_num").parse::<u32>().expect("a number") / 10_000
    }
}

/// Code and message of an error.
#[must_use]
pub fn explain(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(refused) => format!("{} {}", refused.code().code(), refused.message()),
        None => error.to_string(),
    }
}

/// A name as SQL identifier.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
