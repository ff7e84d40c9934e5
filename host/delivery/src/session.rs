//! One connection's view of its user's stream: what was missed, then what comes, each event once, never with a hole. (DELIVERY 14-16, 18)

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::{
    ConnectionId, Conversation, DeviceId, GroupId, Millis, Position, ReceiptStatus, TopicPartition, UserId,
};
use heddle_presence::{Mark, Report, ReportKind, Socket, Visible};
use heddle_store::DeviceRow;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Event;
use crate::begin::{Begun, SetBack, begin};
use crate::delivery::{Delivery, Shared};
use crate::event::Flags;
use crate::hub::{Kick, Mail, NodeMessage, Signals, Typing};
use crate::receipts::{Job, Marks, Reached};
use crate::stream::{self, Page, TryLater};

/// The longest wait for the partition's worker before `caught_up` is said.
const WORKER_WAIT: Duration = Duration::from_secs(5);

/// Who connects.
#[derive(Debug, Clone)]
pub struct Opening {
    /// As authenticated.
    pub user: UserId,
    /// As the client names it.
    pub device: DeviceId,
    /// When the user's token may have been issued at the earliest.
    pub issued: Millis,
    /// The socket.
    pub connection: ConnectionId,
    /// The position that the device has.
    pub resume: Option<Position>,
    /// By what the connection is counted over all nodes.
    pub mark: Mark,
}

/// Where delivery starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// After this position; it is the device's from now on.
    pub offset: Position,
    /// It is the one that the client asked for, or without a wish the one that its device had.
    pub resumed: bool,
    /// Why it is not, or what is missing.
    pub gap: Option<Gap>,
}

/// What is wrong with a resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// No event has that position yet.
    AboveHead,
    /// Events after it are in neither archive nor log.
    Lost,
}

/// Why a session does not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Come back: `error try_later`, close 4003.
    #[error("the stream cannot be read now: {0}")]
    TryLater(String),
    /// The user's token was taken back: close 4510.
    #[error("the token was taken back")]
    Revoked,
}

/// Why an acknowledgement changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// Nothing above `sent` was sent.
    #[error("ack of {offset} is above {sent}, the last that was sent")]
    AboveSent {
        /// As acknowledged.
        offset: Position,
        /// As sent.
        sent: Position,
    },
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// Nothing was acknowledged for too long: 4008.
    Slow,
    /// The same device is connected elsewhere: 4509.
    Replaced,
    /// 4510.
    Revoked,
    /// 4003.
    TryLater(String),
    /// 4001.
    ShuttingDown,
}

/// What is to be written to the client, in order.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// An event.
    Event {
        /// The event.
        event: Arc<Event>,
        /// How it looks to this client.
        flags: Flags,
    },
    /// Everything up to here was sent.
    CaughtUp(Position),
    /// A pulled group has news.
    GroupNotice {
        /// Which.
        group: GroupId,
        /// Its newest message.
        head: Position,
    },
    /// Somebody types, or stopped.
    Typing {
        /// Who.
        from: UserId,
        /// Where, if not to this user itself.
        group: Option<GroupId>,
        /// Started.
        started: bool,
    },
    /// Somebody's status.
    Presence(Visible),
}

struct Unacked {
    position: Position,
    bytes: usize,
    /// Kept while it will make a receipt.
    incoming: Option<Arc<Event>>,
}

type Reading = Pin<Box<dyn Future<Output = Result<Page, TryLater>> + Send>>;

/// One connection's view. Its futures are cancel-safe.
pub struct Session {
    shared: Arc<Shared>,
    user: UserId,
    device: DeviceId,
    connection: ConnectionId,
    home: TopicPartition,
    mail: mpsc::Receiver<Mail>,
    signals: Arc<Signals>,
    /// Everything up to here is queued for the client.
    sent: Position,
    acked: Position,
    /// How often the device was set back before.
    turn: u64,
    /// The device was set back, and has acknowledged nothing beyond that yet.
    set_back: Option<SetBack>,
    /// What the device had acknowledged before makes no receipts again.
    had: Position,
    /// Something above `sent` may be in the stream.
    behind: bool,
    reading: Option<Reading>,
    /// The stream is read to where catching up ends, and `caught_up` is not said yet.
    caught_up_due: bool,
    /// Said after everything up to here was sent.
    catching_up: Option<Position>,
    unacked: VecDeque<Unacked>,
    unacked_bytes: usize,
    /// When the oldest of them was sent, or something was acknowledged.
    waiting_since: Option<Instant>,
    unsent_ack: Option<Job>,
    notices: BTreeMap<GroupId, Position>,
    notice_at: Option<Instant>,
}

impl Delivery {
    /// Registers the connection, then finds where its stream goes on. The same user and device elsewhere is replaced.
    ///
    /// # Errors
    /// The store does not answer; the token is refused meanwhile.
    pub async fn open(&self, opening: Opening) -> Result<(Session, Opened), OpenError> {
        let shared = &self.shared;
        let Opening { user, device, issued, connection, resume, mark } = opening;
        let (mail, signals) = shared.hub.open(connection, shared.config.mailbox_items, user.clone(), issued);
        // From here on a revocation finds it; one of a moment ago did not.
        if shared.denials.refuses(&user, issued) {
            shared.hub.close(connection);
            return Err(OpenError::Revoked);
        }
        shared.register(&user, &device, connection).await;
        let begun = begin(shared, &user, &device, resume).await;
        let Begun { opened, turn, set_back } = match begun {
            Ok(begun) => begun,
            Err(TryLater(reason)) => {
                shared.unregister(&user, connection).await;
                return Err(OpenError::TryLater(reason));
            }
        };
        shared.presence.report(&user, &shared.report(connection, mark, ReportKind::Connected));
        let home = shared.numbering.partitioning.home(&user);
        let session = Session {
            shared: Arc::clone(shared),
            home,
            mail,
            signals,
            sent: opened.offset,
            acked: opened.offset,
            turn,
            set_back,
            had: set_back.map_or(Position::START, |set_back| set_back.had),
            behind: true,
            reading: None,
            caught_up_due: false,
            catching_up: Some(shared.head(home)),
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            waiting_since: None,
            unsent_ack: None,
            notices: BTreeMap::new(),
            notice_at: None,
            user,
            device,
            connection,
        };
        Ok((session, opened))
    }
}

impl Shared {
    async fn register(&self, user: &UserId, device: &DeviceId, connection: ConnectionId) {
        let others = self.routes(std::slice::from_ref(user)).await.pop().unwrap_or_default();
        if let Err(error) = self.registry.register(user, connection, device).await {
            tracing::warn!(%error, "connection is not registered: its messages come later");
        }
        for other in others.into_iter().filter(|other| other.device == *device) {
            let kick = NodeMessage::Kick { connection: other.connection, why: Kick::Replaced };
            if let Err(error) = self.bus.send(&other.node, Arc::new(kick)).await {
                tracing::debug!(%error, "a replaced connection was not told");
            }
        }
    }

    async fn unregister(&self, user: &UserId, connection: ConnectionId) {
        self.hub.close(connection);
        if let Err(error) = self.registry.unregister(user, connection).await {
            tracing::debug!(%error, "connection stays registered until its lease ends");
        }
    }

    fn report(&self, connection: ConnectionId, mark: Mark, kind: ReportKind) -> Report {
        Report { socket: Socket { node: self.node.clone(), connection }, mark, kind }
    }

    /// Notes the receipt that this event makes, if it makes one.
    pub(crate) fn mark(&self, marks: &mut Marks, user: &UserId, event: &Event) {
        let Some(message) = event.incoming(user) else { return };
        let members = match &message.to {
            Conversation::Group(group) => self.groups.peek(group).map_or(0, |view| view.members.len()),
            Conversation::Direct(_) => 0,
        };
        let crowd = members > self.config.receipts_members_max;
        marks.add(user, message, event.order, ReceiptStatus::Delivered, crowd);
    }
}

impl Session {
    /// Waits for what is next to be written. Everything that one connection is sent, but for direct answers, comes from here.
    /// Dropping the future loses nothing: between taking events and returning them nothing is awaited.
    ///
    /// # Errors
    /// The session is over.
    pub async fn next(&mut self) -> Result<Vec<Outgoing>, SessionEnd> {
        loop {
            self.retry_ack();
            if let Some(kick) = self.signals.kicked() {
                return Err(match kick {
                    Kick::Replaced => SessionEnd::Replaced,
                    Kick::Revoked => SessionEnd::Revoked,
                    Kick::Replay => SessionEnd::TryLater("an operator replays this stream: come back".to_owned()),
                });
            }
            if self.caught_up_due {
                let mut out = self.missed_notices().await;
                self.caught_up_due = false;
                out.push(Outgoing::CaughtUp(self.sent));
                return Ok(out);
            }
            self.behind |= self.signals.take_lagged();
            if self.behind && self.has_room() {
                let out = self.read_stream().await?;
                if !out.is_empty() {
                    return Ok(out);
                }
                continue;
            }
            let slow_at = self.waiting_since.map(|at| at + Duration::from_millis(self.shared.config.slow_ms));
            let stop = self.shared.stop.clone();
            tokio::select! {
                biased;
                mail = self.mail.recv() => {
                    let Some(mail) = mail else { return Err(SessionEnd::ShuttingDown) };
                    let out = self.open_mail(mail);
                    if !out.is_empty() {
                        return Ok(out);
                    }
                }
                () = until(slow_at) => return Err(SessionEnd::Slow),
                () = until(self.notice_at) => {
                    let out = self.take_notices();
                    if !out.is_empty() {
                        return Ok(out);
                    }
                }
                () = until(self.unsent_ack.as_ref().map(|_| Instant::now() + Duration::from_millis(50))) => {}
                () = stop.cancelled() => return Err(SessionEnd::ShuttingDown),
            }
        }
    }

    /// The device has everything up to here.
    ///
    /// # Errors
    /// Above what was sent: nothing changes.
    pub fn ack(&mut self, offset: Position) -> Result<(), AckError> {
        if offset > self.sent {
            return Err(AckError::AboveSent { offset, sent: self.sent });
        }
        if offset <= self.acked {
            return Ok(());
        }
        self.acked = offset;
        self.end_replay(offset);
        let mut marks = Marks::default();
        while self.unacked.front().is_some_and(|first| first.position <= offset) {
            let Some(first) = self.unacked.pop_front() else { break };
            self.unacked_bytes -= first.bytes;
            if let Some(event) = first.incoming {
                self.shared.mark(&mut marks, &self.user, &event);
            }
        }
        self.waiting_since = (!self.unacked.is_empty()).then(Instant::now);
        let reached = Reached { turn: self.turn, position: offset };
        let job = Job { reader: self.user.clone(), marks, device: Some((self.device.clone(), reached)) };
        match &mut self.unsent_ack {
            Some(earlier) => earlier.merge(job),
            None => self.unsent_ack = Some(job),
        }
        self.retry_ack();
        Ok(())
    }

    /// The first acknowledgement beyond where the device was set back ends that, for every node it may come to next: its position is kept at once,
    /// as far as that needs no receipt. (DELIVERY 16)
    fn end_replay(&mut self, offset: Position) {
        let Some(SetBack { had, .. }) = self.set_back.take_if(|set_back| set_back.to < offset) else { return };
        let (shared, user) = (Arc::clone(&self.shared), self.user.clone());
        let row = DeviceRow::new(self.device.clone(), offset.min(had), shared.clock.now(), self.turn);
        tokio::spawn(async move {
            let per_user = shared.config.devices_per_user;
            if let Err(error) = shared.store.devices.save_devices(vec![(user, row)], per_user).await {
                tracing::debug!(%error, "the end of a replay is kept with the next position");
            }
        });
    }

    /// Takes the connection out of the registry, and says that it is gone.
    pub async fn close(mut self) {
        if let Some(job) = self.unsent_ack.take() {
            self.shared.receipts.put(job).await;
        }
        let socket = Socket { node: self.shared.node.clone(), connection: self.connection };
        self.shared.presence.drop_connection(&socket);
        let report = self.shared.report(self.connection, Mark::default(), ReportKind::Disconnected);
        self.shared.presence.report(&self.user, &report);
        self.shared.unregister(&self.user, self.connection).await;
    }

    fn retry_ack(&mut self) {
        if let Some(job) = self.unsent_ack.take() {
            self.unsent_ack = self.shared.receipts.try_put(job);
        }
    }

    fn has_room(&self) -> bool {
        let config = &self.shared.config;
        self.unacked.len() < config.unacked_events_max && self.unacked_bytes < config.unacked_bytes_max
    }

    /// The next page of the stream, and what is said once it is read to its end.
    async fn read_stream(&mut self) -> Result<Vec<Outgoing>, SessionEnd> {
        let reading = self.reading.get_or_insert_with(|| {
            let (shared, user, after) = (Arc::clone(&self.shared), self.user.clone(), self.sent);
            let goal = self.catching_up;
            Box::pin(async move { read_or_wait(&shared, &user, after, goal).await })
        });
        let page = reading.await;
        self.reading = None;
        let page = page.map_err(|TryLater(reason)| SessionEnd::TryLater(reason))?;
        let missed = self.catching_up;
        let mut out = Vec::with_capacity(page.events.len() + 1);
        let mut cut = false;
        for event in page.events {
            if !self.has_room() {
                cut = true;
                break;
            }
            let missed = missed.is_some_and(|head| event.position <= head);
            out.push(self.queue(event, missed));
        }
        if cut {
            return Ok(out);
        }
        self.sent = self.sent.max(page.upto);
        let tail = self.shared.partition(self.home).tail.upto();
        if self.sent >= tail && self.catching_up.is_none_or(|goal| self.sent >= goal) {
            self.behind = false;
            // Said by the next call: a wait here could be cancelled, and what was queued above would be lost.
            self.caught_up_due |= self.catching_up.take().is_some();
        } else if out.is_empty() && self.catching_up.is_some_and(|goal| self.sent < goal) {
            // The worker did not come to the head in time: everything else comes live.
            self.catching_up = Some(self.sent);
        }
        Ok(out)
    }

    /// Groups with messages that the user pulls and has not read. (DELIVERY 18)
    async fn missed_notices(&mut self) -> Vec<Outgoing> {
        let (Ok(groups), Ok(reads)) =
            (self.shared.store.groups.groups_of(&self.user).await, self.shared.store.devices.reads(&self.user).await)
        else {
            return Vec::new();
        };
        let read = |group: &GroupId| {
            let of = |c: &Conversation| matches!(c, Conversation::Group(g) if g == group);
            reads.iter().find(|(conversation, _)| of(conversation)).map_or(Position::START, |(_, at)| *at)
        };
        let news = groups.into_iter().filter(|(group, head)| *head > read(group));
        news.map(|(group, head)| Outgoing::GroupNotice { group, head }).collect()
    }

    fn queue(&mut self, event: Arc<Event>, missed: bool) -> Outgoing {
        self.sent = event.position;
        self.unacked_bytes += event.bytes;
        let receipt = event.position > self.had && event.incoming(&self.user).is_some();
        let incoming = receipt.then(|| Arc::clone(&event));
        self.unacked.push_back(Unacked { position: event.position, bytes: event.bytes, incoming });
        self.waiting_since.get_or_insert_with(Instant::now);
        let flags = Flags { variant: event.variant(&self.user), missed };
        Outgoing::Event { event, flags }
    }

    fn open_mail(&mut self, mail: Mail) -> Vec<Outgoing> {
        let mut out = Vec::new();
        let mut next = Some(mail);
        while let Some(mail) = next {
            match mail {
                Mail::Push { event, after } => {
                    if event.position <= self.sent {
                    } else if after <= self.sent && !self.behind && self.has_room() {
                        out.push(self.queue(event, false));
                    } else {
                        self.behind = true;
                    }
                }
                Mail::GroupNotice(notice) => {
                    let (group, head) = *notice;
                    let newest = self.notices.entry(group).or_insert(head);
                    *newest = (*newest).max(head);
                    self.notice_at.get_or_insert_with(Instant::now);
                }
                Mail::Typing(typing) => {
                    let Typing { from, group, started } = *typing;
                    out.push(Outgoing::Typing { from, group, started });
                }
                Mail::Presence(seen) => out.push(Outgoing::Presence(*seen)),
                Mail::Wake => {}
                Mail::Kicked => break,
            }
            next = self.mail.try_recv().ok();
        }
        out
    }

    /// Notices of groups, coalesced to one a second.
    fn take_notices(&mut self) -> Vec<Outgoing> {
        let notices = std::mem::take(&mut self.notices);
        self.notice_at = (!notices.is_empty()).then(|| Instant::now() + Duration::from_secs(1));
        notices.into_iter().map(|(group, head)| Outgoing::GroupNotice { group, head }).collect()
    }
}

/// A page; while there is none and the goal is not reached, waits for the partition's worker.
async fn read_or_wait(
    shared: &Shared,
    user: &UserId,
    after: Position,
    goal: Option<Position>,
) -> Result<Page, TryLater> {
    let home = shared.numbering.partitioning.home(user);
    let mut worked = shared.partition(home).worked.subscribe();
    let deadline = Instant::now() + WORKER_WAIT;
    let mut after = after;
    loop {
        worked.borrow_and_update();
        let page = stream::read(shared, user, after).await?;
        if !page.events.is_empty() || goal.is_none_or(|goal| page.upto >= goal) {
            return Ok(page);
        }
        let waits = page.upto <= after;
        after = after.max(page.upto);
        if waits && tokio::time::timeout_at(deadline, worked.changed()).await.is_err() {
            return Ok(page);
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
