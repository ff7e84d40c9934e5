use heddle_pack::{Case, Hook, Manifest};

use super::{command, name, render};
use crate::cli::Output;
use crate::failure::USAGE;

fn subsets() -> impl Iterator<Item = Vec<Hook>> {
    (1..16_u8).map(|bits| {
        Hook::ALL.into_iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, hook)| hook).collect()
    })
}

#[test]
fn every_choice_of_hooks_makes_a_manifest_and_cases_that_can_be_read() {
    for hooks in subsets() {
        let files = render::plugin("quiet-hours", &hooks);
        let text = |path: &str| files.iter().find(|(of, _)| of == path).map(|(_, text)| text.as_str()).unwrap();
        let manifest = Manifest::parse(text("plugin.toml"), "plugin.toml").unwrap();
        assert_eq!(manifest.hooks.keys().copied().collect::<Vec<_>>(), hooks);
        assert_eq!(manifest.build.unwrap().artifact, "target/wasm32-wasip2/release/quiet_hours.wasm");
        let cases: Vec<Case> = files
            .iter()
            .filter(|(path, _)| path.starts_with("cases/"))
            .map(|(path, text)| Case::parse(path, text).unwrap_or_else(|error| panic!("{path}: {error}")))
            .collect();
        for hook in hooks {
            assert!(cases.iter().any(|case| case.hook == hook), "{hook} has no case");
        }
        for (path, text) in &files {
            assert!(!text.contains("{{"), "{path} has something left to fill in:\n{text}");
        }
    }
}

#[test]
fn a_name_that_cannot_be_is_refused_and_says_why() {
    for (wrong, why) in [
        ("", "1 to 64"),
        ("Quiet", "a-z"),
        ("quiet_hours", "a-z"),
        ("9lives", "letter"),
        ("-x", "letter"),
        ("x-", "letter or a digit"),
        ("match", "Rust"),
        ("serde", "crate"),
        ("inbox-routing", "built-in"),
    ] {
        let said = name::check(wrong).unwrap_err();
        assert!(said.contains(why), "{wrong:?}: {said}");
    }
    assert_eq!(name::check("quiet-hours-2"), Ok(()));
}

#[test]
fn an_unknown_hook_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("x");
    let refused = command("x1", &["rooting".to_owned()], Some(place.clone()), Output::Text).unwrap_err();
    assert!(refused.code == USAGE && refused.text.contains("presence"), "{refused}");
    assert!(!place.exists());
}

#[test]
fn what_is_there_already_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let refused = command("x1", &["routing".to_owned()], Some(dir.path().to_owned()), Output::Text).unwrap_err();
    assert!(refused.text.contains("not empty"), "{refused}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
