//! One partition's worker: reads what is durable, judges it, fills the tail, pushes, and derives. (DELIVERY 8, 10, 14)

use std::sync::Arc;
use std::time::Duration;

use heddle_log::{AppendError, Batch, Derived, Stored};
use heddle_model::{Offset, Plan, Position, Record, RecordError, TopicPartition, UserId};
use heddle_store::{ArchiveBatch, DeadLetter};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::delivery::Shared;
use crate::denials::Pair;
use crate::expand::{self, Made, NotYet};
use crate::judge::{Judge, Standing};
use crate::push::{pass, push};
use crate::{Event, NodeMessage};

/// Derived records waiting for those before them; beyond it the worker reads no further.
const PENDING_MAX: usize = 4_096;
/// The longest that the cursor stays behind what was worked on: retention waits for it, and a start reads from it.
const CURSOR_INTERVAL: Duration = Duration::from_secs(1);
/// Between two tries of something that failed.
const RETRY: Duration = Duration::from_millis(250);

/// Why a worker stops working on its partition.
enum Stop {
    /// It was told to.
    Told,
    /// Start again from the cursor.
    Again(String),
    /// The partition is no longer, or now, this node's to work on.
    Turned,
    /// A newer build wrote this: never skip it.
    Newer(String),
}

type Deriving = JoinHandle<Result<Vec<Offset>, AppendError>>;

struct Worker {
    shared: Arc<Shared>,
    partition: TopicPartition,
    /// It derives; else it only follows.
    owns: bool,
    judge: Judge,
    next: Offset,
    /// The cursor that the log has.
    derived: Offset,
    made: Made,
    /// Of what was made, nothing has to come soon.
    patient: bool,
    deriving: Option<(Offset, Deriving)>,
}

/// Works on a partition until told to stop.
pub(crate) async fn run(shared: Arc<Shared>, partition: TopicPartition) {
    loop {
        match Worker::start(&shared, partition).work().await {
            Stop::Told => return,
            Stop::Turned => {}
            Stop::Again(reason) => {
                tracing::warn!(%partition, reason, "worker starts again from its cursor");
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = shared.stop.cancelled() => return,
                }
            }
            Stop::Newer(reason) => {
                tracing::error!(%partition, reason, "worker stops: run the newer heddle again");
                shared.stop.cancelled().await;
                return;
            }
        }
    }
}

impl Worker {
    /// From the smaller of both cursors: what is derived already is read again and judged, what is archived already is only derived.
    fn start(shared: &Arc<Shared>, partition: TopicPartition) -> Self {
        let part = shared.partition(partition);
        let owns = *part.owned.borrow();
        let (archived, judge) = part.base.lock().clone();
        // What others derive is no matter of ours.
        let derived = if owns { shared.log.derived(partition) } else { Offset::MAX };
        let next = derived.min(archived);
        shared.groups.begin(partition, shared.numbering.upto(next));
        leave_out(shared, partition, next);
        // More than the tail holds would pass through it for nothing: whoever stands below it is answered by the archive, as ever.
        let head = *shared.log.head(partition).borrow();
        let kept = u64::try_from(shared.config.tail_events_max).unwrap_or(u64::MAX);
        if part.tail.is_empty() {
            leave_out(shared, partition, head.saturating_sub(kept));
        }
        let worker = Self {
            shared: Arc::clone(shared),
            partition,
            owns,
            judge,
            next,
            derived,
            made: Made::new(),
            patient: true,
            deriving: None,
        };
        if owns {
            worker.made_upto(derived);
        }
        worker
    }

    async fn work(mut self) -> Stop {
        let mut head = self.shared.log.head(self.partition);
        let stop = self.shared.stop.clone();
        let mut owned = self.shared.partition(self.partition).owned.subscribe();
        let mut cursor = tokio::time::interval(CURSOR_INTERVAL);
        cursor.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.deriving.is_none() && !self.made.is_empty() {
                self.derive();
            }
            let room = self.made.len() < PENDING_MAX;
            let more = room && *head.borrow_and_update() > self.next;
            tokio::select! {
                biased;
                () = turned(&mut owned, self.owns) => return Stop::Turned,
                () = stop.cancelled() => {
                    self.hand_over().await;
                    return Stop::Told;
                }
                done = derived(self.partition, &mut self.deriving) => {
                    match done {
                        (upto, Ok(_)) => self.is_derived(upto),
                        (_, Err(error)) => return Stop::Again(error.to_string()),
                    }
                }
                read = self.shared.log.read(self.partition, self.next, self.shared.config.read_bytes), if more => {
                    let stopped = match read {
                        // It begins anew in the next epoch.
                        Ok(_) if self.shared.is_cut().await => {
                            stop.cancelled().await;
                            Err(Stop::Told)
                        }
                        Ok(batch) => self.batch(batch).await,
                        Err(heddle_log::ReadError::Gone { start, .. }) => {
                            tracing::error!(partition = %self.partition, from = self.next, start, "records are gone before they were worked on");
                            self.next = start;
                            leave_out(&self.shared, self.partition, start);
                            Ok(())
                        }
                        Err(error) => Err(Stop::Again(error.to_string())),
                    };
                    if let Err(stop) = stopped {
                        // What came before it is understood, and nobody comes back for it before the newer build does.
                        if matches!(stop, Stop::Newer(_)) {
                            self.hand_over().await;
                        }
                        return stop;
                    }
                }
                _ = cursor.tick() => {
                    if self.deriving.is_none() && self.next > self.derived {
                        self.derive();
                    }
                }
                changed = head.changed(), if room && !more => {
                    if changed.is_err() {
                        return Stop::Told;
                    }
                }
            }
        }
    }

    /// Hands over what was made, with the cursor behind it.
    fn derive(&mut self) {
        let derived = Derived {
            source: self.partition,
            upto: self.next,
            records: std::mem::take(&mut self.made),
            patient: std::mem::replace(&mut self.patient, true),
        };
        let log = Arc::clone(&self.shared.log);
        self.deriving = Some((self.next, tokio::spawn(async move { log.derive(derived).await })));
    }

    fn is_derived(&mut self, upto: Offset) {
        self.derived = self.derived.max(upto);
        self.made_upto(upto);
        self.worked();
    }

    /// Hands over all that was made, and waits until it is. What fails stays for whoever works on the partition next.
    async fn hand_over(&mut self) {
        loop {
            if self.deriving.is_none() && self.next > self.derived {
                self.derive();
            }
            if self.deriving.is_none() {
                return;
            }
            match derived(self.partition, &mut self.deriving).await {
                (upto, Ok(_)) => self.is_derived(upto),
                (_, Err(error)) => {
                    tracing::warn!(partition = %self.partition, %error, "what was made last is not handed over");
                    return;
                }
            }
        }
    }

    async fn batch(&mut self, batch: Batch) -> Result<(), Stop> {
        let next = batch.next;
        let shared = Arc::clone(&self.shared);
        let part = shared.partition(self.partition);
        // Passed by since it was said how far this has come.
        let mut passed = 0;
        for (stored, first) in batch.in_order() {
            let position = shared.numbering.position(stored.offset);
            part.marks.lock().note(stored.offset, stored.appended_at);
            if first.is_none()
                && pass(&shared, self.partition, &mut self.judge, self.owns, position, &stored.bytes).await
            {
                self.next = stored.offset + 1;
                part.tail.reached(position);
                passed += 1;
                continue;
            }
            if passed > 0 {
                self.passed(std::mem::take(&mut passed));
            }
            match Record::decode(&stored.bytes) {
                Ok(record) if first.is_some() => self.repeat(position, stored.offset, first, &record).await?,
                Ok(record) => self.record(position, stored.offset, record, stored.bytes.len()).await?,
                Err(error @ RecordError::Newer(_)) => return Err(Stop::Newer(error.to_string())),
                Err(error) => self.bury(position, &stored, &error.to_string()).await,
            }
            self.next = stored.offset + 1;
            part.tail.reached(position);
            self.worked();
        }
        // Beyond the last there may be some that do not stand.
        self.next = self.next.max(next);
        self.passed(passed);
        Ok(())
    }

    fn passed(&self, records: u64) {
        metrics::counter!("heddle_records_passed_total").increment(records);
        self.worked();
    }

    fn worked(&self) {
        let worked = &self.shared.partition(self.partition).worked;
        worked.send_if_modified(|worked| std::mem::replace(worked, self.next.max(*worked)) < self.next);
        if self.owns && self.made.is_empty() && self.deriving.is_none() {
            self.made_upto(self.next);
        }
    }

    fn made_upto(&self, upto: Offset) {
        let made = &self.shared.partition(self.partition).made;
        made.send_if_modified(|made| std::mem::replace(made, upto.max(*made)) < upto);
    }

    async fn record(&mut self, position: Position, offset: Offset, record: Record, bytes: usize) -> Result<(), Stop> {
        if self.judge.judge(self.shared.numbering, self.partition, &record) != Standing::Stands {
            return Ok(());
        }
        let fresh = offset >= self.derived;
        let made = self.make(position, &record, fresh).await?;
        // The recipient of a direct message has it already; the sender's other devices can do without it for a moment.
        self.patient &= made.is_empty() || matches!(record, Record::Direct(_));
        self.made.extend(made);
        if position <= self.shared.partition(self.partition).tail.upto() {
            // Below where the tail began, or read again.
            return Ok(());
        }
        if let Some(event) = Event::new(position, record, bytes) {
            push(&self.shared, self.partition, Arc::new(event), fresh || self.shared.follows).await;
        }
        Ok(())
    }

    /// A record whose id an earlier one has. Most are one message that was sent twice; if it is another one, its sender, who was told `accepted`
    /// by another node, is told that it does not stand. (DELIVERY 23)
    async fn repeat(
        &mut self,
        position: Position,
        offset: Offset,
        first: Option<Offset>,
        record: &Record,
    ) -> Result<(), Stop> {
        let (Some(first), Some(message)) = (first, record.message()) else { return Ok(()) };
        if !self.owns || offset < self.derived || self.shared.numbering.strays(self.partition, record) {
            return Ok(());
        }
        let earlier = match self.shared.log.read(self.partition, first, 1).await {
            Ok(batch) => batch.in_order().into_iter().map(|(stored, _)| stored).find(|stored| stored.offset == first),
            // So long ago that nobody can tell, and nobody waits for it.
            Err(heddle_log::ReadError::Gone { .. }) => None,
            Err(error) => return Err(Stop::Again(error.to_string())),
        };
        let earlier = earlier.and_then(|stored| Record::decode(&stored.bytes).ok());
        if earlier.is_some_and(|earlier| earlier.message().is_some_and(|earlier| earlier.body != message.body)) {
            self.made.extend(expand::conflict(&self.shared, self.partition, position, message));
            self.patient = false;
        }
        Ok(())
    }

    /// What the record makes, if that is not made yet (`fresh`); a store that does not answer, or a generation that cannot be had, is waited for, here only. (DELIVERY 17)
    async fn make(&self, position: Position, record: &Record, fresh: bool) -> Result<Made, Stop> {
        let (shared, partition) = (&self.shared, self.partition);
        let makes = self.owns && fresh;
        let mut owned = shared.partition(partition).owned.subscribe();
        loop {
            let made = match record {
                Record::Direct(message) => {
                    let own = message.discarded || record.audience().first() != Some(&&message.sender);
                    Ok(if own && makes { expand::own_copy(shared, partition, position, message) } else { Made::new() })
                }
                Record::Group(message) => match expand::group_of(message) {
                    Some(group) => {
                        let made = if makes {
                            expand::message(shared, partition, position, message, group).await
                        } else {
                            let stands = expand::stands(&shared.groups, message, group).await.map_err(NotYet::Store);
                            stands.map(|stands| (Made::new(), stands))
                        };
                        made.map(|(made, stands)| {
                            if !stands {
                                shared.partition(partition).void.lock().insert(position);
                            }
                            made
                        })
                    }
                    None => Ok(Made::new()),
                },
                Record::GroupChange(change) => {
                    let applied = shared.groups.apply(partition, position, change).await.map_err(NotYet::Store);
                    applied.map(|applied| {
                        applied.filter(|_| makes).map_or_else(Made::new, |(before, after)| {
                            expand::change(shared, partition, position, change, before.as_deref(), &after)
                        })
                    })
                }
                _ => Ok(Made::new()),
            };
            match made {
                Ok(made) => {
                    if let Record::Group(message) = record {
                        self.notice(position, message).await;
                    }
                    shared.groups.reached(partition, position);
                    return Ok(made);
                }
                Err(error) => {
                    tracing::warn!(%partition, %error, "group messages of this partition wait");
                    tokio::select! {
                        () = turned(&mut owned, self.owns) => return Err(Stop::Turned),
                        () = tokio::time::sleep(RETRY) => {}
                        () = shared.stop.cancelled() => return Err(Stop::Told),
                    }
                }
            }
        }
    }

    /// Tells the members of a group whose message is pulled. (DELIVERY 18)
    async fn notice(&self, position: Position, message: &heddle_model::Message) {
        let Some(group) = expand::group_of(message).filter(|_| message.plan == Plan::Pull && !message.discarded) else {
            return;
        };
        let Some(view) = self.shared.groups.peek(group).filter(|view| expand::may_speak(view, message)) else { return };
        let mut users: Vec<UserId> =
            view.members.keys().filter(|user| **user != message.sender && message.may_reach(user)).cloned().collect();
        let pairs = self.shared.denials.between(&message.sender, &users).await;
        let mut apart = pairs.into_iter().map(Pair::apart);
        users.retain(|_| !apart.next().unwrap_or(false));
        self.shared
            .tell(&users, self.shared.follows, |to| NodeMessage::GroupNotice {
                group: group.clone(),
                head: position,
                to,
            })
            .await;
    }

    async fn bury(&self, position: Position, stored: &Stored, error: &str) {
        tracing::error!(partition = %self.partition, %position, error, "record is given up");
        metrics::counter!("heddle_dead_letters_total").increment(1);
        let dead = DeadLetter {
            partition: self.partition,
            position,
            by: "worker",
            error: error.to_owned(),
            at: self.shared.clock.now(),
            bytes: stored.bytes.clone(),
        };
        let batch = ArchiveBatch { dead: vec![dead], ..ArchiveBatch::default() };
        if let Err(error) = self.shared.store.archive.write(batch).await {
            tracing::warn!(%error, "dead letter not kept; the archiver meets it again");
        }
    }
}

/// The worker begins further up than it had come, for others archived what lies between while this node stood still: who is connected reads it there.
fn leave_out(shared: &Shared, partition: TopicPartition, next: Offset) {
    if shared.partition(partition).tail.begin(shared.numbering.upto(next)) {
        shared.hub.wake_all();
    }
}

/// Waits until the partition changes hands.
async fn turned(owned: &mut watch::Receiver<bool>, owns: bool) {
    drop(owned.wait_for(|owned| *owned != owns).await);
}

/// The end of the derive under way; waits for ever if there is none.
async fn derived(
    partition: TopicPartition,
    deriving: &mut Option<(Offset, Deriving)>,
) -> (Offset, Result<Vec<Offset>, AppendError>) {
    match deriving {
        Some((upto, future)) => {
            let (upto, done) = (*upto, future.await);
            *deriving = None;
            let lost = |error| AppendError::Unknown { partition, reason: format!("derive ended: {error}") };
            (upto, done.unwrap_or_else(|error| Err(lost(error))))
        }
        None => std::future::pending().await,
    }
}
