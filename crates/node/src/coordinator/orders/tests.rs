use super::*;
use crate::coordinator::plan::tests::Bench;
use crate::membership::{Registration, Timing};
use crate::placement::{Labels, Scope};
use std::time::Instant;

/// A cluster of a leader with two workers.
struct Office {
    bench: Bench,
    members: Members,
    reports: Reports,
}

impl Office {
    fn new() -> Self {
        let mut members = Members::new(Timing::default());
        for (connection, name) in ["w1", "w2"].into_iter().enumerate() {
            let address = format!("{name}:7420");
            let registration = Registration { address, labels: Labels::new(), ver: "0".into() };
            let joined = members.register(name, registration, connection as u64, Instant::now());
            joined.expect("the first of its name");
        }
        Self { bench: Bench::new(&["w1", "w2"]), members, reports: Reports::default() }
    }

    /// Carries an order out and reads back what was written.
    fn order(&mut self, order: &Order) -> Result<Done, String> {
        let situation = Situation {
            cluster: &self.bench.cluster,
            members: &self.members,
            reports: &self.reports,
            term: 0,
            by: "admin `ann`",
            now_ms: 9,
        };
        let (records, done) = situation.carry_out(order).map_err(|it| it.to_string())?;
        for (key, value) in &records.entries {
            self.bench.write(key, value.as_deref());
        }
        self.bench.plan(Scope::All);
        Ok(done)
    }

    fn task(&mut self, order: task_state::Order) -> Result<Done, String> {
        self.order(&Order::Task { name: "shop".into(), order, accept_gap: false })
    }

    fn snapshot(&mut self, table: &str, condition: &str) -> Result<Done, String> {
        let (name, table, condition) = ("shop".into(), table.into(), condition.into());
        self.order(&Order::Snapshot { name, table, condition })
    }

    /// Its front says so.
    fn streams(&mut self) {
        let state = State::new(TaskState::Synchronizing, 5);
        self.bench.write("state/shop", Some(&write(0, &state)));
    }

    fn applied() -> Self {
        let mut office = Self::new();
        let done = office.order(&Order::Apply { yaml: spec(4) }).expect("applied");
        assert_eq!(done.revision, 1);
        office
    }

    fn running() -> Self {
        let mut office = Self::applied();
        office.task(task_state::Order::Start).expect("started");
        office
    }

    fn state(&self) -> TaskState {
        self.bench.cluster.states["shop"].state
    }
}

fn spec(lanes: usize) -> String {
    format!(
        "version: 1\ntask: shop\nlanes: {lanes}\nsource: {{hosts: [\"db:5432\"], database: shop, user: u}}\n\
         sink: {{brokers: [\"k:9092\"]}}\nobjects: [{{table: \"public.*\"}}]\n"
    )
}

#[test]
fn a_task_is_applied_started_and_changed() {
    let mut office = Office::applied();
    assert_eq!(office.state(), TaskState::NotConfigured);
    assert!(office.bench.cluster.placements.is_empty());
    office.task(task_state::Order::Start).expect("started");
    assert_eq!(office.state(), TaskState::Prechecking);
    assert_eq!(office.bench.placement().lanes.len(), 4);
    let again = office.order(&Order::Apply { yaml: spec(4) }).expect("applied");
    assert!(again.plan.is_some_and(|it| it.unchanged) && again.revision == 0);
    let done = office.order(&Order::Apply { yaml: spec(6) }).expect("applied");
    assert_eq!(done.revision, 2);
    let plan = done.plan.expect("a plan");
    assert!(!plan.creates && plan.items.len() == 1, "{plan:?}");
    assert_eq!(office.bench.cluster.tasks["shop"].changed_by, "admin `ann`");
    let changes: Vec<_> = office.bench.cluster.states["shop"].changes().collect();
    assert_eq!(
        changes.iter().map(|it| it.state).collect::<Vec<_>>(),
        [TaskState::NotConfigured, TaskState::Prechecking,]
    );
    assert!(changes.iter().all(|it| it.by.as_deref() == Some("admin `ann`")), "{changes:?}");
}

#[test]
fn what_runs_is_kept_until_a_changed_spec_is_in_force() {
    let mut office = Office::running();
    office.order(&Order::Apply { yaml: spec(6) }).expect("applied");
    assert_eq!(office.bench.cluster.tasks["shop"].kept, None, "nothing has run");
    office.streams();
    office.order(&Order::Apply { yaml: spec(3) }).expect("applied");
    let kept = |office: &Office| office.bench.cluster.tasks["shop"].kept.clone();
    assert_eq!(kept(&office), Some(spec(6)));
    assert_eq!(office.bench.placement().lanes.len(), 6, "its lanes have their places");
    office.order(&Order::Apply { yaml: spec(2) }).expect("applied");
    assert_eq!(kept(&office), Some(spec(6)));
    office.order(&Order::Apply { yaml: spec(6) }).expect("taken back");
    assert_eq!(kept(&office), None);
}

#[test]
fn what_can_never_be_carried_out_is_refused_at_once() {
    let mut office = Office::running();
    let canal = spec(4).replace("sink: {", "sink: {format: canal-json, ");
    let shareplex = spec(4).replace("sink: {", "sink: {format: shareplex-json, ");
    office.order(&Order::Apply { yaml: canal.clone() }).expect("nothing is written yet");
    office.streams();
    let refused =
        office.order(&Order::Apply { yaml: shareplex.clone() }).expect_err("the same topics");
    assert!(refused.contains("changes from canal-json to shareplex-json"), "{refused}");
    let moved = shareplex.replace("sink: {", "sink: {topic: \"new.{table}\", ");
    office.order(&Order::Apply { yaml: moved }).expect("other topics");
    assert_eq!(office.bench.cluster.tasks["shop"].kept, Some(canal));
}

#[test]
fn a_suspended_task_goes_on_with_a_newer_placement() {
    let mut office = Office::running();
    let rev = office.bench.placement().rev;
    let done = office.task(task_state::Order::Suspend).expect("suspended");
    assert!(done.notes[0].contains("holds back WAL"), "{:?}", done.notes);
    assert_eq!(office.bench.placement().nodes().count(), 0);
    office.task(task_state::Order::Resume).expect("resumed");
    assert!(rev + 1 < office.bench.placement().rev);
    let refused = office.task(task_state::Order::Resume).expect_err("it runs");
    assert!(refused.contains("possible now: apply, suspend"), "{refused}");
    let refused = office.snapshot("public.orders", "").expect_err("it does not stream");
    assert!(refused.contains("cannot be asked for a snapshot"), "{refused}");
}

#[test]
fn a_table_is_read_again_by_orders_that_are_numbered() {
    let mut office = Office::running();
    office.streams();
    let done = office.snapshot("public.orders", "id > 7").expect("ordered");
    assert_eq!(done.snapshot, "d1-9");
    office.snapshot("public.\"Other\"", "").expect("ordered");
    let copies = office.bench.cluster.copies["shop"].clone();
    let open: Vec<_> = copies.open.iter().map(|it| (it.number, it.table.as_str())).collect();
    assert_eq!((copies.last, open), (2, vec![(1, "public.orders"), (2, "public.\"Other\"")]));
    let wrong = [
        ("public.*", "", "may mean several tables"),
        ("orders", "", "orders"),
        ("other.orders", "", "no object of task `shop` selects other.orders"),
        ("public.orders", "id >", "docs/filters.md"),
        ("public.orders", "1 = 1; DROP TABLE orders", "docs/filters.md"),
    ];
    for (table, condition, expected) in wrong {
        let refused = office.snapshot(table, condition).expect_err(table);
        assert!(refused.contains(expected), "{refused}");
    }
    (3..=COPIES_MAX).for_each(|_| drop(office.snapshot("public.orders", "").expect("ordered")));
    let refused = office.snapshot("public.orders", "").expect_err("too many");
    assert!(refused.contains("16 snapshots of task `shop` are not done"), "{refused}");
    office.task(task_state::Order::Release).expect("released");
    let mut records = Records::new(0);
    records.remove_task("shop", &office.bench.cluster);
    assert!(records.entries.iter().any(|(key, value)| key == "copies/shop" && value.is_none()));
}

#[test]
fn a_restart_makes_what_is_on_its_way_old() {
    let mut office = Office::running();
    let before = office.bench.placement().clone();
    office.task(task_state::Order::Restart).expect("restarted");
    let after = office.bench.placement();
    assert_eq!((after.rev, &after.lanes), (before.rev + 1, &before.lanes));
    assert_eq!(office.bench.cluster.tasks["shop"].restarts, 1);
}

#[test]
fn a_reseed_needs_a_task_that_stands() {
    let mut office = Office::running();
    assert!(office.task(task_state::Order::Reseed).is_err(), "it runs");
    office.task(task_state::Order::Suspend).expect("suspended");
    let (name, order) = ("shop".to_owned(), task_state::Order::Reseed);
    office.order(&Order::Task { name, order, accept_gap: true }).expect("reseeded");
    let task = &office.bench.cluster.tasks["shop"];
    assert_eq!((task.reseeds, task.reseeded, task.accept_gap), (1, 0, true));
    office.task(task_state::Order::Suspend).expect("suspended");
    office.task(order).expect("reseeded");
    let task = &office.bench.cluster.tasks["shop"];
    assert_eq!((task.reseeds, task.accept_gap), (2, false));
}

#[test]
fn a_release_keeps_a_front_and_blocks_the_name() {
    let mut office = Office::running();
    office.task(task_state::Order::Release).expect("released");
    assert!(office.bench.placement().front.is_some());
    let refused = office.order(&Order::Apply { yaml: spec(4) }).expect_err("in progress");
    assert!(refused.contains("is being released"), "{refused}");
    let rev = office.bench.placement().rev;
    let failed = State::new(TaskState::ReleaseFailed, 1);
    office.bench.put(&Key::State("shop".into()), &failed);
    office.task(task_state::Order::Release).expect("tried again");
    assert_eq!(office.state(), TaskState::Releasing);
    assert!(rev < office.bench.placement().rev);
    assert_eq!(office.bench.cluster.tasks["shop"].restarts, 1);
}

#[test]
fn a_task_that_never_ran_is_released_at_once() {
    let mut office = Office::applied();
    office.task(task_state::Order::Release).expect("released");
    assert!(office.bench.cluster.tasks.is_empty() && office.bench.cluster.states.is_empty());
}

#[test]
fn a_lane_moves_only_to_who_may_have_it() {
    let mut office = Office::running();
    let owner = office.bench.placement().lanes[0].clone().expect("placed");
    let other = if owner == "w1" { "w2" } else { "w1" };
    let order = |lane, node: Option<&str>| Order::MoveLane {
        task: "shop".into(),
        lane,
        node: node.map(str::to_owned),
    };
    office.order(&order(0, None)).expect("moved");
    assert_eq!(office.bench.placement().lanes[0].as_deref(), Some(other));
    assert!(office.order(&order(9, None)).expect_err("no lane").contains("no lane `shop/9`"));
    assert!(office.order(&order(0, Some("w3"))).expect_err("unknown").contains("no worker `w3`"));
    office.order(&Order::Drain { node: owner.clone() }).expect("drained");
    let refused = office.order(&order(0, Some(&owner))).expect_err("drained");
    assert!(refused.contains("is drained"), "{refused}");
    office.order(&Order::Uncordon { node: owner.clone() }).expect("uncordoned");
    office.order(&order(0, Some(&owner))).expect("moved back");
    assert_eq!(office.bench.placement().lanes[0].as_deref(), Some(owner.as_str()));
    assert!(office.order(&Order::Drain { node: "w3".into() }).is_err());
}

#[test]
fn connections_are_kept_and_removed() {
    let mut office = Office::new();
    let set = |name: &str, yaml: &str| Order::SetConnection {
        name: name.into(),
        kind: "source".into(),
        yaml: yaml.into(),
    };
    assert!(office.order(&set("main", "user: u")).expect("set").created);
    assert!(!office.order(&set("main", "user: v")).expect("set").created);
    assert!(office.order(&set("Main", "user: u")).expect_err("a name").contains("no name"));
    let remove = Order::RemoveConnection { name: "main".into() };
    office.order(&remove).expect("removed");
    assert!(office.order(&remove).is_err());
}

#[test]
fn a_changed_connection_reaches_the_tasks_that_name_it() {
    let mut office = Office::new();
    let set = |kind: &str, yaml: &str| Order::SetConnection {
        name: "main-db".into(),
        kind: kind.into(),
        yaml: yaml.into(),
    };
    let named = spec(4).replace("hosts: [\"db:5432\"]", "connection: main-db");
    let apply = Order::Apply { yaml: named.clone() };
    assert!(office.order(&apply).expect_err("it is not there").contains("source.connection"));
    assert!(office.order(&set("source", "hosts: [\"db:1\"]")).expect("set").created);
    office.order(&apply).expect("applied");
    office.task(task_state::Order::Start).expect("started");
    office.streams();
    let task = office.bench.cluster.tasks["shop"].clone();
    assert_eq!(task.as_applied(), named);
    assert_eq!(config::Task::parse(&task.spec).expect("alone").source.hosts, ["db:1"]);
    assert_eq!(task.read().expect("read").source.connection.as_deref(), Some("main-db"));

    let done = office.order(&set("source", "hosts: [\"db:2\"]")).expect("changed");
    assert_eq!((done.created, &*done.users), (false, &["shop".to_owned()][..]));
    let changed = office.bench.cluster.tasks["shop"].clone();
    assert_eq!((changed.spec_rev, office.state()), (task.spec_rev + 1, TaskState::Modifying));
    assert_eq!(changed.read().expect("read").source.hosts, ["db:2"]);
    assert_eq!(office.order(&set("source", "hosts: [\"db:2\"]")), Ok(Done::default()));
    assert_eq!(office.bench.cluster.tasks["shop"], changed);

    for wrong in [set("source", "user: v"), set("sink", "brokers: [\"k:1\"]")] {
        let said = office.order(&wrong).expect_err("refused");
        assert!(said.contains("task `shop` could not go on by it: "), "{said}");
    }
    let remove = Order::RemoveConnection { name: "main-db".into() };
    let said = office.order(&remove).expect_err("in use");
    assert!(said.contains("connection `main-db` is used by shop"), "{said}");
    office.order(&Order::Apply { yaml: spec(4) }).expect("it names none any more");
    office.order(&remove).expect("removed");
}
