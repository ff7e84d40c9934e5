//! `heddle plugin dev`: every save is built, tried and deployed; whatever is wrong is shown, and the generation before goes on.

mod glob;
mod round;
mod shown;
mod watch;

use std::path::Path;
use std::time::Duration;

use heddle_model::{Clock as _, SystemClock};
use heddle_pack::Manifest;
use hyper::Method;
use hyper::body::Bytes;
use tokio::signal::unix::{SignalKind, signal};

use super::args::AskArgs;
use super::change::answer;
use super::sign::Key;
use crate::failure::Failure;

use round::Round;
use shown::{Event, Screen};
use watch::{Changes, Watch};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_millis(200);

/// Runs until it is told to stop.
///
/// # Errors
/// There is no server, or the directory has no plugin.
pub async fn command(dir: &Path, restore: bool, key: Option<&Path>, ask: &AskArgs) -> Result<String, Failure> {
    let manifest = manifest(dir)?;
    let key = key.map(Key::read).transpose()?;
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", dir.display()));
    let found = answer(ask, Method::GET, "/policies", Bytes::new()).await?;
    let first = found["generation"].as_u64().unwrap_or_default();
    let mut screen = Screen::new(ask.output);
    let mut watch = Watch::new(dir, &globs(&manifest), &dir.join(format!("{}.wasm", manifest.name)));
    let mut changes = watch.look().map_err(failed)?;
    let mut round = Round::new(dir, ask, key, first)?;
    screen.say(&Event::Watching { files: watch.files(), generation: first });

    let clock = SystemClock::new();
    let (mut interrupted, mut ended) =
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?);
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looked_at = clock.now();
    // The first build belongs to no save: it counts from now.
    changes.at = Some(Duration::from_millis(looked_at));
    let stop = async {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = ended.recv() => {}
        }
    };
    tokio::pin!(stop);
    loop {
        if !changes.files.is_empty() {
            let saved_at = saved_at(&changes, looked_at, clock.now());
            tokio::select! {
                event = round.run(saved_at) => screen.say(&event),
                () = &mut stop => break,
            }
            if changes.files.iter().any(|path| path.ends_with("plugin.toml"))
                && let Ok(manifest) = self::manifest(dir)
            {
                watch.follow(&globs(&manifest));
            }
        }
        tokio::select! {
            _ = looks.tick() => {}
            () = &mut stop => break,
        }
        looked_at = clock.now();
        changes = watch.look().map_err(failed)?;
    }
    screen.say(&round.end(restore).await?);
    Ok(String::new())
}

/// When the change was saved, in milliseconds since 1970: as the file says, unless that cannot be.
fn saved_at(changes: &Changes, looked_at: u64, now: u64) -> u64 {
    let written = changes.at.and_then(|at| u64::try_from(at.as_millis()).ok()).unwrap_or(looked_at);
    let earliest = looked_at.saturating_sub(2 * u64::try_from(LOOK.as_millis()).unwrap_or_default());
    if (earliest..=now).contains(&written) { written } else { looked_at }
}

fn manifest(dir: &Path) -> Result<Manifest, Failure> {
    let path = dir.join("plugin.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::missing(format!("{} cannot be read ({error}): name the directory of a plugin", path.display()))
    })?;
    Manifest::parse(&text, &path.display().to_string()).map_err(|error| Failure::new(error.to_string()))
}

fn globs(manifest: &Manifest) -> Vec<String> {
    manifest.build.as_ref().map(|build| build.watch.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_save_counts_from_the_file_s_own_time_unless_that_cannot_be() {
        let at = |ms| Changes { files: Vec::new(), at: Some(Duration::from_millis(ms)) };
        assert_eq!(saved_at(&at(9_900), 10_000, 10_050), 9_900);
        assert_eq!(saved_at(&at(10_020), 10_000, 10_050), 10_020);
        // Copied with its old time; from a clock ahead of ours; removed.
        assert_eq!(saved_at(&at(1_000), 10_000, 10_050), 10_000);
        assert_eq!(saved_at(&at(99_000), 10_000, 10_050), 10_000);
        assert_eq!(saved_at(&Changes::default(), 10_000, 10_050), 10_000);
    }
}
