use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

type Tasks = BTreeMap<String, Wanted>;
type Workers = BTreeMap<String, Worker>;
type Placements = BTreeMap<String, Placement>;

fn labels(text: &str) -> Labels {
    let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.into(), value.into())).collect()
}

fn worker(name: &str, has: &str) -> (String, Worker) {
    let address = format!("{name}:7420");
    (name.into(), Worker { address, labels: labels(has), standing: Standing::Ready })
}

fn workers(names: &[(&str, &str)]) -> Workers {
    names.iter().map(|(name, has)| worker(name, has)).collect()
}

fn task(name: &str, lanes: usize) -> (String, Wanted) {
    (name.into(), Wanted { lanes, ..Wanted::default() })
}

fn owners(plan: &Plan, task: &str) -> Vec<String> {
    let lanes = plan.placements[task].lanes.iter();
    lanes.map(|it| it.clone().unwrap_or_else(|| "-".into())).collect()
}

fn loads(placements: &Placements) -> BTreeMap<String, usize> {
    let mut loads = BTreeMap::new();
    for node in placements.values().flat_map(|it| it.lanes.iter().flatten()) {
        *loads.entry(node.clone()).or_default() += 1;
    }
    loads
}

#[test]
fn a_first_task_is_spread_and_its_front_stays_together() {
    let tasks = Tasks::from([task("shop", 5)]);
    let plan = place(&tasks, &workers(&[("w1", ""), ("w2", "")]), &Placements::new(), Scope::All);
    assert_eq!(owners(&plan, "shop"), ["w1", "w2", "w1", "w2", "w1"]);
    let placement = &plan.placements["shop"];
    assert_eq!((placement.rev, placement.front.as_deref()), (1, Some("w1")));
    assert_eq!((placement.decoder(), placement.router()), (Some("w1"), Some("w1")));
    assert_eq!(placement.addresses["w2"], "w2:7420");
}

/// Balance of fronts comes first; one that has a place keeps it.
#[test]
fn a_front_goes_near_its_source_where_several_are_as_free() {
    let mut workers = workers(&[("w1", ""), ("w2", ""), ("w3", "")]);
    for (name, address) in [("w1", "10.9.0.1"), ("w2", "10.1.0.7"), ("w3", "10.1.0.8")] {
        workers.get_mut(name).expect("a worker").address = format!("{address}:7420");
    }
    let source = vec!["10.1.0.9:5432".to_owned()];
    let near = |name: &str| (name.to_owned(), Wanted { source: source.clone(), ..task(name, 2).1 });
    let tasks = Tasks::from([near("a"), near("b"), near("c")]);
    let plan = place(&tasks, &workers, &Placements::new(), Scope::All);
    let front = |task: &str| plan.placements[task].front.clone().expect("a front");
    assert_eq!([front("a"), front("b"), front("c")], ["w3", "w2", "w1"]);
    let w3 = workers.remove("w3").expect("a worker");
    let without = place(&Tasks::from([near("a")]), &workers, &Placements::new(), Scope::All);
    workers.insert("w3".into(), w3);
    let again = place(&Tasks::from([near("a")]), &workers, &without.placements, Scope::All);
    assert_eq!(again.placements["a"].front.as_deref(), Some("w2"));
}

#[test]
fn a_join_moves_only_what_balance_needs() {
    let tasks = Tasks::from([task("shop", 8)]);
    let two = workers(&[("w1", ""), ("w2", "")]);
    let before = place(&tasks, &two, &Placements::new(), Scope::All);
    let three = workers(&[("w1", ""), ("w2", ""), ("w3", "")]);
    let plan = place(&tasks, &three, &before.placements, Scope::All);
    assert_eq!(plan.moves.len(), 2);
    assert!(plan.moves.iter().all(|it| it.to.as_deref() == Some("w3")));
    assert_eq!(plan.placements["shop"].rev, 2);
}

#[test]
fn a_death_moves_only_what_the_dead_had() {
    let tasks = Tasks::from([task("shop", 9)]);
    let three = workers(&[("w1", ""), ("w2", ""), ("w3", "")]);
    let before = place(&tasks, &three, &Placements::new(), Scope::All);
    let two = workers(&[("w2", ""), ("w3", "")]);
    let plan = place(&tasks, &two, &before.placements, Scope::All);
    assert!(plan.moves.iter().all(|it| it.from.as_deref() == Some("w1")));
    assert_eq!(plan.moves.len(), 6); // three lanes and the three stages of the front
}

#[test]
fn a_new_leader_places_only_what_is_placed_nowhere() {
    let tasks = Tasks::from([task("new", 2), task("old", 2)]);
    let mut now = Placements::new();
    let gone = || Some(String::from("gone"));
    let addresses = BTreeMap::from([("gone".into(), "gone:1".into())]);
    let old = Placement {
        rev: 3,
        front: gone(),
        lanes: vec![gone(), None],
        addresses,
        ..Placement::default()
    };
    now.insert("old".into(), old);
    let plan = place(&tasks, &workers(&[("w1", "")]), &now, Scope::Unplaced);
    assert_eq!(owners(&plan, "old"), ["gone", "w1"]);
    assert_eq!(plan.placements["old"].front, gone());
    assert_eq!(plan.placements["old"].addresses["gone"], "gone:1");
    assert_eq!(owners(&plan, "new"), ["w1", "w1"]);
}

#[test]
fn the_front_goes_where_its_labels_are_and_parts_only_if_it_must() {
    let mut tasks = Tasks::from([task("shop", 1)]);
    let shop = tasks.get_mut("shop").expect("the task");
    shop.labels.reader = labels("zone=a");
    shop.labels.router = labels("pool=fast");
    let both = workers(&[("w1", "zone=b"), ("w2", "zone=a pool=fast"), ("w3", "zone=a")]);
    let plan = place(&tasks, &both, &Placements::new(), Scope::All);
    assert_eq!(plan.placements["shop"].front.as_deref(), Some("w2"));
    assert_eq!(plan.placements["shop"].router, None);

    let apart = workers(&[("w1", "zone=a"), ("w2", "pool=fast")]);
    let plan = place(&tasks, &apart, &Placements::new(), Scope::All);
    let placement = &plan.placements["shop"];
    let stages = [placement.front.as_deref(), placement.decoder(), placement.router()];
    assert_eq!(stages, [Some("w1"), Some("w1"), Some("w2")]);
}

#[test]
fn each_stage_can_have_a_worker_of_its_own() {
    let mut tasks = Tasks::from([task("shop", 2)]);
    let shop = tasks.get_mut("shop").expect("the task");
    shop.labels = config::Placement {
        reader: labels("stage=reader"),
        decoder: labels("stage=decoder"),
        router: labels("stage=router"),
        producers: labels("stage=producer"),
        snapshot: None,
    };
    let five = workers(&[
        ("w1", "stage=producer"),
        ("w2", "stage=router"),
        ("w3", "stage=decoder"),
        ("w4", "stage=reader"),
        ("w5", "stage=producer"),
    ]);
    let plan = place(&tasks, &five, &Placements::new(), Scope::All);
    let placement = &plan.placements["shop"];
    let stages = [placement.front.as_deref(), placement.decoder(), placement.router()];
    assert_eq!(stages, [Some("w4"), Some("w3"), Some("w2")]);
    assert_eq!(owners(&plan, "shop"), ["w1", "w5"]);
}

#[test]
fn whoever_has_the_labels_reads_tables() {
    let mut tasks = Tasks::from([task("shop", 1)]);
    let mut three = workers(&[("w1", ""), ("w2", "pool=read"), ("w3", "pool=read")]);
    let readers = |plan: &Plan| plan.placements["shop"].snapshot.clone();
    let first = place(&tasks, &three, &Placements::new(), Scope::All);
    assert_eq!(readers(&first), None, "the router's node");
    tasks.get_mut("shop").expect("the task").labels.snapshot = Some(labels("pool=read"));
    let both = place(&tasks, &three, &first.placements, Scope::All);
    assert_eq!(readers(&both), Some(vec!["w2".into(), "w3".into()]));
    assert_eq!((both.placements["shop"].rev, both.moves.len()), (2, 0));
    assert_eq!(both.placements["shop"].addresses["w3"], "w3:7420");
    // One that is silent keeps what it has, one that is dead loses it.
    three.get_mut("w2").expect("a worker").standing = Standing::Holding;
    three.remove("w3");
    let one = place(&tasks, &three, &both.placements, Scope::All);
    assert_eq!(readers(&one), Some(vec!["w2".into()]));
    let nobody = place(&tasks, &workers(&[("w1", "")]), &first.placements, Scope::All);
    assert_eq!(readers(&nobody), Some(Vec::new()), "labels are respected");
    assert_eq!(nobody.unplaced.first().map(|it| it.part), Some(Part::Snapshot));
    // A leader that hears nobody takes nothing from anybody.
    let deaf = place(&tasks, &Workers::new(), &both.placements, Scope::All);
    assert_eq!(readers(&deaf), readers(&both));
}

#[test]
fn reasons_name_what_is_missing() {
    let reason = |workers: &Workers| {
        let mut tasks = Tasks::from([task("shop", 1)]);
        tasks.get_mut("shop").expect("the task").labels.producers = labels("pool=fast");
        let plan = place(&tasks, workers, &Placements::new(), Scope::All);
        let lane = plan.unplaced.into_iter().find(|it| it.part == Part::Lane(0));
        lane.expect("the lane has no place").reason
    };
    assert_eq!(reason(&Workers::new()), "no worker has registered");
    assert_eq!(reason(&workers(&[("w1", "")])), "no worker has the labels pool=fast");
    let mut silent = workers(&[("w1", "pool=fast"), ("w2", "")]);
    silent.get_mut("w1").expect("a worker").standing = Standing::Leaving;
    let expected = "every worker that may have it is cordoned, draining or silent: w1";
    assert_eq!(reason(&silent), expected);
}

#[test]
fn a_front_that_cannot_run_whole_does_not_run() {
    let mut tasks = Tasks::from([task("shop", 1)]);
    tasks.get_mut("shop").expect("the task").labels.router = labels("pool=fast");
    let plan = place(&tasks, &workers(&[("w1", "")]), &Placements::new(), Scope::All);
    assert_eq!(plan.placements["shop"].front, None);
    assert_eq!(plan.unplaced.first().map(|it| it.part), Some(Part::Router));
}

#[test]
fn a_leader_that_hears_nobody_takes_nothing_from_anybody() {
    let tasks = Tasks::from([task("shop", 4)]);
    let two = workers(&[("w1", ""), ("w2", "")]);
    let before = place(&tasks, &two, &Placements::new(), Scope::All);
    let plan = place(&tasks, &Workers::new(), &before.placements, Scope::All);
    assert_eq!(plan.placements, before.placements);
    assert_eq!(plan.unplaced.len(), 5);
}

#[test]
fn who_drains_keeps_nothing_even_if_nobody_else_can_have_it() {
    let tasks = Tasks::from([task("shop", 1)]);
    let mut one = workers(&[("w1", "")]);
    let before = place(&tasks, &one, &Placements::new(), Scope::All);
    one.get_mut("w1").expect("a worker").standing = Standing::Leaving;
    let plan = place(&tasks, &one, &before.placements, Scope::All);
    assert_eq!(plan.placements["shop"].nodes().count(), 0);
}

#[test]
fn fronts_are_spread_over_workers() {
    let tasks = Tasks::from([task("a", 1), task("b", 1), task("c", 1)]);
    let three = workers(&[("w1", ""), ("w2", ""), ("w3", "")]);
    let plan = place(&tasks, &three, &Placements::new(), Scope::All);
    let fronts: BTreeSet<_> = plan.placements.values().map(|it| it.front.clone()).collect();
    assert_eq!(fronts.len(), 3);
}

#[test]
fn a_worker_that_moved_is_found_at_its_new_address() {
    let tasks = Tasks::from([task("shop", 1)]);
    let mut one = workers(&[("w1", "")]);
    let before = place(&tasks, &one, &Placements::new(), Scope::All);
    one.get_mut("w1").expect("a worker").address = "elsewhere:7420".into();
    let plan = place(&tasks, &one, &before.placements, Scope::All);
    assert!(plan.moves.is_empty());
    assert_eq!(plan.placements["shop"].addresses["w1"], "elsewhere:7420");
    assert_eq!(plan.placements["shop"].rev, 2);
    assert_eq!(plan.changed(&before.placements).count(), 1);
}

fn some_labels() -> impl Strategy<Value = Labels> {
    let value = |key: &'static str, values: &'static [&'static str]| {
        prop::option::weighted(0.3, prop::sample::select(values))
            .prop_map(move |it| it.map(|it| (key.to_owned(), it.to_owned())))
    };
    (value("zone", &["a", "b"]), value("pool", &["fast", "slow"]))
        .prop_map(|(zone, pool)| zone.into_iter().chain(pool).collect())
}

fn some_tasks() -> impl Strategy<Value = Tasks> {
    let per_stage = (some_labels(), some_labels(), some_labels(), some_labels());
    let wanted =
        (0usize..9, per_stage).prop_map(|(lanes, (reader, decoder, router, producers))| Wanted {
            lanes,
            source: vec!["10.0.0.1:5432".into()],
            labels: config::Placement { reader, decoder, router, producers, snapshot: None },
        });
    prop::collection::btree_map("t[0-4]", wanted, 0..5)
}

fn some_workers() -> impl Strategy<Value = Workers> {
    let standing = prop_oneof![
        5 => Just(Standing::Ready),
        1 => Just(Standing::Holding),
        1 => Just(Standing::Leaving)
    ];
    let worker = (some_labels(), standing).prop_map(|(labels, standing)| Worker {
        address: "host:7420".into(),
        labels,
        standing,
    });
    prop::collection::btree_map("w[0-6]", worker, 0..7)
}

fn some_placements() -> impl Strategy<Value = Placements> {
    let node = || prop::option::weighted(0.8, "w[0-7]");
    let lanes = prop::collection::vec(node(), 0..9);
    let placement = (node(), node(), node(), lanes).prop_map(|(front, decoder, router, lanes)| {
        let parted = |node: Option<String>| {
            node.filter(|it| front.as_ref().is_some_and(|front| front != it))
        };
        let (decoder, router) = (parted(decoder), parted(router));
        Placement { rev: 7, front, decoder, router, lanes, ..Placement::default() }
    });
    prop::collection::btree_map("t[0-4]", placement, 0..5)
}

/// Whether `to` may get a lane of the task.
fn is_able(worker: &Worker, wanted: &Wanted) -> bool {
    worker.standing == Standing::Ready && matches(&worker.labels, &wanted.labels.producers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_moves_where_nothing_must(
        tasks in some_tasks(), workers in some_workers(), now in some_placements(),
    ) {
        let first = place(&tasks, &workers, &now, Scope::All);
        let again = place(&tasks, &workers, &first.placements, Scope::All);
        prop_assert_eq!(&again.placements, &first.placements);
        prop_assert!(again.moves.is_empty());
        let unplaced = place(&tasks, &workers, &first.placements, Scope::Unplaced);
        prop_assert!(unplaced.moves.is_empty());
    }

    #[test]
    fn labels_and_standing_are_respected(
        tasks in some_tasks(), workers in some_workers(), now in some_placements(),
    ) {
        let plan = place(&tasks, &workers, &now, Scope::All);
        for (name, wanted) in &tasks {
            let (after, before) = (&plan.placements[name], now.get(name));
            let labels = &wanted.labels;
            let check = |node: Option<&str>, had: Option<&str>, wanted: &Labels| {
                let Some(node) = node else { return true };
                let Some(worker) = workers.get(node) else { return had == Some(node) };
                let may = match worker.standing {
                    Standing::Ready => true,
                    Standing::Holding => had == Some(node),
                    Standing::Leaving => false,
                };
                may && matches(&worker.labels, wanted)
            };
            let had = |get: fn(&Placement) -> Option<&str>| before.and_then(get);
            let front: fn(&Placement) -> Option<&str> = |it| it.front.as_deref();
            prop_assert!(check(front(after), had(front), &labels.reader));
            prop_assert!(check(after.decoder(), had(Placement::decoder), &labels.decoder));
            prop_assert!(check(after.router(), had(Placement::router), &labels.router));
            prop_assert_eq!(after.lanes.len(), wanted.lanes);
            for (lane, owner) in after.lanes.iter().enumerate() {
                let had = before.and_then(|it| it.lanes.get(lane)?.as_deref());
                prop_assert!(check(owner.as_deref(), had, &labels.producers));
            }
        }
    }

    #[test]
    fn what_can_be_placed_is_and_the_rest_has_a_reason(
        tasks in some_tasks(), workers in some_workers(), now in some_placements(),
    ) {
        let plan = place(&tasks, &workers, &now, Scope::All);
        for (name, wanted) in &tasks {
            let able = workers.values().any(|it| is_able(it, wanted));
            for (lane, owner) in plan.placements[name].lanes.iter().enumerate() {
                let live = owner.as_ref().is_some_and(|it| workers.contains_key(it));
                prop_assert!(live || !able);
                let named = plan.unplaced.iter().any(|it| {
                    it.task == *name && it.part == Part::Lane(lane) && !it.reason.is_empty()
                });
                prop_assert_eq!(named, !live);
            }
            let front = plan.unplaced.iter().any(|it| {
                it.task == *name && !matches!(it.part, Part::Lane(_))
            });
            let placement = &plan.placements[name];
            let stages = [placement.front.as_deref(), placement.decoder(), placement.router()];
            let live = stages.iter().all(|it| it.is_some_and(|it| workers.contains_key(it)));
            prop_assert_eq!(front, !live);
        }
    }

    #[test]
    fn lanes_are_balanced(
        tasks in some_tasks(), workers in some_workers(), now in some_placements(),
    ) {
        let plan = place(&tasks, &workers, &now, Scope::All);
        let loads = loads(&plan.placements);
        let load = |node: &str| loads.get(node).copied().unwrap_or_default();
        for (name, placement) in &plan.placements {
            for owner in placement.lanes.iter().flatten() {
                if workers.get(owner).is_none_or(|it| it.standing != Standing::Ready) {
                    continue;
                }
                for (other, _) in workers.iter().filter(|(_, it)| is_able(it, &tasks[name])) {
                    prop_assert!(
                        load(owner) <= load(other) + 1,
                        "{} of {} on {}, {} on {}", name, load(owner), owner, load(other), other
                    );
                }
            }
        }
    }

    #[test]
    fn the_front_stays_together_where_one_worker_can_have_it(
        tasks in some_tasks(), workers in some_workers(),
    ) {
        let plan = place(&tasks, &workers, &Placements::new(), Scope::All);
        for (name, wanted) in &tasks {
            let labels = &wanted.labels;
            let one = workers.values().any(|it| {
                it.standing == Standing::Ready
                    && [&labels.reader, &labels.decoder, &labels.router]
                        .iter()
                        .all(|wanted| matches(&it.labels, wanted))
            });
            let placement = &plan.placements[name];
            let parted = placement.decoder.is_some() || placement.router.is_some();
            prop_assert!(!(one && parted));
        }
    }

    /// A front whose stages are on workers of their own loses one of these.
    #[test]
    fn a_stage_whose_worker_died_moves_alone(dead in 0usize..3, spare in 1usize..4) {
        let stages = [("reader", Part::Reader), ("decoder", Part::Decoder), ("router", Part::Router)];
        let mut tasks = Tasks::from([task("shop", 0)]);
        let shop = tasks.get_mut("shop").expect("the task");
        let [reader, decoder, router] = stages.map(|(name, _)| labels(&format!("stage={name}")));
        shop.labels = config::Placement { reader, decoder, router, ..config::Placement::default() };
        let mut workers: Workers = (0..=spare)
            .flat_map(|number| stages.map(|(name, _)| (format!("{name}{number}"), name)))
            .map(|(node, name)| worker(&node, &format!("stage={name}")))
            .collect();
        let before = place(&tasks, &workers, &Placements::new(), Scope::All);
        let placement = &before.placements["shop"];
        let nodes = [placement.front.as_deref(), placement.decoder(), placement.router()];
        let gone = nodes[dead].expect("a worker of its own").to_owned();
        workers.remove(&gone);
        let after = place(&tasks, &workers, &before.placements, Scope::All);
        let [only] = &after.moves[..] else { panic!("{:?}", after.moves) };
        prop_assert_eq!((only.part, only.from.as_ref()), (stages[dead].1, Some(&gone)));
        prop_assert!(only.to.as_ref().is_some_and(|it| it.starts_with(stages[dead].0)));
    }

    /// Where every worker may have every lane, no plan that is balanced moves fewer.
    #[test]
    fn no_balanced_plan_moves_fewer(
        lanes in prop::collection::vec(0usize..9, 1..4), count in 1usize..6,
        now in some_placements(),
    ) {
        let tasks: Tasks =
            lanes.iter().enumerate().map(|(i, &lanes)| task(&format!("t{i}"), lanes)).collect();
        let workers: Workers = (0..count).map(|i| worker(&format!("w{i}"), "")).collect();
        let plan = place(&tasks, &workers, &now, Scope::All);
        let kept = tasks.iter().flat_map(|(name, wanted)| {
            let lanes = now.get(name).map_or(&[][..], |it| &it.lanes);
            lanes.iter().take(wanted.lanes).flatten().filter(|it| workers.contains_key(*it))
        });
        let mut had = vec![0usize; count];
        for node in kept {
            had[workers.keys().position(|it| it == node).expect("live")] += 1;
        }
        let total: usize = lanes.iter().sum();
        had.sort_unstable_by(|a, b| b.cmp(a));
        let (each, more) = (total / count, total % count);
        let fit = had.iter().enumerate().map(|(at, &it)| it.min(each + usize::from(at < more)));
        let least = total - fit.sum::<usize>();
        let moved = plan.moves.iter().filter(|it| matches!(it.part, Part::Lane(_))).count();
        prop_assert_eq!(moved, least);
    }

    /// One worker more or less moves no lane but to or from it, where all may have all.
    #[test]
    fn a_change_of_one_worker_moves_only_its_share(
        lanes in prop::collection::vec(0usize..9, 1..4), count in 1usize..6,
    ) {
        let tasks: Tasks =
            lanes.iter().enumerate().map(|(i, &lanes)| task(&format!("t{i}"), lanes)).collect();
        let fewer: Workers = (0..count).map(|i| worker(&format!("w{i}"), "")).collect();
        let mut more = fewer.clone();
        more.extend([worker("x", "")]);
        let before = place(&tasks, &fewer, &Placements::new(), Scope::All);
        let joined = place(&tasks, &more, &before.placements, Scope::All);
        let total: usize = lanes.iter().sum();
        prop_assert!(joined.moves.iter().all(|it| it.to.as_deref() == Some("x")));
        prop_assert!(joined.moves.len() <= total.div_ceil(count + 1));
        let left = place(&tasks, &fewer, &joined.placements, Scope::All);
        prop_assert!(left.moves.iter().all(|it| it.from.as_deref() == Some("x")));
    }

    #[test]
    fn a_new_leader_moves_nothing_that_has_a_place(
        tasks in some_tasks(), workers in some_workers(), now in some_placements(),
    ) {
        let plan = place(&tasks, &workers, &now, Scope::Unplaced);
        for it in &plan.moves {
            let parted = matches!(it.part, Part::Decoder | Part::Router);
            prop_assert!(it.from.is_none() || (parted && now[&it.task].front.is_none()));
        }
    }
}
