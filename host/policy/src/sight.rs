//! The hook `presence`: the lowest status, the least revealing answer, announced if any says so.

use heddle_model::{Hook, Millis, UserId};
use heddle_pack::contract::{self, Moment, RECHECK_MS_MIN};
use heddle_presence::{Event, Observation, Sighting, Status, Visibility, relation};

use crate::Generation;
use crate::component::{Component as _, Fault};
use crate::member::Turn;

/// When to ask again after nobody could decide.
const CLOSED_RECHECK_MS: Millis = 10_000;

impl Generation {
    /// The user's status after what happened.
    #[must_use]
    pub fn observe(&self, observation: &Observation<'_>) -> Sighting {
        let at = Moment { now: observation.now, seed: self.luck() };
        let asked = contract::Observation {
            user: observation.user.as_str().to_owned(),
            event: event(observation.event),
            connections: observation.connections,
            idle: observation.idle_ms,
            declared: observation.declared.map(to_contract),
            previous: to_contract(observation.previous),
        };
        let chain = self.arm(|| observation.user.to_string()).chain(Hook::Presence);
        let turns = chain.iter().map(|member| {
            let timed = member.ask(self, observation.user.as_str(), member.on_failure, |member| {
                check(member.component.observe(at, &asked)?)
            });
            match timed.turn {
                Turn::Answered(sighting, _) => sighting,
                // Nothing new is revealed.
                Turn::Closed => {
                    Sighting { status: observation.previous, announce: false, recheck_ms: CLOSED_RECHECK_MS }
                }
                Turn::Open => open(observation),
            }
        });
        turns.reduce(combined).unwrap_or(Sighting { status: Status::Offline, announce: false, recheck_ms: 0 })
    }

    /// What each viewer may see. A blocked one sees nothing, whatever a policy says.
    #[must_use]
    pub fn reveal(&self, now: Millis, subject: &UserId, relations: &[u8]) -> Vec<Visibility> {
        let at = Moment { now, seed: self.luck() };
        let mut seen = vec![Visibility::StatusAndLastSeen; relations.len()];
        let chain = self.arm(|| subject.to_string()).chain(Hook::Presence);
        for member in chain {
            let timed = member.ask(self, subject.as_str(), member.on_failure, |member| {
                visibilities(&member.component.reveal(at, subject.as_str(), relations)?, relations.len())
            });
            match timed.turn {
                Turn::Answered(answer, _) => {
                    seen.iter_mut().zip(answer).for_each(|(held, said)| *held = said.min(*held));
                }
                Turn::Closed => seen.fill(Visibility::Nothing),
                Turn::Open => seen.iter_mut().for_each(|held| *held = Visibility::StatusOnly.min(*held)),
            }
        }
        for (bits, seen) in relations.iter().zip(&mut seen) {
            if chain.is_empty() || bits & relation::BLOCKED != 0 {
                *seen = Visibility::Nothing;
            }
        }
        seen
    }
}

fn combined(one: Sighting, other: Sighting) -> Sighting {
    let recheck = [one.recheck_ms, other.recheck_ms].into_iter().filter(|ms| *ms > 0).min();
    Sighting {
        status: one.status.min(other.status),
        announce: one.announce || other.announce,
        recheck_ms: recheck.unwrap_or(0),
    }
}

/// It passes: what is plain to see stands.
fn open(observation: &Observation<'_>) -> Sighting {
    let status = match observation.connections {
        0 => Status::Offline,
        _ => observation.declared.unwrap_or(Status::Online),
    };
    Sighting { status, announce: status != observation.previous, recheck_ms: 0 }
}

fn check(sighting: contract::Sighting) -> Result<Sighting, Fault> {
    if (1..RECHECK_MS_MIN).contains(&sighting.recheck) {
        return Err(Fault::bounds(format!("recheck is {} ms, give 0 or at least {RECHECK_MS_MIN}", sighting.recheck)));
    }
    let status = match sighting.status {
        contract::Status::Online => Status::Online,
        contract::Status::Away => Status::Away,
        contract::Status::Offline => Status::Offline,
    };
    Ok(Sighting { status, announce: sighting.announce, recheck_ms: sighting.recheck })
}

fn visibilities(codes: &[u8], viewers: usize) -> Result<Vec<Visibility>, Fault> {
    if codes.len() != viewers {
        return Err(Fault::bounds(format!("answered for {} viewers, {viewers} were asked", codes.len())));
    }
    let visibility = |code: &u8| match contract::Visibility::from_code(*code) {
        Some(contract::Visibility::Nothing) => Ok(Visibility::Nothing),
        Some(contract::Visibility::StatusOnly) => Ok(Visibility::StatusOnly),
        Some(contract::Visibility::StatusAndLastSeen) => Ok(Visibility::StatusAndLastSeen),
        None => Err(Fault::bounds(format!("visibility {code} does not exist, use 0 to 2"))),
    };
    codes.iter().map(visibility).collect()
}

fn to_contract(status: Status) -> contract::Status {
    match status {
        Status::Online => contract::Status::Online,
        Status::Away => contract::Status::Away,
        Status::Offline => contract::Status::Offline,
    }
}

fn event(event: Event) -> contract::PresenceEvent {
    match event {
        Event::Connected => contract::PresenceEvent::Connected,
        Event::Active => contract::PresenceEvent::Active,
        Event::Idle => contract::PresenceEvent::Idle,
        Event::Disconnected => contract::PresenceEvent::Disconnected,
        Event::Declared => contract::PresenceEvent::Declared,
    }
}
