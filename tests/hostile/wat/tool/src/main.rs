//! Makes components for tests of the host that no honest compiler would: of core modules in text, and of random bytes.

use std::path::Path;

use arbitrary::Unstructured;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const USAGE: &str = "guest-maker text GUEST.wat WORLD OUT.wasm | guest-maker random FIRST_SEED LAST_SEED FOLDER";
/// Bytes that one random component is made of.
const SEED_BYTES: usize = 4_096;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["text", guest, world, out] => text(guest, world, Path::new(out)),
        ["random", first, last, folder] => random(first.parse()?, last.parse()?, Path::new(folder)),
        _ => Err(USAGE.into()),
    }
}

/// A module that exports what the world asks for, by the names that the component model gives them.
fn text(guest: &str, world: &str, out: &Path) -> Outcome {
    let mut module = wat::parse_file(guest)?;
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../wit"))?;
    let world = resolve.select_world(&[package], Some(world))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    let component = ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    std::fs::create_dir_all(out.parent().unwrap_or(Path::new(".")))?;
    Ok(std::fs::write(out, component)?)
}

/// Two files a seed: a component, and a core module without imports. The same seed, the same bytes.
fn random(first: u64, last: u64, folder: &Path) -> Outcome {
    std::fs::create_dir_all(folder)?;
    for seed in first..last {
        let bytes = bytes(seed);
        let component = wasm_smith::Component::new(wasm_smith::Config::default(), &mut Unstructured::new(&bytes))?;
        std::fs::write(folder.join(format!("{seed}.component")), component.to_bytes())?;
        let alone = alone();
        let module = wasm_smith::Module::new(alone, &mut Unstructured::new(&bytes))?;
        std::fs::write(folder.join(format!("{seed}.module")), module.to_bytes())?;
    }
    Ok(())
}

/// Of what the host's engine knows, so that it is compiled and started; without imports.
fn alone() -> wasm_smith::Config {
    wasm_smith::Config {
        max_imports: 0,
        min_funcs: 1,
        allow_start_export: true,
        custom_page_sizes_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        reference_types_enabled: false,
        relaxed_simd_enabled: false,
        shared_everything_threads_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..wasm_smith::Config::default()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014), for components that differ from their first choice on.
fn bytes(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..SEED_BYTES / 8).flat_map(|_| next().to_le_bytes()).collect()
}
