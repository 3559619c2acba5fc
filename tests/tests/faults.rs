//! Everything that can be done to one process, its database, its brokers and the network between
//! them, while a random workload writes: nothing is lost, nothing doubled, order is kept.
//!
//! Each fault is followed by a row whose time to a `read_committed` consumer is printed. The short
//! form has fixed seeds; the long one (`DISTRIBUTARY_FULL=1`) fresh ones, all versions, longer
//! pauses and more rounds.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::checker::Promises;
use tests::network::{Half, Link, Weather};
use tests::probe::Probe;
use tests::process::Distributary;
use tests::procfs;
use tests::receiver::Receiver;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, say, seed};
use tests::servers::Server;
use tests::sql::Sql;
use tests::task::Spec;
use tests::workload::{self, Pace, Workload};

const SOON: Duration = Duration::from_secs(120);
/// Longer than each time-out of the broker (30 s for a transaction) and of the database (20 s, set
/// below), and than all of our own.
const PAUSE: Duration = Duration::from_secs(40);
/// The same with the time-outs that servers have by default.
const PAUSE_FULL: Duration = Duration::from_secs(75);
const WAL_SENDER_TIMEOUT: &str = "wal_sender_timeout=20s";

/// Of one process, in bytes, with as many lanes as a task has unless it says otherwise.
const MEMORY_MAX: u64 = 150 << 20;

/// The broker's own port; its controller has the next one.
const PORT: u16 = 29_880;
const BEHIND_LINK: u16 = 29_885;
const LINK: u16 = 29_890;
/// The first broker of three; the others are 100 and 200 further.
const THREE: u16 = 28_780;

/// Our own servers are for one test at a time.
static TURN: Mutex<()> = Mutex::new(());

static KAFKA_LINK: LazyLock<Link> =
    LazyLock::new(|| Link::on(LINK, &format!("127.0.0.1:{BEHIND_LINK}")));

/// Servers of our own, which may be stopped, and the links that the task takes to them.
struct Ground {
    scene: Scene,
    to_postgres: Link,
    /// Dropped last.
    _turn: MutexGuard<'static, ()>,
}

impl Ground {
    fn new(label: &str, postgres: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        LazyLock::force(&KAFKA_LINK);
        let settings = if full() { "wal_sender_timeout=60s" } else { WAL_SENDER_TIMEOUT };
        let postgres = Server::start_with(&format!("{postgres}:faults"), &[settings]);
        let scene = Scene::on(label, postgres, broker());
        let to_postgres = Link::to(&scene.postgres.address);
        Self { scene, to_postgres, _turn: turn }
    }

    /// Through the links.
    fn spec(&self) -> Spec {
        self.scene.spec().hosts(&self.to_postgres.address).brokers(&KAFKA_LINK.address)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        KAFKA_LINK.set(Weather::Clear);
    }
}

/// A broker whose clients come by [`KAFKA_LINK`]; the tests' own come straight.
fn broker() -> Server {
    let settings = [
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{PORT},CONTROLLER://127.0.0.1:{},\
             LINKED://127.0.0.1:{BEHIND_LINK}",
            PORT + 1
        ),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{PORT},LINKED://127.0.0.1:{LINK}"),
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LINKED:PLAINTEXT"
            .to_owned(),
    ];
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    Server::start_at("kafka:faults", PORT, &settings)
}

/// A task under a workload.
struct Load<'a> {
    scene: &'a Scene,
    spec: Spec,
    run: Distributary,
    workload: Workload,
    probe: Probe<'a>,
}

impl<'a> Load<'a> {
    fn start(scene: &'a Scene, spec: Spec, seed: u64) -> Self {
        workload::create(&mut scene.sql());
        let probe = Probe::new(scene);
        let pace = Pace { survives_restarts: true, ..Pace::default() };
        let workload = Workload::start(scene, seed, pace);
        let mut run = scene.run(&spec, &[]);
        scene.await_streaming(&mut run);
        workload.await_committed(50);
        Self { scene, spec, run, workload, probe }
    }

    /// Lets something happen, and waits until the task is over it. The time counts from the end of
    /// `fault`; a row that was written just then must come through.
    fn over(&mut self, name: &str, fault: impl FnOnce(&Self)) {
        fault(self);
        let since = Instant::now();
        self.probe.mark();
        assert!(!self.run.has_ended(), "ended by itself after: {name}\n{}", self.run.log());
        self.probe.await_seen(name, since);
        self.workload.await_committed(20);
    }

    /// `kill -9`, and the next run.
    fn begin_again(&mut self) {
        self.run.signal(Signal::KILL);
        let next = self.scene.run(&self.spec, &[]);
        let killed = std::mem::replace(&mut self.run, next).wait(SOON);
        assert_eq!(killed.code, None, "a signal has ended it: {}", killed.stderr);
    }

    /// Ends everything and compares. Whatever happened to it, the process has stayed within its memory.
    fn finish(self) {
        self.finish_with(Promises::default());
    }

    fn finish_with(self, promises: Promises) {
        let peak = procfs::memory_bytes_max(self.run.id()).expect("it runs");
        self.workload.stop();
        self.run.interrupt(CATCH_UP_MAX).expect(0);
        self.scene.catch_up(&self.spec);
        let report = self.scene.check(promises);
        say(&format!(
            "{}: {} records, {} rows, peak {} MB",
            self.scene.name,
            report.records,
            report.rows,
            peak >> 20
        ));
        assert!(peak < MEMORY_MAX, "{} MB", peak >> 20);
    }
}

/// What 15 goes through in the short form, too, with the servers and the seeds of other versions.
fn with_other_versions(goes: fn(&str, &str, u64), name: &str, seeds: u64) {
    for version in if full() { &[11, 18][..] } else { &[] } {
        goes(&format!("{name}_{version}"), &format!("postgres-{version}"), seeds + version);
    }
}

/// Ends every walsender of the scene's slot, as an administrator would.
fn terminate_walsenders(scene: &Scene) {
    Sql::superuser(&scene.postgres, "postgres").rows(&format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots \
         WHERE slot_name = '{}' AND active_pid IS NOT NULL",
        scene.slot()
    ));
}

fn database_goes_away(label: &str, postgres: &str, short_seed: u64) {
    let seed = seed(label, short_seed);
    let mut rng = SmallRng::seed_from_u64(seed);
    let ground = Ground::new(label, postgres);
    let scene = &ground.scene;
    let mut load = Load::start(scene, ground.spec(), seed);
    for _ in 0..if full() { 10 } else { 3 } {
        load.over("walsender terminated", |load| terminate_walsenders(load.scene));
        sleep(Duration::from_millis(rng.random_range(0..500)));
    }
    for _ in 0..if full() { 3 } else { 1 } {
        load.over("database restarted", |load| load.scene.postgres.order("restart"));
        load.over("database killed and started", |load| {
            load.scene.postgres.order("kill");
            // The same settings: they are kept.
            load.scene.postgres.order("start");
        });
    }
    load.finish();
}

#[test]
fn the_database_goes_away_15() {
    database_goes_away("database_15", "postgres-15", 2115);
}

/// Only in the long form.
#[test]
fn the_database_goes_away_with_other_versions() {
    with_other_versions(database_goes_away, "database", 2100);
}

fn broker_goes_away(label: &str, postgres: &str, short_seed: u64) {
    let seed = seed(label, short_seed);
    let ground = Ground::new(label, postgres);
    let mut load = Load::start(&ground.scene, ground.spec(), seed);
    for _ in 0..if full() { 3 } else { 1 } {
        load.over("broker restarted", |load| load.scene.kafka.order("restart"));
        load.over("broker killed and started", |load| {
            load.scene.kafka.order("kill");
            load.scene.kafka.order("start");
        });
    }
    // A broker that comes up and finds transactions older than their time-out notes them as aborted, and
    // may forget to say so in the partitions.
    let away: &[u64] = if full() { &[33, 60, 33, 33] } else { &[33] };
    for &seconds in away {
        load.over(&format!("broker away for {seconds} s"), |load| {
            load.scene.kafka.order("kill");
            sleep(Duration::from_secs(seconds));
            load.scene.kafka.order("start");
        });
    }
    load.finish();
}

#[test]
fn the_broker_goes_away_15() {
    broker_goes_away("broker_15", "postgres-15", 2215);
}

/// Only in the long form: what the broker does rests on no version of PostgreSQL.
#[test]
fn the_broker_goes_away_from_other_versions() {
    with_other_versions(broker_goes_away, "broker", 2200);
}

/// What a link can do, and for how long.
fn storm(load: &mut Load<'_>, what: &str, link: &Link, rng: &mut SmallRng) {
    let mut lasts = |seconds: std::ops::Range<u64>| {
        Duration::from_millis(rng.random_range(seconds.start * 1000..seconds.end * 1000))
    };
    let weather = |weather: Weather, time: Duration| {
        move |_: &Load<'_>| {
            link.set(weather);
            sleep(time);
            link.set(Weather::Clear);
        }
    };
    load.over(&format!("{what}: cut"), weather(Weather::Cut, lasts(0..1)));
    load.over(&format!("{what}: away for seconds"), weather(Weather::Cut, lasts(2..5)));
    load.over(&format!("{what}: silent"), weather(Weather::Silent, lasts(1..4)));
    load.over(&format!("{what}: silent for longer"), weather(Weather::Silent, lasts(12..15)));
    let slow = Weather::Slow(Duration::from_millis(40));
    load.over(&format!("{what}: slow"), weather(slow, lasts(3..6)));
    load.over(&format!("{what}: half closed to the server"), |_| link.half_close(Half::ToServer));
    load.over(&format!("{what}: half closed to us"), |_| link.half_close(Half::ToClient));
}

fn network_fails(label: &str, postgres: &str, short_seed: u64) {
    let seed = seed(label, short_seed);
    let mut rng = SmallRng::seed_from_u64(seed);
    let ground = Ground::new(label, postgres);
    let mut load = Load::start(&ground.scene, ground.spec(), seed);
    storm(&mut load, "way to the database", &ground.to_postgres, &mut rng);
    storm(&mut load, "way to the broker", &KAFKA_LINK, &mut rng);
    load.finish();
}

#[test]
fn the_network_fails_15() {
    network_fails("network_15", "postgres-15", 2315);
}

/// Only in the long form: versions differ in the walsender, which `the_database_goes_away` meets.
#[test]
fn the_network_fails_with_other_versions() {
    with_other_versions(network_fails, "network", 2300);
}

/// A copy beside the stream lasts for as long as the faults do, so that each meets it.
fn copy_goes_on(label: &str, postgres: &str, short_seed: u64) {
    let seed = seed(label, short_seed);
    let ground = Ground::new(label, postgres);
    let scene = &ground.scene;
    scene.sql().run(
        "CREATE TABLE large (id int PRIMARY KEY, note text); \
         INSERT INTO large SELECT n, repeat('x', 100) FROM generate_series(1, 30000) n",
    );
    let spec = ground.spec().line("snapshot: {beside_stream: always, chunk_rows: 500}");
    let slow = spec.clone().line("throttle: {snapshot: {rows: 100}}");
    let mut load = Load::start(scene, slow, seed);
    let copies = |load: &Load<'_>| !load.run.log().contains("everything is copied");
    for _ in 0..if full() { 3 } else { 1 } {
        load.over("copying, database killed and started", |load| {
            load.scene.postgres.order("kill");
            load.scene.postgres.order("start");
        });
        load.over("copying, broker killed and started", |load| {
            load.scene.kafka.order("kill");
            load.scene.kafka.order("start");
        });
        load.over("copying, way to the database cut", |_| {
            ground.to_postgres.set(Weather::Cut);
            sleep(Duration::from_secs(2));
            ground.to_postgres.set(Weather::Clear);
        });
        assert!(copies(&load), "the copy is over too early");
        load.begin_again();
        load.over("copying, process killed and started", |_| {});
        assert!(copies(&load), "the copy is over too early");
    }
    load.spec = spec;
    load.begin_again();
    load.run.await_log("everything is copied", CATCH_UP_MAX);
    load.finish_with(Promises { beside_stream: true, ..Promises::default() });
}

#[test]
fn a_copy_beside_the_stream_outlives_servers_network_and_process() {
    copy_goes_on("copy_15", "postgres-15", 2715);
}

/// Only in the long form.
#[test]
fn a_copy_beside_the_stream_outlives_them_with_other_versions() {
    with_other_versions(copy_goes_on, "copy", 2700);
}

fn paused(label: &str, postgres: &str, short_seed: u64) {
    let seed = seed(label, short_seed);
    let ground = Ground::new(label, postgres);
    let mut load = Load::start(&ground.scene, ground.spec(), seed);
    load.over("paused and woken", |load| {
        load.run.signal(Signal::STOP);
        sleep(if full() { PAUSE_FULL } else { PAUSE });
        load.run.signal(Signal::CONT);
    });
    load.finish();
}

#[test]
fn a_process_paused_beyond_every_time_out_goes_on() {
    paused("paused", "postgres-15", 2415);
}

/// Only in the long form: versions differ in the walsender that gives it up.
#[test]
fn a_process_paused_beyond_every_time_out_goes_on_with_other_versions() {
    with_other_versions(paused, "paused", 2400);
}

fn zombie(label: &str, postgres: &str, short_seed: u64) {
    let seed = seed(label, short_seed);
    let ground = Ground::new(label, postgres);
    let mut load = Load::start(&ground.scene, ground.spec(), seed);
    load.run.signal(Signal::STOP);
    let begun = Instant::now();
    let successor = ground.scene.run(&load.spec, &[]);
    let zombie = std::mem::replace(&mut load.run, successor);
    load.probe.mark();
    load.probe.await_seen("taken over from a paused process", begun);
    zombie.signal(Signal::CONT);
    let ended = zombie.wait(SOON);
    ended.expect(1);
    assert!(ended.stderr.contains("another process has taken over"), "{}", ended.stderr);
    load.over("a zombie has gone", |_| {});
    load.finish();
}

#[test]
fn a_zombie_that_wakes_beside_its_successor_gives_way() {
    zombie("zombie", "postgres-15", 2515);
}

/// Only in the long form.
#[test]
fn a_zombie_gives_way_with_other_versions() {
    with_other_versions(zombie, "zombie", 2500);
}

#[test]
fn one_of_three_brokers_is_killed() {
    one_broker_killed("three", "postgres-15", 2615);
}

/// Only in the long form.
#[test]
fn one_of_three_brokers_is_killed_with_other_versions() {
    with_other_versions(one_broker_killed, "three", 2600);
}

fn one_broker_killed(label: &str, postgres: &str, short_seed: u64) {
    let seed = seed(label, short_seed);
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let three = Three::start();
    let scene = Scene::on(label, Server::start(postgres), three.servers[0].clone());
    let all: Vec<_> = three.servers.iter().map(|server| server.address.clone()).collect();
    let spec = scene.spec().brokers(&all.join(", "));
    let mut load = Load::start(&scene, spec, seed);
    let rounds: &[usize] = if full() { &[1, 2, 1, 2] } else { &[1] };
    for &victim in rounds {
        let victim = &three.servers[victim];
        load.over("one of three brokers killed", |_| victim.order("kill"));
        load.over("the third broker came back", |_| victim.order("start"));
    }
    load.finish();
}

/// Three brokers; stopped when dropped.
struct Three {
    servers: Vec<Server>,
}

impl Three {
    fn start() -> Self {
        let names = ["kafka-1:faults", "kafka-2:faults", "kafka-3:faults"];
        Self { servers: Server::start_all_at(&names, THREE) }
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        for server in &self.servers {
            server.order("stop");
        }
    }
}

/// What is away for less than its window is waited for; what is away for longer ends the run, which says so once and
/// keeps the slot; the next run goes on from there. The shortest window of a connection is ten minutes.
#[test]
fn what_stays_away_for_longer_than_its_window_ends_the_run_and_loses_nothing() {
    if !full() {
        return;
    }
    let ground = Ground::new("window_kafka", "postgres-15");
    let kafkaless = &ground.scene;
    let (postgres, kafka) = (kafkaless.postgres.clone(), kafkaless.kafka.clone());
    let sourceless = Scene::on("window_postgres", postgres, kafka);
    let specs = [
        kafkaless.spec().brokers(&KAFKA_LINK.address),
        sourceless.spec().hosts(&ground.to_postgres.address),
    ];
    let receivers = [Receiver::start(), Receiver::start()];
    let scenes = [kafkaless, &sourceless];
    let specs: Vec<_> = std::iter::zip(specs, &receivers)
        .map(|(spec, receiver)| {
            spec.line(&receiver.line("")).line("retry: {connection: 10m, other: 1m}")
        })
        .collect();
    let mut runs = Vec::new();
    for (scene, spec) in std::iter::zip(scenes, &specs) {
        scene.sql().run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (0)");
        let mut run = scene.run(spec, &[]);
        scene.await_streaming(&mut run);
        runs.push(run);
    }
    let insert = |id: u32| {
        for scene in scenes {
            scene.sql().run(&format!("INSERT INTO t VALUES ({id})"));
        }
    };
    let links = [&*KAFKA_LINK, &ground.to_postgres];
    links.iter().for_each(|link| link.set(Weather::Cut));
    insert(1);
    let retrying = ("failure", "retrying");
    receivers.iter().for_each(|receiver| receiver.await_events(&[retrying]));
    links.iter().for_each(|link| link.set(Weather::Clear));
    let recovered = [retrying, ("recovered", "running")];
    receivers.iter().for_each(|receiver| receiver.await_events(&recovered));

    links.iter().for_each(|link| link.set(Weather::Cut));
    insert(2);
    let began = Instant::now();
    for (scene, run) in std::iter::zip(scenes, runs) {
        let ended = run.wait(Duration::from_secs(900));
        ended.expect(1);
        let took = began.elapsed();
        assert!(Duration::from_secs(600) <= took, "{took:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("the server keeps WAL for it"), "{}", ended.stderr);
        assert_eq!(scene.slots(), [scene.slot()]);
        say(&format!("{}: given up after {took:?}", scene.name));
    }
    let failed = [recovered[0], recovered[1], retrying, ("failure", "failed")];
    receivers.iter().for_each(|receiver| receiver.await_events(&failed));
    links.iter().for_each(|link| link.set(Weather::Clear));
    for (scene, spec) in std::iter::zip(scenes, &specs) {
        scene.catch_up(spec);
        assert_eq!(scene.check(Promises::default()).rows, 3);
    }
}
