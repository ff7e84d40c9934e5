use heddle_sdk::{Command, Config, Moment, Policy, RateLimit, Request, Scope, Verdict};

use super::TokenBucket;

fn policy(config: &str) -> TokenBucket {
    TokenBucket::configure(&Config::from_json(config)).unwrap()
}

fn ask(policy: &TokenBucket, scope: Scope, command: Command, now: u64, state: &mut Vec<u8>) -> Option<u64> {
    let request = Request { scope, key: "alice".into(), command, size: 100, connections: 1, recipients: 1 };
    let outcome = policy.decide(Moment { now, seed: 0 }, &request, state);
    assert!(outcome.state.len() <= 256);
    match outcome.verdict {
        Verdict::Allow => {
            *state = outcome.state;
            None
        }
        Verdict::Deny(refusal) => refusal.retry_after,
    }
}

#[test]
fn a_burst_passes_then_one_per_interval() {
    let (policy, mut state) = (policy(r#"{"burst": 3, "per_second": 10}"#), Vec::new());
    let mut messages = |now| ask(&policy, Scope::User, Command::ChatMessage, now, &mut state);
    assert_eq!([messages(1_000), messages(1_000), messages(1_000)], [None; 3]);
    assert_eq!(messages(1_000), Some(100));
    assert_eq!(messages(1_100), None);
    assert_eq!(messages(1_101), Some(99));
}

#[test]
fn kinds_of_command_do_not_share_a_bucket() {
    let (policy, mut state) = (policy(r#"{"burst": 1, "per_second": 1}"#), Vec::new());
    assert_eq!(ask(&policy, Scope::User, Command::ChatMessage, 1_000, &mut state), None);
    assert_eq!(ask(&policy, Scope::User, Command::Typing, 1_000, &mut state), None);
    assert_eq!(ask(&policy, Scope::User, Command::ChatMessage, 1_000, &mut state), Some(1_000));
}

#[test]
fn an_address_has_room_for_several_users() {
    let (policy, mut state) = (policy(r#"{"burst": 1, "per_second": 1, "ip_factor": 3}"#), Vec::new());
    let allowed = (0..9).filter(|_| ask(&policy, Scope::Ip, Command::ChatMessage, 1_000, &mut state).is_none());
    assert_eq!(allowed.count(), 3);
}

#[test]
fn a_clock_that_went_backwards_locks_nobody_out() {
    let (policy, mut state) = (policy(r#"{"burst": 2, "per_second": 1}"#), Vec::new());
    assert_eq!(ask(&policy, Scope::User, Command::ChatMessage, 9_000_000, &mut state), None);
    let mut messages = |now| ask(&policy, Scope::User, Command::ChatMessage, now, &mut state);
    assert_eq!([messages(1_000), messages(1_000), messages(1_999), messages(2_000)], [None, Some(1_000), Some(1), None]);
}

#[test]
fn a_node_whose_clock_is_a_little_behind_lets_nobody_in_twice() {
    // It did: the bucket that another node had just emptied was full at an instant that looked impossible.
    let (policy, mut state) = (policy(r#"{"burst": 2, "per_second": 10}"#), Vec::new());
    let mut messages = |now| ask(&policy, Scope::User, Command::ChatMessage, now, &mut state);
    assert_eq!([messages(5_000), messages(5_000), messages(4_999), messages(4_100)], [None, None, Some(101), Some(1_000)]);
    assert_eq!([messages(5_100), messages(5_099)], [None, Some(101)]);
}

#[test]
fn what_was_spent_under_stricter_limits_locks_nobody_out_under_milder_ones() {
    let (strict, mild) = (policy(r#"{"burst": 1, "per_second": 0.001}"#), policy(r#"{"burst": 2, "per_second": 10}"#));
    let mut state = Vec::new();
    assert_eq!(ask(&strict, Scope::User, Command::ChatMessage, 1_000, &mut state), None);
    assert_eq!(ask(&strict, Scope::User, Command::ChatMessage, 1_000, &mut state), Some(1_000_000));
    assert_eq!(ask(&mild, Scope::User, Command::ChatMessage, 1_000, &mut state), None);
    assert_eq!(ask(&mild, Scope::User, Command::ChatMessage, 1_000, &mut state), Some(100));
    assert_eq!(ask(&mild, Scope::User, Command::ChatMessage, 1_100, &mut state), None);
}

#[test]
fn bytes_of_another_shape_count_as_none() {
    let mut state = vec![1, 2, 3];
    assert_eq!(ask(&policy("{}"), Scope::User, Command::ChatMessage, 1_000, &mut state), None);
}

#[test]
fn impossible_limits_and_unknown_commands_are_refused() {
    for config in [
        r#"{"burst": 0}"#,
        r#"{"per_second": 0}"#,
        r#"{"ip_factor": 0}"#,
        r#"{"commands": {"shout": {"burst": 1, "per_second": 1}}}"#,
        r#"{"brust": 1}"#,
    ] {
        assert!(TokenBucket::configure(&Config::from_json(config)).is_err(), "{config}");
    }
}
