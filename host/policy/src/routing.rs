//! The hook `routing`: changes pipe through the chain, the first reject or discard ends it, and the host clamps each answer.

use heddle_model::{Conversation, GroupId, Hook, Tag, UserId};
use heddle_pack::contract::{
    self, Changes, Envelope, Moment, ONLY_MAX, RoutingDecision, TAG_NAME_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX,
    TEXT_BYTES_MAX,
};

use crate::arm::subject;
use crate::component::{Component as _, Fault};
use crate::generation::seed;
use crate::member::{Member, Turn};
use crate::rate::{check_refusal, unavailable};
use crate::{Accepted, Generation, MessageView, Outcome, Refusal, RefusalCode, RouteAsk, Routed, RoutingRights};

/// What one plugin said, checked: nothing in it is outside the sender's rights.
enum Said {
    Accept,
    Changed(Box<Accepted>),
    Reject(Refusal),
    Discard,
}

impl Said {
    fn verdict(&self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Changed(_) => "accept-with",
            Self::Reject(_) => "reject",
            Self::Discard => "discard",
        }
    }
}

impl Generation {
    /// What becomes of this message?
    #[must_use]
    pub fn route(&self, ask: &RouteAsk<'_>, rights: &dyn RoutingRights) -> Routed {
        let at = Moment { now: ask.now, seed: seed(ask.id) };
        let mut so_far = Accepted { to: ask.to.clone(), only: None, rewritten: None, tags: ask.message.tags.to_vec() };
        let arm = self.arm(|| subject(ask.sender, Some(ask.to)));
        let chain = arm.chain(Hook::Routing);
        let mut decisions = Vec::with_capacity(chain.len());
        for member in chain {
            let about = ask.sender.as_str();
            let timed = member.ask(self, about, member.on_failure, |member| ask_one(member, at, ask, rights, &so_far));
            let verdict = match &timed.turn {
                Turn::Answered(said, _) => said.verdict(),
                Turn::Closed | Turn::Open => "reject",
            };
            decisions.push(member.decision(&timed, verdict));
            let outcome = match timed.turn {
                Turn::Answered(Said::Accept, _) => continue,
                Turn::Answered(Said::Changed(changed), _) => {
                    so_far = *changed;
                    continue;
                }
                Turn::Answered(Said::Reject(refusal), _) => Outcome::Reject(refusal),
                Turn::Answered(Said::Discard, _) => Outcome::Discard,
                // `open` is not offered here: a manifest that says so is refused when it is read.
                Turn::Closed | Turn::Open => Outcome::Reject(unavailable()),
            };
            member.health.refused();
            self.count(arm, Hook::Routing, true);
            return Routed { outcome, decisions };
        }
        self.count(arm, Hook::Routing, false);
        Routed { outcome: Outcome::Accept(so_far), decisions }
    }
}

fn ask_one(
    member: &Member,
    at: Moment,
    ask: &RouteAsk<'_>,
    rights: &dyn RoutingRights,
    so_far: &Accepted,
) -> Result<Said, Fault> {
    let text = so_far.rewritten.as_deref().or(ask.message.text);
    let size = so_far.rewritten.as_ref().map_or(ask.size, |text| size(text, ask.message.data));
    let members = if so_far.to == *ask.to { None } else { rights.members(&so_far.to) };
    let envelope = Envelope {
        sender: ask.sender.as_str().to_owned(),
        to: conversation(&so_far.to),
        size,
        members: members.unwrap_or(ask.members),
    };
    let message = MessageView { text, tags: &so_far.tags, ..ask.message };
    match member.component.route(at, &envelope, &message)? {
        RoutingDecision::Accept => Ok(Said::Accept),
        RoutingDecision::AcceptWith(changes) => {
            changed(member, ask, rights, so_far, changes).map(|changed| Said::Changed(Box::new(changed)))
        }
        RoutingDecision::Reject(refusal) => {
            check_refusal(&refusal)?;
            Ok(Said::Reject(Refusal {
                code: RefusalCode::Refused,
                reason: refusal.reason.into(),
                retry_after_ms: refusal.retry_after,
                retryable: refusal.retry_after.is_some(),
            }))
        }
        RoutingDecision::Discard => Ok(Said::Discard),
    }
}

/// The changes, applied to what earlier plugins left; anything that the sender may not do is a fault of the whole answer.
fn changed(
    member: &Member,
    ask: &RouteAsk<'_>,
    rights: &dyn RoutingRights,
    so_far: &Accepted,
    changes: Changes,
) -> Result<Accepted, Fault> {
    let mut after = so_far.clone();
    if let Some(to) = changes.to {
        after.to = target(member, rights, &so_far.to, to)?;
    }
    if let Some(only) = changes.only {
        let only = members(rights, &after.to, only)?;
        // Narrower than before, never wider.
        after.only = Some(match &so_far.only {
            Some(before) => only.into_iter().filter(|user| before.contains(user)).collect(),
            None => only,
        });
    } else if after.to != so_far.to {
        after.only = after.only.map(|only| only.into_iter().filter(|user| rights.is_member(&after.to, user)).collect());
    }
    if let Some(text) = changes.text {
        if !member.reads_body {
            return Err(Fault::rights("rewrote the text without `[reads] body = true` in plugin.toml"));
        }
        let size = size(&text, ask.message.data);
        if size as usize > TEXT_BYTES_MAX {
            return Err(Fault::bounds(format!("text and data would have {size} bytes, at most {TEXT_BYTES_MAX}")));
        }
        after.rewritten = Some(text.into());
    }
    set_tags(&mut after.tags, changes.tags)?;
    Ok(after)
}

/// Another conversation instead: the same, or a group that the sender belongs to.
fn target(
    member: &Member,
    rights: &dyn RoutingRights,
    from: &Conversation,
    to: contract::Conversation,
) -> Result<Conversation, Fault> {
    let to = match to {
        contract::Conversation::Direct(user) => UserId::new(&user).map(Conversation::Direct),
        contract::Conversation::Group(group) => GroupId::new(&group).map(Conversation::Group),
    };
    let to = to.map_err(|error| Fault::bounds(format!("redirected to no conversation: {error}")))?;
    let named = member.redirect_to.contains(&to);
    match &to {
        _ if to == *from => Ok(to),
        Conversation::Group(_) if rights.may_send_to(&to) || (named && rights.may_be_redirected_to(&to)) => Ok(to),
        _ => Err(Fault::rights(format!("redirected to {to}, which is no group of the sender's"))),
    }
}

fn members(rights: &dyn RoutingRights, to: &Conversation, only: Vec<String>) -> Result<Vec<UserId>, Fault> {
    if only.len() > ONLY_MAX {
        return Err(Fault::bounds(format!("only names {} members, at most {ONLY_MAX} are allowed", only.len())));
    }
    let mut users = Vec::with_capacity(only.len());
    for name in only {
        let user = UserId::new(&name).map_err(|error| Fault::bounds(format!("only names nobody: {error}")))?;
        if !rights.is_member(to, &user) {
            return Err(Fault::rights(format!("only names {user:?}, who is no member of {to}")));
        }
        users.push(user);
    }
    users.sort();
    users.dedup();
    Ok(users)
}

fn set_tags(tags: &mut Vec<Tag>, set: Vec<(String, String)>) -> Result<(), Fault> {
    if set.len() > TAGS_MAX {
        return Err(Fault::bounds(format!("{} tags, at most {TAGS_MAX} may be set", set.len())));
    }
    for (name, value) in set {
        if name.is_empty() || name.len() > TAG_NAME_BYTES_MAX || value.len() > TAG_VALUE_BYTES_MAX {
            let (name, value) = (name.len(), value.len());
            return Err(Fault::bounds(format!(
                "a tag of {name} and {value} bytes, give 1 to {TAG_NAME_BYTES_MAX} and at most {TAG_VALUE_BYTES_MAX}"
            )));
        }
        match tags.iter_mut().find(|(held, _)| **held == *name) {
            Some((_, held)) => *held = value.into(),
            None => tags.push((name.into(), value.into())),
        }
    }
    // The client's own and those of a whole chain.
    if tags.len() > 2 * TAGS_MAX {
        return Err(Fault::bounds(format!("the message would have {} tags, at most {}", tags.len(), 2 * TAGS_MAX)));
    }
    Ok(())
}

fn size(text: &str, data: Option<&[u8]>) -> u32 {
    u32::try_from(text.len() + data.map_or(0, <[u8]>::len)).unwrap_or(u32::MAX)
}

fn conversation(conversation: &Conversation) -> contract::Conversation {
    match conversation {
        Conversation::Direct(user) => contract::Conversation::Direct(user.as_str().to_owned()),
        Conversation::Group(group) => contract::Conversation::Group(group.as_str().to_owned()),
    }
}
