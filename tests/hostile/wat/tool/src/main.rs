//! Makes a component of a core module in text, for what a hostile guest can do and Rust cannot say: `wat-guest GUEST.wat WORLD OUT.wasm`.

use std::path::{Path, PathBuf};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [guest, world, out] = arguments.as_slice() else {
        return Err("wat-guest GUEST.wat WORLD OUT.wasm".into());
    };
    let mut module = wat::parse_file(guest)?;
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../wit"))?;
    let world = resolve.select_world(&[package], Some(world))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    let component = ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    let out = PathBuf::from(out);
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(&out, component)?)
}
