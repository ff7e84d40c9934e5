//! The policies of the configuration: which plugin files, with what, within which limits.

use std::collections::BTreeSet;

use heddle_model::Hook;
use heddle_pack::TrustList;
use heddle_policy::{Mirror, PluginRef, PolicyConfig, PolicyLimits, RecordConfig, Redaction, WatchConfig};
use heddle_wasm::{Limits, NativeCache};
use serde_json::{Map, Value};

use super::{count, problem, small};
use crate::config::{Config, Problem, Problems, meant};

/// For the policies: reads the plugin files, and finds the built-in ones that are named. A hook without any gets the built-in component, with the
/// configuration that bears its name.
///
/// # Errors
/// Names that are neither a built-in's nor a file's, files that cannot serve, names in `policies.config` that nobody bears: all of it at once.
pub fn policies(config: &Config, builtins: &[(Hook, &'static [u8])]) -> Result<PolicyConfig, Problems> {
    let section = &config.policies;
    let mut problems = Vec::new();
    let trust = trust(config).unwrap_or_else(|Problems(wrong)| {
        problems.extend(wrong);
        TrustList::default()
    });
    let mut reader = Reader { config, builtins: named(builtins), trust: &trust, met: BTreeSet::new(), unread: false };
    let mut loaded = Vec::new();
    for (hook, key, chain) in [
        (Hook::RateLimit, "policies.rate_limit", &section.rate_limit),
        (Hook::Routing, "policies.routing", &section.routing),
        (Hook::Fanout, "policies.fanout", &section.fanout),
        (Hook::Presence, "policies.presence", &section.presence),
    ] {
        let plugins: Vec<_> = chain.iter().filter_map(|asked| reader.plugin(key, asked, &mut problems)).collect();
        if !plugins.is_empty() {
            loaded.push((hook, plugins));
        }
    }
    let builtin_config = builtins.iter().map(|(hook, bytes)| (*hook, reader.settings(bytes))).collect();
    problems.extend(reader.unused());
    let limits = limits(config);
    let mirror = Mirror { dir: config.node.data_dir.join("plugins"), bytes_max: section.plugin_files_max.0 };
    let (watch, mirror) = (watch(config), Some(mirror));
    let policies = PolicyConfig { chains: loaded, builtin_config, trial: None, limits, trust, watch, mirror };
    problems.extend(
        policies
            .problems(builtins)
            .into_iter()
            .map(|wrong| problem("policies", wrong, "`heddle plugin inspect FILE` shows what a file is")),
    );
    if problems.is_empty() { Ok(policies) } else { Err(Problems(problems)) }
}

/// Bounds of the policy floor.
pub fn limits(config: &Config) -> PolicyLimits {
    let section = &config.policies;
    PolicyLimits {
        chain_max: count(section.chain_max),
        memory_bytes_max: section.memory_max.0,
        deadline_ms_max: small(section.deadline_max.millis()),
        states_max: count(section.states_max),
        generations_max: count(section.generations_max),
        draining_max: count(section.draining_max),
        catalog_bytes_max: section.catalog_max.0,
        catalog_plugins_max: count(section.catalog_plugins_max),
        catalog_generations_max: count(section.catalog_generations_max),
        audit_max: section.audit_max,
    }
}

/// Whose signatures count when a plugin is deployed.
///
/// # Errors
/// Keys that are none, and none where one is needed.
pub fn trust(config: &Config) -> Result<TrustList, Problems> {
    let section = &config.policies;
    let mut problems = Vec::new();
    if section.require_signature && section.trusted_keys.is_empty() {
        let wrong = "is true, and policies.trusted_keys is empty: nothing could be deployed".to_owned();
        problems.push(problem("policies.require_signature", wrong, "make a key with `heddle plugin keys new`"));
    }
    match TrustList::new(&section.trusted_keys, section.require_signature) {
        Ok(trust) if problems.is_empty() => Ok(trust),
        Ok(_) => Err(Problems(problems)),
        Err(error) => {
            let remedy = "write the second line of the .pub file";
            problems.push(problem("policies.trusted_keys", error.to_string(), remedy));
            Err(Problems(problems))
        }
    }
}

/// How the plugins that decide are watched.
pub fn watch(config: &Config) -> WatchConfig {
    let section = &config.policies;
    WatchConfig {
        repeat_one_in: section.repeat_one_in,
        breaker: section.breaker,
        canary_band_percent: small(section.canary_band_percent),
        record: RecordConfig {
            hooks: section.record.iter().filter_map(|hook| Hook::named(hook)).collect(),
            one_in: section.record_one_in,
            calls_max: count(section.record_calls_max),
            bytes_max: count(section.record_bytes_max.0),
            redaction: Redaction { bodies: section.record_bodies, tags_kept: section.record_tags.clone() },
        },
    }
}

/// The built-in components by the name of their manifest.
fn named(builtins: &[(Hook, &'static [u8])]) -> Vec<(String, &'static [u8])> {
    let name = |(_, bytes): &(Hook, &'static [u8])| Some((name_of(bytes)?, *bytes));
    builtins.iter().filter_map(name).collect()
}

fn name_of(bytes: &[u8]) -> Option<String> {
    heddle_pack::unpack(bytes).ok().map(|packed| packed.manifest.name)
}

/// Finds plugins, and keeps in mind which names it met.
struct Reader<'a> {
    config: &'a Config,
    builtins: Vec<(String, &'static [u8])>,
    trust: &'a TrustList,
    met: BTreeSet<String>,
    /// Something that a chain names is not there, so not all names are known.
    unread: bool,
}

impl Reader<'_> {
    /// What a chain names: a built-in, or a file. A file of a built-in's name is `./NAME`.
    fn plugin(&mut self, key: &str, asked: &str, problems: &mut Vec<Problem>) -> Option<PluginRef> {
        if let Some((name, bytes)) = self.builtins.iter().find(|(name, _)| name == asked) {
            let plugin = PluginRef::builtin(name.clone(), bytes);
            return Some(PluginRef { config: self.settings(bytes), ..plugin });
        }
        match std::fs::read(asked) {
            Ok(bytes) => {
                if let Err(error) = self.trust.check(&bytes, signature_beside(asked).as_deref()) {
                    problems.push(problem(key, format!("{asked:?}: {error}"), "sign it, or leave it out"));
                }
                Some(PluginRef { config: self.settings(&bytes), ..PluginRef::file(asked, bytes) })
            }
            Err(error) => {
                self.unread = true;
                problems.push(self.missing(key, asked, &error));
                None
            }
        }
    }

    fn missing(&self, key: &str, asked: &str, error: &std::io::Error) -> Problem {
        let names = || self.builtins.iter().map(|(name, _)| name.as_str());
        if asked.contains(['/', '.']) {
            let wrong = format!("{asked:?} cannot be read: {error}");
            return problem(key, wrong, "name the file that `heddle plugin build` wrote");
        }
        let wrong = format!("{asked:?} is neither a built-in policy nor a file ({error})");
        let remedy = meant(asked, names()).map_or_else(
            || {
                let names = names().collect::<Vec<_>>().join(", ");
                format!("write one of {names}, or name the file that `heddle plugin build` wrote")
            },
            |name| format!("did you mean {name:?}?"),
        );
        problem(key, wrong, &remedy)
    }

    /// What `policies.config` says for this plugin.
    fn settings(&mut self, bytes: &[u8]) -> Map<String, Value> {
        let Some(name) = name_of(bytes) else { return Map::new() };
        let found = self.config.policies.config.0.get(&name).map(json_object);
        self.met.insert(name);
        found.unwrap_or_default()
    }

    /// Names in `policies.config` that no plugin in use bears.
    fn unused(&self) -> Vec<Problem> {
        let which = if self.unread { "no plugin that could be read" } else { "no plugin in use" };
        let unused = self.config.policies.config.0.keys().filter(|name| !self.met.contains(*name));
        let say = |name: &String| {
            let remedy = meant(name, self.met.iter().map(String::as_str)).map_or_else(
                || "write the `name` of its plugin.toml, or remove it".to_owned(),
                |known| format!("did you mean `{known}`?"),
            );
            problem("policies.config", format!("{which} is called {name:?}"), &remedy)
        };
        unused.map(say).collect()
    }
}

/// What `heddle plugin sign` wrote beside a plugin file, if it did.
fn signature_beside(file: &str) -> Option<String> {
    std::fs::read_to_string(format!("{file}.minisig")).ok()
}

/// Where native code is kept.
pub fn native_cache(config: &Config) -> NativeCache {
    NativeCache { dir: config.node.data_dir.join("native"), bytes_max: config.policies.native_cache_max.0 }
}

/// For the engine: what one plugin may use, whatever its manifest says.
pub fn engine(config: &Config) -> Limits {
    let section = &config.policies;
    Limits {
        memory_bytes_max: section.memory_max.bytes(),
        deadline_ms_max: small(section.deadline_max.millis()),
        start_ms_max: small(section.start_deadline.millis()),
        stack_bytes_max: section.stack_max.bytes(),
        table_elements_max: count(section.table_elements_max),
        instances_max: small(section.instances_max),
        warm_max: count(section.warm_instances_max),
        calls_per_instance_max: section.calls_per_instance_max,
        hostcall_bytes_max: section.call_output_max.bytes(),
        log_lines_per_call_max: small(section.log_lines_per_call_max),
    }
}

/// For a plugin's log: lines kept, and lines a second.
pub fn plugin_log(config: &Config) -> (usize, u32) {
    (count(config.policies.log_lines_kept), small(config.policies.log_lines_per_second_max))
}

fn json_object(value: &toml::Value) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}
