//! Writes `../src/bindings.rs` and `../src/sections.rs` of heddle-sdk from `wit/`. Run it after a change of the contract:
//! `cargo run --manifest-path sdk/rust/regenerate/Cargo.toml`. Authors of policies never need it.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use wit_bindgen_core::{Files, WorldGenerator as _};
use wit_bindgen_rust::Opts;
use wit_component::StringEncoding;
use wit_parser::{Resolve, UnresolvedPackageGroup};

/// Worlds that only the SDK needs: one with everything, for the bindings, and one per hook, whose type is linked into
/// a policy that exports the hook (the linker joins those of several hooks).
const SDK_WORLDS: &str = "package heddle:sdk;
world all { include heddle:policy/every-policy@0.1.0; export heddle:policy/state-migration@0.1.0; }
world rate-limit { include heddle:policy/rate-limit-policy@0.1.0; }
world routing { include heddle:policy/routing-policy@0.1.0; }
world fanout { include heddle:policy/fanout-policy@0.1.0; }
world presence { include heddle:policy/presence-policy@0.1.0; }
world state-migration { export heddle:policy/lifecycle@0.1.0; export heddle:policy/state-migration@0.1.0; }
";

const HOOKS: [&str; 5] = ["rate-limit", "routing", "fanout", "presence", "state-migration"];

fn main() -> Result<(), Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut resolve = Resolve::default();
    resolve.push_dir(here.join("../../../wit"))?;
    let package =
        resolve.push_group(UnresolvedPackageGroup::parse("sdk.wit", SDK_WORLDS).map_err(|(_, error)| error)?)?;

    let mut options = Opts::default();
    options.format = true;
    options.pub_export_macro = true;
    options.runtime_path = Some("crate::rt".to_owned());
    options.default_bindings_module = Some("$crate::bindings".to_owned());
    options.additional_derive_attributes = vec!["PartialEq".to_owned()];
    options.generate_all = true;
    let world = resolve.select_world(&[package], Some("all"))?;
    let mut files = Files::default();
    options.build().generate(&mut resolve.clone(), world, &mut files)?;
    let (_, bindings) = files.iter().next().ok_or("wit-bindgen wrote nothing")?;
    std::fs::write(here.join("../src/bindings.rs"), bindings)?;

    let mut text = String::from(
        "// Written by sdk/rust/regenerate: the type of each hook's world, for the linker. Do not edit.\n",
    );
    for hook in HOOKS {
        let world = resolve.select_world(&[package], Some(hook))?;
        let bytes = wit_component::metadata::encode(&resolve, world, StringEncoding::UTF8, None)?;
        let name = hook.replace('-', "_");
        writeln!(
            text,
            "\n#[doc(hidden)]\n#[rustfmt::skip]\npub const {}: [u8; {}] = [",
            name.to_uppercase(),
            bytes.len()
        )?;
        for line in bytes.chunks(24) {
            let line: Vec<String> = line.iter().map(u8::to_string).collect();
            writeln!(text, "    {},", line.join(", "))?;
        }
        text.push_str("];\n");
    }
    std::fs::write(here.join("../src/sections.rs"), text)?;
    Ok(())
}
