//! The engine's plugins as components of a chain.

use std::sync::Arc;

use heddle_pack::contract::{
    Audience, Envelope, FanoutMode, Moment, Observation, RateLimitOutcome, RateLimitRequest, RoutingDecision, Sighting,
};
use heddle_wasm::Plugin;

use crate::{Component, Fault, MessageView};

/// A plugin that the engine has loaded, called as chains call.
pub struct Loaded(pub Arc<Plugin>);

/// A message, read as the engine reads.
struct Seen<'a, 'b>(&'a MessageView<'b>);

impl heddle_wasm::MessageView for Seen<'_, '_> {
    fn kind(&self) -> &str {
        self.0.kind
    }

    fn text(&self) -> Option<&str> {
        self.0.text
    }

    fn data(&self) -> Option<&[u8]> {
        self.0.data
    }

    fn tags(&self, each: &mut dyn FnMut(&str, &str)) {
        self.0.tags.iter().for_each(|(name, value)| each(name, value));
    }

    fn lamport(&self) -> u64 {
        self.0.lamport
    }

    fn sender_since(&self) -> u64 {
        self.0.sender_since
    }
}

fn fault(fault: heddle_wasm::Fault) -> Fault {
    let mut text = fault.text;
    for frame in fault.backtrace {
        text.push_str("\n  at ");
        text.push_str(&frame);
    }
    Fault { kind: fault.kind.as_str(), text }
}

impl Component for Loaded {
    fn rate_limit(&self, at: Moment, request: &RateLimitRequest, state: &[u8]) -> Result<RateLimitOutcome, Fault> {
        self.0.rate_limit(&at, request, state).map_err(fault)
    }

    fn migrate(&self, from_version: u32, state: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.0.migrate_state(from_version, state).map_err(fault)
    }

    fn route(&self, at: Moment, envelope: &Envelope, message: &MessageView<'_>) -> Result<RoutingDecision, Fault> {
        self.0.routing(&at, envelope, &Seen(message)).map_err(fault)
    }

    fn plan(&self, at: Moment, audience: &Audience, message: &MessageView<'_>) -> Result<FanoutMode, Fault> {
        self.0.fanout_plan(&at, audience, &Seen(message)).map_err(fault)
    }

    fn sort(&self, at: Moment, audience: &Audience, message: &MessageView<'_>, facts: &[u8]) -> Result<Vec<u8>, Fault> {
        self.0.fanout_sort(&at, audience, facts, &Seen(message)).map_err(fault)
    }

    fn observe(&self, at: Moment, observation: &Observation) -> Result<Sighting, Fault> {
        self.0.presence_observe(&at, observation).map_err(fault)
    }

    fn reveal(&self, at: Moment, subject: &str, relations: &[u8]) -> Result<Vec<u8>, Fault> {
        self.0.presence_reveal(&at, subject, relations).map_err(fault)
    }

    fn memory_bytes_peak(&self) -> usize {
        self.0.memory_bytes_peak()
    }

    fn afresh(&self) -> Option<Arc<dyn Component>> {
        Some(Arc::new(Self(Arc::new(self.0.afresh()))))
    }
}
