//! What a policy author builds on: a trait per hook, the message as `&dyn Message`, configuration, logging, and one macro to export.
//!
//! A policy is a pure function: what it may know comes in as arguments, what it wants goes out as the answer. It keeps nothing between calls;
//! any call may land in a fresh instance. This crate deliberately has no clock, no randomness and no input or output but [`log`].
//!
//! Read first: [`Policy`], which every policy implements, and the trait of your hook ([`RateLimit`], [`Routing`], [`Fanout`], [`Presence`]).
//!
//! ```
//! use heddle_sdk::{Config, Decision, Envelope, Message, Moment, Policy, Routing};
//!
//! struct ShortOnly;
//! impl Policy for ShortOnly {
//!     fn configure(_config: &Config) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//! }
//! impl Routing for ShortOnly {
//!     fn decide(&self, _at: Moment, envelope: &Envelope, _message: &dyn Message) -> Decision {
//!         if envelope.size > 1_000 { Decision::reject("at most 1,000 bytes, please") } else { Decision::Accept }
//!     }
//! }
//! heddle_sdk::export!(ShortOnly: routing);
//! ```

#[allow(missing_docs, unsafe_code)]
#[rustfmt::skip]
#[doc(hidden)]
pub mod bindings;
mod config;
#[doc(hidden)]
pub mod glue;
mod hooks;
pub mod log;
mod message;
#[doc(hidden)]
pub mod sections;

pub(crate) use wit_bindgen::rt;

pub use bindings::exports::heddle::policy::fanout::{Audience, Mode};
pub use bindings::exports::heddle::policy::presence::{Event, Observation, Sighting, Status};
pub use bindings::exports::heddle::policy::rate_limit::{Outcome, Request, Scope, Verdict};
pub use bindings::exports::heddle::policy::routing::{Changes, Decision, Envelope};
pub use bindings::heddle::policy::types::{
    Command, Conversation, Delivery, Fact, Millis, Moment, Refusal, Relation, User, Visibility,
};
pub use config::Config;
pub use hooks::{Fanout, MigrateState, Policy, Presence, RateLimit, Routing};
pub use message::{FakeMessage, Message};

impl Decision {
    /// The sender is told `reason`; trying again will not help.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject(Refusal { reason: reason.into(), retry_after: None })
    }

    /// Accepted, with the tag `name` set to `value`.
    pub fn tag(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::AcceptWith(Changes { tags: vec![(name.into(), value.into())], ..Changes::none() })
    }
}

impl Changes {
    /// No change: a start for `Changes { only: ..., ..Changes::none() }`.
    pub fn none() -> Self {
        Self { to: None, only: None, text: None, tags: Vec::new() }
    }
}

impl Verdict {
    /// Denied with `reason`; may be tried again after `retry_after` milliseconds.
    pub fn deny(reason: impl Into<String>, retry_after: Millis) -> Self {
        Self::Deny(Refusal { reason: reason.into(), retry_after: Some(retry_after) })
    }
}

/// Makes the component's exports: `heddle_sdk::export!(MyPolicy: routing)`. Hooks: `rate_limit`, `routing`, `fanout`, `presence`, and
/// `state_migration` beside `rate_limit`; several are separated by commas. Nothing is exported in a native build, so unit tests run as usual.
#[macro_export]
macro_rules! export {
    ($policy:ty : $($hook:ident),+ $(,)?) => {
        $( $crate::__check!($hook, $policy); )+
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::glue::Glue<$policy>;
            $crate::bindings::exports::heddle::policy::lifecycle::__export_heddle_policy_lifecycle_0_1_0_cabi!(
                Exported with_types_in $crate::bindings::exports::heddle::policy::lifecycle
            );
            $( $crate::__export_hook!($hook); )+
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __check {
    (rate_limit, $policy:ty) => {
        const _: () = $crate::glue::is_rate_limit::<$policy>();
    };
    (routing, $policy:ty) => {
        const _: () = $crate::glue::is_routing::<$policy>();
    };
    (fanout, $policy:ty) => {
        const _: () = $crate::glue::is_fanout::<$policy>();
    };
    (presence, $policy:ty) => {
        const _: () = $crate::glue::is_presence::<$policy>();
    };
    (state_migration, $policy:ty) => {
        const _: () = $crate::glue::is_state_migration::<$policy>();
    };
    ($other:ident, $policy:ty) => {
        compile_error!(concat!(
            "unknown hook `",
            stringify!($other),
            "`: use rate_limit, routing, fanout, presence or state_migration"
        ));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_hook {
    (rate_limit) => {
        $crate::bindings::exports::heddle::policy::rate_limit::__export_heddle_policy_rate_limit_0_1_0_cabi!(
            Exported with_types_in $crate::bindings::exports::heddle::policy::rate_limit
        );
        $crate::__section!("rate-limit", RATE_LIMIT);
    };
    (routing) => {
        $crate::bindings::exports::heddle::policy::routing::__export_heddle_policy_routing_0_1_0_cabi!(
            Exported with_types_in $crate::bindings::exports::heddle::policy::routing
        );
        $crate::__section!("routing", ROUTING);
    };
    (fanout) => {
        $crate::bindings::exports::heddle::policy::fanout::__export_heddle_policy_fanout_0_1_0_cabi!(
            Exported with_types_in $crate::bindings::exports::heddle::policy::fanout
        );
        $crate::__section!("fanout", FANOUT);
    };
    (presence) => {
        $crate::bindings::exports::heddle::policy::presence::__export_heddle_policy_presence_0_1_0_cabi!(
            Exported with_types_in $crate::bindings::exports::heddle::policy::presence
        );
        $crate::__section!("presence", PRESENCE);
    };
    (state_migration) => {
        $crate::bindings::exports::heddle::policy::state_migration::__export_heddle_policy_state_migration_0_1_0_cabi!(
            Exported with_types_in $crate::bindings::exports::heddle::policy::state_migration
        );
        $crate::__section!("state-migration", STATE_MIGRATION);
    };
    ($other:ident) => {};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __section {
    ($hook:literal, $bytes:ident) => {
        const _: () = {
            #[unsafe(link_section = concat!("component-type:heddle-sdk:", $hook))]
            #[used]
            static SECTION: [u8; $crate::sections::$bytes.len()] = $crate::sections::$bytes;
        };
    };
}
