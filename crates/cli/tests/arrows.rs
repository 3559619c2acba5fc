//! The arrows between the packages, as ARCHITECTURE.md draws them: who may use whom, and who stays pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Each package and those of ours that it may use. A new package must be given its place here.
const ARROWS: &[(&str, &[&str])] = &[
    ("wal", &[]),
    ("config", &[]),
    ("telemetry", &["config"]),
    ("record", &["wal", "config"]),
    ("supervision", &["telemetry", "config"]),
    ("postgres", &["record", "wal", "config"]),
    ("kafka", &["record", "wal", "config"]),
    ("pipeline", &["postgres", "kafka", "record", "wal", "supervision", "telemetry", "config"]),
    ("rpc", &["config"]),
    (
        "node",
        &[
            "pipeline",
            "postgres",
            "kafka",
            "record",
            "wal",
            "supervision",
            "telemetry",
            "rpc",
            "config",
        ],
    ),
    (
        "cli",
        &[
            "node",
            "pipeline",
            "postgres",
            "kafka",
            "record",
            "wal",
            "supervision",
            "telemetry",
            "rpc",
            "config",
        ],
    ),
    ("tests", &["node", "pipeline", "rpc", "postgres", "kafka", "record", "wal", "config"]),
];

/// These decide in plain functions of values, so they get no runtime, no actors, no network.
const PURE: &[&str] = &["wal", "record", "config"];
const IMPURE: &[&str] = &["tokio", "actix", "actix-rt", "tonic", "rdkafka", "tokio-postgres"];

#[test]
fn packages_use_only_what_is_to_their_right() {
    let manifests = manifests();
    let ours: BTreeSet<&str> = manifests.keys().map(String::as_str).collect();
    let placed: BTreeSet<&str> = ARROWS.iter().map(|(package, _)| *package).collect();
    assert_eq!(ours, placed, "every package of the workspace has its place among the arrows");

    for (package, allowed) in ARROWS {
        for used in &manifests[*package] {
            let forbidden = ours.contains(used.as_str()) && !allowed.contains(&used.as_str());
            assert!(!forbidden, "`{package}` may not use `{used}`, only {allowed:?}");
        }
    }
}

#[test]
fn pure_packages_reach_no_runtime_and_no_client() {
    let locked = locked();
    for package in PURE {
        let mut reached = BTreeMap::from([((*package).to_owned(), "itself".to_owned())]);
        let mut open = vec![(*package).to_owned()];
        while let Some(by) = open.pop() {
            for used in &locked[&by] {
                if !reached.contains_key(used) {
                    reached.insert(used.clone(), by.clone());
                    open.push(used.clone());
                }
            }
        }
        assert!(1 < reached.len(), "`{package}` was found in Cargo.lock with what it uses");
        for impure in IMPURE {
            assert!(
                !reached.contains_key(*impure),
                "`{package}` reaches `{impure}` by way of `{}`",
                reached[*impure]
            );
        }
    }
}

/// The packages of the workspace and what each uses directly, tests and build scripts included.
fn manifests() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");

    let text = |value: &serde_json::Value| value.as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages
        .iter()
        .map(|package| {
            let used = package["dependencies"].as_array().expect("a list of dependencies");
            (text(&package["name"]), used.iter().map(|used| text(&used["name"])).collect())
        })
        .collect()
}

/// What each package uses according to Cargo.lock, whose lines read `name = "x"` and ` "x 1.0",`. Versions are dropped:
/// a package that comes in two of them counts with the dependencies of both.
fn locked() -> BTreeMap<String, BTreeSet<String>> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is readable");
    let mut packages = BTreeMap::<String, BTreeSet<String>>::new();
    let mut current = String::new();
    for line in lock.lines() {
        if let Some(name) = line.strip_prefix("name = ") {
            name.trim_matches('"').clone_into(&mut current);
            packages.entry(current.clone()).or_default();
        } else if let Some(used) = line.strip_prefix(" \"") {
            let name = used.split([' ', '"']).next().expect("split yields one piece");
            packages.entry(current.clone()).or_default().insert(name.to_owned());
        }
    }
    packages
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
