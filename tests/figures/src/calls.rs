//! Each function of the first-party policies, called for itself, as a component and natively.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use heddle_model::Hook;
use heddle_pack::contract::{
    Audience, Command, Conversation, Envelope, Moment, Observation, PresenceEvent, RateLimitRequest, Scope, Status,
};
use heddle_policy::{Component, Fault, Loader as _, MessageView};
use heddle_wasm::Engine;

use crate::machine::cpu_of_thread;
use crate::row;
use crate::table::{median, spread};
use crate::twin::{Calls, Loads, Make};

const ROUNDS: usize = 9;
const CALLS: usize = 5_000;
/// In 2023: a moment is an argument here.
const AT: Moment = Moment { now: 1_700_000_000_000, seed: 1 };
const MESSAGE: MessageView<'_> =
    MessageView { kind: "message", text: Some("hello"), data: None, tags: &[], lamport: 1, sender_since: AT.now };

/// A name, its hook, and the call.
type Call = (&'static str, Hook, fn(&dyn Component) -> Result<(), Fault>);

const EACH: [Call; 6] = [
    ("rate-limit", Hook::RateLimit, rate_limit),
    ("routing", Hook::Routing, routing),
    ("plan", Hook::Fanout, |policy| policy.plan(AT, &audience(), &MESSAGE).map(drop)),
    ("sort of 100 members", Hook::Fanout, |policy| policy.sort(AT, &audience(), &MESSAGE, &[1; 100]).map(drop)),
    ("observe", Hook::Presence, observe),
    ("reveal to 100 viewers", Hook::Presence, |policy| policy.reveal(AT, "alice", &[1; 100]).map(drop)),
];

/// A row a call.
pub(crate) fn measure(engine: &Engine) -> anyhow::Result<Vec<Vec<String>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    EACH.iter()
        .map(|(name, hook, call)| {
            let load = |make| {
                let (_, plugin) = heddle_builtin::plugins()
                    .into_iter()
                    .find(|(of, _)| Hook::named(of) == Some(*hook))
                    .with_context(|| format!("there is no first-party policy for {hook}"))?;
                let packed = heddle_pack::unpack(plugin.bytes)?;
                let loads = Loads { make, calls: Arc::new(Calls::default()) };
                let config = packed.manifest.config_json();
                runtime.block_on(loads.load(&packed, *hook, &config)).map_err(|error| anyhow!("{name}: {error}"))
            };
            let (component, native) = (load(Make::Components(engine.clone()))?, load(Make::Native)?);
            let (mut ours, mut theirs, mut added) = (vec![], vec![], vec![]);
            for _ in 0..ROUNDS {
                let (with, without) = (micros(&*component, *call)?, micros(&*native, *call)?);
                ours.push(with);
                theirs.push(without);
                added.push(with - without);
            }
            Ok(row![name, spread(&ours, 2), spread(&theirs, 2), format!("{:.2}", median(&added))])
        })
        .collect()
}

/// Of one call, on average.
fn micros(policy: &dyn Component, call: fn(&dyn Component) -> Result<(), Fault>) -> anyhow::Result<f64> {
    let began = cpu_of_thread();
    for _ in 0..CALLS {
        call(policy).map_err(|fault| anyhow!("a policy failed: {fault:?}"))?;
    }
    Ok((cpu_of_thread() - began) * 1e6 / CALLS as f64)
}

fn rate_limit(policy: &dyn Component) -> Result<(), Fault> {
    let (key, command) = ("alice".to_owned(), Command::ChatMessage);
    let request = RateLimitRequest { scope: Scope::User, key, command, size: 150, connections: 1, recipients: 1 };
    policy.rate_limit(AT, &request, &[]).map(drop)
}

fn routing(policy: &dyn Component) -> Result<(), Fault> {
    let to = Conversation::Direct("bob".to_owned());
    policy.route(AT, &Envelope { sender: "alice".to_owned(), to, size: 5, members: 2 }, &MESSAGE).map(drop)
}

fn observe(policy: &dyn Component) -> Result<(), Fault> {
    let observation = Observation {
        user: "alice".to_owned(),
        event: PresenceEvent::Active,
        connections: 1,
        idle: 0,
        declared: None,
        previous: Status::Online,
    };
    policy.observe(AT, &observation).map(drop)
}

fn audience() -> Audience {
    Audience { group: "g".to_owned(), sender: "alice".to_owned(), members: 100, online: 50 }
}
