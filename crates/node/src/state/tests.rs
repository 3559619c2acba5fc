use super::*;
use crate::task_state::TaskState;

fn fence() -> Fence {
    Fence { v: 1, node: "c1".into(), address: "c1:7420".into(), ver: "0.1.0".into() }
}

fn heartbeat() -> Heartbeat {
    Heartbeat { node: "c1".into(), address: "c1:7420".into(), beat: 3, resigned: false }
}

fn task() -> Task {
    Task {
        spec: "version: 1\ntask: shop\n".into(),
        applied: None,
        kept: None,
        spec_rev: 2,
        desired: Desired::Running,
        restarts: 1,
        reseeds: 0,
        reseeded: 0,
        accept_gap: false,
        created_ms: 1_700_000_000_000,
        changed_by: "ann".into(),
    }
}

fn placement() -> Placement {
    Placement {
        rev: 4,
        front: Some("w1".into()),
        lanes: vec![Some("w1".into()), None],
        addresses: BTreeMap::from([("w1".into(), "10.0.0.1:7420".into())]),
        ..Placement::default()
    }
}

fn state() -> State {
    let waits = Some("slot `distributary_shop` is gone".into());
    State::new(TaskState::Synchronizing, 5).followed_by(
        TaskState::Parked,
        waits,
        Some("`task reseed`".into()),
        9,
    )
}

fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).expect("JSON")
}

fn apply<T: serde::Serialize>(
    cluster: &mut ClusterState,
    offset: i64,
    key: &str,
    term: Term,
    body: &T,
) -> Result<Changed, Unusable> {
    cluster.apply(offset, key, Some(&write(term, body)))
}

/// A cluster whose leader has term 10.
fn led() -> ClusterState {
    let mut cluster = ClusterState::default();
    assert_eq!(cluster.apply(10, "f", Some(&fence().to_json())), Ok(Changed::Fence(10)));
    cluster
}

#[test]
fn the_bytes_of_each_record_are_frozen() {
    let cases = [
        (fence().to_json(), r#"{"v":1,"node":"c1","address":"c1:7420","ver":"0.1.0"}"#),
        (write(7, &heartbeat()), r#"{"v":1,"term":7,"node":"c1","address":"c1:7420","beat":3}"#),
        (
            write(7, &Heartbeat { resigned: true, ..heartbeat() }),
            r#"{"v":1,"term":7,"node":"c1","address":"c1:7420","beat":3,"resigned":true}"#,
        ),
        (
            write(7, &task()),
            r#"{"v":1,"term":7,"spec":"version: 1\ntask: shop\n","spec_rev":2,"desired":"running","restarts":1,"reseeds":0,"accept_gap":false,"created_ms":1700000000000,"changed_by":"ann"}"#,
        ),
        (
            write(7, &placement()),
            r#"{"v":1,"term":7,"rev":4,"front":"w1","lanes":["w1",null],"addresses":{"w1":"10.0.0.1:7420"}}"#,
        ),
        (
            write(7, &Placement { router: Some("w2".into()), ..placement() }),
            r#"{"v":1,"term":7,"rev":4,"front":"w1","router":"w2","lanes":["w1",null],"addresses":{"w1":"10.0.0.1:7420"}}"#,
        ),
        (
            write(7, &Placement { snapshot: Some(vec!["w2".into()]), ..placement() }),
            r#"{"v":1,"term":7,"rev":4,"front":"w1","lanes":["w1",null],"snapshot":["w2"],"addresses":{"w1":"10.0.0.1:7420"}}"#,
        ),
        (
            write(7, &Placement { pinned: BTreeMap::from([(1, "w2".into())]), ..placement() }),
            r#"{"v":1,"term":7,"rev":4,"front":"w1","lanes":["w1",null],"addresses":{"w1":"10.0.0.1:7420"},"pinned":{"1":"w2"}}"#,
        ),
        (
            write(7, &Task { spec: String::new(), reseeds: 2, reseeded: 1, ..task() }),
            r#"{"v":1,"term":7,"spec":"","spec_rev":2,"desired":"running","restarts":1,"reseeds":2,"reseeded":1,"accept_gap":false,"created_ms":1700000000000,"changed_by":"ann"}"#,
        ),
        (
            write(7, &state()),
            r#"{"v":1,"term":7,"state":"parked","cause":"slot `distributary_shop` is gone","remedy":"`task reseed`","since_ms":9,"history":[{"state":"synchronizing","since_ms":5}]}"#,
        ),
        (
            write(7, &Node { cordoned: true, draining: false }),
            r#"{"v":1,"term":7,"cordoned":true,"draining":false}"#,
        ),
        (
            write(7, &Connection { kind: "source".into(), spec: "hosts: [db:5432]\n".into() }),
            r#"{"v":1,"term":7,"kind":"source","spec":"hosts: [db:5432]\n"}"#,
        ),
    ];
    for (written, expected) in cases {
        assert_eq!(text(&written), expected);
    }
}

#[test]
fn records_come_back_as_they_were_written() {
    let mut cluster = led();
    let connection = Connection { kind: "sink".into(), spec: "brokers: [k:9092]".into() };
    let node = Node { cordoned: true, draining: true };
    let changed = [
        apply(&mut cluster, 11, "task/shop", 10, &task()),
        apply(&mut cluster, 12, "placement/shop", 10, &placement()),
        apply(&mut cluster, 13, "state/shop", 10, &state()),
        apply(&mut cluster, 14, "node/w1", 10, &node),
        apply(&mut cluster, 15, "connection/kafka", 10, &connection),
        apply(&mut cluster, 16, "leader", 10, &heartbeat()),
    ];
    let name = || String::from("shop");
    let expected = [
        Changed::Task(name()),
        Changed::Placement(name()),
        Changed::State(name()),
        Changed::Node("w1".into()),
        Changed::Connection("kafka".into()),
        Changed::Beat(10),
    ];
    assert_eq!(changed, expected.map(Ok));
    assert_eq!(cluster.tasks["shop"], task());
    assert_eq!(cluster.placements["shop"], placement());
    assert_eq!(cluster.states["shop"], state());
    assert_eq!(cluster.nodes["w1"], node);
    assert_eq!(cluster.connections["kafka"], connection);
    let leader = cluster.leader.expect("a leader");
    assert_eq!((leader.term, leader.beat, leader.ver.as_str()), (10, Some(3), "0.1.0"));
}

#[test]
fn a_lower_term_is_refused_and_changes_nothing() {
    let mut cluster = led();
    apply(&mut cluster, 11, "placement/shop", 10, &placement()).expect("of the leader");
    cluster.apply(20, "f", Some(&fence().to_json())).expect("a new leader");

    let late = apply(&mut cluster, 21, "placement/shop", 10, &Placement::default());

    let key = String::from("placement/shop");
    assert_eq!(late, Err(Unusable::Stale { key, term: 10, highest: 20 }));
    assert_eq!(cluster.placements["shop"], placement());
    let beat = apply(&mut cluster, 22, "leader", 10, &heartbeat());
    assert!(matches!(beat, Err(Unusable::Stale { .. })));
    assert_eq!(cluster.leader.expect("a leader").term, 20);
}

#[test]
fn a_term_whose_fence_was_compacted_away_counts() {
    let mut cluster = ClusterState::default();
    apply(&mut cluster, 8, "task/shop", 5, &task()).expect("of term 5");
    assert_eq!(cluster.term(), Some(5));
    let late = apply(&mut cluster, 9, "task/shop", 3, &task());
    assert!(matches!(late, Err(Unusable::Stale { term: 3, highest: 5, .. })));
}

#[test]
fn a_term_that_cannot_have_begun_is_refused() {
    let late = apply(&mut led(), 11, "task/shop", 11, &task());
    assert!(matches!(late, Err(Unusable::Impossible { term: 11, offset: 11, .. })));
}

#[test]
fn what_was_read_before_changes_nothing() {
    let mut cluster = led();
    apply(&mut cluster, 11, "placement/shop", 10, &placement()).expect("new");
    let again = apply(&mut cluster, 11, "placement/shop", 10, &Placement::default());
    assert_eq!(again, Ok(Changed::Nothing));
    assert_eq!(cluster.placements["shop"], placement());
}

#[test]
fn tombstones_remove_but_never_the_leader() {
    let mut cluster = led();
    apply(&mut cluster, 11, "task/shop", 10, &task()).expect("new");
    assert_eq!(cluster.apply(12, "task/shop", None), Ok(Changed::Task("shop".into())));
    assert!(cluster.tasks.is_empty());
    assert_eq!(cluster.apply(13, "f", None), Err(Unusable::Deleted { key: "f".into() }));
    assert_eq!(cluster.term(), Some(10));
}

#[test]
fn later_releases_are_left_alone_or_named() {
    let mut cluster = led();
    let unknown = cluster.apply(11, "quota/shop", Some(b"\xff"));
    assert_eq!(unknown, Ok(Changed::Nothing));
    let more = br#"{"v":1,"term":10,"cordoned":true,"draining":false,"why":"disk"}"#;
    assert_eq!(cluster.apply(12, "node/w1", Some(more)), Ok(Changed::Node("w1".into())));
    let newer = cluster.apply(13, "node/w1", Some(br#"{"v":2,"term":10}"#));
    assert_eq!(newer, Err(Unusable::Newer { key: "node/w1".into(), v: 2 }));
    let unreadable = cluster.apply(14, "node/w1", Some(b"{"));
    assert!(matches!(unreadable, Err(Unusable::Unreadable { .. })));
    assert!(cluster.nodes["w1"].cordoned);
}

#[test]
fn an_unreadable_record_does_not_begin_a_term() {
    let mut cluster = led();
    let broken = cluster.apply(15, "node/w1", Some(br#"{"v":1,"term":14}"#));
    assert!(matches!(broken, Err(Unusable::Unreadable { .. })));
    assert_eq!(cluster.term(), Some(10));
}

#[test]
fn the_history_is_bounded_and_retries_do_not_fill_it() {
    let mut state = State::new(TaskState::Synchronizing, 0);
    for at in 1..100 {
        state = state.followed_by(TaskState::Retrying, Some(format!("{at}")), None, at);
    }
    assert_eq!((state.history.len(), state.since_ms), (1, 1));
    for at in 100..200 {
        let next = [TaskState::Synchronizing, TaskState::Retrying][usize::from(at % 2 == 0)];
        state = state.followed_by(next, None, None, at);
    }
    assert_eq!(state.history.len(), HISTORY_MAX);
    assert_eq!(state.changes().count(), HISTORY_MAX + 1);
    assert_eq!(state.changes().last().map(|it| it.since_ms), Some(state.since_ms));
    assert_eq!(state.history.last().map(|it| it.since_ms), Some(198));
}

#[test]
fn keys_are_read_as_they_are_written() {
    for key in ["task/a", "placement/a", "state/a", "node/a/b", "connection/a", "f", "leader"] {
        assert_eq!(Key::parse(key).expect("known").to_string(), key);
    }
}

#[test]
fn a_front_that_is_placed_elsewhere_is_silent_until_its_state_is_written() {
    let mut cluster = led();
    let on =
        |node: Option<&str>, rev| Placement { rev, front: node.map(str::to_owned), ..placement() };
    let mut place = |offset, node, rev| {
        let placed = apply(&mut cluster, offset, "placement/shop", 10, &on(node, rev));
        assert_eq!(placed, Ok(Changed::Placement("shop".into())));
        cluster.front_is_silent("shop")
    };
    assert!(!place(11, Some("w1"), 1), "it was nowhere before");
    assert!(!place(12, Some("w1"), 2), "lanes have moved only");
    assert!(place(13, Some("w2"), 3));
    assert!(place(14, Some("w2"), 4), "nothing was said since then");
    let state = State::new(TaskState::Synchronizing, 5);
    let written = apply(&mut cluster, 15, "state/shop", 10, &state);
    assert_eq!(written, Ok(Changed::State("shop".into())));
    assert!(!cluster.front_is_silent("shop"));
    let lost = apply(&mut cluster, 16, "placement/shop", 10, &on(None, 5));
    assert_eq!(lost, Ok(Changed::Placement("shop".into())));
    assert!(cluster.front_is_silent("shop"), "it has no place any more");
    cluster.apply(17, "placement/shop", None).expect("the task is removed");
    assert!(!cluster.front_is_silent("shop"));
}
