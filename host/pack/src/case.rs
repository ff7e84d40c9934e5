use std::collections::BTreeMap;
use std::path::Path;

use data_encoding::BASE64;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::contract::{
    Audience, Delivery, Envelope, Moment, Observation, RateLimitRequest, Visibility, fact, relation,
};
use crate::error::PackError;
use crate::file::{CASE_BYTES_MAX, CASES_MAX};
use crate::manifest::Hook;

/// A test case: what a policy must answer. One of `cases/*.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The file's name without `.json`.
    pub name: String,
    /// Which hook is called.
    pub hook: Hook,
    /// For `configure`; none: the manifest's.
    pub config: Option<Value>,
    /// At least one.
    pub steps: Vec<Step>,
    source: String,
}

/// One call, and what is expected of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Passed in.
    pub at: Moment,
    /// What is called.
    pub call: Call,
    /// Part of the answer as JSON: each key that stands here must be equal. `{"fault": "trap"}` expects a fault.
    pub expect: Value,
}

/// A call of a hook.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Call {
    /// `state`: none takes what the step before returned.
    RateLimit {
        request: RateLimitRequest,
        state: Option<Vec<u8>>,
    },
    Routing {
        envelope: Envelope,
        message: CaseMessage,
    },
    Plan {
        audience: Audience,
        message: CaseMessage,
    },
    Sort {
        audience: Audience,
        facts: Vec<u8>,
        message: CaseMessage,
    },
    Observe {
        observation: Observation,
    },
    Reveal {
        subject: String,
        relations: Vec<u8>,
    },
}

/// What the getters of `message` answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseMessage {
    /// "message" if left out.
    pub kind: Option<String>,
    /// The text.
    pub text: Option<String>,
    /// Any JSON.
    pub data: Option<Value>,
    /// Names and values.
    pub tags: BTreeMap<String, String>,
    /// Clock within the conversation.
    pub lamport: u64,
    /// Milliseconds since the Unix epoch.
    #[serde(alias = "sender-since")]
    pub sender_since: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    at: Moment,
    request: Option<Value>,
    #[serde(default)]
    message: CaseMessage,
    state: Option<String>,
    facts: Option<Value>,
    subject: Option<String>,
    relations: Option<Value>,
    expect: Value,
}

impl Case {
    /// Checks the text of a case.
    pub fn parse(name: &str, text: &str) -> Result<Self, PackError> {
        let refused = |problem: String| PackError::Case { name: name.to_owned(), problem };
        if text.len() > CASE_BYTES_MAX {
            return Err(PackError::TooLarge { what: format!("case {name}"), bytes: text.len(), max: CASE_BYTES_MAX });
        }
        let mut shared: Map<String, Value> = serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
        let hook: Hook = take(&mut shared, "hook").map_err(refused)?.ok_or_else(|| refused("hook: missing".into()))?;
        let config: Option<Value> = take(&mut shared, "config").map_err(refused)?;
        if config.as_ref().is_some_and(|config| !config.is_object()) {
            return Err(refused("config: not an object".into()));
        }
        let _note: Option<String> = take(&mut shared, "note").map_err(refused)?;
        let steps: Option<Vec<Map<String, Value>>> = take(&mut shared, "steps").map_err(refused)?;
        let steps = steps.unwrap_or_else(|| vec![Map::new()]);
        if steps.is_empty() {
            return Err(refused("steps: empty".into()));
        }
        let steps = steps.into_iter().enumerate().map(|(index, step)| {
            let mut whole = shared.clone();
            if index > 0 {
                whole.remove("state");
            }
            whole.extend(step);
            parse_step(hook, whole).map_err(|problem| refused(format!("step {}: {problem}", index + 1)))
        });
        Ok(Self {
            name: name.to_owned(),
            hook,
            config,
            steps: steps.collect::<Result<_, _>>()?,
            source: text.to_owned(),
        })
    }

    /// The text that it was read from.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// All `*.json` of a folder, by name; none if there is no such folder.
pub fn cases_from_dir(dir: &Path) -> Result<Vec<Case>, PackError> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let list = |source| PackError::Io { what: "list", path: dir.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(list)? {
        let path = entry.map_err(list)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    if paths.len() > CASES_MAX {
        return Err(PackError::TooManyCases { count: paths.len(), max: CASES_MAX });
    }
    paths.sort();
    let mut cases = Vec::with_capacity(paths.len());
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|source| PackError::Io {
            what: "read",
            path: path.clone(),
            source,
        })?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        cases.push(Case::parse(&name, &text)?);
    }
    Ok(cases)
}

fn parse_step(hook: Hook, whole: Map<String, Value>) -> Result<Step, String> {
    let mut raw: Raw = serde_json::from_value(Value::Object(whole)).map_err(|error| error.to_string())?;
    if !raw.expect.is_object() {
        return Err("expect: not an object".to_owned());
    }
    let call = match hook {
        Hook::RateLimit => {
            let state = raw.state.as_deref().map(|text| base64("state", text)).transpose()?;
            Call::RateLimit { request: request(&mut raw)?, state }
        }
        Hook::Routing => Call::Routing { envelope: request(&mut raw)?, message: raw.message },
        Hook::Fanout => match raw.facts.take() {
            None => Call::Plan { audience: request(&mut raw)?, message: raw.message },
            Some(facts) => {
                column(&mut raw.expect, "delivery", &Delivery::NAMES)?;
                let facts = bits("facts", &facts, &fact::NAMES)?;
                Call::Sort { audience: request(&mut raw)?, facts, message: raw.message }
            }
        },
        Hook::Presence => match raw.relations.take() {
            None => Call::Observe { observation: request(&mut raw)? },
            Some(relations) => {
                column(&mut raw.expect, "visibility", &Visibility::NAMES)?;
                let subject = raw.subject.take().ok_or("subject: missing, say whose presence it is")?;
                Call::Reveal { subject, relations: bits("relations", &relations, &relation::NAMES)? }
            }
        },
    };
    Ok(Step { at: raw.at, call, expect: raw.expect })
}

fn take<T: DeserializeOwned>(from: &mut Map<String, Value>, key: &str) -> Result<Option<T>, String> {
    let Some(value) = from.remove(key) else { return Ok(None) };
    serde_json::from_value(value).map(Some).map_err(|error| format!("{key}: {error}"))
}

fn request<T: DeserializeOwned>(raw: &mut Raw) -> Result<T, String> {
    let value = raw.request.take().ok_or("request: missing")?;
    serde_json::from_value(value).map_err(|error| format!("request: {error}"))
}

fn base64(key: &str, text: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(text.as_bytes()).map_err(|error| format!("{key}: {text:?} is not base64: {error}"))
}

/// A column of bits: base64, or a list of names for each.
fn bits(key: &str, value: &Value, names: &[&str]) -> Result<Vec<u8>, String> {
    if let Some(text) = value.as_str() {
        return base64(key, text);
    }
    let lists: Vec<Vec<String>> = serde_json::from_value(value.clone())
        .map_err(|_| format!("{key}: write base64, or a list of names for each"))?;
    let byte = |list: &Vec<String>| {
        list.iter().try_fold(0_u8, |byte, name| match names.iter().position(|known| known == name) {
            Some(bit) => Ok(byte | 1 << bit),
            None => Err(format!("{key}: {name:?} is unknown, use {}", names.join(", "))),
        })
    };
    lists.iter().map(byte).collect()
}

/// An expected column of codes, as base64, becomes one of names.
fn column(expect: &mut Value, key: &str, names: &[&str]) -> Result<(), String> {
    let Some(text) = expect.get(key).and_then(Value::as_str) else { return Ok(()) };
    let codes = base64(key, text)?;
    let named = codes.iter().map(|code| match names.get(usize::from(*code)) {
        Some(name) => Ok(Value::from(*name)),
        None => Err(format!("expect.{key}: the code {code} does not exist")),
    });
    expect[key] = Value::Array(named.collect::<Result<_, _>>()?);
    Ok(())
}
