use heddle_sdk::{Config, Event, Moment, Observation, Policy, Presence, Relation, Sighting, Status};

use super::LastSeen;

const AT: Moment = Moment { now: 0, seed: 0 };

fn policy(config: &str) -> LastSeen {
    LastSeen::configure(&Config::from_json(config)).unwrap()
}

fn seen(event: Event, connections: u32, idle: u64, previous: Status) -> Observation {
    Observation { user: "alice".into(), event, connections, idle, declared: None, previous }
}

fn sighting(status: Status, announce: bool, recheck: u64) -> Sighting {
    Sighting { status, announce, recheck }
}

#[test]
fn active_within_five_minutes_is_online() {
    let policy = policy("{}");
    let active = seen(Event::Active, 1, 0, Status::Away);
    assert_eq!(policy.observe(AT, &active), sighting(Status::Online, true, 300_000));
    let idle = seen(Event::Idle, 1, 299_500, Status::Online);
    assert_eq!(policy.observe(AT, &idle), sighting(Status::Online, false, 1_000));
}

#[test]
fn connected_and_idle_is_away() {
    let idle = seen(Event::Idle, 2, 300_000, Status::Online);
    assert_eq!(policy("{}").observe(AT, &idle), sighting(Status::Away, true, 0));
}

#[test]
fn gone_for_ten_seconds_is_offline_and_not_before() {
    let policy = policy("{}");
    let gone = seen(Event::Disconnected, 0, 5, Status::Online);
    assert_eq!(policy.observe(AT, &gone), sighting(Status::Online, false, 10_000));
    let later = seen(Event::Idle, 0, 10_005, Status::Online);
    assert_eq!(policy.observe(AT, &later), sighting(Status::Offline, true, 0));
}

#[test]
fn a_declared_status_holds_while_connected() {
    let policy = policy("{}");
    for (declared, status) in [(Status::Away, Status::Away), (Status::Offline, Status::Offline)] {
        let observation = Observation { declared: Some(declared), ..seen(Event::Active, 1, 0, Status::Online) };
        assert_eq!(policy.observe(AT, &observation).status, status);
    }
}

#[test]
fn contacts_see_everything_and_the_blocked_nothing() {
    let views = [Relation::CONTACT, Relation::SHARES_A_GROUP, Relation::CONTACT | Relation::BLOCKED, Relation::empty()];
    let views = views.map(|relation| relation.bits());
    assert_eq!(policy("{}").reveal(AT, "alice", &views), [2, 0, 0, 0]);
    assert_eq!(policy(r#"{"last_seen": "groups"}"#).reveal(AT, "alice", &views), [2, 1, 0, 0]);
    assert_eq!(policy(r#"{"last_seen": "everybody"}"#).reveal(AT, "alice", &views), [2, 2, 0, 2]);
}
