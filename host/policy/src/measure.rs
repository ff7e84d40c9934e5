//! What a call costs, measured once at start; the same calls warm the instances.

use std::time::Duration;

use heddle_model::Hook;
use heddle_pack::contract::{
    Audience, Command, Conversation, Envelope, Moment, Observation, PresenceEvent, RateLimitRequest, Scope, Status,
};

use crate::component::Fault;
use crate::member::Member;
use crate::{Generation, MessageView};

const CALLS: usize = 31;
const SPENT_MAX: Duration = Duration::from_millis(20);

/// Median microseconds, by hook and place; a plugin that fails has none.
pub(crate) fn medians(generation: &Generation) -> Vec<(Hook, usize, f64)> {
    let mut medians = Vec::new();
    for hook in Hook::ALL {
        for (at, member) in generation.chain(hook).iter().enumerate() {
            if let Some(micros) = median(generation, member) {
                medians.push((hook, at, micros));
            }
        }
    }
    medians
}

fn median(generation: &Generation, member: &Member) -> Option<f64> {
    let begin = generation.clock.monotonic();
    let mut spans = Vec::with_capacity(CALLS);
    while spans.len() < CALLS {
        let start = generation.clock.monotonic();
        sample(member, generation.clock.now()).ok()?;
        let end = generation.clock.monotonic();
        spans.push(end.saturating_sub(start));
        if end.saturating_sub(begin) > SPENT_MAX {
            break;
        }
    }
    spans.sort_unstable();
    spans.get(spans.len() / 2).map(|span| span.as_secs_f64() * 1e6)
}

fn sample(member: &Member, now: u64) -> Result<(), Fault> {
    let at = Moment { now, seed: 1 };
    let message =
        MessageView { kind: "message", text: Some("hello"), data: None, tags: &[], lamport: 1, sender_since: now };
    match member.hook {
        Hook::RateLimit => {
            let scope = member.scopes.first().copied().unwrap_or(Scope::User);
            let (key, command) = ("heddle-sample".to_owned(), Command::ChatMessage);
            let request = RateLimitRequest { scope, key, command, size: 150, connections: 1, recipients: 1 };
            member.bare.rate_limit(at, &request, &[]).map(drop)
        }
        Hook::Routing => {
            let to = Conversation::Direct("bob".to_owned());
            let envelope = Envelope { sender: "alice".to_owned(), to, size: 5, members: 2 };
            member.bare.route(at, &envelope, &message).map(drop)
        }
        Hook::Fanout => {
            let (group, sender) = ("heddle-sample".to_owned(), "alice".to_owned());
            let audience = Audience { group, sender, members: 100, online: 50 };
            member.bare.sort(at, &audience, &message, &[1; 100]).map(drop)
        }
        Hook::Presence => {
            let observation = Observation {
                user: "alice".to_owned(),
                event: PresenceEvent::Connected,
                connections: 1,
                idle: 0,
                declared: None,
                previous: Status::Offline,
            };
            member.bare.observe(at, &observation).map(drop)
        }
    }
}
