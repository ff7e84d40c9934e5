//! What all parts of the gateway share.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use heddle_delivery::Submission;
use heddle_model::{ClientId, ConnectionId, Conversation, Decision, GroupId, IdError, Millis, UserId};
use heddle_policy::{Command, Generation, RateAsk, Refusal};
use heddle_protocol::{ChatMessage, RejectCode, Rejected, Target};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Auth, Refuses};
use crate::config::{GatewayConfig, GatewayDeps, Reloaded};
use crate::figures::Figures;
use crate::limits::{Counts, address_mark};
use crate::tls::Certificate;

/// Connections per millisecond of a life that leave its numbers below those of the next.
const CONNECTIONS_BITS: u32 = 20;

pub(crate) struct Core {
    config: ArcSwap<GatewayConfig>,
    auth: ArcSwap<Auth>,
    pub(crate) deps: GatewayDeps,
    pub(crate) counts: Arc<Counts>,
    pub(crate) figures: Figures,
    pub(crate) sockets: Arc<Semaphore>,
    pub(crate) anonymous: Arc<Semaphore>,
    /// Set once: nothing new is taken, connections close in turn.
    pub(crate) draining: CancellationToken,
    /// Places in the queue of a drain that were given out.
    pub(crate) drain_turns: AtomicU64,
    /// Connections when the drain began.
    pub(crate) drain_total: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) tasks: TaskTracker,
    next_connection: AtomicU64,
}

/// Who asks, for a rate limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) user: &'a UserId,
    pub(crate) ip: IpAddr,
    pub(crate) connection: Option<ConnectionId>,
}

impl Core {
    pub(crate) fn new(config: GatewayConfig, deps: GatewayDeps, auth: Auth) -> Self {
        Self {
            auth: ArcSwap::from_pointee(auth),
            counts: Arc::default(),
            figures: Figures::new(),
            sockets: Arc::new(Semaphore::new(config.sockets_max)),
            anonymous: Arc::new(Semaphore::new(config.anonymous_max)),
            draining: CancellationToken::new(),
            drain_turns: AtomicU64::new(0),
            drain_total: AtomicU64::new(0),
            open: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            // Above those of every earlier life of this node: what was sent to a connection then must not reach another one now.
            next_connection: AtomicU64::new((deps.clock.now() << CONNECTIONS_BITS) + 1),
            config: ArcSwap::from_pointee(config),
            deps,
        }
    }

    /// Limits and times as they are now.
    pub(crate) fn config(&self) -> Guard<Arc<GatewayConfig>> {
        self.config.load()
    }

    /// Who is who, as it is now.
    pub(crate) fn auth(&self) -> Arc<Auth> {
        self.auth.load_full()
    }

    /// Reads the configuration again, on a thread that may block, and leaves a row in the audit. Sockets that are open keep the limits that were
    /// asked at their door.
    ///
    /// # Errors
    /// In words for the operator; nothing has changed.
    pub(crate) async fn reload(self: &Arc<Self>, who: &str) -> Result<Reloaded, String> {
        let core = Arc::clone(self);
        let reread = tokio::task::spawn_blocking(move || core.reread()).await;
        let mut reloaded = reread.map_err(|error| error.to_string())??;
        let node = self.deps.node.as_str();
        let detail = serde_json::json!({ "node": node, "applied": reloaded.applied, "waiting": reloaded.waiting });
        // It is in force already, without the store too.
        if let Err(error) = self.deps.policies.note(who, "reload", "", detail.to_string()).await {
            reloaded.warnings.push(format!("the audit does not have this: {error}"));
        }
        Ok(reloaded)
    }

    fn reread(&self) -> Result<Reloaded, String> {
        let (config, mut reloaded) = (self.deps.reload)()?;
        let (clock, refuses) = (Arc::clone(&self.deps.clock), refuses(&self.deps));
        let auth = Auth::new(config.auth.clone(), clock, refuses, Some(&self.auth()));
        let auth = auth.map_err(|error| error.to_string())?;
        reloaded.applied.extend(other_certificates(&self.config(), &config, self.deps.clock.now()));
        reloaded.warnings.extend(config.warnings(self.deps.clock.now()));
        reloaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.auth.store(Arc::new(auth));
        self.config.store(Arc::new(config));
        tracing::info!(applied = ?reloaded.applied, waiting = ?reloaded.waiting, "the configuration was read again");
        Ok(reloaded)
    }

    pub(crate) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks the rate limits of `generation`; the decisions go into a message's stamp.
    pub(crate) async fn ask_rate(
        &self,
        generation: &Generation,
        asker: Asker<'_>,
        command: Command,
        size: usize,
        about: Option<(&Conversation, u32)>,
    ) -> Result<Vec<Decision>, Refusal> {
        let presence = self.deps.delivery.presence();
        let elsewhere = presence.elsewhere(asker.user).len();
        let ask = RateAsk {
            now: self.deps.clock.now(),
            user: asker.user,
            ip: asker.ip,
            connection: asker.connection,
            conversation: about.map(|(conversation, _)| conversation),
            command,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            connections_user: self.counts.of_user(asker.user) + u32::try_from(elsewhere).unwrap_or(u32::MAX / 2),
            connections_ip: self.counts.of_address(asker.ip) + presence.elsewhere_from(&address_mark(asker.ip)),
            recipients: about.map_or(0, |(_, recipients)| recipients),
        };
        // Boxed: connections, which are many, should not be larger for what few of them await.
        let answer = match generation.counts_together() {
            true => Box::pin(generation.rate_limit_together(&ask)).await,
            false => generation.rate_limit(&ask),
        };
        answer.denied.map_or(Ok(answer.decisions), Err)
    }

    /// A message as delivery takes it: named, allowed by the rate limits, with the one generation that will decide it.
    pub(crate) async fn submission(
        &self,
        asker: Asker<'_>,
        to: Conversation,
        message: ChatMessage,
        size: usize,
    ) -> Result<Submission, Rejected> {
        let invalid =
            |client_id: &str, error: IdError| Rejected::new(client_id, RejectCode::Invalid, error.to_string());
        let client_id = ClientId::new(&message.client_id).map_err(|error| invalid(&message.client_id, error))?;
        let mentions = message.mentions.iter().map(|user| UserId::new(user)).collect::<Result<Vec<UserId>, IdError>>();
        let mentions = mentions.map_err(|error| invalid(&message.client_id, error))?;
        let recipients = self.deps.delivery.recipients(asker.user, &to).await;
        let generation = self.deps.policies.current();
        let decisions = self
            .ask_rate(&generation, asker, Command::ChatMessage, size, Some((&to, recipients)))
            .await
            .map_err(|refusal| refused(&message.client_id, &refusal))?;
        Ok(Submission {
            sender: asker.user.clone(),
            client_id,
            to,
            text: message.text.map(String::into_boxed_str),
            data: message.data.map(|data| Bytes::copy_from_slice(data.get().as_bytes())),
            tags: message.tags.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            mentions,
            lamport: message.lamport,
            resend: message.resend,
            generation,
            decisions,
        })
    }
}

/// Whose tokens an operator took back.
pub(crate) fn refuses(deps: &GatewayDeps) -> Refuses {
    let delivery = deps.delivery.clone();
    Arc::new(move |user, issued| delivery.refuses(user, issued))
}

/// Files of the same name with another content.
fn other_certificates(old: &GatewayConfig, new: &GatewayConfig, now: Millis) -> Vec<String> {
    let old = old.certificates();
    let changed = |(section, certificate): &(&str, &Certificate)| {
        old.iter().any(|(before, other)| before == section && other.leaf() != certificate.leaf())
    };
    let told = |(section, certificate): (&str, &Certificate)| {
        let days = certificate.until().saturating_sub(now) / 86_400_000;
        format!("{section}.tls_certificate: another certificate, good for {days} days")
    };
    new.certificates().into_iter().filter(changed).map(told).collect()
}

/// A policy's refusal of a send.
fn refused(client_id: &str, refusal: &Refusal) -> Rejected {
    let code = match refusal.code {
        heddle_policy::RefusalCode::RateLimited => RejectCode::RateLimited,
        heddle_policy::RefusalCode::Refused => RejectCode::Refused,
        heddle_policy::RefusalCode::PolicyUnavailable => RejectCode::PolicyUnavailable,
    };
    let mut rejected = Rejected::new(client_id, code, &*refusal.reason);
    rejected.retryable = refusal.retryable;
    rejected.retry_after_ms = refusal.retry_after_ms;
    rejected
}

/// The conversation that a target names, from its sender's side.
pub(crate) fn conversation(target: &Target) -> Result<Conversation, IdError> {
    match target {
        Target::User(user) => UserId::new(user).map(Conversation::Direct),
        Target::Group(group) => GroupId::new(group).map(Conversation::Group),
    }
}

/// The outcome of a send as the wire has it.
pub(crate) fn accepted(accepted: heddle_delivery::Accepted) -> heddle_protocol::Accepted {
    heddle_protocol::Accepted {
        client_id: accepted.client_id.to_string(),
        message_id: accepted.message_id.to_string(),
        sent_at: accepted.sent_at,
        lamport: accepted.lamport,
        order: accepted.order.0,
        generation: accepted.generation,
        text: accepted.text.map(String::from),
    }
}

/// The refusal of a send as the wire has it.
pub(crate) fn rejected(rejected: heddle_delivery::Rejected) -> Rejected {
    Rejected {
        client_id: rejected.client_id.to_string(),
        code: reject_code(rejected.code),
        reason: rejected.reason.to_string(),
        retryable: rejected.retryable,
        retry_after_ms: rejected.retry_after_ms,
        offset: None,
        order: None,
    }
}

fn reject_code(code: heddle_delivery::RejectCode) -> RejectCode {
    use heddle_delivery::RejectCode as Inner;
    match code {
        Inner::Refused => RejectCode::Refused,
        Inner::PolicyUnavailable => RejectCode::PolicyUnavailable,
        Inner::Unavailable => RejectCode::Unavailable,
        Inner::Conflict => RejectCode::Conflict,
        Inner::NotMember => RejectCode::NotMember,
        Inner::UnknownUser => RejectCode::UnknownUser,
    }
}
