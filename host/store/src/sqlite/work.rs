//! Everything that can be written.

use heddle_model::{Conversation, DeviceId, GroupId, Millis, NodeId, Position, TopicPartition, UserId};
use sqlx::sqlite::SqliteConnection;

use super::{archive, catalog, denials, devices, directory, epochs, nodes, rebuild};
use crate::fault::Fault;
use crate::{
    AuditEntry, CatalogBounds, CatalogGeneration, CatalogPlugin, CatalogRemoved, DeviceRow, GroupDelta, Hole,
    NodeReport, Noted, ReceiptCut, Revocation, Stretch,
};

/// One write.
#[derive(Debug)]
pub(super) enum Work {
    Archive(archive::Prepared),
    KeepDerived(Vec<(TopicPartition, Position)>),
    SaveDevices { rows: Vec<(UserId, DeviceRow)>, per_user_max: u32 },
    ResetDevice { user: UserId, row: DeviceRow, per_user_max: u32 },
    AddAudit(AuditEntry),
    SaveRead { user: UserId, conversation: Conversation, order: Position },
    SeeUser { user: UserId, at: Millis },
    SetContact { user: UserId, other: UserId, listed: bool, at: Millis },
    SetMute { user: UserId, conversation: Conversation, muted: bool },
    SetBlock { user: UserId, other: UserId, holds: bool, at: Millis, max: u32 },
    Revoke { revocation: Revocation, audit: AuditEntry, max: u32 },
    Restore { user: UserId, audit: AuditEntry },
    AddPlugin(CatalogPlugin),
    AddGeneration(CatalogGeneration, AuditEntry),
    KeepWithin(CatalogBounds),
    Epoch { identity: [u8; 16], partitions: u32, heads: Vec<(TopicPartition, u64)> },
    Repartition { identity: [u8; 16], partitions: u32, starts: Vec<(TopicPartition, u64)> },
    AddHole(Hole),
    AddLoss { user: UserId, upto: Position },
    Beat(NodeId, NodeReport),
    Leave(NodeId),
    ReplayDevices { user: UserId, device: Option<DeviceId>, to: Position },
    PrepareRebuild,
    EndRebuild,
    Replace(Stretch, archive::Prepared),
    RemakeGroup { group: GroupId, after: Position, changes: Vec<GroupDelta>, keep: bool },
    SetHead(GroupId, Position),
    RemakeReceipts(Vec<ReceiptCut>, archive::Prepared),
    RemakeConversations(Vec<(String, String)>),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Changed(bool),
    Noted(Noted),
    Epoch(u32),
    Devices(Vec<DeviceId>),
    Removed(CatalogRemoved),
}

impl Work {
    /// Its name, in errors.
    pub(super) fn operation(&self) -> &'static str {
        match self {
            Self::Archive(_) => "archive",
            Self::KeepDerived(_) => "keep derived",
            Self::SaveDevices { .. } => "save devices",
            Self::ResetDevice { .. } => "reset device",
            Self::AddAudit(_) => "add audit",
            Self::SaveRead { .. } => "save read",
            Self::SeeUser { .. } => "see user",
            Self::SetContact { .. } => "set contact",
            Self::SetMute { .. } => "set mute",
            Self::SetBlock { .. } => "set block",
            Self::Revoke { .. } => "revoke",
            Self::Restore { .. } => "restore",
            Self::AddPlugin(_) => "add plugin",
            Self::AddGeneration(..) => "add generation",
            Self::KeepWithin(_) => "keep the catalog within its bounds",
            Self::Epoch { .. } => "epoch",
            Self::Repartition { .. } => "repartition",
            Self::AddHole(_) => "add hole",
            Self::AddLoss { .. } => "add loss",
            Self::Beat(..) => "beat",
            Self::Leave(_) => "leave",
            Self::ReplayDevices { .. } => "replay devices",
            Self::PrepareRebuild => "prepare a rebuild",
            Self::EndRebuild => "end a rebuild",
            Self::Replace(..) => "replace",
            Self::RemakeGroup { .. } => "remake a group",
            Self::SetHead(..) => "set head",
            Self::RemakeReceipts(..) => "remake receipts",
            Self::RemakeConversations(_) => "remake conversations",
        }
    }

    /// Writes it; the caller commits. Runs again from the start if the commit fails.
    pub(super) async fn run(&self, connection: &mut SqliteConnection) -> Result<Outcome, Fault> {
        match self {
            Self::Archive(prepared) => archive::write(connection, prepared).await?,
            Self::KeepDerived(cursors) => archive::keep_derived(connection, cursors).await?,
            Self::SaveDevices { rows, per_user_max } => devices::save(connection, rows, *per_user_max).await?,
            Self::ResetDevice { user, row, per_user_max } => {
                devices::reset(connection, user, row, *per_user_max).await?;
            }
            Self::SaveRead { user, conversation, order } => {
                devices::save_read(connection, user, conversation, *order).await?;
            }
            Self::SeeUser { user, at } => directory::see_user(connection, user, *at).await?,
            Self::SetContact { user, other, listed, at } => {
                let changed = directory::set_contact(connection, user, other, *listed, *at).await?;
                return Ok(Outcome::Changed(changed));
            }
            Self::SetMute { user, conversation, muted } => {
                directory::set_mute(connection, user, conversation, *muted).await?;
            }
            Self::SetBlock { user, other, holds, at, max } => {
                return denials::set_block(connection, user, other, *holds, *at, *max).await.map(Outcome::Noted);
            }
            Self::Revoke { revocation, audit, max } => {
                return denials::revoke(connection, revocation, audit, *max).await.map(Outcome::Noted);
            }
            Self::Restore { user, audit } => {
                return denials::restore(connection, user, audit).await.map(Outcome::Changed);
            }
            Self::AddPlugin(plugin) => catalog::add_plugin(connection, plugin).await?,
            Self::AddGeneration(generation, audit) => {
                return catalog::add_generation(connection, generation, audit).await.map(Outcome::Changed);
            }
            Self::KeepWithin(bounds) => {
                return catalog::keep_within(connection, bounds).await.map(Outcome::Removed);
            }
            Self::AddAudit(audit) => catalog::add_audit(connection, audit).await?,
            Self::Epoch { identity, partitions, heads } => {
                return epochs::epoch(connection, *identity, *partitions, heads).await.map(Outcome::Epoch);
            }
            Self::Repartition { identity, partitions, starts } => {
                let epoch = epochs::repartition(connection, *identity, *partitions, starts).await?;
                return Ok(epoch.map_or(Outcome::Changed(false), Outcome::Epoch));
            }
            Self::AddHole(hole) => epochs::add_hole(connection, hole).await?,
            Self::AddLoss { user, upto } => epochs::add_loss(connection, user, *upto).await?,
            Self::Beat(node, report) => nodes::beat(connection, node, report).await?,
            Self::Leave(node) => nodes::leave(connection, node).await?,
            Self::ReplayDevices { user, device, to } => {
                return devices::replay(connection, user, device.as_ref(), *to).await.map(Outcome::Devices);
            }
            Self::PrepareRebuild => rebuild::prepare(connection).await?,
            Self::EndRebuild => rebuild::end(connection).await?,
            Self::Replace(stretch, prepared) => rebuild::replace(connection, *stretch, prepared).await?,
            Self::RemakeGroup { group, after, changes, keep } => {
                let changed = rebuild::remake_group(connection, group, *after, changes, *keep).await?;
                return Ok(Outcome::Changed(changed));
            }
            Self::SetHead(group, head) => rebuild::set_head(connection, group, *head).await?,
            Self::RemakeReceipts(cuts, prepared) => rebuild::remake_receipts(connection, cuts, prepared).await?,
            Self::RemakeConversations(wrong) => rebuild::remake_conversations(connection, wrong).await?,
        }
        Ok(Outcome::Done)
    }
}

impl Outcome {
    /// Whether anything changed.
    pub(super) fn changed(&self) -> bool {
        *self == Self::Changed(true)
    }

    /// What came of a block or a revocation.
    pub(super) fn noted(self) -> Noted {
        match self {
            Self::Noted(noted) => noted,
            Self::Done | Self::Changed(_) | Self::Epoch(_) | Self::Devices(_) | Self::Removed(_) => Noted::Unchanged,
        }
    }

    /// What of the catalog went.
    pub(super) fn removed(&self) -> CatalogRemoved {
        match self {
            Self::Removed(removed) => *removed,
            Self::Done | Self::Changed(_) | Self::Epoch(_) | Self::Devices(_) | Self::Noted(_) => {
                CatalogRemoved::default()
            }
        }
    }
}
