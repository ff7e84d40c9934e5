//! From a client's send to a record of the log: look-up, decision, append. (DELIVERY 4-7)

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use heddle_log::{AppendError, Appended};
use heddle_model::{
    BodyHash, ClientId, Conversation, GroupId, Message, MessageId, Millis, Plan, Position, Record, Stamp, UserId,
};
use heddle_policy::{MessageView, Outcome, PlanAsk, RefusalCode, RouteAsk, Routed, RoutingRights};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::GroupView;
use crate::delivery::{Delivery, Shared};
use crate::submission::{Accepted, RejectCode, Rejected, SendOutcome, Submission, Submitted};

/// How far above the clock a client's `lamport` still counts, ms: an answer to a message of this very millisecond, or of a sender that is
/// ahead of it, is above the clock.
const LAMPORT_AHEAD_MAX: Millis = 1000;

/// Sends under way: of two under one id, the second waits for the first. (DELIVERY 6)
pub(crate) struct InFlight {
    sends: Mutex<HashMap<MessageId, watch::Receiver<()>>>,
    max: usize,
}

/// Holds a place in [`InFlight`]; dropping it lets the others go on.
struct Place {
    shared: Arc<Shared>,
    id: MessageId,
    _done: watch::Sender<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.in_flight.sends.lock().remove(&self.id);
    }
}

impl InFlight {
    pub(crate) fn new(max: usize) -> Self {
        Self { sends: Mutex::default(), max }
    }

    async fn enter(shared: &Arc<Shared>, id: MessageId) -> Option<Place> {
        loop {
            let mut other = {
                let mut sends = shared.in_flight.sends.lock();
                match sends.get(&id) {
                    Some(other) => other.clone(),
                    None if sends.len() >= shared.in_flight.max => return None,
                    None => {
                        let (done, wait) = watch::channel(());
                        sends.insert(id, wait);
                        return Some(Place { shared: Arc::clone(shared), id, _done: done });
                    }
                }
            };
            // An error is the end of the other one.
            while other.changed().await.is_ok() {}
        }
    }
}

/// What the host allows a sender; notes a group that it had to know and did not.
struct Rights<'a> {
    shared: &'a Shared,
    sender: &'a UserId,
    missing: RefCell<Option<GroupId>>,
}

impl RoutingRights for Rights<'_> {
    fn may_send_to(&self, to: &Conversation) -> bool {
        self.is_member(to, self.sender)
    }

    fn is_member(&self, conversation: &Conversation, user: &UserId) -> bool {
        match conversation {
            Conversation::Direct(other) => user == other || user == self.sender,
            Conversation::Group(group) => self.group(group).is_some_and(|view| view.is_member(user)),
        }
    }

    fn may_be_redirected_to(&self, to: &Conversation) -> bool {
        matches!(to, Conversation::Group(group) if self.group(group).is_some_and(|view| !view.members.is_empty()))
    }

    fn members(&self, conversation: &Conversation) -> Option<u32> {
        match conversation {
            Conversation::Direct(_) => Some(2),
            Conversation::Group(group) => self.group(group).map(|view| count(view.members.len())),
        }
    }
}

impl Rights<'_> {
    fn group(&self, group: &GroupId) -> Option<Arc<GroupView>> {
        let view = self.shared.groups.peek(group);
        if view.is_none() {
            *self.missing.borrow_mut() = Some(group.clone());
        }
        view
    }
}

impl Delivery {
    /// Decides a send and queues it for the log. Await one connection's submissions one after the other: they reach the log in that order.
    pub async fn submit(&self, submission: Submission) -> Submitted {
        let shared = &self.shared;
        let client_id = submission.client_id.clone();
        let id = MessageId::of(&submission.sender, &submission.to, &client_id);
        let Some(place) = InFlight::enter(shared, id).await else {
            return settled(unavailable(&client_id, "too many sends are under way"));
        };
        match shared.decide(&submission, id).await {
            Err(outcome) => Submitted::Settled(outcome),
            Ok((record, message)) => {
                let partition = record.home(shared.numbering.partitioning);
                let shared = Arc::clone(shared);
                let mut append: Pin<Box<dyn Future<Output = SendOutcome> + Send>> = Box::pin(async move {
                    let appended = shared.log.append(partition, Some(id), record.encode()).await;
                    let outcome = shared.appended(appended, &message).await;
                    drop(place);
                    outcome
                });
                // The first poll puts it in the log's queue.
                match futures_util::poll!(append.as_mut()) {
                    std::task::Poll::Ready(outcome) => Submitted::Settled(outcome),
                    // In a task of its own: the place must be given up whatever becomes of the connection.
                    std::task::Poll::Pending => {
                        let append = tokio::spawn(append);
                        Submitted::Appending(Box::pin(async move {
                            append.await.unwrap_or_else(|error| unavailable(&client_id, &error.to_string()))
                        }))
                    }
                }
            }
        }
    }

    /// Whether that send is known to be in the log; false if nobody can tell now.
    pub async fn landed(&self, sender: &UserId, to: &Conversation, client_id: &ClientId) -> bool {
        let id = MessageId::of(sender, to, client_id);
        matches!(self.shared.first_record(&id).await, Ok(Some(_)))
    }

    /// Whom a message would reach, the sender left out: an estimate for the rate limits.
    pub async fn recipients(&self, sender: &UserId, to: &Conversation) -> u32 {
        match to {
            Conversation::Direct(_) => 1,
            Conversation::Group(group) => match self.shared.groups.view(group).await {
                Ok(Some(view)) if view.is_member(sender) => count(view.members.len()) - 1,
                _ => 0,
            },
        }
    }
}

impl Shared {
    /// The record to append, or what to tell the sender at once.
    async fn decide(&self, send: &Submission, id: MessageId) -> Result<(Record, Arc<Message>), SendOutcome> {
        self.policies.knows().map_err(|reason| unavailable(&send.client_id, &reason))?;
        let late = self.late.lock().clone();
        if let Some(reason) = late {
            return Err(unavailable(&send.client_id, &reason));
        }
        let body = BodyHash::of(send.text.as_deref(), send.data.as_deref());
        if let Some(first) = self.first(send, id, body).await? {
            return Err(first);
        }
        let now = self.clock.now();
        let since = self.people.see(&send.sender, now).await;
        let since = since.map_err(|error| unavailable(&send.client_id, &error.to_string()))?;
        let group = self.addressee(send).await?;
        let members = group.as_ref().map_or(2, |group| count(group.members.len()));
        let given = send.lamport.filter(|lamport| (1..=now + LAMPORT_AHEAD_MAX).contains(lamport));
        let lamport = self.people.lamport(&send.sender, given, now);
        let view = MessageView {
            kind: "message",
            text: send.text.as_deref(),
            data: send.data.as_deref(),
            tags: &send.tags,
            lamport,
            sender_since: since,
        };
        let size = send.text.as_ref().map_or(0, |t| t.len()) + send.data.as_ref().map_or(0, Bytes::len);
        let ask = RouteAsk { now, id, sender: &send.sender, to: &send.to, size: count(size), members, message: view };
        let routed = self.route(send, &ask).await?;
        let mut message = Message {
            id,
            sender: send.sender.clone(),
            client_id: send.client_id.clone(),
            addressed: send.to.clone(),
            to: send.to.clone(),
            text: send.text.clone(),
            data: send.data.clone(),
            tags: send.tags.clone(),
            mentions: send.mentions.clone(),
            sent_at: now,
            lamport,
            body,
            rewritten: false,
            only: None,
            discarded: false,
            quiet: false,
            outsider: false,
            plan: Plan::Push,
            stamp: Stamp { generation: send.generation.number(), decisions: send.decisions.clone() },
        };
        message.stamp.decisions.extend(routed.decisions);
        match routed.outcome {
            Outcome::Reject(refusal) => {
                let code = match refusal.code {
                    RefusalCode::PolicyUnavailable => RejectCode::PolicyUnavailable,
                    RefusalCode::Refused | RefusalCode::RateLimited => RejectCode::Refused,
                };
                return Err(SendOutcome::Rejected(Rejected {
                    client_id: send.client_id.clone(),
                    code,
                    reason: refusal.reason,
                    retryable: refusal.retryable,
                    retry_after_ms: refusal.retry_after_ms,
                }));
            }
            Outcome::Discard => message.discarded = true,
            Outcome::Accept(accepted) => {
                message.to = accepted.to;
                message.only = accepted.only;
                message.tags = accepted.tags;
                message.rewritten = accepted.rewritten.is_some();
                message.text = accepted.rewritten.or(message.text);
            }
        }
        if let Conversation::Group(group) = message.to.clone() {
            self.plan(send, &mut message, &group, since).await?;
            let message = Arc::new(message);
            return Ok((Record::Group(Arc::clone(&message)), message));
        }
        if let Conversation::Direct(recipient) = &message.to {
            let name = Conversation::Direct(message.sender.clone());
            // Whoever is blocked believes that it was sent. The policies have decided it like any other: a refusal tells nothing of blocks.
            message.discarded |= self.denials.pair(&message.sender, recipient).await.blocked;
            // A store that does not answer does not hold a message up: it is then not marked.
            message.quiet = self.people.mutes(recipient, &name).await.unwrap_or(false);
        }
        let message = Arc::new(message);
        Ok((Record::Direct(Arc::clone(&message)), message))
    }

    /// What the sender was told the first time, if this id is in the log. Where several nodes append, what is sent again may have been taken by
    /// another, long enough ago that only the archive knows. (DELIVERY 23)
    async fn first(
        &self,
        send: &Submission,
        id: MessageId,
        body: BodyHash,
    ) -> Result<Option<SendOutcome>, SendOutcome> {
        let name = &send.client_id;
        let elsewhere = self.follows && send.resend;
        let known = match self.log.lookup(&id, elsewhere).await {
            Ok(None) if elsewhere => self.store.archive.message(&id).await.map(|row| row.is_some()),
            Ok(place) => Ok(place.is_some()),
            Err(error) => return Err(unavailable(name, &error.to_string())),
        };
        match known {
            Ok(false) => Ok(None),
            Ok(true) => self.told(name, id, body).await.map(Some),
            Err(error) => Err(unavailable(name, &error.to_string())),
        }
    }

    async fn told(&self, name: &ClientId, id: MessageId, body: BodyHash) -> Result<SendOutcome, SendOutcome> {
        match self.first_record(&id).await {
            Ok(Some((_, order, message))) if message.body == body => Ok(accepted(&message, order)),
            Ok(Some(_)) => Ok(SendOutcome::Rejected(Rejected {
                client_id: name.clone(),
                code: RejectCode::Conflict,
                reason: format!("another message was sent with client_id {name}, choose a new one").into(),
                retryable: false,
                retry_after_ms: None,
            })),
            Ok(None) => Err(unavailable(name, "the first send is in the log and cannot be read")),
            Err(error) => Err(unavailable(name, &error.to_string())),
        }
    }

    /// The group that the client addressed, which the sender must be in; early advice, the worker judges again.
    async fn addressee(&self, send: &Submission) -> Result<Option<Arc<GroupView>>, SendOutcome> {
        let name = &send.client_id;
        match &send.to {
            Conversation::Group(group) => {
                let view = self.group_of(group, &send.sender).await;
                match view.map_err(|error| unavailable(name, &error.to_string()))? {
                    Some(view) => Ok(Some(view)),
                    None => {
                        Err(rejected(name, RejectCode::NotMember, format!("you are not a member of group {group}")))
                    }
                }
            }
            Conversation::Direct(user) if self.denials.pair(&send.sender, user).await.blocks => {
                let reason = format!("you block {user}: DELETE /v1/blocks/{user} first");
                Err(rejected(name, RejectCode::Refused, reason))
            }
            Conversation::Direct(user) if self.config.reject_unknown_users => match self.people.since(user).await {
                Ok(Some(_)) => Ok(None),
                Ok(None) => Err(rejected(name, RejectCode::UnknownUser, format!("nobody has seen user {user}"))),
                Err(error) => Err(unavailable(name, &error.to_string())),
            },
            Conversation::Direct(_) => Ok(None),
        }
    }

    /// Asks the chain. Where it speaks of a group that is not in memory, that is read, and the same pure question asked again.
    async fn route(&self, send: &Submission, ask: &RouteAsk<'_>) -> Result<Routed, SendOutcome> {
        loop {
            let (routed, missing) = {
                let rights = Rights { shared: self, sender: &send.sender, missing: RefCell::default() };
                (send.generation.route(ask, &rights), rights.missing.take())
            };
            let Some(group) = missing else { return Ok(routed) };
            match self.groups.view(&group).await {
                Ok(Some(_)) if self.groups.peek(&group).is_some() => {}
                Ok(_) => return Ok(routed),
                Err(error) => return Err(unavailable(&send.client_id, &error.to_string())),
            }
        }
    }

    /// Asks whether the group's members get it pushed, and stamps the answer. (DELIVERY 9)
    async fn plan(
        &self,
        send: &Submission,
        message: &mut Message,
        group: &GroupId,
        sender_since: Millis,
    ) -> Result<(), SendOutcome> {
        let view = self.groups.view(group).await.map_err(|e| unavailable(&send.client_id, &e.to_string()))?;
        message.outsider =
            message.to != message.addressed && view.as_ref().is_some_and(|view| !view.is_member(&message.sender));
        let users: Vec<UserId> = view.iter().flat_map(|view| view.members.keys().cloned()).collect();
        let online = self.registry.online(&users).await.unwrap_or_default().into_iter().filter(|on| *on).count();
        let ask = PlanAsk {
            now: message.sent_at,
            id: message.id,
            group,
            sender: &message.sender,
            members: count(users.len()),
            online: count(online),
            message: view_of(message, sender_since),
        };
        let (plan, decisions) = send.generation.plan(&ask);
        message.plan = plan;
        message.stamp.decisions.extend(decisions);
        Ok(())
    }

    async fn appended(&self, appended: Result<Appended, AppendError>, message: &Message) -> SendOutcome {
        match appended {
            // Another set may decide since. What stands is what was decided, and whoever sends it again is told so. (DELIVERY 27)
            Ok(Appended::New(place)) => match self.policies.knows() {
                Ok(()) => accepted(message, self.numbering.position(place.offset)),
                Err(reason) => unavailable(&message.client_id, &reason),
            },
            Ok(Appended::Existing(_)) => match self.told(&message.client_id, message.id, message.body).await {
                Ok(outcome) | Err(outcome) => outcome,
            },
            Err(error) => unavailable(&message.client_id, &error.to_string()),
        }
    }
}

/// What a policy may ask of a message that was decided.
pub(crate) fn view_of(message: &Message, sender_since: Millis) -> MessageView<'_> {
    MessageView {
        kind: "message",
        text: message.text.as_deref(),
        data: message.data.as_deref(),
        tags: &message.tags,
        lamport: message.lamport,
        sender_since,
    }
}

pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn accepted(message: &Message, order: Position) -> SendOutcome {
    SendOutcome::Accepted(Accepted {
        client_id: message.client_id.clone(),
        message_id: message.id,
        sent_at: message.sent_at,
        lamport: message.lamport,
        order,
        generation: message.stamp.generation,
        text: message.text.clone().filter(|_| message.rewritten),
    })
}

fn settled(outcome: SendOutcome) -> Submitted {
    Submitted::Settled(outcome)
}

fn unavailable(name: &ClientId, reason: &str) -> SendOutcome {
    tracing::debug!(client_id = %name, reason, "a send is of unknown outcome");
    SendOutcome::Rejected(Rejected {
        client_id: name.clone(),
        code: RejectCode::Unavailable,
        reason: "outcome unknown, send it again with the same client_id".into(),
        retryable: true,
        retry_after_ms: Some(1_000),
    })
}

fn rejected(name: &ClientId, code: RejectCode, reason: String) -> SendOutcome {
    let reason = reason.into();
    SendOutcome::Rejected(Rejected { client_id: name.clone(), code, reason, retryable: false, retry_after_ms: None })
}
