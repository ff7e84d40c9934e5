//! Reading a user's stream: the archive up to its cursor, then the shared tail. (DELIVERY 15)

use std::sync::Arc;

use heddle_model::{Position, Record, UserId};

use crate::Event;
use crate::delivery::Shared;
use crate::tail::TailRead;

/// A part of a stream.
#[derive(Debug)]
pub(crate) struct Page {
    /// In order, all above where the reading began.
    pub(crate) events: Vec<Arc<Event>>,
    /// There are no others up to here.
    pub(crate) upto: Position,
}

/// The archive is away, and the position lies below the tail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TryLater(pub(crate) String);

/// The user's events above `after`, about a page of them; an empty page that reaches no further than the tail means: all was read.
pub(crate) async fn read(shared: &Shared, user: &UserId, after: Position) -> Result<Page, TryLater> {
    let home = shared.numbering.partitioning.home(user);
    let limit = shared.config.page_events;
    let partition = shared.partition(home);
    if let TailRead::Events { events, upto } = partition.tail.read(user, after, limit as usize) {
        return Ok(Page { events, upto });
    }
    let page = shared.store.archive.stream(user, home, after, limit).await.map_err(|e| TryLater(e.to_string()))?;
    // Of older lives of the log the archive has all that there is.
    let archived = page.archived.max(shared.numbering.upto(0));
    let full = page.rows.len() == limit as usize;
    let mut events = Vec::with_capacity(page.rows.len());
    for row in page.rows {
        let record = Record::decode(&row.bytes).map_err(|e| TryLater(format!("event {}: {e}", row.position)))?;
        events.extend(Event::new(row.position, record, row.bytes.len()).map(Arc::new));
    }
    let last = events.last().map(|event| event.position);
    let upto = match last {
        Some(last) if full => last,
        Some(last) => last.max(archived),
        None => archived,
    };
    if upto <= after {
        // The tail has let go of what the archive does not have yet.
        shared.pace.hurry_all(shared).await;
        return Err(TryLater(format!("archive has come to {archived}, position {after} waits for it")));
    }
    Ok(Page { events, upto })
}
