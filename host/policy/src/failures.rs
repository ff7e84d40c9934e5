//! Versions of plugins that went on failing and that nobody took back: the audit says so, and so it is known after a restart too.
//!
//! What was taken back or revoked stands in the content of each generation since. What failed while the breaker is off, or had nothing to give way to,
//! goes on deciding; when somebody replaces it, nothing is to go back to it.

use std::collections::BTreeSet;

use heddle_model::Hook;
use heddle_store::{AuditEntry, StoreError};
use serde_json::{Map, Value, json};

use crate::Policies;
use crate::content::{Entry, version};
use crate::guard::HEDDLE;
use crate::member::Member;

/// What the audit says of a plugin that goes on failing, and goes on deciding.
const FAIL: &str = "fail";
/// Rows of the audit that are looked at after a start.
const LOOKED_AT: u32 = 256;
/// Versions that are remembered; those beyond it are remembered when they fail again.
const FAILING_MAX: usize = 64;

impl Policies {
    /// It goes on failing, and stays: put into the audit, so that nothing goes back to it when it is replaced.
    pub(crate) async fn fails_and_stays(&self, hook: Hook, member: &Member, why: &str) -> Result<(), StoreError> {
        let (plugin, digest) = (&member.name, member.digest.to_string());
        let failed = version(&digest, &member.config);
        let detail = json!({
            "hook": hook, "plugin": plugin, "version": member.version, "digest": digest, "failed": failed,
            "generation": self.current().number(),
        });
        self.fail(failed);
        self.note(HEDDLE, FAIL, why, detail.to_string()).await
    }

    /// What the audit of before this start says.
    pub(crate) async fn recall_failing(&self) -> Result<(), StoreError> {
        for failed in failing(&self.history(LOOKED_AT).await?) {
            self.fail(failed);
        }
        Ok(())
    }

    fn fail(&self, failed: String) {
        let mut failing = self.shared.floor.failing.lock();
        if failing.len() < FAILING_MAX {
            failing.insert(failed);
        }
    }
}

/// Versions that went on failing since they last came into a set. `rows`: newest first.
fn failing(rows: &[AuditEntry]) -> BTreeSet<String> {
    let (mut failing, mut came) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let Ok(detail) = serde_json::from_str::<Value>(&row.detail) else { continue };
        if row.who == HEDDLE && row.what == FAIL {
            let failed = detail["failed"].as_str().map(str::to_owned);
            failing.extend(failed.filter(|failed| !came.contains(failed)));
        } else {
            let before = versions(&detail["before"]);
            came.extend(versions(&detail["after"]).into_iter().filter(|after| !before.contains(after)));
        }
    }
    failing
}

/// Those in the chains of one side of a row.
fn versions(side: &Value) -> BTreeSet<String> {
    let chains: Map<String, Value> = side["chains"].as_object().cloned().unwrap_or_default();
    let entries =
        chains.into_iter().flat_map(|(_, chain)| serde_json::from_value::<Vec<Entry>>(chain).unwrap_or_default());
    entries.map(|entry| entry.of_version()).collect()
}
