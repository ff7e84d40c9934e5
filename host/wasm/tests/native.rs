//! The folder of native code is bounded: what loaded plugins came from stays, of the rest what was used longest ago goes.

use std::path::PathBuf;
use std::sync::Arc;

use heddle_wasm::{LoadOptions, NativeCache, Plugin};

mod guests;
use guests::{ENGINE, options, with_manifest};

/// A folder that has room for so many components.
struct Cache {
    dir: tempfile::TempDir,
    bytes_max: u64,
}

impl Cache {
    fn with_room_for(files: f64) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let probe = Self { dir, bytes_max: u64::MAX };
        drop(probe.load("probe"));
        let [file] = <[PathBuf; 1]>::try_from(probe.files()).expect("one file");
        let bytes = std::fs::metadata(&file).expect("a file").len();
        std::fs::remove_file(file).expect("it goes");
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bytes_max = (bytes as f64 * files) as u64;
        Self { bytes_max, ..probe }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("native")
    }

    fn load(&self, name: &str) -> Arc<Plugin> {
        let packed = with_manifest(|text| text.replacen("name = \"hostile\"", &format!("name = \"{name}\""), 1));
        assert_eq!(packed.manifest.name, name, "another component");
        let cache = Some(NativeCache { dir: self.folder(), bytes_max: self.bytes_max });
        ENGINE.load(&packed, &LoadOptions { cache, ..options("behave") }).unwrap_or_else(|error| panic!("{error}"))
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder()).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    fn has(&self, digest: &str) -> bool {
        self.files().iter().any(|path| path.to_string_lossy().contains(digest))
    }
}

#[test]
fn what_a_loaded_plugin_came_from_stays_and_what_was_used_longest_ago_goes() {
    let cache = Cache::with_room_for(3.5);
    let held = cache.load("held");
    let old = cache.load("old").digest().to_owned();
    let copied = cache.load("copied").afresh();
    let new = cache.load("new");
    assert!(cache.has(held.digest()) && cache.has(copied.digest()) && cache.has(new.digest()));
    assert!(!cache.has(&old), "nobody uses it");
}

#[test]
fn being_loaded_again_counts_as_use() {
    let cache = Cache::with_room_for(2.5);
    let [again, once] = ["again", "once"].map(|name| cache.load(name).digest().to_owned());
    drop(cache.load("again"));
    let _new = cache.load("new");
    assert_eq!((cache.has(&again), cache.has(&once)), (true, false));
}

#[test]
fn what_is_in_use_stays_however_small_the_bound_is_and_goes_when_nobody_uses_it() {
    let cache = Cache::with_room_for(0.5);
    let held = ["one", "two", "three"].map(|name| cache.load(name));
    assert!(held.iter().all(|plugin| cache.has(plugin.digest())));
    std::fs::write(cache.folder().join("left-behind.1.partial"), b"half").expect("a file");
    std::fs::write(cache.folder().join("of-an-operator.txt"), b"whole").expect("a file");
    drop(held);
    let last = cache.load("last");
    assert!(cache.has(last.digest()));
    assert_eq!(cache.files().len(), 2, "and what is not ours: {:?}", cache.files());
}
