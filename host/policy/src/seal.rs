//! Who vouches for a plugin that is deployed. What is in the catalog already was admitted when it came: a rollback asks nothing.

use std::cmp::Ordering;

use heddle_pack::{TrustList, version_order};

use crate::{ChangeError, PluginRef, PolicyDeps};

/// What vouches for a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seal {
    /// The text of its signature file.
    pub signature: Option<String>,
    /// A lower version than one that was here before is meant.
    pub allow_downgrade: bool,
}

/// Is the file signed by somebody who may, and no older than what was here? The latter where signatures are required: else whoever found an old
/// signed file could bring back its faults.
pub(crate) async fn admit(
    trust: &TrustList,
    deps: &PolicyDeps,
    file: &PluginRef,
    seal: &Seal,
) -> Result<(), ChangeError> {
    let refused = |problem: String| ChangeError::Refused { problems: vec![format!("{}: {problem}", file.source)] };
    let builtin = deps.builtins.iter().any(|(_, bytes)| *bytes == file.bytes);
    if builtin {
        return Ok(());
    }
    trust.check(&file.bytes, seal.signature.as_deref()).map_err(|error| refused(error.to_string()))?;
    if !trust.required() || seal.allow_downgrade {
        return Ok(());
    }
    let packed = heddle_pack::unpack(file.bytes.as_ref()).map_err(|error| refused(error.to_string()))?;
    let (name, version) = (&packed.manifest.name, &packed.manifest.version);
    for known in deps.catalog.plugin_versions(name).await? {
        match version_order(version, &known) {
            Some(Ordering::Less) => {
                return Err(refused(format!(
                    "{name} {version} is older than {known}, which was here before: raise `version` in plugin.toml, or say --allow-downgrade"
                )));
            }
            Some(_) => {}
            None if *version == known => {}
            None => {
                return Err(refused(format!(
                    "{name} {version} cannot be compared with {known}, which was here before: write `version` as semver does, or say --allow-downgrade"
                )));
            }
        }
    }
    Ok(())
}
