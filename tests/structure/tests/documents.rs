//! What the documents say is there.

use std::collections::BTreeSet;

use heddle_structure::{root, shown, text};

/// Lines that one would type, from the code blocks of a document.
fn typed(document: &str) -> Vec<String> {
    let path = root().join(document);
    let text = text(&path);
    let blocks = text.split("```").skip(1).step_by(2);
    blocks
        .flat_map(|block| block.lines().map(|line| line.trim().trim_start_matches("./").to_owned()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn the_commands_of_the_readme_are_commands_of_the_binary() {
    let source = text(&root().join("host/heddle/src/cli.rs"));
    let commands = source
        .split("pub enum Command {")
        .nth(1)
        .and_then(|rest| rest.split("\n}").next())
        .expect("Command is an enum");
    let known: BTreeSet<String> = commands
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with(char::is_uppercase))
        .map(|line| line.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_lowercase())
        .collect();
    for line in typed("README.md").iter().filter(|line| line.starts_with("heddle ")) {
        let command = line.split_whitespace().nth(1).unwrap_or_default();
        assert!(known.contains(command), "README.md says `{line}`, the binary knows {known:?}");
    }
}

#[test]
fn the_targets_of_the_readme_are_targets_of_the_makefile() {
    let makefile = text(&root().join("Makefile"));
    for document in ["README.md", "CONTRIBUTING.md"] {
        for line in typed(document).iter().filter(|line| line.starts_with("make ")) {
            let target = line.split_whitespace().nth(1).unwrap_or_default();
            assert!(
                makefile.contains(&format!("\n{target}:")),
                "{document} says `{line}`, the Makefile has no {target}"
            );
        }
    }
}

#[test]
fn every_target_of_the_makefile_is_explained() {
    let makefile = text(&root().join("Makefile"));
    let phony = makefile.lines().find(|line| line.starts_with(".PHONY:")).expect("targets are phony");
    for target in phony.split_whitespace().skip(1) {
        let explained = makefile.lines().any(|line| line.starts_with(&format!("{target}:")) && line.contains("## "));
        assert!(explained, "make {target} has no `## ` line, so `make help` does not show it");
    }
}

#[test]
fn every_file_that_a_document_links_to_is_there() {
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let path = root().join(document);
        for target in text(&path).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = file.is_empty() || file.contains("://");
            assert!(elsewhere || root().join(file).exists(), "{} links to {file}, which is not there", shown(&path));
        }
    }
}

#[test]
fn every_crate_of_the_host_stands_in_the_architecture() {
    let architecture = text(&root().join("ARCHITECTURE.md"));
    for of in heddle_structure::crates() {
        assert!(architecture.contains(&format!("`{}`", of.name)), "ARCHITECTURE.md does not speak of `{}`", of.name);
    }
}

#[test]
fn no_document_holds_two_versions_of_itself() {
    // What a merge left undecided is in nobody's way until somebody reads it.
    for document in
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "PROTOCOL.md", "deploy/GUIDE.md"]
    {
        let said = text(&root().join(document));
        let marker = said.lines().position(|line| line.starts_with("<<<<<<<") || line.starts_with(">>>>>>>"));
        assert_eq!(marker, None, "{document} has the marks of a merge");
    }
}

#[test]
fn the_smallest_policy_is_under_15_lines_and_compiled_as_a_test() {
    let source = text(&root().join("sdk/rust/src/lib.rs"));
    let documented: Vec<&str> = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let example: Vec<&str> = documented
        .iter()
        .copied()
        .skip_while(|line| !line.starts_with("```"))
        .skip(1)
        .take_while(|line| *line != "```")
        .collect();
    // A fence that says more than its language may keep the block from being compiled.
    assert!(documented.contains(&"```"), "the example of sdk/rust is not a plain block");
    let lines = example.iter().filter(|line| !line.is_empty()).count();
    assert!(example.iter().any(|line| line.starts_with("heddle_sdk::export!")), "{example:?} is no policy");
    assert!((5..15).contains(&lines), "the smallest policy has {lines} lines");
}

#[test]
fn make_test_runs_the_tests_of_the_sdk_and_of_every_plugin() {
    let makefile = text(&root().join("Makefile"));
    let test = makefile.split("\ntest:").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("make test");
    assert!(
        test.contains("for manifest in sdk/*/Cargo.toml plugins/*/Cargo.toml") && test.contains("cargo test"),
        "{test}"
    );
}
