//! What a client may ask for, command by command.

use std::time::Duration;

use heddle_delivery::{AckError, SendOutcome, Session, Submitted};
use heddle_model::{Conversation, IdError, MessageId, Position, UserId};
use heddle_policy::{Command as RateCommand, RefusalCode};
use heddle_presence::{ReportKind, Status};
use heddle_protocol::{
    ChatMessage, ClientFrame, CloseCode, Command, ErrorCode, ErrorFrame, PresenceStatus, RejectCode, Rejected,
    ServerFrame, Target, Users,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::hello::error;
use super::{Appending, Connection, End, Settled};
use crate::core::{Asker, accepted, conversation, rejected};
use crate::encode;
use crate::rest::read_error;

impl Connection {
    pub(super) async fn command(
        &mut self,
        command: Command,
        size: usize,
        session: &mut Session,
        appending: &mut Appending,
        out: &mut Vec<Utf8Bytes>,
    ) -> Result<(), End> {
        if !matches!(command.frame, ClientFrame::Ping | ClientFrame::Ack(_)) {
            self.active();
        }
        let name = command.frame.type_name();
        let done = match command.frame {
            ClientFrame::Ping => {
                out.push(encode::text(&ServerFrame::Pong));
                Ok(())
            }
            ClientFrame::Ack(ack) => self.ack(ack.offset, session),
            ClientFrame::ChatMessage(message) => return self.chat(message, size, appending, out).await,
            ClientFrame::Hello(_) => Err(error(ErrorCode::HelloRepeated, "hello was said, it is the first frame only")),
            ClientFrame::ReadReceipt(read) => self.read(&read.message_id, size).await,
            ClientFrame::TypingStart(target) => self.type_to(&target, true, size).await,
            ClientFrame::TypingStop(target) => self.type_to(&target, false, size).await,
            ClientFrame::PresenceSet(set) => self.declare(set.status, size).await,
            ClientFrame::PresenceGet(users) => self.get(&users, size, out).await,
            ClientFrame::PresenceSubscribe(users) => self.subscribe(&users, size, out).await,
            ClientFrame::PresenceUnsubscribe(users) => self.unsubscribe(&users, size).await,
        };
        if let Err(mut frame) = done {
            frame.command = Some(name.to_owned());
            frame.reference = command.reference;
            out.push(encode::text(&ServerFrame::Error(frame)));
        }
        Ok(())
    }

    fn asker(&self) -> Asker<'_> {
        Asker { user: &self.user, ip: self.ip, connection: Some(self.id) }
    }

    async fn allowed(&self, command: RateCommand, size: usize, about: Option<&Conversation>) -> Result<(), ErrorFrame> {
        let generation = self.core.deps.policies.current();
        let about = about.map(|conversation| (conversation, 0));
        let asked = self.core.ask_rate(&generation, self.asker(), command, size, about).await;
        let Err(refusal) = asked else { return Ok(()) };
        let code = match refusal.code {
            RefusalCode::RateLimited => ErrorCode::RateLimited,
            RefusalCode::Refused => ErrorCode::Refused,
            RefusalCode::PolicyUnavailable => ErrorCode::PolicyUnavailable,
        };
        let mut frame = error(code, &refusal.reason);
        frame.retryable = refusal.retryable;
        frame.retry_after_ms = refusal.retry_after_ms;
        Err(frame)
    }

    fn ack(&mut self, offset: u64, session: &mut Session) -> Result<(), ErrorFrame> {
        match session.ack(Position(offset)) {
            Ok(()) => {
                self.acked = self.acked.max(offset);
                Ok(())
            }
            Err(AckError::AboveSent { offset, sent }) => {
                let reason =
                    format!("ack {offset} lies above {sent}, the last position that was sent: nothing changed");
                Err(error(ErrorCode::AckAboveSent, &reason))
            }
        }
    }

    /// Look-up, policies and the place in the log are settled here, one send after another; only durability is awaited beside others.
    async fn chat(
        &mut self,
        message: ChatMessage,
        size: usize,
        appending: &mut Appending,
        out: &mut Vec<Utf8Bytes>,
    ) -> Result<(), End> {
        let began = self.now();
        let to = match conversation(&message.target) {
            Ok(to) => to,
            Err(wrong) => {
                let refused = Rejected::new(message.client_id, RejectCode::Invalid, wrong.to_string());
                out.push(encode::text(&ServerFrame::Rejected(refused)));
                return Ok(());
            }
        };
        while let Some(first) = self.unsettled.before(&to, &message.client_id).cloned() {
            // The own copy may have been written before an answer was lost: the client knows, and has no reason to send it again.
            if self.core.deps.delivery.landed(&self.user, &to, &first).await {
                self.unsettled.settled(&to, &first);
                continue;
            }
            let reason =
                format!("nobody knows yet what became of {first} in this conversation: send that one again first");
            out.push(encode::text(&ServerFrame::Rejected(Rejected::new(
                message.client_id,
                RejectCode::Unavailable,
                reason,
            ))));
            return Ok(());
        }
        let submission = match self.core.submission(self.asker(), to.clone(), message, size).await {
            Ok(submission) => submission,
            Err(refused) => {
                self.core.figures.send_settled(self.now().saturating_sub(began), refused.code.as_str());
                out.push(encode::text(&ServerFrame::Rejected(refused)));
                return Ok(());
            }
        };
        match self.core.deps.delivery.submit(submission).await {
            Submitted::Settled(outcome) => self.settle(Settled { to, outcome, began }, out),
            Submitted::Appending(outcome) => {
                appending.push(Box::pin(async move { Settled { to, outcome: outcome.await, began } }));
            }
        }
        if self.unsettled.overfull() {
            let detail = "too many conversations have a send with an unknown outcome";
            return Err(End::Close(CloseCode::TryLater, CloseCode::TryLater.reason_with(detail)));
        }
        Ok(())
    }

    /// Tells the outcome of a send.
    pub(super) fn settle(&mut self, settled: Settled, out: &mut Vec<Utf8Bytes>) {
        let took: Duration = self.now().saturating_sub(settled.began);
        match settled.outcome {
            SendOutcome::Accepted(outcome) => {
                self.unsettled.settled(&settled.to, &outcome.client_id);
                self.core.figures.send_settled(took, "accepted");
                out.push(encode::text(&ServerFrame::Accepted(accepted(outcome))));
            }
            SendOutcome::Rejected(outcome) => {
                let client_id = outcome.client_id.clone();
                let frame = rejected(outcome);
                if frame.code == RejectCode::Unavailable {
                    self.unsettled.unknown(&settled.to, &client_id, self.core.config().unsettled_max);
                } else {
                    self.unsettled.settled(&settled.to, &client_id);
                }
                self.core.figures.send_settled(took, frame.code.as_str());
                out.push(encode::text(&ServerFrame::Rejected(frame)));
            }
        }
    }

    async fn read(&self, message_id: &str, size: usize) -> Result<(), ErrorFrame> {
        let id = MessageId::parse(message_id).map_err(|wrong| invalid(&wrong))?;
        self.allowed(RateCommand::Receipt, size, None).await?;
        self.core.deps.delivery.read(&self.user, &id).await.map_err(|failed| {
            let (code, reason) = read_error(&failed);
            error(code, &reason)
        })
    }

    async fn type_to(&self, target: &Target, started: bool, size: usize) -> Result<(), ErrorFrame> {
        let to = conversation(target).map_err(|wrong| invalid(&wrong))?;
        self.allowed(RateCommand::Typing, size, Some(&to)).await?;
        self.core.deps.delivery.typing(&self.user, &to, started).await.map_err(|failed| {
            let (code, reason) = read_error(&failed);
            error(code, &reason)
        })
    }

    async fn declare(&self, status: PresenceStatus, size: usize) -> Result<(), ErrorFrame> {
        self.allowed(RateCommand::Presence, size, None).await?;
        self.report(ReportKind::Declared(match status {
            PresenceStatus::Online => Status::Online,
            PresenceStatus::Away => Status::Away,
            PresenceStatus::Offline => Status::Offline,
        }));
        Ok(())
    }

    async fn get(&self, users: &Users, size: usize, out: &mut Vec<Utf8Bytes>) -> Result<(), ErrorFrame> {
        let users = named(users)?;
        self.allowed(RateCommand::Presence, size, None).await?;
        let seen = self.core.deps.delivery.presence().get(&self.user, &users).await;
        out.extend(seen.iter().map(|seen| encode::text(&ServerFrame::PresenceUpdate(encode::wire_presence(seen)))));
        Ok(())
    }

    async fn subscribe(&self, users: &Users, size: usize, out: &mut Vec<Utf8Bytes>) -> Result<(), ErrorFrame> {
        let users = named(users)?;
        self.allowed(RateCommand::Presence, size, None).await?;
        let presence = self.core.deps.delivery.presence();
        let seen = presence.subscribe(&self.user, &self.socket(), &users).await;
        let seen = seen.map_err(|refused| error(ErrorCode::Invalid, &refused.to_string()))?;
        out.extend(seen.iter().map(|seen| encode::text(&ServerFrame::PresenceUpdate(encode::wire_presence(seen)))));
        Ok(())
    }

    async fn unsubscribe(&self, users: &Users, size: usize) -> Result<(), ErrorFrame> {
        let users = named(users)?;
        self.allowed(RateCommand::Presence, size, None).await?;
        self.core.deps.delivery.presence().unsubscribe(&self.socket(), &users);
        Ok(())
    }
}

fn named(users: &Users) -> Result<Vec<UserId>, ErrorFrame> {
    users.users.iter().map(|user| UserId::new(user)).collect::<Result<_, IdError>>().map_err(|wrong| invalid(&wrong))
}

fn invalid(wrong: &IdError) -> ErrorFrame {
    error(ErrorCode::Invalid, &wrong.to_string())
}
