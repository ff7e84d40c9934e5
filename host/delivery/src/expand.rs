//! A group's record becomes records of its members' streams. (DELIVERY 8, 9, 17, 18)

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_model::{
    ChunkMember, Conversation, Delivery as How, GroupChange, GroupChangeKind, GroupChunk, GroupId, MembershipChange,
    MembershipNotice, Message, OwnCopy, Plan, Position, Record, Rejection, Source, TopicPartition, UserId,
};
use heddle_policy::{Generation, PolicyError, SortAsk, fact};
use heddle_store::StoreError;

use crate::GroupView;
use crate::delivery::Shared;
use crate::groups::Groups;
use crate::send::{count, view_of};

/// Records to derive, each for its partition.
pub(crate) type Made = Vec<(TopicPartition, Bytes)>;

/// Tries of a plugin that fails and says `closed`, before the built-in one is asked in its place.
const STRIKES: u32 = 2;

/// Why a group message is not expanded yet: it waits, and with it the group messages behind it in its partition.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotYet {
    /// Nobody says who its members are.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The generation that it is stamped with cannot be had now, and no other may decide in its place.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The node stops before somebody could decide.
    #[error("the node stops")]
    Stopped,
}

/// Numbers what is made of one record.
struct Maker<'a> {
    shared: &'a Shared,
    partition: TopicPartition,
    position: Position,
    /// How many there were to be, those that nobody gets too.
    numbered: u32,
    made: Made,
}

impl Maker<'_> {
    fn put(&mut self, record: impl FnOnce(Source) -> Record) {
        let chunk = self.numbered;
        self.numbered += 1;
        let record = record(Source { partition: self.partition, position: self.position, chunk });
        self.made.push((record.home(self.shared.numbering.partitioning), record.encode()));
    }

    /// Tells the sender that its accepted message does not stand.
    fn reject(&mut self, message: &Message, code: &str, reason: String) {
        let order = self.position;
        self.put(|source| {
            Record::Rejection(Rejection {
                to: message.sender.clone(),
                client_id: message.client_id.clone(),
                code: code.into(),
                reason: reason.into(),
                order,
                source,
            })
        });
    }
}

/// The sender's own copy of a direct message.
pub(crate) fn own_copy(shared: &Shared, partition: TopicPartition, position: Position, message: &Arc<Message>) -> Made {
    let mut maker = Maker { shared, partition, position, numbered: 0, made: Made::new() };
    maker.put(|source| Record::OwnCopy(OwnCopy { message: Arc::clone(message), order: position, source }));
    maker.made
}

/// What a message makes whose id another one has that stands before it.
pub(crate) fn conflict(shared: &Shared, partition: TopicPartition, position: Position, message: &Arc<Message>) -> Made {
    let mut maker = Maker { shared, partition, position, numbered: 0, made: Made::new() };
    let client_id = &message.client_id;
    let reason = format!("another message was sent with client_id {client_id} at the same time, choose a new one");
    maker.reject(message, "conflict", reason);
    maker.made
}

/// What a group message makes; and whether it stands.
///
/// # Errors
/// What it waits for: it is to be tried again.
pub(crate) async fn message(
    shared: &Shared,
    partition: TopicPartition,
    position: Position,
    message: &Arc<Message>,
    group: &GroupId,
) -> Result<(Made, bool), NotYet> {
    let mut maker = Maker { shared, partition, position, numbered: 0, made: Made::new() };
    let view = shared.groups.view(group).await?.filter(|view| may_speak(view, message));
    let Some(view) = view else {
        maker.reject(message, "not_member", format!("you were no member of group {group} when it got there"));
        return Ok((maker.made, false));
    };
    if message.discarded || message.plan == Plan::Pull {
        maker.put(|source| Record::OwnCopy(OwnCopy { message: Arc::clone(message), order: position, source }));
        return Ok((maker.made, true));
    }
    if message.outsider {
        maker.put(|source| Record::OwnCopy(OwnCopy { message: Arc::clone(message), order: position, source }));
    }
    let muted = shared.people.muted(group).await?;
    let generation = shared.policies.generation(message.stamp.generation).await?;
    let all = by_home(shared, &view);
    // A policy is asked for a whole page, whatever the homes: a call for each home would be most of what a message costs.
    for page in all.chunks(shared.config.chunk_members.max(1)) {
        let users: Vec<UserId> = page.iter().map(|(_, user)| user.clone()).collect();
        let online = shared.registry.online(&users).await.unwrap_or_else(|_| vec![false; users.len()]);
        // Left out here and not before: the cut of the chunks is that of all members, whoever blocks whom meanwhile. (DELIVERY 9)
        let pairs = shared.denials.between(&message.sender, &users).await;
        let apart: HashSet<&UserId> =
            users.iter().zip(pairs).filter(|(_, pair)| pair.apart()).map(|(user, _)| user).collect();
        let others: Vec<(&UserId, u8)> = users
            .iter()
            .zip(&online)
            .filter(|(user, _)| **user != message.sender && !apart.contains(user))
            .map(|(user, online)| (user, facts(&view, message, user, *online, muted.contains(user))))
            .collect();
        let (deliveries, decisions) = sort(shared, &generation, &view, message, &others).await?;
        let mut deliveries = deliveries.into_iter();
        for home in page.chunk_by(|a, b| a.0 == b.0) {
            let members = home.iter().filter_map(|(_, user)| {
                if *user == message.sender {
                    return Some(ChunkMember { user: user.clone(), delivery: How::Push });
                }
                if apart.contains(user) {
                    return None;
                }
                let delivery = deliveries.next().filter(|how| *how != How::LeaveOut && message.may_reach(user))?;
                Some(ChunkMember { user: user.clone(), delivery })
            });
            let members: Vec<ChunkMember> = members.collect();
            if members.is_empty() {
                // A policy may leave out others when it is asked again: the chunks behind keep their numbers. (DELIVERY 9)
                maker.numbered += 1;
            } else {
                let (message, decisions) = (Arc::clone(message), decisions.clone());
                maker.put(|source| {
                    Record::GroupChunk(GroupChunk { message, order: position, members, decisions, source })
                });
            }
        }
    }
    Ok((maker.made, true))
}

/// Whether a group message stands where these groups have come to, for who only follows its partition.
pub(crate) async fn stands(groups: &Groups, message: &Message, group: &GroupId) -> Result<bool, StoreError> {
    Ok(groups.view(group).await?.is_some_and(|view| may_speak(&view, message)))
}

/// Is the sender a member, or was it sent there by a policy that may send for everybody?
pub(crate) fn may_speak(view: &GroupView, message: &Message) -> bool {
    view.is_member(&message.sender) || message.outsider && !view.members.is_empty()
}

/// All members, sorted by (home partition, bytes of id). A chunk ends where the home changes, and at a fixed number of members of this list.
fn by_home(shared: &Shared, view: &GroupView) -> Vec<(TopicPartition, UserId)> {
    let partitioning = shared.numbering.partitioning;
    let mut members: Vec<(TopicPartition, UserId)> =
        view.members.keys().map(|user| (partitioning.home(user), user.clone())).collect();
    members.sort();
    members
}

fn facts(view: &GroupView, message: &Message, user: &UserId, online: bool, muted: bool) -> u8 {
    let bit = |is: bool, bit: u8| if is { bit } else { 0 };
    bit(online, fact::ONLINE)
        | bit(muted, fact::MUTED)
        | bit(message.mentions.contains(user), fact::MENTIONED)
        | bit(view.is_admin(user), fact::ADMIN)
}

/// Asks the generation that the message was stamped with. A plugin that fails and says `closed` is asked again after a while, then the built-in
/// one; only where that one fails too, again and again, the members get it all the same, and the decision says so.
async fn sort(
    shared: &Shared,
    generation: &Generation,
    view: &GroupView,
    message: &Message,
    members: &[(&UserId, u8)],
) -> Result<(Vec<How>, Vec<heddle_model::Decision>), NotYet> {
    if members.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let facts: Vec<u8> = members.iter().map(|(_, facts)| *facts).collect();
    let since = shared.people.since(&message.sender).await.ok().flatten().unwrap_or(message.sent_at);
    let mut attempt = 0;
    loop {
        let ask = SortAsk {
            now: message.sent_at,
            id: message.id,
            group: &view.group,
            sender: &message.sender,
            members: count(view.members.len()),
            online: count(facts.iter().filter(|f| *f & fact::ONLINE != 0).count()),
            message: view_of(message, since),
            facts: &facts,
            attempt,
            last: attempt >= STRIKES + shared.config.poison_tries,
        };
        match generation.sort(&ask) {
            Ok(sorted) => return Ok((sorted.deliveries, sorted.decisions)),
            Err(retry) => tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(retry.after_ms)) => attempt += 1,
                () = shared.stop.cancelled() => return Err(NotYet::Stopped),
            },
        }
    }
}

/// What a change of a group makes: each member hears of it.
pub(crate) fn change(
    shared: &Shared,
    partition: TopicPartition,
    position: Position,
    change: &GroupChange,
    before: Option<&GroupView>,
    after: &GroupView,
) -> Made {
    let mut maker = Maker { shared, partition, position, numbered: 0, made: Made::new() };
    let mut notice = |targets: Vec<UserId>, user: &UserId, what: MembershipChange| {
        let partitioning = shared.numbering.partitioning;
        let mut homes: Vec<(TopicPartition, UserId)> =
            targets.into_iter().map(|user| (partitioning.home(&user), user)).collect();
        homes.sort();
        for home in homes.chunk_by(|a, b| a.0 == b.0) {
            for page in home.chunks(shared.config.chunk_members.max(1)) {
                maker.put(|source| {
                    Record::Membership(MembershipNotice {
                        targets: page.iter().map(|(_, user)| user.clone()).collect(),
                        group: change.group.clone(),
                        user: user.clone(),
                        change: what,
                        by: change.by.clone(),
                        at: change.at,
                        name: after.name.clone(),
                        source,
                    })
                });
            }
        }
    };
    let members = || after.members.keys().cloned().collect::<Vec<_>>();
    match &change.kind {
        GroupChangeKind::Created { .. } => {
            for user in after.members.keys() {
                notice(vec![user.clone()], user, MembershipChange::Joined);
            }
        }
        GroupChangeKind::Joined { users } => {
            for user in users {
                notice(members(), user, MembershipChange::Joined);
            }
        }
        GroupChangeKind::Left { user } => {
            let what = if *user == change.by { MembershipChange::Left } else { MembershipChange::Removed };
            let mut targets = members();
            targets.push(user.clone());
            notice(targets, user, what);
        }
        GroupChangeKind::Role { user, .. } => notice(members(), user, MembershipChange::Role),
        GroupChangeKind::Renamed { .. } => notice(members(), &change.by, MembershipChange::Renamed),
        GroupChangeKind::Deleted => {
            for user in before.into_iter().flat_map(|before| before.members.keys()) {
                notice(vec![user.clone()], user, MembershipChange::Removed);
            }
        }
    }
    maker.made
}

/// The group that a record of `group_messages` was sent to.
pub(crate) fn group_of(message: &Message) -> Option<&GroupId> {
    match &message.to {
        Conversation::Group(group) => Some(group),
        Conversation::Direct(_) => None,
    }
}
