use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{ComponentExternalKind, ComponentTypeRef, Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::error::PackError;
use crate::file::malformed;

/// What a component imports and exports, by name: it is neither compiled nor run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surface {
    /// In the component's order.
    pub imports: Vec<Interface>,
    /// In the component's order.
    pub exports: Vec<Interface>,
}

/// One name at the border of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// As in `heddle:policy/message@0.1.0`.
    pub name: String,
    /// Functions of it that the component imports or exports.
    pub functions: Vec<String>,
}

impl Interface {
    /// Without the version.
    pub fn bare(&self) -> &str {
        self.name.split('@').next().unwrap_or(&self.name)
    }
}

/// Reads the border of a component; whether it has a manifest does not matter.
pub fn surface(bytes: &[u8]) -> Result<Surface, PackError> {
    let mut surface = Surface::default();
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let wrong = |error: wasmparser::BinaryReaderError| malformed(&error, bytes.len());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(wrong)?;
        match &payload {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(PackError::CoreModule),
            Payload::ComponentImportSection(section) if depth == 0 => {
                let mut next = validator.types(0).map_or(0, |types| types.component_instance_count());
                validator.payload(&payload).map_err(wrong)?;
                for import in section.clone() {
                    let import = import.map_err(wrong)?;
                    let instance = matches!(import.ty, ComponentTypeRef::Instance(_)).then_some(next);
                    next += u32::from(instance.is_some());
                    surface.imports.push(interface(import.name.name, validator.types(0), instance));
                }
                continue;
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                validator.payload(&payload).map_err(wrong)?;
                for export in section.clone() {
                    let export = export.map_err(wrong)?;
                    let instance = (export.kind == ComponentExternalKind::Instance).then_some(export.index);
                    surface.exports.push(interface(export.name.name, validator.types(0), instance));
                }
                continue;
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        validator.payload(&payload).map_err(wrong)?;
    }
    Ok(surface)
}

/// `instance`: the index of the instance that has the name, if it is one.
fn interface(name: &str, types: Option<TypesRef<'_>>, instance: Option<u32>) -> Interface {
    let mut functions = Vec::new();
    if let (Some(types), Some(instance)) = (types, instance) {
        let exports = &types[types.component_instance_at(instance)].exports;
        let all = exports.iter().filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)));
        functions.extend(all.map(|(name, _)| name.clone()));
    }
    Interface { name: name.to_owned(), functions }
}
