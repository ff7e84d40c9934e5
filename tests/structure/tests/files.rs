//! What files are called, how they open, and how long they are.

use std::path::PathBuf;

use heddle_structure::{crates, root, rust_files, shown, text};

/// A file this long has a second room in it.
const LINES_MAX: usize = 600;
/// A first-party policy is an example too.
const PLUGIN_LINES_MAX: usize = 150;
/// Words that say nothing about what is inside.
const BANNED: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "misc", "prelude"];

fn ours() -> Vec<PathBuf> {
    let dirs = ["host", "plugins", "tests", "sdk/rust"];
    dirs.iter().flat_map(|dir| rust_files(&root().join(dir))).collect()
}

fn generated(path: &std::path::Path) -> bool {
    // `sdk/rust` keeps its bindings as wit-bindgen writes them.
    path.ends_with("bindings.rs")
}

#[test]
fn each_crate_opens_with_what_it_is_and_what_to_read() {
    for of in crates() {
        let opening = text(&of.opening());
        let docs: Vec<&str> = opening.lines().take_while(|line| line.starts_with("//!")).collect();
        let what = docs.join(" ");
        assert!(what.len() > 120, "{} opens with too little: say what it is, and what it is not", shown(&of.opening()));
        assert!(
            what.to_lowercase().contains("read"),
            "{} does not say which two types to read first",
            shown(&of.opening())
        );
    }
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    // Such a file becomes where everything goes that nobody thought about.
    for file in ours() {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let parent = file.parent().and_then(|dir| dir.file_name()).unwrap_or_default().to_string_lossy().into_owned();
        for word in BANNED {
            assert!(name != *word && parent != *word, "{}: {word} says nothing about what is inside", shown(&file));
        }
    }
}

#[test]
fn no_file_is_longer_than_a_reader_keeps_in_mind() {
    let long: Vec<String> = ours()
        .into_iter()
        .filter(|file| !generated(file))
        .map(|file| (text(&file).lines().count(), shown(&file)))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, file)| format!("{file}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines, look for the second room:\n{}", long.join("\n"));
}

#[test]
fn a_first_party_policy_is_short_enough_to_be_an_example() {
    for entry in std::fs::read_dir(root().join("plugins")).expect("plugins/ is there") {
        let plugin = entry.expect("plugins/ can be listed").path();
        let policy = plugin.join("src/lib.rs");
        if policy.is_file() {
            let lines = text(&policy).lines().count();
            assert!(lines < PLUGIN_LINES_MAX, "{} has {lines} lines, {PLUGIN_LINES_MAX} are too many", shown(&policy));
            for file in ["plugin.toml", "README.md", "cases"] {
                assert!(plugin.join(file).exists(), "{} has no {file}", shown(&plugin));
            }
        }
    }
}

#[test]
fn nothing_is_left_for_later_and_no_test_is_switched_off() {
    // A stub that compiles is a lie that the compiler believes.
    let marks = ["todo!(", "unimplemented!(", concat!("FIX", "ME"), "#[ignore", "should_panic", "thread::sleep"];
    // The thread that ticks the deadlines of guests does nothing but sleep, and one hostile guest tries to.
    let may = [("host/wasm/src/engine.rs", "thread::sleep"), ("tests/hostile/src/acts.rs", "thread::sleep")];
    for file in ours().into_iter().filter(|file| !file.ends_with("structure/tests/files.rs") && !generated(file)) {
        let text = text(&file);
        for mark in marks {
            let allowed = may.contains(&(shown(&file).as_str(), mark));
            assert!(allowed || !text.contains(mark), "{} contains {mark}", shown(&file));
        }
    }
}

#[test]
fn no_channel_is_unbounded() {
    // Invariant 7. Clippy finds the calls; this finds what clippy is told to overlook.
    for file in ours().into_iter().filter(|file| !file.ends_with("structure/tests/files.rs")) {
        assert!(!text(&file).contains("unbounded_channel"), "{} has an unbounded channel", shown(&file));
    }
}

#[test]
fn planted_defects_fit_the_code() {
    // A patch that does not apply is a defect that no run looks for any more.
    let folder = std::fs::read_dir(root().join("tests/planted")).expect("planted defects");
    let files = folder.map(|entry| entry.expect("a file").path());
    let patches: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|it| it == "patch")).collect();
    assert_eq!(patches.len(), 3, "{patches:?}");
    let kinds = text(&root().join("tests/checker/src/anomaly.rs"));
    for patch in patches {
        let said = text(&patch);
        let found = said.lines().next().and_then(|line| line.strip_prefix("found: ")).unwrap_or_default();
        let known = |kind: &str| kind != "late" && kinds.contains(&format!("=> \"{kind}\","));
        assert!(
            !found.is_empty() && found.split(' ').all(known),
            "{} must open with `found: `, and kinds of anomaly that only it can be",
            shown(&patch)
        );
        let target = said.lines().find_map(|line| line.strip_prefix("+++ b/")).expect("a file that it changes");
        let source = text(&root().join(target));
        for line in said.lines().filter(|line| line.starts_with([' ', '-']) && !line.starts_with("---")) {
            assert!(source.contains(&line[1..]), "{}: {target} has no line {:?}", shown(&patch), &line[1..]);
        }
    }
}
