//! Builds and packs the four first-party policies with a cargo of their own, so that the binary holds them as files.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use heddle_pack::{BuildOptions, build_plugin, digest};

const PLUGINS: [(&str, &str); 4] = [
    ("RATE_LIMIT", "token-bucket"),
    ("ROUTING", "inbox-routing"),
    ("FANOUT", "group-fanout"),
    ("PRESENCE", "last-seen"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    for watched in ["plugins", "sdk/rust/src", "sdk/rust/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let options = BuildOptions { target_dir: Some(out.join("guest")) };
    let mut text = String::new();
    for (name, plugin) in PLUGINS {
        let (_, packed) = match build_plugin(&root.join("plugins").join(plugin), &options) {
            Ok(built) => built,
            Err(error) => {
                for line in error.to_string().lines() {
                    println!("cargo::error={line}");
                }
                return Err("a first-party policy cannot be built".into());
            }
        };
        let file = out.join(format!("{plugin}.wasm"));
        std::fs::write(&file, &packed)?;
        writeln!(text, "/// `{plugin}`, packed.\npub const {name}: Builtin = Builtin {{")?;
        writeln!(text, "    digest: {:?},\n    bytes: include_bytes!({file:?}),\n}};", digest(&packed))?;
    }
    std::fs::write(out.join("builtin.rs"), text)?;
    Ok(())
}
