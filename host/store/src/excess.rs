//! What of a catalog is above its bounds. The same in every database.

use heddle_model::Digest;

use crate::CatalogBounds;
use crate::cell::{fixed, uint};
use crate::fault::Fault;

/// Generations that go at one time, at most.
pub(crate) const GENERATIONS_AT_ONCE: i64 = 1_000;

/// A plugin that is added again within so long of the last time is not written again.
pub(crate) const ADDED_AGAIN_MS: i64 = 60_000;

/// Digest, when it was added, bytes of its file.
pub(crate) type PluginColumns = (Vec<u8>, i64, i64);

/// Plugins above the bounds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Excess {
    /// They lose their file.
    pub(crate) files: Vec<Digest>,
    /// They are forgotten as a whole.
    pub(crate) plugins: Vec<Digest>,
}

/// Of plugins that nobody needs, those that were added longest ago.
pub(crate) fn excess(rows: Vec<PluginColumns>, bounds: &CatalogBounds) -> Result<Excess, Fault> {
    let (mut bytes, mut plugins) = (0, rows.len());
    let mut unneeded = Vec::new();
    for (digest, added_at, size) in rows {
        let digest = Digest(fixed("plugins", &digest)?);
        let (added_at, size) = (uint("plugins", added_at)?, uint("plugins", size)?);
        bytes += size;
        if added_at < bounds.added_before && !bounds.plugins_needed.contains(&digest) {
            unneeded.push((added_at, digest, size));
        }
    }
    unneeded.sort_unstable_by_key(|(added_at, digest, _)| (*added_at, digest.0));
    let mut excess = Excess::default();
    for (_, digest, size) in unneeded {
        if plugins > bounds.plugins_max {
            plugins -= 1;
            excess.plugins.push(digest);
        } else if bytes > bounds.file_bytes_max && size > 0 {
            excess.files.push(digest);
        } else {
            continue;
        }
        bytes -= size;
    }
    Ok(excess)
}

/// Of generations behind the newest, those that nobody needs.
pub(crate) fn unneeded(numbers: Vec<(i64,)>, bounds: &CatalogBounds) -> impl Iterator<Item = i64> {
    let needed = |number: &i64| u64::try_from(*number).is_ok_and(|number| bounds.generations_needed.contains(&number));
    numbers.into_iter().map(|(number,)| number).filter(move |number| !needed(number))
}
