use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasm_encoder::{ComponentSection, CustomSection};
use wasmparser::{Encoding, Parser, Payload};

use crate::case::Case;
use crate::error::PackError;
use crate::manifest::Manifest;

/// The custom section that holds manifest and cases.
pub const SECTION: &str = "heddle:plugin";
/// Bytes of a plugin file. Components of embedded engines (JavaScript, Python) take 10 to 20 MB.
pub const PACKED_BYTES_MAX: usize = 64 << 20;
/// Bytes of the section.
pub const SECTION_BYTES_MAX: usize = 4 << 20;
/// Cases of a plugin.
pub const CASES_MAX: usize = 1_000;
/// Bytes of a case.
pub(crate) const CASE_BYTES_MAX: usize = 256 << 10;
const FORMAT: u32 = 1;

/// A plugin file taken apart: checked in form, not yet run.
#[derive(Clone, Debug)]
pub struct Packed {
    /// `plugin.toml`, checked.
    pub manifest: Manifest,
    /// In the order in which they were packed.
    pub cases: Vec<Case>,
    /// SHA-256 of the whole file, as lowercase hex.
    pub digest: String,
    /// The whole file, a valid component.
    pub bytes: Arc<[u8]>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    format: u32,
    manifest: String,
    cases: Vec<SectionCase>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SectionCase {
    name: String,
    case: String,
}

/// The SHA-256 of a file, as lowercase hex: as `sha256sum` prints it.
pub fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// One file from a component as the compiler wrote it, its manifest and its cases.
pub fn pack(component: &[u8], manifest: &Manifest, cases: &[Case]) -> Result<Vec<u8>, PackError> {
    let found = sections(component)?.len();
    if found > 0 {
        return Err(PackError::SectionTwice { count: found + 1 });
    }
    if cases.len() > CASES_MAX {
        return Err(PackError::TooManyCases { count: cases.len(), max: CASES_MAX });
    }
    let cases = cases.iter().map(|case| SectionCase { name: case.name.clone(), case: case.source().to_owned() });
    let section = Section { format: FORMAT, manifest: manifest.source().to_owned(), cases: cases.collect() };
    let text = serde_json::to_vec(&section).map_err(|error| PackError::Section { problem: error.to_string() })?;
    bounded("the section `heddle:plugin`", text.len(), SECTION_BYTES_MAX)?;
    let mut packed = component.to_vec();
    CustomSection { name: SECTION.into(), data: text.into() }.append_to_component(&mut packed);
    bounded("the packed plugin", packed.len(), PACKED_BYTES_MAX)?;
    Ok(packed)
}

/// Takes a plugin file apart and checks its form.
pub fn unpack(bytes: impl Into<Arc<[u8]>>) -> Result<Packed, PackError> {
    let bytes: Arc<[u8]> = bytes.into();
    let found = sections(&bytes)?;
    let text = match found.as_slice() {
        [] => return Err(PackError::NoSection),
        [one] => *one,
        more => return Err(PackError::SectionTwice { count: more.len() }),
    };
    bounded("the section `heddle:plugin`", text.len(), SECTION_BYTES_MAX)?;
    let section: Section =
        serde_json::from_slice(text).map_err(|error| PackError::Section { problem: error.to_string() })?;
    if section.format != FORMAT {
        let problem = format!("format {}, this host reads {FORMAT}: pack it again", section.format);
        return Err(PackError::Section { problem });
    }
    if section.cases.len() > CASES_MAX {
        return Err(PackError::TooManyCases { count: section.cases.len(), max: CASES_MAX });
    }
    let manifest = Manifest::parse(&section.manifest, "plugin.toml")?;
    let cases = section.cases.iter().map(|case| Case::parse(&case.name, &case.case)).collect::<Result<_, _>>()?;
    Ok(Packed { manifest, cases, digest: digest(&bytes), bytes })
}

/// The contents of every section `heddle:plugin` of the component itself, those of nested modules left out; checks on the way that the file is a whole component.
fn sections(bytes: &[u8]) -> Result<Vec<&[u8]>, PackError> {
    bounded("the file", bytes.len(), PACKED_BYTES_MAX)?;
    if bytes.is_empty() {
        return Err(PackError::Empty);
    }
    let start = &bytes[..bytes.len().min(4)];
    if !b"\0asm".starts_with(start) {
        return Err(PackError::NotWasm { start: start.escape_ascii().to_string() });
    }
    let mut found = Vec::new();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| malformed(&error, bytes.len()))? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(PackError::CoreModule),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 && section.name() == SECTION => found.push(section.data()),
            _ => {}
        }
    }
    Ok(found)
}

pub(crate) fn malformed(error: &wasmparser::BinaryReaderError, len: usize) -> PackError {
    let offset = error.offset();
    let text = error.message();
    if text.contains("unexpected end") || text.contains("unexpected eof") || offset >= len as u64 as _ {
        return PackError::Truncated { offset: len as u64 };
    }
    PackError::Malformed { offset: offset as u64, problem: text.to_owned() }
}

fn bounded(what: &str, bytes: usize, max: usize) -> Result<(), PackError> {
    if bytes > max { Err(PackError::TooLarge { what: what.to_owned(), bytes, max }) } else { Ok(()) }
}
