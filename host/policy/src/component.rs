//! What stands between a chain and an engine: a loaded plugin, and who loads it.

use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::Hook;
use heddle_pack::Packed;
use heddle_pack::contract::{
    Audience, Envelope, FanoutMode, Moment, Observation, RateLimitOutcome, RateLimitRequest, RoutingDecision, Sighting,
};

use crate::MessageView;

/// A call that gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In a word, for metrics: `trap`, `deadline`, `memory`, `bounds`, `rights`, `impure`, `gone`.
    pub kind: &'static str,
    /// For the operator.
    pub text: String,
}

impl Fault {
    /// An answer outside its bounds.
    pub(crate) fn bounds(text: impl Into<String>) -> Self {
        Self { kind: "bounds", text: text.into() }
    }

    /// An answer outside what the host allows.
    pub(crate) fn rights(text: impl Into<String>) -> Self {
        Self { kind: "rights", text: text.into() }
    }
}

/// A plugin that is loaded and configured, for one hook. Each call runs within the plugin's limits and gives a decision or a [`Fault`].
/// Codes and lengths of what it answers are checked by the caller.
#[allow(missing_docs, reason = "the functions are those of the contract")]
pub trait Component: Send + Sync + 'static {
    fn rate_limit(&self, at: Moment, request: &RateLimitRequest, state: &[u8]) -> Result<RateLimitOutcome, Fault>;
    /// None also if the component has no such interface.
    fn migrate(&self, from_version: u32, state: &[u8]) -> Result<Option<Vec<u8>>, Fault>;
    fn route(&self, at: Moment, envelope: &Envelope, message: &MessageView<'_>) -> Result<RoutingDecision, Fault>;
    fn plan(&self, at: Moment, audience: &Audience, message: &MessageView<'_>) -> Result<FanoutMode, Fault>;
    fn sort(&self, at: Moment, audience: &Audience, message: &MessageView<'_>, facts: &[u8]) -> Result<Vec<u8>, Fault>;
    fn observe(&self, at: Moment, observation: &Observation) -> Result<Sighting, Fault>;
    fn reveal(&self, at: Moment, subject: &str, relations: &[u8]) -> Result<Vec<u8>, Fault>;
    /// The most linear memory that an instance of it had, in bytes; 0 if that is not known.
    fn memory_bytes_peak(&self) -> usize {
        0
    }

    /// The same, each call of which runs on an instance that no other call has used. None: it cannot be had.
    fn afresh(&self) -> Option<Arc<dyn Component>> {
        None
    }
}

/// Makes components of plugin files: checks world and imports, compiles, instantiates on trial, configures.
#[async_trait]
pub trait Loader: Send + Sync + 'static {
    /// A component for one hook of a plugin, configured with `config` (JSON). The error is for the operator.
    async fn load(&self, plugin: &Packed, hook: Hook, config: &str) -> Result<Arc<dyn Component>, String>;

    /// Runs the plugin's own cases, on fresh instances and on used ones. The errors are for the plugin's author, one a case.
    async fn prove(&self, plugin: &Packed) -> Result<(), Vec<String>>;
}

/// In place of a plugin whose file is gone: every call is a fault.
pub(crate) struct Gone;

impl Gone {
    fn fault<T>() -> Result<T, Fault> {
        Err(Fault { kind: "gone", text: "the plugin's file is no longer in the catalog".to_owned() })
    }
}

impl Component for Gone {
    fn rate_limit(&self, _: Moment, _: &RateLimitRequest, _: &[u8]) -> Result<RateLimitOutcome, Fault> {
        Self::fault()
    }

    fn migrate(&self, _: u32, _: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Self::fault()
    }

    fn route(&self, _: Moment, _: &Envelope, _: &MessageView<'_>) -> Result<RoutingDecision, Fault> {
        Self::fault()
    }

    fn plan(&self, _: Moment, _: &Audience, _: &MessageView<'_>) -> Result<FanoutMode, Fault> {
        Self::fault()
    }

    fn sort(&self, _: Moment, _: &Audience, _: &MessageView<'_>, _: &[u8]) -> Result<Vec<u8>, Fault> {
        Self::fault()
    }

    fn observe(&self, _: Moment, _: &Observation) -> Result<Sighting, Fault> {
        Self::fault()
    }

    fn reveal(&self, _: Moment, _: &str, _: &[u8]) -> Result<Vec<u8>, Fault> {
        Self::fault()
    }
}
