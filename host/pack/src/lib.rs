//! The plugin file: manifest, cases and component in one, and the plain types that the policy contract speaks of.
//!
//! `heddle plugin build`, the build script that embeds the first-party policies and the host's loader all use this crate. It deliberately
//! knows no engine: it reads and writes bytes, and runs nothing but the build command that a manifest names.
//!
//! Read first: [`Manifest`] (`plugin.toml`, checked) and [`Packed`] (a file taken apart).

mod build;
mod case;
pub mod contract;
mod error;
mod file;
mod folder;
mod keys;
mod manifest;
mod memory_size;
mod surface;
mod trust;

pub use build::{BuildOptions, build_plugin};
pub use case::{Call, Case, CaseMessage, Step, cases_from_dir};
pub use error::PackError;
pub use file::{CASES_MAX, PACKED_BYTES_MAX, Packed, SECTION, SECTION_BYTES_MAX, digest, pack, unpack};
pub use folder::{touch, trim_folder};
pub use manifest::{Build, Hook, HookManifest, Limits, MANIFEST_BYTES_MAX, Manifest, OnFailure, Share};
pub use surface::{Interface, Surface, surface};
pub use trust::{SIGNATURE_BYTES_MAX, Signer, TrustError, TrustList, public_key_id, signature_key, version_order};
