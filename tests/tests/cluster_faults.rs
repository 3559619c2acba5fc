//! Everything that can be done to a cluster of real processes, its network, its brokers and its disk, while
//! it grows from one coordinator and one worker to three and four and back, under a random workload: nothing is
//! lost, nothing doubled, order is kept.
//!
//! Each node has a network namespace of its own and mutual TLS; networks are cut by taking the hub's end of a
//! node's cable down, which tells nobody. The short form has a fixed seed and few faults; the long one
//! (`DISTRIBUTARY_FULL=1`) every role, every fault, in an order of a fresh seed, and longer than every
//! time-out. How long each lane was silent is printed.

#[path = "cluster_faults/faults.rs"]
mod faults;
#[path = "cluster_faults/ground.rs"]
mod ground;
#[path = "cluster_faults/storm.rs"]
mod storm;

use faults::{Act, Role};
use ground::{Ground, SERVERS};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use std::time::Duration;
use storm::Storm;
use tests::lan::inside;
use tests::seed::{full, seed};
use tests::workload::Pace;

/// What one run of the long form shows at least; planned moves do not count.
const FAULTS_MIN: usize = 30;

#[test]
fn whatever_fails_nothing_is_lost_or_doubled() {
    inside("whatever_fails_nothing_is_lost_or_doubled", &SERVERS, || {
        let seed = seed("storm", 5115);
        let ground = Ground::new("storm");
        // All that is written must fit into the memory of who compares.
        let pause = Duration::from_millis(if full() { 150 } else { 30 });
        let mut storm = Storm::start(&ground, seed, Pace { pause, ..Pace::default() });
        if full() {
            storm.rest(Duration::from_secs(10));
            storm.grow(4);
            storm.rest(Duration::from_secs(10));
            let mut acts = every_act();
            acts.shuffle(&mut SmallRng::seed_from_u64(seed));
            acts.into_iter().for_each(|(act, role)| storm.suffer(act, role));
            storm.scale_brokers();
            assert!(FAULTS_MIN <= storm.faults(), "{} faults are too few", storm.faults());
        } else {
            storm.grow(2);
            storm.suffer(Act::Kill, Role::Reader);
            storm.suffer(Act::Cut, Role::Producer);
        }
        storm.shrink();
        storm.finish();
    });
}

fn every_act() -> Vec<(Act, Role)> {
    use Act::{Cut, CutBrokers, FillDisk, Kill, Pause};
    let nodes = [Role::Reader, Role::Producer, Role::Leader, Role::Coordinators];
    let of_nodes = [Kill, Pause, Cut].into_iter().flat_map(|act| nodes.map(|role| (act, role)));
    let brokers = [Role::Reader, Role::Producer, Role::LeaderAndReader];
    let quick = [Role::Reader, Role::Producer, Role::Leader];
    let kills = quick.into_iter().flat_map(|role| [(Kill, role); 3]);
    let more = kills.chain([(Kill, Role::Broker); 2]).chain([(FillDisk, Role::Producer)]);
    of_nodes.chain(brokers.map(|role| (CutBrokers, role))).chain(more).collect()
}
