//! The first-party policies without components: the same source, compiled natively, behind the port that components stand behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use heddle_model::Hook;
use heddle_pack::Packed;
use heddle_pack::contract::{
    Audience, Conversation, Envelope, FanoutMode, Moment, Observation, PresenceEvent, RateLimitOutcome,
    RateLimitRequest, RoutingDecision, Scope, Sighting, Status, Verdict,
};
use heddle_policy::{Component, Fault, Loaded, Loader, MessageView};
use heddle_sdk::{Config, Fanout as _, Policy as _, Presence as _, RateLimit as _, Routing as _};
use heddle_wasm::{Engine, LoadOptions};

/// Takes in the source of a plugin, and names its policy.
macro_rules! native {
    ($module:ident, $file:literal, $policy:ident) => {
        mod $module {
            include!(concat!(env!("OUT_DIR"), "/", $file));
            pub(super) type Native = $policy;
        }
    };
}

native!(token_bucket, "token-bucket.rs", TokenBucket);
native!(inbox_routing, "inbox-routing.rs", InboxRouting);
native!(group_fanout, "group-fanout.rs", GroupFanout);
native!(last_seen, "last-seen.rs", LastSeen);

/// Calls of policies, by the place of their function in [`FUNCTIONS`].
#[derive(Default)]
pub(crate) struct Calls([AtomicU64; 6]);

/// What a policy is asked for a message, in the order in which it is asked.
pub(crate) const FUNCTIONS: [&str; 6] = ["rate-limit", "routing", "plan", "sort", "observe", "reveal"];

impl Calls {
    pub(crate) fn read(&self) -> [u64; 6] {
        std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed))
    }
}

/// What decides.
#[derive(Clone)]
pub(crate) enum Make {
    /// Components in this engine.
    Components(Engine),
    /// The same, compiled natively.
    Native,
}

/// Loads either, and counts what they are asked.
pub(crate) struct Loads {
    pub(crate) make: Make,
    pub(crate) calls: Arc<Calls>,
}

#[async_trait]
impl Loader for Loads {
    async fn load(&self, plugin: &Packed, hook: Hook, config: &str) -> Result<Arc<dyn Component>, String> {
        let inner: Arc<dyn Component> = match &self.make {
            Make::Components(engine) => {
                let options = LoadOptions { config: Some(config.to_owned()), ..LoadOptions::default() };
                Arc::new(Loaded(engine.load(plugin, &options).map_err(|error| error.to_string())?))
            }
            Make::Native => Arc::new(Twin::new(hook, config)?),
        };
        Ok(Arc::new(Counted { inner, calls: Arc::clone(&self.calls) }))
    }

    async fn prove(&self, _: &Packed) -> Result<(), Vec<String>> {
        // Nothing is deployed here.
        Ok(())
    }
}

/// Counts, so that both sides pay for it.
struct Counted {
    inner: Arc<dyn Component>,
    calls: Arc<Calls>,
}

impl Counted {
    fn at(&self, function: usize) -> &dyn Component {
        self.calls.0[function].fetch_add(1, Ordering::Relaxed);
        &*self.inner
    }
}

impl Component for Counted {
    fn rate_limit(&self, at: Moment, request: &RateLimitRequest, state: &[u8]) -> Result<RateLimitOutcome, Fault> {
        self.at(0).rate_limit(at, request, state)
    }

    fn migrate(&self, from_version: u32, state: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.inner.migrate(from_version, state)
    }

    fn route(&self, at: Moment, envelope: &Envelope, message: &MessageView<'_>) -> Result<RoutingDecision, Fault> {
        self.at(1).route(at, envelope, message)
    }

    fn plan(&self, at: Moment, audience: &Audience, message: &MessageView<'_>) -> Result<FanoutMode, Fault> {
        self.at(2).plan(at, audience, message)
    }

    fn sort(&self, at: Moment, audience: &Audience, message: &MessageView<'_>, facts: &[u8]) -> Result<Vec<u8>, Fault> {
        self.at(3).sort(at, audience, message, facts)
    }

    fn observe(&self, at: Moment, observation: &Observation) -> Result<Sighting, Fault> {
        self.at(4).observe(at, observation)
    }

    fn reveal(&self, at: Moment, subject: &str, relations: &[u8]) -> Result<Vec<u8>, Fault> {
        self.at(5).reveal(at, subject, relations)
    }
}

/// One native policy.
enum Twin {
    RateLimit(Box<token_bucket::Native>),
    Routing(inbox_routing::Native),
    Fanout(group_fanout::Native),
    Presence(last_seen::Native),
}

impl Twin {
    fn new(hook: Hook, config: &str) -> Result<Self, String> {
        let config = Config::from_json(config);
        Ok(match hook {
            Hook::RateLimit => Self::RateLimit(Box::new(token_bucket::Native::configure(&config)?)),
            Hook::Routing => Self::Routing(inbox_routing::Native::configure(&config)?),
            Hook::Fanout => Self::Fanout(group_fanout::Native::configure(&config)?),
            Hook::Presence => Self::Presence(last_seen::Native::configure(&config)?),
        })
    }

    fn other<T>() -> Result<T, Fault> {
        Err(Fault { kind: "rights", text: "this policy has another hook".to_owned() })
    }
}

impl Component for Twin {
    fn rate_limit(&self, at: Moment, request: &RateLimitRequest, state: &[u8]) -> Result<RateLimitOutcome, Fault> {
        let Self::RateLimit(policy) = self else { return Self::other() };
        let outcome = policy.decide(moment(at), &rate_request(request), state);
        let verdict = match outcome.verdict {
            heddle_sdk::Verdict::Allow => Verdict::Allow,
            heddle_sdk::Verdict::Deny(refused) => Verdict::Deny(refusal(refused)),
        };
        Ok(RateLimitOutcome { verdict, state: outcome.state, keep: outcome.keep })
    }

    fn migrate(&self, _: u32, _: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }

    fn route(&self, at: Moment, envelope: &Envelope, message: &MessageView<'_>) -> Result<RoutingDecision, Fault> {
        let Self::Routing(policy) = self else { return Self::other() };
        let envelope = heddle_sdk::Envelope {
            sender: envelope.sender.clone(),
            to: match &envelope.to {
                Conversation::Direct(user) => heddle_sdk::Conversation::Direct(user.clone()),
                Conversation::Group(group) => heddle_sdk::Conversation::Group(group.clone()),
            },
            size: envelope.size,
            members: envelope.members,
        };
        match policy.decide(moment(at), &envelope, &Seen(message)) {
            heddle_sdk::Decision::Accept => Ok(RoutingDecision::Accept),
            heddle_sdk::Decision::Reject(refused) => Ok(RoutingDecision::Reject(refusal(refused))),
            heddle_sdk::Decision::Discard => Ok(RoutingDecision::Discard),
            heddle_sdk::Decision::AcceptWith(_) => {
                Err(Fault { kind: "bounds", text: "the first-party routing changes nothing".to_owned() })
            }
        }
    }

    fn plan(&self, at: Moment, audience: &Audience, message: &MessageView<'_>) -> Result<FanoutMode, Fault> {
        let Self::Fanout(policy) = self else { return Self::other() };
        Ok(match policy.plan(moment(at), &audience_of(audience), &Seen(message)) {
            heddle_sdk::Mode::Push => FanoutMode::Push,
            heddle_sdk::Mode::Pull => FanoutMode::Pull,
        })
    }

    fn sort(&self, at: Moment, audience: &Audience, message: &MessageView<'_>, facts: &[u8]) -> Result<Vec<u8>, Fault> {
        let Self::Fanout(policy) = self else { return Self::other() };
        Ok(policy.sort(moment(at), &audience_of(audience), facts, &Seen(message)))
    }

    fn observe(&self, at: Moment, observation: &Observation) -> Result<Sighting, Fault> {
        let Self::Presence(policy) = self else { return Self::other() };
        let asked = heddle_sdk::Observation {
            user: observation.user.clone(),
            event: match observation.event {
                PresenceEvent::Connected => heddle_sdk::Event::Connected,
                PresenceEvent::Active => heddle_sdk::Event::Active,
                PresenceEvent::Idle => heddle_sdk::Event::Idle,
                PresenceEvent::Disconnected => heddle_sdk::Event::Disconnected,
                PresenceEvent::Declared => heddle_sdk::Event::Declared,
            },
            connections: observation.connections,
            idle: observation.idle,
            declared: observation.declared.map(status),
            previous: status(observation.previous),
        };
        let seen = policy.observe(moment(at), &asked);
        let status = match seen.status {
            heddle_sdk::Status::Online => Status::Online,
            heddle_sdk::Status::Away => Status::Away,
            heddle_sdk::Status::Offline => Status::Offline,
        };
        Ok(Sighting { status, announce: seen.announce, recheck: seen.recheck })
    }

    fn reveal(&self, at: Moment, subject: &str, relations: &[u8]) -> Result<Vec<u8>, Fault> {
        let Self::Presence(policy) = self else { return Self::other() };
        Ok(policy.reveal(moment(at), subject, relations))
    }
}

/// A message as the SDK reads it.
struct Seen<'a, 'b>(&'a MessageView<'b>);

impl heddle_sdk::Message for Seen<'_, '_> {
    fn kind(&self) -> String {
        self.0.kind.to_owned()
    }

    fn text(&self) -> Option<String> {
        self.0.text.map(str::to_owned)
    }

    fn data(&self) -> Option<Vec<u8>> {
        self.0.data.map(<[u8]>::to_vec)
    }

    fn tag(&self, name: &str) -> Option<String> {
        self.0.tags.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.to_string())
    }

    fn lamport(&self) -> u64 {
        self.0.lamport
    }

    fn sender_since(&self) -> u64 {
        self.0.sender_since
    }
}

fn moment(at: Moment) -> heddle_sdk::Moment {
    heddle_sdk::Moment { now: at.now, seed: at.seed }
}

fn refusal(refused: heddle_sdk::Refusal) -> heddle_pack::contract::Refusal {
    heddle_pack::contract::Refusal { reason: refused.reason, retry_after: refused.retry_after }
}

fn rate_request(request: &RateLimitRequest) -> heddle_sdk::Request {
    use heddle_pack::contract::Command;
    heddle_sdk::Request {
        scope: match request.scope {
            Scope::User => heddle_sdk::Scope::User,
            Scope::Ip => heddle_sdk::Scope::Ip,
            Scope::Connection => heddle_sdk::Scope::Connection,
            Scope::Conversation => heddle_sdk::Scope::Conversation,
            Scope::Member => heddle_sdk::Scope::Member,
        },
        key: request.key.clone(),
        command: match request.command {
            Command::Connect => heddle_sdk::Command::Connect,
            Command::ChatMessage => heddle_sdk::Command::ChatMessage,
            Command::Receipt => heddle_sdk::Command::Receipt,
            Command::Typing => heddle_sdk::Command::Typing,
            Command::Presence => heddle_sdk::Command::Presence,
            Command::History => heddle_sdk::Command::History,
            Command::Membership => heddle_sdk::Command::Membership,
            Command::Other => heddle_sdk::Command::Other,
        },
        size: request.size,
        connections: request.connections,
        recipients: request.recipients,
    }
}

fn audience_of(audience: &Audience) -> heddle_sdk::Audience {
    heddle_sdk::Audience {
        group: audience.group.clone(),
        sender: audience.sender.clone(),
        members: audience.members,
        online: audience.online,
    }
}

fn status(status: Status) -> heddle_sdk::Status {
    match status {
        Status::Online => heddle_sdk::Status::Online,
        Status::Away => heddle_sdk::Status::Away,
        Status::Offline => heddle_sdk::Status::Offline,
    }
}
