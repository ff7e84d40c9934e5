//! Components that nobody wrote: random ones, random modules inside a real guest, and real plugin files with bytes changed or missing. Loading them, and
//! calling what loads, ends in an answer or in words; it never panics, never hangs, and the process is as large as before.

mod guests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use guests::{AT, HOSTILE, audience, envelope, observation, options, random_guests, request, wat_guest};
use heddle_pack::{Manifest, Packed, pack, unpack};
use heddle_wasm::{Engine, Limits, LoadError, LoadOptions, NoMessage, Plugin};
use parking_lot::Mutex;

const SEEDS: u64 = 400;
/// What all of one kind may leave behind in the process.
const LEFT_BYTES_MAX: u64 = 32 << 20;
/// Held by each test: memory is measured for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

static RANDOM: LazyLock<PathBuf> = LazyLock::new(|| random_guests(0..SEEDS));

/// Random starts like to loop: they get little time.
static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(Limits { start_ms_max: 5, instances_max: 16, ..Limits::default() }).expect("engine"));

/// Memory of this process that lies in the machine's (proc(5): the second number of statm, in pages).
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = text.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a number");
    pages * rustix::param::page_size() as u64
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn read(folder: &Path, seed: u64, ending: &str) -> Vec<u8> {
    std::fs::read(folder.join(format!("{seed}.{ending}"))).expect("made")
}

fn packed(component: &[u8], hook: &str) -> Result<Packed, heddle_pack::PackError> {
    let text = format!("name = \"random\"\nversion = \"0.1.0\"\n[hooks.{hook}]\n");
    unpack(pack(component, &Manifest::parse(&text, "plugin.toml")?, &[])?)
}

/// Every hook, whatever is there.
fn call(plugin: &Plugin) {
    let _ = plugin.rate_limit(&AT, &request(), &[]);
    let _ = plugin.routing(&AT, &envelope(), &NoMessage);
    let _ = plugin.fanout_plan(&AT, &audience(), &NoMessage);
    let _ = plugin.fanout_sort(&AT, &audience(), &[0; 3], &NoMessage);
    let _ = plugin.presence_observe(&AT, &observation());
    let _ = plugin.presence_reveal(&AT, "alice", &[0; 3]);
}

/// Loads and calls; what came of it, in a word. The words that an author would read are there.
fn tried(packed: Result<Packed, heddle_pack::PackError>) -> &'static str {
    let packed = match packed {
        Ok(packed) => packed,
        Err(error) => return said(&error.to_string(), "no plugin file"),
    };
    match ENGINE.load(&packed, &LoadOptions::default()) {
        Ok(plugin) => {
            call(&plugin);
            "serves"
        }
        Err(error) => {
            let kind = match &error {
                LoadError::Compile(_) => "does not compile",
                LoadError::MissingExport { .. } => "exports too little",
                LoadError::UnknownImport { .. } => "imports too much",
                LoadError::WrongType { .. } => "has wrong types",
                LoadError::Start(_) => "fell at start",
                LoadError::ConfigureFault(_) | LoadError::Refused { .. } => "fell in configure",
                _ => "other",
            };
            said(&error.to_string(), kind)
        }
    }
}

fn said(text: &str, kind: &'static str) -> &'static str {
    assert!(text.len() > 10, "{kind}: {text:?} says nothing");
    kind
}

/// Does it with the process measured around it, and shows that the engine is as good as before.
fn measured(what: impl FnOnce(&mut BTreeMap<&'static str, usize>)) -> BTreeMap<&'static str, usize> {
    let _alone = ALONE.lock();
    let innocent = || call(&ENGINE.load(&HOSTILE, &options("behave")).expect("innocent"));
    innocent();
    let (before, mut counts) = (resident_bytes(), BTreeMap::new());
    what(&mut counts);
    let left = resident_bytes().saturating_sub(before);
    assert!(left < LEFT_BYTES_MAX, "{} KiB are left of {counts:?}", left >> 10);
    innocent();
    counts
}

#[test]
fn random_components_are_refused_in_words() {
    let folder = &*RANDOM;
    let counts = measured(|counts| {
        for seed in 0..SEEDS {
            *counts.entry(tried(packed(&read(folder, seed, "component"), "routing"))).or_default() += 1;
        }
    });
    assert_eq!(counts.values().sum::<usize>() as u64, SEEDS);
    assert!(counts.contains_key("imports too much") && counts.contains_key("exports too little"), "{counts:?}");
    assert_eq!(counts.get("serves"), None, "a policy by chance: {counts:?}");
}

#[test]
fn random_modules_inside_a_real_guest_start_or_fall_and_harm_nobody() {
    let (folder, guest) = (&*RANDOM, bare(&wat_guest("out-of-bounds")));
    let counts = measured(|counts| {
        for seed in 0..SEEDS {
            let with = with_module(&guest, &read(folder, seed, "module"));
            *counts.entry(tried(packed(&with, "fanout"))).or_default() += 1;
        }
    });
    // Some have a start function that traps or loops, or want more than they may have; most do nothing of the kind.
    assert!(counts.contains_key("serves") && counts.contains_key("fell at start"), "{counts:?}");
}

#[test]
fn a_small_plugin_file_with_bytes_changed_is_refused_or_serves_within_its_limits() {
    let file = wat_guest("table-bomb").bytes;
    let counts = measured(|counts| {
        for seed in 0..1_000 {
            *counts.entry(tried(unpack(changed(&file, seed)))).or_default() += 1;
        }
    });
    assert!(counts.len() > 2, "changes reach every stage: {counts:?}");
}

#[test]
fn a_large_plugin_file_with_bytes_changed_is_refused_or_serves_within_its_limits() {
    let counts = measured(|counts| {
        for seed in 0..60 {
            *counts.entry(tried(unpack(changed(&HOSTILE.bytes, seed)))).or_default() += 1;
        }
    });
    assert_eq!(counts.values().sum::<usize>(), 60);
}

#[test]
fn a_plugin_file_that_ends_too_early_is_refused_wherever_it_ends() {
    let file = wat_guest("table-bomb").bytes;
    let counts = measured(|counts| {
        for end in 0..file.len() {
            *counts.entry(tried(unpack(&file[..end]))).or_default() += 1;
        }
        let mut state = 1;
        for _ in 0..200 {
            let end = random(&mut state) as usize % HOSTILE.bytes.len();
            *counts.entry(tried(unpack(&HOSTILE.bytes[..end]))).or_default() += 1;
        }
    });
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&"no plugin file"], "{counts:?}");
}

/// One to four bytes are others.
fn changed(file: &[u8], seed: u64) -> Vec<u8> {
    let (mut bytes, mut state) = (file.to_vec(), seed);
    for _ in 0..=random(&mut state) % 4 {
        let at = random(&mut state) as usize % bytes.len();
        bytes[at] ^= (random(&mut state) % 255 + 1) as u8;
    }
    bytes
}

/// Without manifest and cases, which are in the last section.
fn bare(packed: &Packed) -> Vec<u8> {
    let (name, mut bytes) = (b"heddle:plugin", packed.bytes.to_vec());
    let mut start = 8;
    while let Some((id, content, end)) = section(&bytes, start) {
        if id == 0 && bytes[content..end].windows(name.len()).any(|window| window == name) {
            bytes.drain(start..end);
        } else {
            start = end;
        }
    }
    bytes
}

/// The component, with one more core module, which is instantiated last.
fn with_module(component: &[u8], module: &[u8]) -> Vec<u8> {
    let (mut start, mut modules) = (8, 0);
    while let Some((id, _, end)) = section(component, start) {
        modules += u64::from(id == 1);
        start = end;
    }
    let mut bytes = component.to_vec();
    let mut append = |id: u8, content: &[u8]| {
        bytes.push(id);
        leb128(&mut bytes, content.len() as u64);
        bytes.extend_from_slice(content);
    };
    append(1, module);
    // One core instance: of that module, with no arguments.
    let mut instance = vec![1, 0];
    leb128(&mut instance, modules);
    instance.push(0);
    append(2, &instance);
    bytes
}

/// Id, begin and end of the content of the section that begins at `start`.
fn section(bytes: &[u8], start: usize) -> Option<(u8, usize, usize)> {
    let id = *bytes.get(start)?;
    let (mut length, mut at, mut shift) = (0, start + 1, 0);
    loop {
        let byte = *bytes.get(at)?;
        (length, at) = (length | usize::from(byte & 0x7f) << shift, at + 1);
        shift += 7;
        if byte & 0x80 == 0 {
            return Some((id, at, at + length));
        }
    }
}

fn leb128(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
