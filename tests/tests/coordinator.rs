//! Coordinators on a real control topic: one leads, the next takes over, lanes follow the workers, and
//! people get what they may have.

#[path = "coordinator/office.rs"]
mod office;

use office::{Admin, Office, SOON, Worker, admin, eventually, first_answer, register};
use rpc::v1::coordinator_message::Message as Down;
use rpc::v1::plan_item::Effect;
use rpc::v1::*;
use rpc::{Code, Error, PROTOCOL_MAX};
use std::collections::BTreeMap;

fn spec(lanes: usize) -> String {
    format!(
        "version: 1\ntask: shop\nlabels: {{team: a}}\nlanes: {lanes}\nsource:\n  hosts: [\"db:5432\"]\n  \
         database: shop\n  user: u\n  password: ${{env:DISTRIBUTARY_SECRET_SHOP}}\nsink: {{brokers: \
         [\"k:9092\"]}}\nobjects: [{{table: \"public.*\"}}]\n"
    )
}

async fn apply(admin: &mut Admin, yaml: &str, dry_run: bool) -> Result<ApplyTaskResponse, Error> {
    let request = ApplyTaskRequest { yaml: yaml.into(), dry_run };
    Ok(admin.apply_task(request).await?.into_inner())
}

async fn get(admin: &mut Admin) -> Result<Task, Error> {
    let request = GetTaskRequest { task: "shop".into() };
    let response = admin.get_task(request).await?.into_inner();
    Ok(response.task.expect("a task"))
}

async fn start(admin: &mut Admin) {
    apply(admin, &spec(4), false).await.expect("applied");
    let request = StartTaskRequest { task: "shop".into() };
    admin.start_task(request).await.expect("started");
}

fn state(task: &Task) -> &str {
    task.report.as_ref().map_or("", |it| it.state.as_str())
}

/// Lanes by worker.
fn lanes(task: &Task) -> BTreeMap<String, usize> {
    let mut lanes = BTreeMap::new();
    for node in task.placement.iter().flat_map(|it| &it.lanes) {
        *lanes.entry(node.clone()).or_default() += 1;
    }
    lanes
}

fn spread(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(node, lanes)| ((*node).to_owned(), *lanes)).collect()
}

async fn await_task(what: &str, admin: &Admin, is: impl Fn(&Task) -> bool) -> Task {
    eventually(what, async || {
        let task = get(&mut admin.clone()).await.ok()?;
        is(&task).then_some(task)
    })
    .await
}

async fn node(admin: &Admin, name: &str) -> Option<Node> {
    let status = admin.clone().cluster_status(ClusterStatusRequest {}).await.ok()?;
    status.into_inner().cluster?.nodes.into_iter().find(|it| it.name == name)
}

async fn await_node(admin: &Admin, name: &str, state: &str) {
    eventually(&format!("{name} is {state}"), async || {
        node(admin, name).await.filter(|it| it.state == state)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whoever_leads_knows_what_the_one_before_knew() {
    let mut office = Office::new(1);
    let first = office.leader().await;
    office.add(2);
    assert_eq!(office.leader().await, first);
    let mut at_leader = office.at_leader().await;
    let follower = office.addresses().into_iter().find(|it| *it != office.address(&first));
    let mut at_follower = admin(&follower.expect("three"), None).await.expect("reachable");

    let refused = apply(&mut at_follower, &spec(4), false).await.expect_err("a follower");
    assert_eq!(refused.code, Code::NotLeader);
    assert_eq!(refused.leader, Some(office.address(&first)));

    let preview = apply(&mut at_leader, &spec(4), true).await.expect("a plan");
    assert!(preview.revision == 0 && preview.plan.expect("a plan").creates);
    assert_eq!(get(&mut at_leader).await.expect_err("only looked at").code, Code::NotFound);
    let applied = apply(&mut at_leader, &spec(4), false).await.expect("applied");
    assert_eq!(applied.revision, 1);
    let again = apply(&mut at_leader, &spec(4), false).await.expect("applied");
    assert!(again.revision == 0 && again.plan.expect("a plan").unchanged);
    let preview = apply(&mut at_leader, &spec(6), true).await.expect("a plan");
    let items = preview.plan.expect("a plan").items;
    let shown = items.iter().map(|it| (it.path.as_str(), it.effect())).collect::<Vec<_>>();
    assert_eq!(shown, [("lanes", Effect::Seal)]);

    let literal = spec(4).replace("${env:DISTRIBUTARY_SECRET_SHOP}", "hunter2");
    let refused = apply(&mut at_leader, &literal, false).await.expect_err("a secret");
    assert_eq!((refused.code, refused.spec[0].line), (Code::Spec, 9));
    assert!(!refused.to_string().contains("hunter2"));

    let [w1, w2] = ["w1", "w2"].map(|it| Worker::start(&office, it));
    await_node(&at_leader, "w2", "alive").await;
    await_node(&at_leader, "w1", "alive").await;
    let request = StartTaskRequest { task: "shop".into() };
    at_leader.start_task(request).await.expect("started");
    let task =
        await_task("balance", &at_leader, |it| lanes(it) == spread(&[("w1", 2), ("w2", 2)])).await;
    let placement = task.placement.clone().expect("placed");
    let front = if placement.reader == "w1" { &w1 } else { &w2 };
    front.report(&task, "synchronizing", "");
    await_task("the state", &at_leader, |it| state(it) == "synchronizing").await;
    await_task("the follower sees it", &at_follower, |it| state(it) == "synchronizing").await;
    let listed = at_follower.list_tasks(ListTasksRequest {}).await.expect("a list").into_inner();
    assert_eq!((listed.tasks.len(), listed.tasks[0].labels["team"].as_str()), (1, "a"));
    let has_report = |it: &Task| it.report.as_ref().is_some_and(|it| it.records == 42);
    await_task("its report", &at_leader, has_report).await;

    office.kill(&first);
    assert_ne!(office.leader().await, first);
    // Both that are left may take the lead, one after the other.
    let task = eventually("its report", async || {
        let mut at_leader = office.at_leader_now().await?;
        get(&mut at_leader).await.ok().filter(has_report)
    })
    .await;
    assert_eq!(task.placement, Some(placement), "nothing has moved");
    assert_eq!((state(&task), task.revision), ("synchronizing", 1));

    let second = office.leader().await;
    office.stop(&second).await;
    assert!(![first, second].contains(&office.leader().await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nobody_waits_for_a_leader_that_resigns() {
    let mut office = Office::new(1);
    let first = office.leader().await;
    office.add_patient();
    assert_eq!(office.leader().await, first);
    office.stop(&first).await;
    assert_ne!(office.leader().await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn lanes_follow_the_workers() {
    let office = Office::new(1);
    let mut admin = office.at_leader().await;
    start(&mut admin).await;
    let task = await_task("why it does not run", &admin, |it| {
        it.report.as_ref().is_some_and(|it| it.cause.contains("no worker has registered"))
    });
    assert_eq!(state(&task.await), "prechecking");
    let w1 = Worker::start(&office, "w1");
    await_task("all on w1", &admin, |it| lanes(it) == spread(&[("w1", 4)])).await;
    let w2 = Worker::start(&office, "w2");
    await_task("balance", &admin, |it| lanes(it) == spread(&[("w1", 2), ("w2", 2)])).await;
    w2.kill();
    await_task("w2's lanes on w1", &admin, |it| lanes(it) == spread(&[("w1", 4)])).await;
    await_node(&admin, "w2", "dead").await;

    let w2 = Worker::start(&office, "w2");
    await_task("balance", &admin, |it| lanes(it) == spread(&[("w1", 2), ("w2", 2)])).await;
    let request = DrainNodeRequest { node: "w1".into() };
    admin.drain_node(request).await.expect("drained");
    let moved = |it: &Task| it.placement.as_ref().is_some_and(|it| it.reader == "w2");
    await_task("all on w2", &admin, |it| lanes(it) == spread(&[("w2", 4)]) && moved(it)).await;
    await_node(&admin, "w1", "drained").await;
    let request = MoveLaneRequest { task: "shop".into(), lane: 0, node: "w1".into() };
    let refused = Error::from(admin.move_lane(request.clone()).await.expect_err("drained"));
    assert_eq!(refused.code, Code::State);
    let uncordon = UncordonNodeRequest { node: "w1".into() };
    admin.uncordon_node(uncordon).await.expect("uncordoned");
    await_task("balance", &admin, |it| lanes(it) == spread(&[("w1", 2), ("w2", 2)])).await;
    let task = get(&mut admin).await.expect("it");
    let at = task.placement.expect("placed").lanes.iter().position(|it| it == "w2").expect("two");
    let lane = u32::try_from(at).expect("small");
    admin.move_lane(MoveLaneRequest { lane, ..request }).await.expect("moved");
    let w3 = Worker::start(&office, "w3");
    let on_w1 = |it: &Task| it.placement.as_ref().is_some_and(|it| it.lanes[at] == "w1");
    await_task("w3 has a share", &admin, |it| lanes(it).contains_key("w3") && on_w1(it)).await;
    w3.leave();
    await_task("w3 is emptied", &admin, |it| !lanes(it).contains_key("w3") && on_w1(it)).await;
    drop((w1, w2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_task_lives_by_orders_and_reports() {
    let office = Office::new(1);
    let mut admin = office.at_leader().await;
    let worker = Worker::start(&office, "w1");
    await_node(&admin, "w1", "alive").await;
    start(&mut admin).await;
    let mut watching = admin
        .watch_task(WatchTaskRequest { task: "shop".into() })
        .await
        .expect("watched")
        .into_inner();
    let task = await_task("a place", &admin, |it| it.placement.is_some()).await;
    worker.report(&task, "parked", "the slot is gone");
    let task = await_task("it parks", &admin, |it| state(it) == "parked").await;
    assert_eq!(task.report.expect("a report").cause, "the slot is gone");
    await_task("it has no place", &admin, |it| it.placement.is_none()).await;
    let name = || "shop".to_owned();
    let resumed = admin.resume_task(ResumeTaskRequest { task: name() }).await;
    assert_eq!(state(&resumed.expect("resumed").into_inner().task.expect("it")), "prechecking");
    // The old report is of the old placement: it parks nobody.
    let task = await_task("a place", &admin, |it| it.placement.is_some()).await;
    worker.report(&task, "catching-up", "");
    await_task("it runs", &admin, |it| state(it) == "catching-up").await;
    let refused = admin.resume_task(ResumeTaskRequest { task: name() }).await;
    let refused = Error::from(refused.expect_err("it runs"));
    assert!(refused.code == Code::State && refused.cause.contains("possible now"), "{refused}");
    let request = SnapshotTaskRequest { task: name(), table: "a.b".into(), condition: "".into() };
    let refused = Error::from(admin.snapshot_task(request).await.expect_err("not selected"));
    assert!(refused.code == Code::Argument && refused.cause.contains("a.b"), "{refused}");
    let suspended = admin.suspend_task(SuspendTaskRequest { task: name() }).await;
    let suspended = suspended.expect("suspended").into_inner();
    assert!(suspended.notes[0].contains("WAL"), "{:?}", suspended.notes);
    await_task("no place", &admin, |it| it.placement.is_none() && it.wanted == "suspended").await;
    let released = admin.release_task(ReleaseTaskRequest { task: name() }).await;
    released.expect("released");
    let task = await_task("a place to remove from", &admin, |it| it.placement.is_some()).await;
    assert_eq!((state(&task), task.wanted.as_str()), ("releasing", "released"));
    let refused = apply(&mut admin, &spec(5), false).await.expect_err("its name is not free");
    assert_eq!(refused.code, Code::State);
    worker.report(&task, "release-failed", "the database does not answer");
    let task = await_task("it says so", &admin, |it| state(it) == "release-failed").await;
    assert_eq!(task.report.expect("a report").cause, "the database does not answer");
    let refused = admin.start_task(StartTaskRequest { task: name() }).await;
    assert_eq!(Error::from(refused.expect_err("half removed")).code, Code::State);
    admin.release_task(ReleaseTaskRequest { task: name() }).await.expect("tried again");
    let task = await_task("it is tried again", &admin, |it| state(it) == "releasing").await;
    worker.report(&task, "released", "");
    eventually("it is gone", async || {
        let gone = get(&mut admin.clone()).await.err()?;
        (gone.code == Code::NotFound).then_some(())
    })
    .await;
    let mut seen = Vec::new();
    while let Some(it) = watching.message().await.expect("no error") {
        seen.push(state(&it.task.expect("a task")).to_owned());
    }
    seen.dedup();
    assert_eq!(seen.last().map(String::as_str), Some("releasing"), "{seen:?}");
    let applied = apply(&mut admin, &spec(5), false).await.expect("the name is free again");
    assert_eq!(applied.revision, 1);
}

/// Of the tokens `a` and `b`.
const TOKENS: &str = "tokens:
- {name: bob, role: admin, sha256: ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb}
- {name: ann, role: viewer, sha256: 3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn strangers_get_nothing() {
    let office = Office::with(1, "auth: {tokens_file: tokens.yaml}\n", &[("tokens.yaml", TOKENS)]);
    let leader = office.leader().await;
    let address = office.address(&leader);
    let mut viewer = admin(&address, Some("b")).await.expect("reachable");
    viewer.list_tasks(ListTasksRequest {}).await.expect("a viewer reads");
    let refused = apply(&mut viewer, &spec(4), false).await.expect_err("a viewer");
    assert_eq!(refused.code, Code::Forbidden);
    let mut nobody = admin(&address, None).await.expect("reachable");
    let refused = Error::from(nobody.list_tasks(ListTasksRequest {}).await.expect_err("nobody"));
    assert_eq!(refused.code, Code::Unauthenticated);
    let mut bob = admin(&address, Some("a")).await.expect("reachable");
    apply(&mut bob, &spec(4), false).await.expect("an admin");
    let connection = Connection {
        name: "main".into(),
        kind: "sink".into(),
        yaml: "brokers: [k:9092]\nsecurity: {password: hunter2}\n".into(),
        tasks: Vec::new(),
    };
    let request = SetConnectionRequest { connection: Some(connection.clone()) };
    let refused = Error::from(bob.set_connection(request).await.expect_err("a secret"));
    assert!(refused.code == Code::Spec && !refused.to_string().contains("hunter2"), "{refused}");
    let connection = Connection { yaml: "brokers: [k:9092]".into(), ..connection };
    let request = SetConnectionRequest { connection: Some(connection) };
    assert!(bob.set_connection(request).await.expect("set").into_inner().created);
    let listed =
        bob.list_connections(ListConnectionsRequest {}).await.expect("a list").into_inner();
    assert_eq!(listed.connections[0].yaml, "brokers: [k:9092]");
    let request = RemoveConnectionRequest { name: "main".into() };
    bob.remove_connection(request).await.expect("removed");

    let refused = first_answer(&address, register("w1", PROTOCOL_MAX + 1)).await;
    assert_eq!(refused.expect_err("a later release").code, Code::Protocol);
    let beat = WorkerMessage { message: Some(worker_message::Message::Beat(Beat { seq: 1 })) };
    assert_eq!(first_answer(&address, beat).await.expect_err("no name").code, Code::Argument);
    let welcomed = first_answer(&address, register("w1", PROTOCOL_MAX)).await.expect("known");
    assert!(matches!(welcomed, Some(Down::Welcome(Welcome { protocol: PROTOCOL_MAX, .. }))));
}

/// Of a process, whose log is read: a change is a line, whoever made it and whatever came of it, also where the log is to
/// hold nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_change_is_a_line_of_the_audit_log() {
    let office = Office::with(0, "auth: {tokens_file: tokens.yaml}\n", &[("tokens.yaml", TOKENS)]);
    let (process, address) = office.process("c1", &["-o", "json"], &[("DISTRIBUTARY_LOG", "off")]);
    let mut bob = eventually("it leads", async || {
        let mut bob = admin(&address, Some("a")).await.ok()?;
        let status = bob.cluster_status(ClusterStatusRequest {}).await.ok()?;
        (status.into_inner().cluster?.leader == "c1").then_some(bob)
    })
    .await;
    apply(&mut bob, &spec(4), true).await.expect("that changes nothing");
    apply(&mut bob, &spec(4), false).await.expect("applied");
    let secret = spec(4).replace("${env:DISTRIBUTARY_SECRET_SHOP}", "hunter2");
    apply(&mut bob, &secret, false).await.expect_err("a secret");
    let request = StartTaskRequest { task: "none".into() };
    bob.start_task(request).await.expect_err("there is none");
    get(&mut bob).await.expect("that changes nothing");
    let mut ann = admin(&address, Some("b")).await.expect("reachable");
    apply(&mut ann, &spec(5), false).await.expect_err("she may not, and nothing asks for it");
    let log = process.interrupt(SOON).expect(0).stderr.clone();
    assert!(!log.contains("hunter2"), "{log}");
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let audit: Vec<_> = lines.iter().filter(|line| line["message"] == "audit").collect();
    let told: Vec<_> = audit
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap_or_default();
            assert!(text("principal").starts_with("admin `bob` at 127.0.0.1:"), "{line}");
            assert!(!text("timestamp").is_empty(), "{line}");
            (text("call"), text("object"), text("outcome"), text("code"))
        })
        .collect();
    let expected = [
        ("ApplyTask", "shop", "done", ""),
        ("ApplyTask", "shop", "refused", "ERROR_CODE_SPEC"),
        ("StartTask", "none", "refused", "ERROR_CODE_NOT_FOUND"),
    ];
    assert_eq!(told, expected, "{log}");
    assert_eq!(audit[0]["revision"], 1);
    assert!(audit[2]["reason"].as_str().is_some_and(|it| it.contains("none")), "{log}");
}
