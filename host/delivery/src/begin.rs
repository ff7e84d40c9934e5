//! Where a session begins: the position of its device, and what is missing from there. (DELIVERY 15, 16)

use std::collections::HashMap;
use std::sync::Arc;

use heddle_model::{DeviceId, Position, UserId};
use heddle_store::{DeviceRow, Hole, StoreError};

use crate::delivery::Shared;
use crate::receipts::{Job, Marks, Reached};
use crate::session::{Gap, Opened};
use crate::stream::{self, TryLater};

/// Pages of a resume that are read for receipts before the session begins.
const RESUME_PAGES_MAX: usize = 500;

/// Where a stream goes on, and what is known of its device.
pub(crate) struct Begun {
    pub(crate) opened: Opened,
    /// How often the device was set back before.
    pub(crate) turn: u64,
    pub(crate) set_back: Option<SetBack>,
}

/// An operator set the device back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetBack {
    /// To here.
    pub(crate) to: Position,
    /// From here: so far it had acknowledged, and that makes no receipts again.
    pub(crate) had: Position,
}

/// Where the stream goes on; a resume is an acknowledgement.
pub(crate) async fn begin(
    shared: &Arc<Shared>,
    user: &UserId,
    device: &DeviceId,
    resume: Option<Position>,
) -> Result<Begun, TryLater> {
    let later = |error: StoreError| TryLater(error.to_string());
    let now = shared.clock.now();
    shared.people.see(user, now).await.map_err(later)?;
    let devices = shared.store.devices.devices(user).await.map_err(later)?;
    let row = devices.iter().find(|row| row.device == *device);
    let (turn, replay) = row.map_or((0, None), |row| (row.turn, row.replay));
    let mut reached = shared.receipts.unsaved(user);
    // An acknowledgement that is not saved yet may have ended it.
    let beyond = |to: Position| reached.get(device).is_some_and(|at| at.turn == turn && at.position > to);
    let replay = replay.filter(|to| !beyond(*to));
    for row in devices {
        let stored = Reached { turn: row.turn, position: row.position };
        let newest = reached.entry(row.device).or_insert(stored);
        // Of the turn before, what is not saved yet counts no more.
        *newest = (*newest).max(stored);
    }
    let positions: HashMap<DeviceId, Position> =
        reached.into_iter().map(|(device, reached)| (device, reached.position)).collect();
    let stored = positions.get(device).copied();
    let had: Vec<Position> = positions.values().copied().chain(resume).collect();
    // A new device goes on from the oldest event that no device has acknowledged.
    let known = stored.or_else(|| positions.into_values().max()).unwrap_or(Position::START);
    let home = shared.numbering.partitioning.home(user);
    if shared.follows && resume.is_some_and(|resume| resume > shared.head(home)) {
        // Another node may have read further than this one.
        shared.log.catch_up().await.map_err(TryLater)?;
    }
    let head = shared.head(home);
    let mut opened = match resume {
        None => Opened { offset: known, resumed: stored.is_some(), gap: None },
        Some(resume) if resume > head => Opened { offset: known, resumed: false, gap: Some(Gap::AboveHead) },
        Some(resume) => Opened { offset: resume, resumed: true, gap: None },
    };
    let mut set_back = None;
    if let Some(to) = replay.filter(|to| *to < opened.offset) {
        // An operator set the device back: it takes from there whatever it says, until it has acknowledged something beyond.
        tracing::info!(%user, %device, from = %opened.offset, %to, "a device takes its stream again");
        opened = Opened { offset: to, resumed: false, gap: None };
        set_back = Some(SetBack { to, had: stored.unwrap_or(Position::START) });
    }
    if shared.lost(user, opened.offset, &had).await.map_err(later)? {
        opened.gap = opened.gap.or(Some(Gap::Lost));
    }
    if opened.offset > known {
        acknowledge(shared, user, known, opened.offset).await?;
    }
    let row = DeviceRow::new(device.clone(), opened.offset, now, turn);
    let per_user = shared.config.devices_per_user;
    if stored.is_none_or(|stored| stored > opened.offset) {
        shared.receipts.forget(user, device);
        shared.store.devices.reset_device(user, row, per_user).await.map_err(later)?;
    } else {
        let reached = Reached { turn, position: opened.offset };
        let job = Job { reader: user.clone(), marks: Marks::default(), device: Some((device.clone(), reached)) };
        shared.receipts.put(job).await;
    }
    Ok(Begun { opened, turn, set_back })
}

/// Receipts for what a device got and could not acknowledge.
async fn acknowledge(shared: &Arc<Shared>, user: &UserId, from: Position, to: Position) -> Result<(), TryLater> {
    let mut marks = Marks::default();
    let mut after = from;
    for _ in 0..RESUME_PAGES_MAX {
        let page = stream::read(shared, user, after).await?;
        for event in page.events.iter().filter(|event| event.position <= to) {
            shared.mark(&mut marks, user, event);
        }
        if page.upto <= after || page.upto >= to {
            break;
        }
        after = page.upto;
    }
    shared.receipts.put(Job { reader: user.clone(), marks, device: None }).await;
    Ok(())
}

impl Shared {
    /// Is something above `from` that the user had in neither archive nor log? `had`: positions that devices of the user reached. (DELIVERY 15)
    async fn lost(&self, user: &UserId, from: Position, had: &[Position]) -> Result<bool, StoreError> {
        let home = self.numbering.partitioning.home(user);
        let ahead: Vec<Hole> =
            self.holes.read().iter().filter(|hole| hole.partition == home && from < hole.upto).copied().collect();
        if ahead.is_empty() {
            return Ok(false);
        }
        let known = self.store.epochs.losses(user).await?;
        let mut lost = false;
        for hole in ahead {
            let proved = had.iter().any(|position| hole.contains(*position));
            if proved && !known.contains(&hole.upto) {
                self.store.epochs.add_loss(user, hole.upto).await?;
            }
            lost |= proved || hole.certain() || known.contains(&hole.upto);
        }
        Ok(lost)
    }
}
