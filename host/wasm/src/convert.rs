//! Between the contract's plain types and those of `bindgen!`.

use heddle_pack::contract as plain;

use crate::bindings::exports::heddle::policy::{fanout, presence, rate_limit, routing};
use crate::bindings::heddle::policy::types;

pub(crate) fn moment(at: &plain::Moment) -> types::Moment {
    types::Moment { now: at.now, seed: at.seed }
}

pub(crate) fn rate_limit_request(request: &plain::RateLimitRequest) -> rate_limit::Request<'_> {
    let command = match request.command {
        plain::Command::Connect => types::Command::Connect,
        plain::Command::ChatMessage => types::Command::ChatMessage,
        plain::Command::Receipt => types::Command::Receipt,
        plain::Command::Typing => types::Command::Typing,
        plain::Command::Presence => types::Command::Presence,
        plain::Command::History => types::Command::History,
        plain::Command::Membership => types::Command::Membership,
        plain::Command::Other => types::Command::Other,
    };
    let scope = match request.scope {
        plain::Scope::User => rate_limit::Scope::User,
        plain::Scope::Ip => rate_limit::Scope::Ip,
        plain::Scope::Connection => rate_limit::Scope::Connection,
        plain::Scope::Conversation => rate_limit::Scope::Conversation,
        plain::Scope::Member => rate_limit::Scope::Member,
    };
    rate_limit::Request {
        scope,
        key: &request.key,
        command,
        size: request.size,
        connections: request.connections,
        recipients: request.recipients,
    }
}

pub(crate) fn outcome(outcome: rate_limit::Outcome) -> plain::RateLimitOutcome {
    let verdict = match outcome.verdict {
        rate_limit::Verdict::Allow => plain::Verdict::Allow,
        rate_limit::Verdict::Deny(why) => plain::Verdict::Deny(refusal(why)),
    };
    plain::RateLimitOutcome { verdict, state: outcome.state, keep: outcome.keep }
}

fn refusal(refusal: types::Refusal) -> plain::Refusal {
    plain::Refusal { reason: refusal.reason, retry_after: refusal.retry_after }
}

pub(crate) fn envelope(envelope: &plain::Envelope) -> routing::Envelope<'_> {
    let to = match &envelope.to {
        plain::Conversation::Direct(user) => types::ConversationParam::Direct(user),
        plain::Conversation::Group(id) => types::ConversationParam::Group(id),
    };
    routing::Envelope { sender: &envelope.sender, to, size: envelope.size, members: envelope.members }
}

pub(crate) fn decision(decision: routing::Decision) -> plain::RoutingDecision {
    match decision {
        routing::Decision::Accept => plain::RoutingDecision::Accept,
        routing::Decision::Discard => plain::RoutingDecision::Discard,
        routing::Decision::Reject(why) => plain::RoutingDecision::Reject(refusal(why)),
        routing::Decision::AcceptWith(changes) => plain::RoutingDecision::AcceptWith(plain::Changes {
            to: changes.to.map(|to| match to {
                types::ConversationResult::Direct(user) => plain::Conversation::Direct(user),
                types::ConversationResult::Group(id) => plain::Conversation::Group(id),
            }),
            only: changes.only,
            text: changes.text,
            tags: changes.tags,
        }),
    }
}

pub(crate) fn audience(audience: &plain::Audience) -> fanout::Audience<'_> {
    fanout::Audience {
        group: &audience.group,
        sender: &audience.sender,
        members: audience.members,
        online: audience.online,
    }
}

pub(crate) fn mode(mode: fanout::Mode) -> plain::FanoutMode {
    match mode {
        fanout::Mode::Push => plain::FanoutMode::Push,
        fanout::Mode::Pull => plain::FanoutMode::Pull,
    }
}

pub(crate) fn observation(observation: &plain::Observation) -> presence::Observation<'_> {
    let event = match observation.event {
        plain::PresenceEvent::Connected => presence::Event::Connected,
        plain::PresenceEvent::Active => presence::Event::Active,
        plain::PresenceEvent::Idle => presence::Event::Idle,
        plain::PresenceEvent::Disconnected => presence::Event::Disconnected,
        plain::PresenceEvent::Declared => presence::Event::Declared,
    };
    presence::Observation {
        user: &observation.user,
        event,
        connections: observation.connections,
        idle: observation.idle,
        declared: observation.declared.map(status_in),
        previous: status_in(observation.previous),
    }
}

fn status_in(status: plain::Status) -> presence::Status {
    match status {
        plain::Status::Online => presence::Status::Online,
        plain::Status::Away => presence::Status::Away,
        plain::Status::Offline => presence::Status::Offline,
    }
}

pub(crate) fn sighting(sighting: presence::Sighting) -> plain::Sighting {
    let status = match sighting.status {
        presence::Status::Online => plain::Status::Online,
        presence::Status::Away => plain::Status::Away,
        presence::Status::Offline => plain::Status::Offline,
    };
    plain::Sighting { status, announce: sighting.announce, recheck: sighting.recheck }
}
