//! Rows that are larger than any record: in parts, read by the lines that the documentation shows, and in
//! memory that is bounded by a multiple of the row.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tests::procfs;
use tests::scene::Scene;
use tests::seed::{full, say};
use tests::servers::{repository, state_folder};
use tests::task::Spec;

/// A row is held so often at most, beside what an idle task takes.
const COPIES_MAX: u64 = 5;
const IDLE_BYTES_MAX: u64 = 250 << 20;
const LONG: Duration = Duration::from_secs(400);

/// The lines of the documentation, in a program that reads a topic.
fn program() -> String {
    let text = fs::read_to_string(repository().join("docs/large-records.md")).expect("the page");
    let (_, rest) = text.split_once("```java\n").expect("lines of Java");
    let (lines, _) = rest.split_once("```").expect("their end");
    format!("{HEAD}{lines}")
}

/// Prints `id length sha256` of each value, where it is text of a JSON object with an `id`.
const HEAD: &str = r#"
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.*;
import java.util.function.BiConsumer;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class ReadLarge {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("isolation.level", "read_committed");
        properties.put("enable.auto.commit", "false");
        Parts parts = new Parts();
        try (var consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> all = consumer.partitionsFor(arguments[1]).stream()
                .map(it -> new TopicPartition(it.topic(), it.partition())).collect(Collectors.toList());
            consumer.assign(all);
            consumer.seekToBeginning(all);
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            while (all.stream().anyMatch(it -> consumer.position(it) < ends.get(it))) {
                for (var record : consumer.poll(Duration.ofMillis(200))) parts.add(record, ReadLarge::tell);
            }
        }
    }

    static void tell(ConsumerRecord<byte[], byte[]> record, byte[] value) {
        try {
            byte[] hash = MessageDigest.getInstance("SHA-256").digest(value);
            String key = record.key() == null ? "-" : new String(record.key(), StandardCharsets.UTF_8);
            System.out.println(key + " " + value.length + " " + HexFormat.of().formatHex(hash));
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }
}

"#;

fn libraries() -> PathBuf {
    let kafka = fs::read_dir(state_folder().join("lib"))
        .expect("installed servers")
        .flatten()
        .find(|it| it.path().is_dir() && it.file_name().to_string_lossy().starts_with("kafka-"));
    kafka.expect("Kafka is installed").path().join("*")
}

/// Every value of a topic, as the documented lines put it together: key, length, SHA-256.
fn read(scene: &Scene, folder: &Path, topic: &str) -> Vec<[String; 3]> {
    let file = folder.join("ReadLarge.java");
    fs::write(&file, program()).expect("the folder can be written");
    let output = Command::new("java")
        .args(["-Xmx3g", "-cp"])
        .arg(libraries())
        .arg(&file)
        .args([&scene.kafka.address, topic])
        .output()
        .expect("java can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the documented lines do not work:\n{said}");
    let line = |line: &str| {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        <[String; 3]>::try_from(words).unwrap_or_else(|words| panic!("{words:?}"))
    };
    String::from_utf8_lossy(&output.stdout).lines().map(line).collect()
}

fn spec(scene: &Scene) -> Spec {
    scene.spec().sink("oversize: chunk").line("lanes: 2")
}

#[test]
fn the_documented_lines_put_records_together_again() {
    let scene = Scene::new("parts", "postgres-15");
    let mut sql = scene.sql();
    sql.run("CREATE TABLE note (id int PRIMARY KEY, body text)");
    sql.run(
        "INSERT INTO note SELECT n, repeat(md5(n::text), n * 40000) FROM generate_series(1, 5) n",
    );
    let spec = spec(&scene);
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    sql.run("INSERT INTO note VALUES (7, repeat('é', 1500000)); UPDATE note SET body = body || 'x' WHERE id = 7");
    run.interrupt(LONG).expect(0);
    scene.catch_up(&spec);
    let topic = format!("{}.public.note", scene.name);
    let found = read(&scene, scene.folder(), &topic);
    let records = scene.topics();
    let (mut whole, mut begun) = (Vec::new(), std::collections::BTreeMap::new());
    for record in records.of(&topic) {
        let bytes: &mut Vec<u8> = begun.entry(record.partition).or_default();
        bytes.extend_from_slice(record.value.as_deref().expect("a value"));
        let place = record.header("distributary.chunk").unwrap_or_else(|| "1/1".into());
        let (number, count) = place.split_once('/').expect("a place");
        if number == count {
            whole.push((record.key_json(), std::mem::take(bytes)));
        }
    }
    assert!(records.records.len() > whole.len() + 10, "nothing was cut");
    // Each value is the event that the row asks for, byte by byte.
    assert_eq!((found.len(), whole.len()), (7, 7));
    for (key, value) in &whole {
        let event: serde_json::Value = serde_json::from_slice(value).expect("JSON");
        let id = key["id"].as_i64().expect("an id");
        let body = event["after"]["body"].as_str().expect("a text");
        let last = event["op"] == "u" || id != 7;
        if last {
            let query = format!("SELECT body FROM note WHERE id = {id}");
            assert_eq!(
                body.len().to_string(),
                sql.value(&format!("SELECT octet_length(({query}))"))
            );
            assert_eq!(md5_of(&scene, body), sql.value(&format!("SELECT md5(({query}))")));
        }
        let length = value.len().to_string();
        let there = found.iter().any(|[key_text, found, _]| {
            serde_json::from_str::<serde_json::Value>(key_text).ok().as_ref() == Some(key)
                && *found == length
        });
        assert!(there, "the documented lines have no value of {length} bytes for {key}: {found:?}");
    }
}

/// By the server: no other library is needed.
fn md5_of(scene: &Scene, text: &str) -> String {
    let mut sql = scene.superuser();
    sql.run("CREATE TEMP TABLE given (body text)");
    for part in text.as_bytes().chunks(400_000) {
        let part = String::from_utf8_lossy(part);
        if part.contains('\u{FFFD}') {
            // A part that ends inside a character: in one piece then.
            sql.run(&format!("TRUNCATE given; INSERT INTO given VALUES ('{text}')"));
            break;
        }
        sql.run(&format!("INSERT INTO given VALUES ('{part}')"));
    }
    sql.value("SELECT md5(string_agg(body, '' ORDER BY ctid)) FROM given")
}

/// Rows of this size pass, the process killed while one is written, in bounded memory.
fn giants(label: &str, policy: &str, text_mb: u64, bytea_mb: u64) {
    let scene = Scene::new(label, "postgres-15");
    let mut sql = scene.sql();
    sql.run("CREATE TABLE giant (id int PRIMARY KEY, body text, raw bytea)");
    sql.run("ALTER TABLE giant ALTER body SET STORAGE EXTERNAL, ALTER raw SET STORAGE EXTERNAL");
    let spec = scene.spec().sink(&format!("oversize: {policy}")).line("lanes: 1");
    let spec = spec.source("replica_identity: keep");
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    let million = 1_000_000;
    let text = format!("repeat('0123456789', {})", text_mb * million / 10);
    let raw = format!("decode(repeat('00ff', {}), 'hex')", bytea_mb * million / 2);
    let started = Instant::now();
    sql.run(&format!("INSERT INTO giant VALUES (1, {text}, NULL)"));
    // In the middle of it, most likely; what matters is that it is there once.
    std::thread::sleep(Duration::from_millis(700));
    run.kill();
    sql.run(&format!("INSERT INTO giant VALUES (2, NULL, {raw})"));
    sql.run("INSERT INTO giant VALUES (3, 'small', NULL)");
    let mut run = scene.run(&spec, &["--until-caught-up"]);
    let mut peak = 0;
    while !run.has_ended() {
        assert!(started.elapsed() < LONG, "not through in {LONG:?}:\n{}", run.log());
        peak = peak.max(procfs::memory_bytes_max(run.id()).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = started.elapsed();
    run.wait(LONG).expect(0);
    let topic = match policy {
        "chunk" => format!("{}.public.giant", scene.name),
        _ => format!("{}.dead-letter", scene.name),
    };
    let mut found = read(&scene, scene.folder(), &topic);
    found.sort();
    let lengths: Vec<u64> =
        found.iter().map(|[_, length, _]| length.parse().expect("a length")).collect();
    // The larger of the two in the server's own text: what one row is on its way.
    let row = (text_mb * million).max(2 * bytea_mb * million);
    say(&format!(
        "{label}: a text of {text_mb} MB and a bytea of {bytea_mb} MB as {policy}: peak {} MB, {:.2} of the \
         larger row, {:.1} s with a restart, values of {lengths:?} bytes",
        peak / million,
        peak as f64 / row as f64,
        took.as_secs_f64(),
    ));
    let expected = if policy == "chunk" { 3 } else { 2 };
    assert_eq!(found.len(), expected, "each once: {found:?}");
    assert!(text_mb * million < lengths[0], "{lengths:?}");
    assert!(bytea_mb * million < lengths[1], "{lengths:?}");
    assert!(
        peak < IDLE_BYTES_MAX + COPIES_MAX * row,
        "{} MB for {} MB",
        peak / million,
        row / million
    );
}

#[test]
fn large_rows_pass_in_parts_in_bounded_memory() {
    let (text, bytea) = if full() { (300, 200) } else { (60, 30) };
    giants("giants", "chunk", text, bytea);
}

#[test]
fn large_rows_are_set_aside_in_bounded_memory() {
    let (text, bytea) = if full() { (300, 200) } else { (40, 20) };
    giants("asides", "dead-letter", text, bytea);
}

/// Only in the long form: the server needs gigabytes for it. The old row and the new one, in text two letters a byte.
#[test]
fn what_the_server_cannot_send_parks_the_task_with_the_remedy() {
    if !full() {
        return;
    }
    let scene = Scene::new("unsendable", "postgres-15");
    let mut sql = scene.sql();
    sql.run(
        "CREATE TABLE giant (id int PRIMARY KEY, n int, raw bytea); ALTER TABLE giant ALTER raw SET STORAGE EXTERNAL",
    );
    let spec = scene.spec().sink("oversize: chunk").source("wire: text");
    scene.catch_up(&spec);
    sql.run("INSERT INTO giant VALUES (1, 1, decode(repeat('00ff', 140000000), 'hex'))");
    scene.catch_up(&spec);
    assert_eq!(scene.checked(&spec, "source.large-rows").0, "warning");
    // What does not change is not sent again: it is there once.
    sql.run("UPDATE giant SET n = 2");
    scene.catch_up(&spec);
    sql.run("UPDATE giant SET raw = raw || '\\x01'");
    let ended = scene.run(&spec, &["--until-caught-up"]).wait(LONG);
    ended.expect(1);
    for word in ["more than 1 GiB", "--reseed", "an identity by key"] {
        assert!(ended.stderr.contains(word), "`{word}` is not said:\n{}", ended.stderr);
    }
}
