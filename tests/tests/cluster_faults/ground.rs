//! Servers of this suite's own, in its namespaces: PostgreSQL and brokers that listen for the tests on
//! loopback, and for the nodes on the hub's addresses.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, ScopedJoinHandle};
use tempfile::TempDir;
use tests::disk::Disk;
use tests::lan::{Cable, Lan};
use tests::scene::Scene;
use tests::seed::{full, say};
use tests::servers::{Server, ask};
use tests::site::{Hosts, Site};

/// Every node that there may be.
pub(crate) const NODES: [&str; 7] = ["c1", "c2", "c3", "w1", "w2", "w3", "w4"];
pub(crate) const SERVERS: [&str; 2] = [POSTGRES, "kafka-1:lan"];

const POSTGRES: &str = "postgres-15:lan";
const POSTGRES_PORT: u16 = 24_390;
/// Of the first broker; the others are 100, 200 and 300 further. Its controller has the next one.
const BROKER_PORT: u16 = 29_100;
/// Number of a broker that belongs to no cluster.
const ALONE: u16 = 0;
/// So much above it nodes come in.
const FOR_NODES: u16 = 2;
const DISK_MEBIBYTES: u32 = 8;

pub(crate) struct Ground {
    pub(crate) scene: Scene,
    pub(crate) lan: Lan,
    pub(crate) disk: Disk,
    /// Holds the file that says who may connect to the database.
    _folder: TempDir,
    /// Dropped last: the scene is removed from living servers.
    _servers: Servers,
}

/// Brokers that are there at first: three, or one alone where none is to fail.
fn first() -> &'static [u16] {
    if full() { &[1, 2, 3] } else { &[ALONE] }
}

impl Ground {
    pub(crate) fn new(label: &str) -> Self {
        let lan = Lan::new(&NODES);
        let servers = Servers::wiped();
        let folder = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .expect("a folder");
        let (postgres, kafka) = thread::scope(|scope| {
            let start = |&number| scope.spawn(move || start_broker(number));
            let brokers: Vec<_> = first().iter().map(start).collect();
            let postgres = start_postgres(&folder);
            let address = |it: ScopedJoinHandle<'_, Server>| it.join().expect("it starts").address;
            let address = brokers.into_iter().map(address).collect::<Vec<_>>().join(",");
            (postgres, Server { name: broker(first()[0]), address })
        });
        let scene = Scene::on(label, postgres, kafka);
        let disk = Disk::mount(&scene.folder().join("disk"), DISK_MEBIBYTES);
        Self { scene, lan, disk, _folder: folder, _servers: servers }
    }

    /// Where nodes run.
    pub(crate) fn site(&self) -> Site<'_> {
        let database = format!("{}:{POSTGRES_PORT}", Cable::Peers.hub());
        let hub = Cable::Brokers.hub();
        let broker = |&number: &u16| format!("{hub}:{}", port(number) + FOR_NODES);
        let brokers = first().iter().map(broker).collect::<Vec<_>>().join(", ");
        Site::Lan(Hosts::new(&self.lan, &NODES, self.scene.folder(), database, brokers))
    }
}

fn start_postgres(folder: &TempDir) -> Server {
    let path = folder.path().join("pg_hba.conf");
    let mut rules = String::from("host all,replication postgres 127.0.0.1/32 trust\n");
    for from in ["127.0.0.1/32", &Cable::Peers.subnet()] {
        rules += &format!(
            "host all all {from} scram-sha-256\nhost replication all {from} scram-sha-256\n"
        );
    }
    fs::write(&path, rules).expect("the folder can be written");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("a mode");
    let settings = [
        format!("listen_addresses=127.0.0.1,{}", Cable::Peers.hub()),
        format!("hba_file={}", path.display()),
    ];
    Server::start_at(POSTGRES, POSTGRES_PORT, &settings.each_ref().map(String::as_str))
}

fn port(number: u16) -> u16 {
    BROKER_PORT + 100 * number.saturating_sub(1)
}

pub(crate) fn broker(number: u16) -> String {
    match number {
        ALONE => "kafka:lan".into(),
        _ => format!("kafka-{number}:lan"),
    }
}

/// The fourth is no controller.
pub(crate) fn start_broker(number: u16) -> Server {
    let (port, hub) = (port(number), Cable::Brokers.hub());
    let advertised = format!("PLAINTEXT://127.0.0.1:{port},LAN://{hub}:{}", port + FOR_NODES);
    let controller = match number {
        ..4 => format!(",CONTROLLER://127.0.0.1:{}", port + 1),
        _ => String::new(),
    };
    let settings = [
        format!("listeners={advertised}{controller}"),
        format!("advertised.listeners={advertised}"),
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LAN:PLAINTEXT"
            .into(),
    ];
    Server::start_at(&broker(number), BROKER_PORT, &settings.each_ref().map(String::as_str))
}

/// Begin and end without data.
struct Servers;

impl Servers {
    fn wiped() -> Self {
        Self::wipe();
        Self
    }

    fn wipe() {
        // At once: brokers would wait for each other.
        let names = [POSTGRES.into()].into_iter().chain((ALONE..=4).map(broker));
        for verb in ["kill", "wipe"] {
            names.clone().for_each(|name| drop(ask(verb, &name)));
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // A second panic would hide the first.
        if catch_unwind(AssertUnwindSafe(Self::wipe)).is_err() {
            say("the servers of the LAN could not be wiped");
        }
    }
}
