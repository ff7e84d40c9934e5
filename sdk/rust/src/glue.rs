//! Between the generated bindings and the traits. Authors meet it only through `export!`.

use std::any::Any;
use std::cell::OnceCell;
use std::marker::PhantomData;

use crate::bindings::exports::heddle::policy as exports;
use crate::message::HostMessage;
use crate::{
    Audience, Config, Decision, Envelope, Fanout, MigrateState, Mode, Moment, Observation, Outcome, Policy, Presence,
    RateLimit, Request, Routing, Sighting,
};

/// What the component exports for the policy `P`.
pub struct Glue<P>(PhantomData<P>);

thread_local! {
    static CONFIGURED: OnceCell<Box<dyn Any>> = const { OnceCell::new() };
}

fn with<P: Policy, R>(call: impl FnOnce(&P) -> R) -> R {
    CONFIGURED.with(|cell| match cell.get().and_then(|policy| policy.downcast_ref::<P>()) {
        Some(policy) => call(policy),
        None => panic!("a decision was asked for before `configure`"),
    })
}

fn readable_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("a panic without text");
        match info.location() {
            Some(place) => eprintln!("panicked at {}:{}: {text}", place.file(), place.line()),
            None => eprintln!("panicked: {text}"),
        }
    }));
}

impl<P: Policy> exports::lifecycle::Guest for Glue<P> {
    fn configure(config: String) -> Result<(), String> {
        readable_panics();
        let policy = P::configure(&Config::from_json(config))?;
        CONFIGURED.with(|cell| cell.set(Box::new(policy))).map_err(|_| "this instance is configured already".to_owned())
    }
}

impl<P: RateLimit> exports::rate_limit::Guest for Glue<P> {
    fn decide(at: Moment, request: Request, state: Vec<u8>) -> Outcome {
        with(|policy: &P| policy.decide(at, &request, &state))
    }
}

impl<P: MigrateState> exports::state_migration::Guest for Glue<P> {
    fn migrate(from_version: u32, state: Vec<u8>) -> Option<Vec<u8>> {
        with(|policy: &P| policy.migrate(from_version, state))
    }
}

impl<P: Routing> exports::routing::Guest for Glue<P> {
    fn decide(at: Moment, envelope: Envelope) -> Decision {
        with(|policy: &P| policy.decide(at, &envelope, &HostMessage))
    }
}

impl<P: Fanout> exports::fanout::Guest for Glue<P> {
    fn plan(at: Moment, audience: Audience) -> Mode {
        with(|policy: &P| policy.plan(at, &audience, &HostMessage))
    }

    fn sort(at: Moment, audience: Audience, facts: Vec<u8>) -> Vec<u8> {
        with(|policy: &P| policy.sort(at, &audience, &facts, &HostMessage))
    }
}

impl<P: Presence> exports::presence::Guest for Glue<P> {
    fn observe(at: Moment, observation: Observation) -> Sighting {
        with(|policy: &P| policy.observe(at, &observation))
    }

    fn reveal(at: Moment, subject: String, relations: Vec<u8>) -> Vec<u8> {
        with(|policy: &P| policy.reveal(at, &subject, &relations))
    }
}

/// Says in a native build too that the trait of an exported hook is implemented.
pub const fn is_rate_limit<P: RateLimit>() {}
/// As [`is_rate_limit`].
pub const fn is_routing<P: Routing>() {}
/// As [`is_rate_limit`].
pub const fn is_fanout<P: Fanout>() {}
/// As [`is_rate_limit`].
pub const fn is_presence<P: Presence>() {}
/// As [`is_rate_limit`].
pub const fn is_state_migration<P: MigrateState>() {}
