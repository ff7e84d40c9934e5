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
