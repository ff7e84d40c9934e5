use heddle_pack::contract::{
    Audience, Envelope, FanoutMode, Moment, Observation, RateLimitOutcome, RateLimitRequest, RoutingDecision, Sighting,
};
use wasmtime::Store;

use crate::bindings::exports::heddle::policy::{fanout, presence, rate_limit, routing, state_migration};
use crate::fault::{Fault, FaultKind};
use crate::host::Host;
use crate::message::{Held, MessageView};
use crate::{bounds, convert, deadline};

const DELIVERY_CODES: u8 = 3;
const VISIBILITY_CODES: u8 = 3;

/// The hooks of one instance.
pub(crate) struct Hooks {
    pub(crate) rate_limit: Option<rate_limit::Guest>,
    pub(crate) state_migration: Option<state_migration::Guest>,
    pub(crate) routing: Option<routing::Guest>,
    pub(crate) fanout: Option<fanout::Guest>,
    pub(crate) presence: Option<presence::Guest>,
}

/// One configured instance with a store of its own. After a fault that came from the engine it is spent: a trap poisons its store.
pub(crate) struct Instance {
    pub(crate) store: Store<Host>,
    pub(crate) hooks: Hooks,
    pub(crate) deadline_ms: u32,
    pub(crate) reads_body: bool,
    pub(crate) calls: u64,
    pub(crate) spent: bool,
}

impl Instance {
    fn call<G, R>(
        &mut self,
        at: &Moment,
        message: Option<Held>,
        name: &'static str,
        guest: impl FnOnce(&Hooks) -> &Option<G>,
        call: impl FnOnce(&G, &mut Store<Host>) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        let Some(guest) = guest(&self.hooks).as_ref() else {
            return Err(Fault::new(FaultKind::NotExported, format!("the plugin has no hook {name}")));
        };
        self.calls += 1;
        self.store.data_mut().begin(*at, message);
        deadline::start(&mut self.store, self.deadline_ms);
        let answer = call(guest, &mut self.store);
        self.store.data_mut().message = None;
        answer.map_err(|error| {
            self.spent = true;
            Fault::sort(&error, self.store.data())
        })
    }

    fn held(&self, message: &dyn MessageView) -> Option<Held> {
        Some(Held::of(message, self.reads_body))
    }

    pub(crate) fn rate_limit(
        &mut self,
        at: &Moment,
        request: &RateLimitRequest,
        state: &[u8],
    ) -> Result<RateLimitOutcome, Fault> {
        let (moment, request) = (convert::moment(at), convert::rate_limit_request(request));
        let call =
            |guest: &rate_limit::Guest, store: &mut Store<Host>| guest.call_decide(store, moment, request, state);
        let outcome = convert::outcome(self.call(at, None, "rate-limit", |hooks| &hooks.rate_limit, call)?);
        bounds::outcome(&outcome).map(|()| outcome)
    }

    pub(crate) fn migrate_state(&mut self, from: u32, state: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let at = Moment::default();
        let call = |guest: &state_migration::Guest, store: &mut Store<Host>| guest.call_migrate(store, from, state);
        let migrated = self.call(&at, None, "state-migration", |hooks| &hooks.state_migration, call)?;
        bounds::state(migrated.as_deref().unwrap_or_default()).map(|()| migrated)
    }

    pub(crate) fn routing(
        &mut self,
        at: &Moment,
        envelope: &Envelope,
        message: &dyn MessageView,
    ) -> Result<RoutingDecision, Fault> {
        let (moment, envelope, held) = (convert::moment(at), convert::envelope(envelope), self.held(message));
        let call = |guest: &routing::Guest, store: &mut Store<Host>| guest.call_decide(store, moment, envelope);
        let decision = convert::decision(self.call(at, held, "routing", |hooks| &hooks.routing, call)?);
        bounds::decision(&decision, self.reads_body).map(|()| decision)
    }

    pub(crate) fn fanout_plan(
        &mut self,
        at: &Moment,
        audience: &Audience,
        message: &dyn MessageView,
    ) -> Result<FanoutMode, Fault> {
        let (moment, audience, held) = (convert::moment(at), convert::audience(audience), self.held(message));
        let call = |guest: &fanout::Guest, store: &mut Store<Host>| guest.call_plan(store, moment, audience);
        self.call(at, held, "fanout", |hooks| &hooks.fanout, call).map(convert::mode)
    }

    pub(crate) fn fanout_sort(
        &mut self,
        at: &Moment,
        audience: &Audience,
        facts: &[u8],
        message: &dyn MessageView,
    ) -> Result<Vec<u8>, Fault> {
        let (moment, audience, held) = (convert::moment(at), convert::audience(audience), self.held(message));
        let call = |guest: &fanout::Guest, store: &mut Store<Host>| guest.call_sort(store, moment, audience, facts);
        let codes = self.call(at, held, "fanout", |hooks| &hooks.fanout, call)?;
        bounds::column(&codes, facts.len(), DELIVERY_CODES).map(|()| codes)
    }

    pub(crate) fn presence_observe(&mut self, at: &Moment, observation: &Observation) -> Result<Sighting, Fault> {
        let (moment, observation) = (convert::moment(at), convert::observation(observation));
        let call = |guest: &presence::Guest, store: &mut Store<Host>| guest.call_observe(store, moment, observation);
        let sighting = convert::sighting(self.call(at, None, "presence", |hooks| &hooks.presence, call)?);
        bounds::sighting(&sighting).map(|()| sighting)
    }

    pub(crate) fn presence_reveal(&mut self, at: &Moment, subject: &str, relations: &[u8]) -> Result<Vec<u8>, Fault> {
        let moment = convert::moment(at);
        let call =
            |guest: &presence::Guest, store: &mut Store<Host>| guest.call_reveal(store, moment, subject, relations);
        let codes = self.call(at, None, "presence", |hooks| &hooks.presence, call)?;
        bounds::column(&codes, relations.len(), VISIBILITY_CODES).map(|()| codes)
    }
}
