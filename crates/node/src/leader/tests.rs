use super::*;
use proptest::prelude::*;

/// A coordinator and the time, in seconds since it began.
struct Bench {
    leadership: Leadership,
    start: Instant,
    at: f64,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        Self { leadership: Leadership::new(Timing::default(), start, 0), start, at: 0.0 }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.at)
    }

    fn tell(&mut self, event: Event) -> Option<Action> {
        let now = self.now();
        self.leadership.handle(event, now, 0)
    }

    /// Lets time pass in ticks; the first order that comes, and when.
    fn until(&mut self, end: f64) -> Option<(f64, Action)> {
        while self.at < end {
            self.at = (self.at + 0.5).min(end);
            if let Some(action) = self.tell(Event::Tick) {
                return Some((self.at, action));
            }
        }
        None
    }

    /// The leader of term 10, since 8 s.
    fn leading() -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.until(20.0), Some((8.0, Action::Take)));
        assert_eq!(bench.tell(Event::Taken { term: 10 }), None);
        assert_eq!(
            bench.tell(Event::Fence { term: 10 }),
            Some(Action::Lead { term: 10, renewed: false })
        );
        bench
    }
}

const FIRST_BEAT: Action = Action::Beat { beat: 1, resigned: false };

#[test]
fn a_follower_takes_over_after_a_silence_only() {
    let mut bench = Bench::new();
    for beat in 1..10u8 {
        assert_eq!(bench.until(f64::from(beat) * 7.5), None);
        assert_eq!(bench.tell(Event::Beat { term: 3, resigned: false }), None);
    }
    assert_eq!(bench.until(100.0), Some((75.5, Action::Take)));
}

#[test]
fn jitter_comes_on_top_of_the_silence() {
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let mut leadership = Leadership::new(Timing::default(), start, u32::MAX);
    let takes: Vec<_> = (1..12)
        .filter(|&at| leadership.handle(Event::Tick, start + at * second, 0).is_some())
        .collect();
    assert_eq!(takes, [10]);
}

#[test]
fn a_leader_leads_once_its_fence_is_read_back() {
    let mut bench = Bench::leading();
    assert_eq!(bench.leadership.term(), Some(10));
    assert_eq!(bench.until(9.0), Some((8.5, FIRST_BEAT)));
    assert_eq!(bench.until(9.0), None);
}

#[test]
fn a_fence_that_is_read_before_it_is_reported_counts_too() {
    let mut bench = Bench::new();
    bench.until(9.0);
    assert_eq!(bench.tell(Event::Fence { term: 10 }), None);
    assert_eq!(
        bench.tell(Event::Taken { term: 10 }),
        Some(Action::Lead { term: 10, renewed: false })
    );
}

#[test]
fn the_later_of_two_fences_wins() {
    let mut bench = Bench::new();
    bench.until(9.0);
    bench.tell(Event::Taken { term: 10 });
    let other = bench.tell(Event::Fence { term: 12 });
    assert_eq!(other, Some(Action::StepDown(Cause::Fenced)));
    assert_eq!(bench.leadership.term(), None);

    let mut late = Bench::new();
    late.until(9.0);
    late.tell(Event::Fence { term: 12 });
    assert_eq!(late.tell(Event::Taken { term: 10 }), Some(Action::StepDown(Cause::Fenced)));
}

#[test]
fn a_leader_beats_every_two_seconds_while_its_beats_are_committed() {
    let mut bench = Bench::leading();
    let mut beats = Vec::new();
    while let Some((at, Action::Beat { .. })) = bench.until(13.0) {
        beats.push(at);
        let began = bench.now();
        assert_eq!(bench.tell(Event::Committed { began }), None);
    }
    assert_eq!(beats, [8.5, 10.5, 12.5]);
}

#[test]
fn a_leader_that_cannot_commit_steps_down() {
    let mut bench = Bench::leading();
    assert_eq!(bench.until(30.0), Some((8.5, FIRST_BEAT)));
    let down = Action::StepDown(Cause::Uncommitted);
    assert_eq!(bench.until(30.0), Some((16.0, down)));
    assert_eq!(bench.leadership.term(), None);
    assert_eq!(bench.until(30.0), None);
    bench.tell(Event::Dropped);
    assert_eq!(bench.until(60.0), Some((38.0, Action::Take)));
}

#[test]
fn a_leader_that_was_paused_for_long_steps_down_at_once() {
    let mut bench = Bench::leading();
    bench.at = 100.0;
    assert_eq!(bench.tell(Event::Tick), Some(Action::StepDown(Cause::Uncommitted)));
}

#[test]
fn a_follower_that_was_paused_reads_before_it_takes_over() {
    let mut bench = Bench::new();
    bench.until(4.0);
    bench.at = 100.0;
    assert_eq!(bench.tell(Event::Tick), None);
    assert_eq!(bench.until(200.0), Some((108.0, Action::Take)));
}

#[test]
fn a_new_leader_does_not_move_for_ten_seconds() {
    let bench = Bench::leading();
    let after = |seconds| bench.now() + Duration::from_secs(seconds);
    assert!(!bench.leadership.may_move(after(9)));
    assert!(bench.leadership.may_move(after(10)));
}

#[test]
fn a_dirty_commit_renews_the_term_and_keeps_what_is_known() {
    let mut bench = Bench::leading();
    assert_eq!(bench.tell(Event::Unclean), Some(Action::Take));
    assert_eq!(bench.leadership.term(), None);
    bench.at = 12.0;
    bench.tell(Event::Taken { term: 20 });
    let lead = Some(Action::Lead { term: 20, renewed: true });
    assert_eq!(bench.tell(Event::Fence { term: 20 }), lead);
    bench.at = 18.0;
    assert!(bench.leadership.may_move(bench.now()));
}

#[test]
fn who_led_in_between_makes_a_renewed_leader_wait() {
    let mut bench = Bench::leading();
    bench.tell(Event::Unclean);
    bench.at = 12.0;
    bench.tell(Event::Fence { term: 15 });
    bench.tell(Event::Fence { term: 20 });
    assert_eq!(
        bench.tell(Event::Taken { term: 20 }),
        Some(Action::Lead { term: 20, renewed: false })
    );
    bench.at = 21.0;
    assert!(!bench.leadership.may_move(bench.now()));
}

#[test]
fn a_resigned_leader_says_so_and_leads_no_more() {
    let mut bench = Bench::leading();
    let last = bench.tell(Event::Resign);
    assert_eq!(last, Some(Action::Beat { beat: 1, resigned: true }));
    assert_eq!(bench.leadership.term(), None);
    let began = bench.now();
    let down = Some(Action::StepDown(Cause::Resigned));
    assert_eq!(bench.tell(Event::Committed { began }), down);
    bench.tell(Event::Dropped);
    assert_eq!(bench.until(60.0), None);
}

#[test]
fn nobody_waits_for_a_leader_that_resigned_or_never_was() {
    for event in [Event::Beat { term: 3, resigned: true }, Event::Unled] {
        let mut bench = Bench::new();
        bench.tell(Event::Fence { term: 3 });
        bench.tell(event);
        assert_eq!(bench.until(20.0), Some((0.5, Action::Take)));
    }
}

#[test]
fn late_news_of_lower_terms_keeps_nobody_waiting() {
    let mut bench = Bench::new();
    bench.tell(Event::Fence { term: 30 });
    bench.until(7.0);
    bench.tell(Event::Beat { term: 20, resigned: false });
    assert_eq!(bench.until(20.0), Some((8.0, Action::Take)));
}

fn some_event() -> impl Strategy<Value = Event> {
    let term = 0..40i64;
    prop_oneof![
        4 => Just(Event::Tick),
        1 => Just(Event::Unled),
        2 => term.clone().prop_map(|term| Event::Fence { term }),
        2 => (term.clone(), any::<bool>()).prop_map(|(term, resigned)| Event::Beat { term, resigned }),
        2 => term.prop_map(|term| Event::Taken { term }),
        1 => Just(Event::Committed { began: Instant::now() }),
        1 => Just(Event::Unclean),
        1 => Just(Event::Fenced),
        1 => Just(Event::Dropped),
    ]
}

proptest! {
    /// Whatever is told in whatever order: at most one order is open, the term grows, and nobody leads
    /// below a fence that it has read.
    #[test]
    fn no_order_of_news_confuses_the_role(events in prop::collection::vec((some_event(), 0u64..4000), 0..80)) {
        let mut now = Instant::now();
        let mut leadership = Leadership::new(Timing::default(), now, 0);
        let mut fence = None;
        for (event, ms) in events {
            now += Duration::from_millis(ms);
            if let Event::Fence { term } = event {
                fence = fence.max(Some(term));
            }
            match leadership.handle(event, now, 0) {
                Some(Action::Lead { term, .. }) => {
                    prop_assert_eq!(leadership.term(), Some(term));
                }
                Some(Action::Take | Action::StepDown(_)) => prop_assert_eq!(leadership.term(), None),
                Some(Action::Beat { resigned, .. }) => {
                    prop_assert!(resigned || leadership.term().is_some());
                }
                None => {}
            }
            if let Some(term) = leadership.term() {
                prop_assert!(fence <= Some(term));
            }
        }
    }
}
