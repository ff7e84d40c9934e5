//! The SDK inside the binary. It stands on no registry yet, so `new` writes it below the plugin.

macro_rules! embedded {
    ($($to:literal = $from:literal),+ $(,)?) => {
        &[$(($to, include_str!(concat!("../../../../../", $from)))),+]
    };
}

/// Path below the plugin, and text.
const FILES: &[(&str, &str)] = embedded![
    "sdk/Cargo.toml" = "sdk/rust/Cargo.toml",
    "sdk/src/bindings.rs" = "sdk/rust/src/bindings.rs",
    "sdk/src/config.rs" = "sdk/rust/src/config.rs",
    "sdk/src/glue.rs" = "sdk/rust/src/glue.rs",
    "sdk/src/hooks.rs" = "sdk/rust/src/hooks.rs",
    "sdk/src/lib.rs" = "sdk/rust/src/lib.rs",
    "sdk/src/log.rs" = "sdk/rust/src/log.rs",
    "sdk/src/message.rs" = "sdk/rust/src/message.rs",
    "sdk/src/sections.rs" = "sdk/rust/src/sections.rs",
    "sdk/wit/fanout.wit" = "wit/fanout.wit",
    "sdk/wit/lifecycle.wit" = "wit/lifecycle.wit",
    "sdk/wit/log.wit" = "wit/log.wit",
    "sdk/wit/message.wit" = "wit/message.wit",
    "sdk/wit/presence.wit" = "wit/presence.wit",
    "sdk/wit/rate-limit.wit" = "wit/rate-limit.wit",
    "sdk/wit/routing.wit" = "wit/routing.wit",
    "sdk/wit/state-migration.wit" = "wit/state-migration.wit",
    "sdk/wit/types.wit" = "wit/types.wit",
    "sdk/wit/worlds.wit" = "wit/worlds.wit",
];

/// Versions that a build of this binary has downloaded: those of a first-party plugin with the same dependencies.
const LOCK: &str = include_str!("../../../../../plugins/inbox-routing/Cargo.lock");
const LOCK_OF: &str = "inbox-routing";

/// The SDK, as files of the plugin.
pub fn files() -> Vec<(String, String)> {
    FILES.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

/// `Cargo.lock` of a plugin of that name, its packages in cargo's order.
pub fn lock(name: &str) -> String {
    let mut parts: Vec<String> = LOCK.split("[[package]]\n").map(|part| format!("{}\n", part.trim_end())).collect();
    let head = parts.remove(0);
    for part in &mut parts {
        if part.starts_with(&format!("name = \"{LOCK_OF}\"\n")) {
            *part = part.replacen(LOCK_OF, name, 1);
        }
    }
    parts.sort();
    let packages: Vec<String> = parts.iter().map(|part| format!("[[package]]\n{part}")).collect();
    format!("{head}\n{}", packages.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_source_of_the_sdk_and_every_wit_file_is_in_the_binary() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let listed = |dir: &str, to: &str| -> BTreeSet<String> {
            let entries = std::fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap());
            let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
            files.map(|entry| format!("{to}/{}", entry.file_name().to_string_lossy())).collect()
        };
        let mut wanted = listed("sdk/rust/src", "sdk/src");
        wanted.extend(listed("wit", "sdk/wit"));
        wanted.insert("sdk/Cargo.toml".to_owned());
        assert_eq!(files().into_iter().map(|(path, _)| path).collect::<BTreeSet<_>>(), wanted);
    }

    #[test]
    fn the_lock_names_the_plugin_and_stays_sorted() {
        for name in ["a-first", "zz-last"] {
            let lock = lock(name);
            let names: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
            assert!(names.is_sorted() && names.contains(&format!("{name:?}").as_str()), "{names:?}");
            assert!(!lock.contains(LOCK_OF) && lock.starts_with("# This file"), "{lock}");
            assert_eq!(lock.lines().count(), LOCK.lines().count());
        }
    }
}
