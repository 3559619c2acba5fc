//! Debezium's JDBC sink connector, in Kafka Connect, writes our records into a second PostgreSQL.

use crate::goods::{self, COLUMNS, Rows};
use std::time::Duration;
use tests::java::Connect;
use tests::scene::Scene;
use tests::seed::say;
use tests::servers::Server;
use tests::sql::{PASSWORD, ROLE, Sql, quoted};
use tests::task::Spec;

/// A worker starts, finds its plugins, and writes: half a minute on a busy machine of two cores.
const WRITTEN_MAX: Duration = Duration::from_secs(180);
/// Key of the row that comes last in each table.
const LAST: i64 = 999_999;

/// A table whose key has two columns, and whose old rows are logged by their key only.
const PARTS: &str = "CREATE TABLE o.parts (place text, n int, amount numeric, shelf text, PRIMARY KEY (shelf, place))";
const PARTS_ROWS: &str =
    "INSERT INTO o.parts SELECT 'p' || n % 3, n, n / 8.0, 's' || n FROM generate_series(1, 30) n";
const PARTS_CHANGES: &[&str] = &[
    "UPDATE o.parts SET amount = -amount WHERE n % 2 = 0",
    "UPDATE o.parts SET place = 'moved' WHERE n % 5 = 0",
    "DELETE FROM o.parts WHERE n % 7 = 0",
];
const EMPTIED: &str = "CREATE TABLE o.emptied (id int PRIMARY KEY, note text)";

/// A database of the second server; removed in the end.
struct Target {
    server: Server,
    name: String,
}

impl Target {
    fn new(server: &Server, name: &str) -> Self {
        let database = quoted(name);
        Sql::superuser(server, "postgres").run(&format!("CREATE DATABASE {database} OWNER {ROLE}"));
        Self { server: server.clone(), name: name.into() }
    }

    fn sql(&self) -> Sql {
        Sql::connect(&self.server, &self.name)
    }

    /// Settings of a connector that reads the topics of a task and writes into this database.
    fn connector(&self, task: &str, converter: &str) -> String {
        format!(
            "connector.class=io.debezium.connector.jdbc.JdbcSinkConnector\n\
             tasks.max=1\n\
             topics.regex={task}\\\\.o\\\\..*\n\
             connection.url=jdbc:postgresql://{}/{}?stringtype=unspecified\n\
             connection.username={ROLE}\n\
             connection.password={PASSWORD}\n\
             insert.mode=upsert\n\
             delete.enabled=true\n\
             truncate.enabled=true\n\
             primary.key.mode=record_key\n\
             schema.evolution=basic\n\
             collection.name.format=o.${{source.table}}\n\
             consumer.override.isolation.level=read_committed\n\
             consumer.override.auto.offset.reset=earliest\n\
             consumer.override.metadata.max.age.ms=500\n\
             {converter}",
            self.server.address, self.name
        )
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", quoted(&self.name));
        if let Err(error) = Sql::superuser(&self.server, "postgres").attempt(&drop) {
            say(&format!("{} could not be removed: {error}", self.name));
        }
    }
}

/// Converters of Kafka Connect that read Avro by the registry.
fn avro_converters(registry: &Server) -> String {
    ["key", "value"]
        .map(|part| {
            format!(
                "{part}.converter=io.apicurio.registry.utils.converter.AvroConverter\n\
                 {part}.converter.apicurio.registry.url=http://{}/apis/registry/v2\n\
                 {part}.converter.apicurio.registry.as-confluent=true\n\
                 {part}.converter.apicurio.registry.headers.enabled=false\n\
                 {part}.converter.apicurio.registry.use-id=contentId\n",
                registry.address
            )
        })
        .concat()
}

/// The other tables, in text.
fn others(sql: &mut Sql) -> Vec<tests::sql::Row> {
    let mut rows = sql.rows(
        "SELECT n::text, place, trim_scale(amount::numeric)::text, shelf FROM o.parts ORDER BY 1, 2",
    );
    rows.extend(sql.rows("SELECT id::text, note FROM o.emptied ORDER BY 1"));
    rows
}

fn is_complete(sql: &mut Sql) -> bool {
    let last = format!(
        "SELECT (SELECT count(*) FROM o.goods WHERE id = {LAST}) + (SELECT count(*) FROM o.parts \
         WHERE n = {LAST}) + (SELECT count(*) FROM o.emptied WHERE id = {LAST})"
    );
    // The connector makes the tables, so they may not be there yet.
    sql.attempt(&last).is_ok() && sql.value(&last) == "3"
}

#[test]
fn debeziums_jdbc_sink_writes_the_tables_of_the_source() {
    let scene = Scene::new("sink", "postgres-15");
    let registry = Server::start("registry");
    let second = Server::start("postgres-17");
    let mut sql = scene.sql();
    goods::create(&mut sql);
    [PARTS, PARTS_ROWS, EMPTIED].iter().for_each(|statement| sql.run(statement));
    sql.run("INSERT INTO o.emptied VALUES (1, 'gone')");

    let name = format!("{}_json", scene.name);
    let json = Spec::new(&name, &scene.postgres, &scene.name, &scene.kafka);
    let json = json.sink("partitions: 1").sink("format_options: {schemas: true}");
    let avro = scene.spec().sink("format: debezium-avro").sink("partitions: 1");
    let avro = avro.sink(&format!("registry: {{url: \"{}\"}}", tests::registry::url(&registry)));
    let specs = [&json, &avro];
    specs.iter().for_each(|spec| drop(scene.catch_up(spec)));
    goods::change(&mut sql);
    PARTS_CHANGES.iter().for_each(|statement| sql.run(statement));
    sql.run("TRUNCATE o.emptied");
    sql.run(&format!(
        "BEGIN; INSERT INTO o.goods (id) VALUES ({LAST}); INSERT INTO o.parts (place, shelf, n) VALUES \
         ('last', 's', {LAST}); INSERT INTO o.emptied VALUES ({LAST}); COMMIT"
    ));
    specs.iter().for_each(|spec| drop(scene.catch_up(spec)));

    // The one has the source's tables, the other the tables that the connector makes.
    let targets = [Target::new(&second, &name), Target::new(&second, &scene.name)];
    let [mut of_json, mut of_avro] = [targets[0].sql(), targets[1].sql()];
    [goods::TABLE, PARTS, EMPTIED].iter().for_each(|statement| of_json.run(statement));
    of_avro.run("CREATE SCHEMA o");
    let connectors = [
        ("json", targets[0].connector(json.task(), "")),
        ("avro", targets[1].connector(avro.task(), &avro_converters(&registry))),
    ];
    let mut connect = Connect::start(scene.folder(), &scene.kafka, &connectors);
    connect.await_true("the last row of each table", WRITTEN_MAX, || {
        is_complete(&mut of_json) && is_complete(&mut of_avro)
    });

    let columns = COLUMNS.to_vec();
    let expected: Rows = goods::rows(&mut sql, &columns);
    for found in [&mut of_json, &mut of_avro] {
        goods::assert_same(&goods::rows(found, &columns), &expected, &columns);
        assert_eq!(others(found), others(&mut sql));
    }
}
