//! What stands in the audit: who changed what, when and why, with the whole set before and after.

use heddle_store::{AuditEntry, CatalogGeneration, StoreError};
use serde_json::{Map, json};

use crate::Policies;
use crate::content::Content;

/// A row of the audit.
pub(crate) struct AuditRow<'a> {
    /// Who, what, why.
    pub(crate) said: (&'a str, &'a str, &'a str),
    pub(crate) before: Option<&'a CatalogGeneration>,
    pub(crate) number: u64,
    pub(crate) after: &'a Content,
}

impl AuditRow<'_> {
    /// With the whole set before and after.
    pub(crate) fn entry(&self, at: u64, allow_downgrade: bool) -> AuditEntry {
        let (who, what, why) = self.said;
        let chains = |content: &Content| {
            let chains = content.chains.iter();
            json!(chains.map(|(hook, entries)| (hook.to_string(), json!(entries))).collect::<Map<_, _>>())
        };
        let shown = |number: u64, content: Option<&Content>| {
            json!({
                "generation": number, "chains": content.map(chains), "trial": content.map(|it| &it.trial),
                "revoked": content.map(|it| &it.revoked),
            })
        };
        let before = self.before.map(|row| shown(row.number, Content::parse(&row.json).as_ref()));
        let mut detail = json!({ "before": before, "after": shown(self.number, Some(self.after)) });
        if allow_downgrade {
            detail["allow_downgrade"] = true.into();
        }
        AuditEntry { at, who: who.to_owned(), what: what.to_owned(), why: why.to_owned(), detail: detail.to_string() }
    }
}

impl Policies {
    /// Puts what made no generation into the audit. `detail`: JSON.
    ///
    /// # Errors
    /// The catalog does not answer.
    pub async fn note(&self, who: &str, what: &str, why: &str, detail: String) -> Result<(), StoreError> {
        let deps = &self.shared.floor.deps;
        let (at, who, what, why) = (deps.clock.now(), who.to_owned(), what.to_owned(), why.to_owned());
        deps.catalog.add_audit(AuditEntry { at, who, what, why, detail }).await
    }

    /// The newest changes, newest first.
    ///
    /// # Errors
    /// The catalog does not answer.
    pub async fn history(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.shared.floor.deps.catalog.audit(limit).await
    }
}
