use super::*;
use TaskState as S;

#[test]
fn a_task_lives_through_its_states() {
    let mut state = S::NotConfigured;
    for order in [Order::Apply, Order::Start] {
        state = state.ordered("shop", order).expect("possible");
    }
    assert_eq!(state, S::Prechecking);
    let news = [
        (News::Initializing, S::Initializing),
        (News::Behind, S::CatchingUp),
        (News::Close, S::Synchronizing),
        (News::Retrying, S::Retrying),
        (News::Close, S::Synchronizing),
    ];
    for (news, expected) in news {
        state = state.reported(news).expect("in time");
        assert_eq!(state, expected);
    }
    let orders = [
        (Order::Apply, S::Modifying),
        (Order::Suspend, S::Suspended),
        (Order::Resume, S::Prechecking),
        (Order::Release, S::Releasing),
    ];
    for (order, expected) in orders {
        state = state.ordered("shop", order).expect("possible");
        assert_eq!(state, expected);
    }
}

#[test]
fn what_could_not_be_removed_is_said_and_only_removed_again() {
    assert_eq!(S::Releasing.reported(News::ReleaseFailed), Some(S::ReleaseFailed));
    assert_eq!(S::ReleaseFailed.ordered("shop", Order::Release), Ok(S::Releasing));
    assert_eq!(S::Releasing.reported(News::Released), Some(S::Released));
    assert_eq!(S::Released.ordered("shop", Order::Apply), Ok(S::NotConfigured));
    assert_eq!(S::Synchronizing.reported(News::Released), None, "nobody has ordered it");
    let refused = S::ReleaseFailed.ordered("shop", Order::Start).expect_err("half removed");
    let expected = "task `shop` is in state \"release failed\" and cannot be started; possible \
                    now: release";
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn a_refusal_names_the_state_and_what_is_possible() {
    let refused = S::Released.ordered("shop", Order::Resume).expect_err("it is gone");
    let expected =
        "task `shop` is in state \"released\" and cannot be resumed; possible now: apply";
    assert_eq!(refused.to_string(), expected);
    let refused = S::Synchronizing.ordered("shop", Order::Reseed).expect_err("it runs");
    let expected = "task `shop` is in state \"synchronizing\" and cannot be reseeded; possible \
                    now: apply, suspend, restart, snapshot, release";
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn which_orders_are_possible() {
    let letters = |state: S| {
        let of = |order| match order {
            Order::Apply => 'a',
            Order::Start => 's',
            Order::Suspend => 'p',
            Order::Resume => 'r',
            Order::Restart => 'R',
            Order::Snapshot => 'S',
            Order::Reseed => 'e',
            Order::Release => 'x',
        };
        state.possible().map(of).collect::<String>()
    };
    let expected = [
        (S::NotConfigured, "asx"),
        (S::Prechecking, "apRx"),
        (S::PrecheckFailed, "asRex"),
        (S::Initializing, "apRx"),
        (S::Synchronizing, "apRSx"),
        (S::CatchingUp, "apRSx"),
        (S::Retrying, "apRx"),
        (S::Suspended, "asrRex"),
        (S::Modifying, "apRx"),
        (S::Parked, "asprRex"),
        (S::Failed, "asprRex"),
        (S::Completed, "asRx"),
        (S::Releasing, "x"),
        (S::ReleaseFailed, "x"),
        (S::Released, "a"),
    ];
    assert_eq!(S::ALL.map(|it| (it, letters(it))), expected.map(|(it, text)| (it, text.into())));
}

#[test]
fn late_news_of_what_does_not_run_change_nothing() {
    let news = [News::Close, News::Retrying, News::Parked, News::GaveUp, News::Completed];
    for state in S::ALL.into_iter().filter(|it| !it.runs()) {
        assert!(news.iter().all(|it| state.reported(*it).is_none()), "{state}");
    }
}

#[test]
fn words_are_those_of_the_control_topic() {
    for state in S::ALL {
        assert_eq!(serde_json::json!(state), state.word());
    }
}

#[test]
fn every_state_has_a_way_on() {
    for state in S::ALL {
        assert!(state.possible().next().is_some(), "{state}");
    }
}
