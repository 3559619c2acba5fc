//! Clusters to look at.

use node::http::Status;
use node::http::status::{End, Lane, Measured, Member, Task};
use std::collections::BTreeMap;
use wal::Lsn;

/// What would do something, were it ever taken for markup.
pub(crate) const HOSTILE: &str = "<script>document.title='owned'</script><img src=x onerror=x>\"'&";

const NOW_MS: u64 = 1_764_000_000_000;

fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn end(title: &str, at: &str) -> End {
    End { title: title.into(), at: at.into() }
}

fn lanes(owners: &[(&str, &str)]) -> Vec<Lane> {
    let lane = |(lane, (node, state)): (u32, &(&str, &str))| Lane {
        lane,
        node: (*node).into(),
        state: (*state).into(),
        position: format!("16/B37{lane:02X}00 #4"),
        records: None,
    };
    (0..).zip(owners).map(lane).collect()
}

fn task(name: &str, state: &str, minutes: u64) -> Task {
    Task {
        name: name.into(),
        revision: 3,
        wanted: "running".into(),
        state: state.into(),
        since_unix_ms: NOW_MS - minutes * 60_000,
        phase: "incremental".into(),
        source: end(name, "db1:5432, db2:5432"),
        sink: end("debezium-json", "k1:9092, k2:9092, k3:9092"),
        ..Task::default()
    }
}

fn member(name: &str, role: &str, state: &str, minutes: u64) -> Member {
    let worker = role == "worker";
    Member {
        name: name.into(),
        role: role.into(),
        address: format!("{name}:7420"),
        version: "0.1.0".into(),
        labels: if worker { labels(&[("pool", "fast")]) } else { BTreeMap::new() },
        state: state.into(),
        since_unix_ms: NOW_MS - minutes * 60_000,
        fronts: u32::from(worker),
        lanes: if worker { 5 } else { 0 },
    }
}

fn shop() -> Task {
    let running = ["w1", "w1", "w2", "w2", "w2", "w3", "w3", "w3"].map(|node| (node, "running"));
    Task {
        labels: labels(&[("environment", "production")]),
        reader: "w1".into(),
        decoder: "w1".into(),
        router: "w1".into(),
        lanes: lanes(&running),
        measured: Some(Measured {
            records: 418_812_345,
            rate: Some(18_250.0),
            latency_ms: Some(38),
            lag_bytes: 21_504,
            commits: Some(903_112),
            wal_bytes: Some(98 << 30),
            credit: Some((3 << 20, 64 << 20)),
            watermark: Lsn(0x16_0B37_48A0),
            source_end: Some(Lsn(0x16_0B37_9CA0)),
            ..Measured::default()
        }),
        ..task("shop", "synchronizing", 4_000)
    }
}

fn search() -> Task {
    Task {
        cause: "broker k2:9092: connection refused; tried 4 times since 21 s ago".into(),
        reader: "w1".into(),
        decoder: "w2".into(),
        router: "w2".into(),
        lanes: lanes(&[("w2", "running"), ("w3", "retrying"), ("w3", "retrying"), ("", "waiting")]),
        measured: Some(Measured {
            records: 91_204,
            rate: Some(2.5),
            latency_ms: Some(21_400),
            lag_bytes: 7 << 20,
            retries: 4,
            watermark: Lsn(0x2_7A00_0060),
            ..Measured::default()
        }),
        ..task("search", "retrying", 0)
    }
}

fn billing() -> Task {
    Task {
        cause: "the slot distributary_billing was removed on db1 while the task was down".into(),
        remedy: "`distributary task reseed billing` reads the tables again; with --accept-gap it \
                 goes on where the server is now"
            .into(),
        ..task("billing", "parked", 95)
    }
}

/// Three coordinators, three workers, three tasks, not all of them well.
pub(crate) fn cluster() -> Status {
    Status {
        node: "c2".into(),
        role: "coordinator".into(),
        version: "0.1.0".into(),
        seen_unix_ms: NOW_MS,
        leader: Some("c2".into()),
        term: 1042,
        members: vec![
            member("c1", "coordinator", "alive", 5_000),
            member("c2", "coordinator", "leader", 4_100),
            member("c3", "coordinator", "alive", 5_000),
            member("w1", "worker", "alive", 5_000),
            member("w2", "worker", "alive", 4_000),
            member("w3", "worker", "suspect", 0),
        ],
        tasks: vec![shop(), search(), billing()],
        ..Status::default()
    }
}

/// Every text is hostile.
pub(crate) fn hostile() -> Status {
    let evil = || HOSTILE.to_owned();
    let mut task = shop();
    task.labels = BTreeMap::from([(evil(), evil())]);
    (task.name, task.state, task.cause, task.remedy) = (evil(), evil(), evil(), evil());
    (task.reader, task.decoder, task.router) = (evil(), evil(), "__proto__".into());
    (task.source, task.sink) = (end(HOSTILE, HOSTILE), end(HOSTILE, HOSTILE));
    task.lanes = lanes(&[(HOSTILE, HOSTILE), ("__proto__", "constructor")]);
    let mut member = member(HOSTILE, "worker", HOSTILE, 3);
    member.labels = BTreeMap::from([(evil(), evil())]);
    Status {
        node: evil(),
        note: evil(),
        leader: Some(evil()),
        members: vec![member],
        tasks: vec![task],
        ..cluster()
    }
}
