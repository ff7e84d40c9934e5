//! Arrows between crates point down, and each heavy dependency has one home.

use std::collections::BTreeSet;

use heddle_structure::{crates, root, shown, text};

/// From DESIGN, section 6; a crate depends on floors below its own only.
const FLOORS: &[(&str, u8)] = &[
    ("model", 0),
    ("protocol", 1),
    ("pack", 1),
    ("log", 1),
    ("registry", 1),
    ("store", 1),
    ("wasm", 2),
    ("presence", 2),
    ("builtin", 2),
    ("client", 2),
    ("policy", 3),
    ("delivery", 3),
    ("gateway", 4),
    ("heddle", 5),
];

/// Delivery asks policies and does not know that they are components: the one arrow within a floor.
const WITHIN: &[(&str, &str)] = &[("delivery", "policy")];

/// A dependency that is heavy, or whose types must not leak, and where it lives.
const HOMES: &[(&str, &[&str])] = &[
    ("rdkafka", &["log"]),
    ("fjall", &["log"]),
    ("fred", &["registry"]),
    ("sqlx", &["store"]),
    ("wasmtime", &["wasm"]),
    ("wasmtime-wasi", &["wasm"]),
    ("wasmparser", &["pack"]),
    ("wasm-encoder", &["pack"]),
    ("axum", &["gateway"]),
    ("tower", &["gateway"]),
    ("tokio-tungstenite", &["gateway", "client"]),
    ("tokio-rustls", &["gateway", "client"]),
    ("rustls", &["gateway", "client"]),
    ("clap", &["heddle"]),
    ("anyhow", &["heddle"]),
    ("ratatui", &["heddle"]),
    ("crossterm", &["heddle"]),
    ("metrics-exporter-prometheus", &["heddle"]),
    ("tracing-subscriber", &["heddle"]),
    // Only the gateway checks tokens; the binary mints those of `heddle dev` and `heddle token`.
    ("jsonwebtoken", &["gateway", "heddle"]),
];

/// Packages in the lock of a policy in Rust, itself and the SDK among them. Their authors wait for each with their first build.
const POLICY_PACKAGES_MAX: usize = 18;

fn floor(name: &str) -> u8 {
    let found = FLOORS.iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("crate {name} has no floor: give it one in tests/structure, and in ARCHITECTURE.md"))
        .1
}

#[test]
fn arrows_between_crates_point_down() {
    // A cycle of knowledge is how a change in one crate comes to need a change in all.
    for from in crates() {
        for to in from.dependencies.iter().filter_map(|name| name.strip_prefix("heddle-")) {
            let allowed = floor(to) < floor(&from.name) || WITHIN.contains(&(from.name.as_str(), to));
            assert!(
                allowed,
                "{} (floor {}) depends on {to} (floor {}): arrows point down",
                from.name,
                floor(&from.name),
                floor(to)
            );
        }
    }
}

#[test]
fn each_heavy_dependency_has_one_home() {
    // So that a backend can be replaced behind its port, and a build of one crate does not build all of them.
    for from in crates() {
        for (dependency, homes) in HOMES {
            assert!(
                !from.dependencies.contains(*dependency) || homes.contains(&from.name.as_str()),
                "{} depends on {dependency}, whose home is {homes:?}",
                from.name
            );
        }
    }
}

#[test]
fn only_the_binary_names_a_concrete_backend() {
    // Ports are chosen by configuration; whoever names `EmbeddedLog` cannot run on another log.
    let concrete =
        ["EmbeddedLog", "SqliteStore", "PostgresStore", "EmbeddedRegistry", "EmbeddedBus", "RedisRegistry", "RedisBus"];
    let users =
        crates().into_iter().filter(|c| ["gateway", "delivery", "policy", "presence"].contains(&c.name.as_str()));
    for user in users {
        let built = user.files().into_iter().filter(|file| file.starts_with(user.dir.join("src")));
        for file in built.filter(|file| !heddle_structure::shown(file).contains("test")) {
            let text = heddle_structure::text(&file);
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for name in concrete {
                assert!(!code.contains(name), "{} names {name}", heddle_structure::shown(&file));
            }
        }
    }
}

#[test]
fn the_model_does_no_input_or_output() {
    let model = crates().into_iter().find(|c| c.name == "model").expect("host/model is there");
    for name in ["tokio", "metrics", "tracing", "rustix"] {
        assert!(!model.dependencies.contains(name), "model depends on {name}: it is values only");
    }
}

#[test]
fn a_policy_in_rust_is_built_from_few_crates_and_none_of_them_is_the_hosts() {
    // What `heddle plugin build` compiles the first time; a plugin of `heddle plugin new` has the lock of a first-party one.
    let heavy = HOMES.iter().map(|(name, _)| (*name).to_owned());
    let hosts: BTreeSet<String> =
        crates().into_iter().map(|of| format!("heddle-{}", of.name)).chain(["tokio".to_owned()]).chain(heavy).collect();
    let mut locks = vec![root().join("sdk/rust/Cargo.lock")];
    for entry in std::fs::read_dir(root().join("plugins")).expect("plugins/ is there") {
        locks.push(entry.expect("plugins/ can be listed").path().join("Cargo.lock"));
    }
    let locks: Vec<_> = locks.into_iter().filter(|lock| lock.is_file()).collect();
    assert!(locks.len() >= 5, "the SDK's and those of four policies: {locks:?}");
    for lock in locks {
        let table: toml::Table = text(&lock).parse().unwrap_or_else(|error| panic!("{lock:?}: {error}"));
        let packages = table["package"].as_array().expect("a lock lists packages");
        let names: Vec<&str> = packages.iter().filter_map(|package| package.get("name")?.as_str()).collect();
        let lock = shown(&lock);
        let count = names.len();
        assert!(
            count <= POLICY_PACKAGES_MAX,
            "{lock} has {count} packages, more than {POLICY_PACKAGES_MAX}: {names:?}"
        );
        for name in names {
            assert!(
                !hosts.contains(name),
                "{lock} has {name}, which the host is made of: a guest stands on the SDK alone"
            );
        }
    }
}
