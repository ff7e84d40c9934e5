//! Rows of more than one column, as every database gives them.

use heddle_model::{DeviceId, Digest, MessageId, NodeId, Position, TopicPartition};

use crate::cell::{fixed, id, partition, position, uint, user};
use crate::fault::Fault;
use crate::{ArchivedRecord, CatalogGeneration, DeadLetterRow, Denial, DeviceRow, NodeReport, NodeRow, Revocation};

/// Number, content, JSON, time, why.
pub(crate) type GenerationColumns = (i64, Vec<u8>, String, i64, String);

pub(crate) fn generation((number, content, json, at, why): GenerationColumns) -> Result<CatalogGeneration, Fault> {
    Ok(CatalogGeneration {
        number: uint("generations", number)?,
        content: Digest(fixed("generations", &content)?),
        json,
        at: uint("generations", at)?,
        why,
    })
}

/// Partition, position, append time, message id, bytes.
pub(crate) type RecordColumns = (i64, i64, i64, Option<Vec<u8>>, Vec<u8>);

pub(crate) fn record((code, at, appended_at, id, bytes): RecordColumns) -> Result<ArchivedRecord, Fault> {
    Ok(ArchivedRecord {
        partition: partition("records", code)?,
        position: position("records", at)?,
        appended_at: uint("records", appended_at)?,
        message_id: id.map(|id| fixed("records", &id).map(MessageId)).transpose()?,
        bytes: bytes.into(),
    })
}

/// A row whose record is missing is an error, never a silent hole.
pub(crate) fn present(bytes: Option<Vec<u8>>, at: i64) -> Result<Vec<u8>, Fault> {
    bytes.ok_or_else(|| Fault::broken("records", format!("the record at {at} is missing")))
}

/// Partition and cursor.
pub(crate) fn derived_row((code, upto): (i64, i64)) -> Result<(TopicPartition, Position), Fault> {
    Ok((partition("derived_cursors", code)?, position("derived_cursors", upto)?))
}

/// Device, position, seen, replay, turn.
pub(crate) type DeviceColumns = (String, i64, i64, Option<i64>, i64);

pub(crate) fn device((name, at, seen_at, replay, turn): DeviceColumns) -> Result<DeviceRow, Fault> {
    Ok(DeviceRow {
        device: id("devices", DeviceId::new(&name))?,
        position: position("devices", at)?,
        seen_at: uint("devices", seen_at)?,
        replay: replay.map(|to| position("devices", to)).transpose()?,
        turn: uint("devices", turn)?,
    })
}

/// Partition, position, who, why, when, size.
pub(crate) type DeadLetterColumns = (i64, i64, String, String, i64, i64);

pub(crate) fn dead_letter((code, at, by, error, when, bytes): DeadLetterColumns) -> Result<DeadLetterRow, Fault> {
    Ok(DeadLetterRow {
        partition: partition("dead_letters", code)?,
        position: position("dead_letters", at)?,
        by: by.into(),
        error: error.into(),
        at: uint("dead_letters", when)?,
        bytes: uint("dead_letters", bytes)?,
    })
}

/// Node, report as JSON, age.
pub(crate) type NodeColumns = (String, String, i64);

pub(crate) fn node((node, report, age): NodeColumns) -> Result<NodeRow, Fault> {
    let broken = |reason: String| Fault::broken("nodes", reason);
    Ok(NodeRow {
        report: serde_json::from_str(&report).map_err(|error| broken(format!("{node}: {error}")))?,
        node: NodeId::new(&node).map_err(|error| broken(error.to_string()))?,
        // A clock that was set back makes nobody older.
        age_ms: uint("nodes", age.max(0))?,
    })
}

/// As JSON.
pub(crate) fn report(report: &NodeReport) -> Result<String, Fault> {
    serde_json::to_string(report).map_err(|error| Fault::broken("nodes", error.to_string()))
}

/// Version, user, the other if it is a block, whether it holds, up to when if it is a revocation.
pub(crate) type DenialColumns = (i64, String, Option<String>, bool, Option<i64>);

pub(crate) fn denial((version, name, other, holds, upto): DenialColumns) -> Result<(u64, Denial), Fault> {
    let denial = match other {
        Some(other) => Denial::Block { user: user("blocks", &name)?, other: user("blocks", &other)?, holds },
        None => {
            let upto = upto.filter(|_| holds).map(|upto| uint("revocations", upto)).transpose()?;
            Denial::Revocation { user: user("revocations", &name)?, upto }
        }
    };
    Ok((uint("denial_version", version)?, denial))
}

/// User, up to when, since when, who, why.
pub(crate) type RevocationColumns = (String, i64, i64, String, String);

pub(crate) fn revocation((name, upto, at, who, why): RevocationColumns) -> Result<Revocation, Fault> {
    let (upto, at) = (uint("revocations", upto)?, uint("revocations", at)?);
    Ok(Revocation { user: user("revocations", &name)?, upto, at, who, why })
}
