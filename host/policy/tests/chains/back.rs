//! What a plugin that fails gives way to: the version before, and which one that is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use heddle_model::{Conversation, Decision, Fallback, Hook};
use heddle_pack::{Manifest, TrustList};
use heddle_policy::{
    Change, ChangeError, Changed, Generation, Outcome, PluginRef, Policies, Request, RouteAsk, Seal, WatchConfig,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::scripted::{BODY, Rights, Rows, group, id, plugin, start_with, user};

/// One version of the plugin `p`, which says in its answers which one it is.
fn version(number: u32, does: &str, on_failure: &str) -> PluginRef {
    let toml = format!(
        "name = \"p\"\nversion = \"{number}.0.0\"\n[hooks.routing]\non_failure = \"{on_failure}\"\n\
         [reads]\nbody = true\n[config]\ndo = \"{does}\"\nn = 0\n"
    );
    let manifest = Manifest::parse(&toml, "plugin.toml").unwrap();
    PluginRef::file(format!("p {number}"), heddle_pack::pack(b"\0asm\x0d\0\x01\0", &manifest, &[]).unwrap())
}

async fn change(policies: &Policies, change: Change) -> Result<Changed, ChangeError> {
    policies.change(Request { change, who: "tester".to_owned(), why: "a test".to_owned() }).await
}

async fn deploy(policies: &Policies, file: PluginRef) -> u64 {
    let deployed = Change::Deploy { hook: None, file, seal: Seal::default(), trial: None };
    change(policies, deployed).await.unwrap_or_else(|error| panic!("{error}")).now.number()
}

fn route(generation: &Generation, sender: &str) -> (Outcome, Vec<Decision>) {
    let (sender, to): (_, Conversation) = (user(sender), group("home"));
    let ask = RouteAsk { now: 1, id: id(), sender: &sender, to: &to, size: 5, members: 3, message: BODY };
    let routed = generation.route(&ask, &Rights);
    (routed.outcome, routed.decisions)
}

/// As many faults in a row as open the breaker, each about somebody else.
fn fail(generation: &Generation) {
    (0..5).for_each(|n| drop(route(generation, &format!("u{n}"))));
}

/// Which version of `p` stands in the chain now.
fn standing(policies: &Policies) -> Option<String> {
    let infos = policies.current().describe();
    infos.into_iter().find(|info| &*info.name == "p").map(|info| info.version.to_string())
}

/// Who answered in the place of `p`, and as what.
fn answered(policies: &Policies) -> (String, Option<Fallback>) {
    let (_, decisions) = route(&policies.current(), "bob");
    let decision = decisions.into_iter().find(|decision| &*decision.plugin == "p").unwrap();
    (decision.version.to_string(), decision.fallback)
}

async fn generation(policies: &Policies, number: u64) {
    for _ in 0..1_000 {
        if policies.current().number() == number {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("generation {} decides, not {number}", policies.current().number());
}

/// Waits for such a row of the audit.
async fn noted(catalog: &Rows, what: &str) {
    for _ in 0..1_000 {
        if catalog.audit.lock().iter().any(|row| row.what == what) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the audit has no row {what:?}");
}

async fn started() -> (Arc<Rows>, Policies) {
    let catalog = Arc::<Rows>::default();
    let policies = start_with(&catalog, vec![], "pass").await.unwrap();
    (catalog, policies)
}

#[tokio::test(start_paused = true)]
async fn a_plugin_is_taken_back_within_a_second_while_another_is_being_compiled() {
    let (catalog, policies) = started().await;
    deploy(&policies, version(1, "deny", "builtin")).await;
    deploy(&policies, version(2, "trap", "builtin")).await;
    let bomb = plugin("bomb", Hook::Presence, "builtin", "bomb", false);
    let bomb = Change::Deploy { hook: None, file: bomb, seal: Seal::default(), trial: None };
    let compiling = tokio::spawn({
        let policies = policies.clone();
        async move { change(&policies, bomb).await }
    });
    // Until it is compiled nobody else may deploy.
    while !matches!(change(&policies, Change::Abandon).await, Err(ChangeError::Busy)) {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    fail(&policies.current());
    generation(&policies, 4).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(standing(&policies).as_deref(), Some("1.0.0"));
    catalog.gate.notify_one();
    assert!(matches!(compiling.await.unwrap(), Err(ChangeError::Conflict)), "what it was made for is gone");
    assert_eq!(policies.current().number(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_alarm_that_could_not_be_heeded_is_raised_again() {
    let (catalog, policies) = started().await;
    deploy(&policies, version(1, "deny", "builtin")).await;
    deploy(&policies, version(2, "trap", "builtin")).await;
    catalog.down.store(true, Ordering::SeqCst);
    fail(&policies.current());
    // Whatever the guard tries, it has given up by then.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(policies.current().number(), 3);
    catalog.down.store(false, Ordering::SeqCst);
    let _ = route(&policies.current(), "somebody else");
    generation(&policies, 4).await;
    assert_eq!(standing(&policies).as_deref(), Some("1.0.0"));
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_back_to_a_version_that_was_taken_back() {
    let (_, policies) = started().await;
    deploy(&policies, version(1, "moody", "builtin")).await;
    deploy(&policies, version(2, "trap", "builtin")).await;
    fail(&policies.current());
    generation(&policies, 4).await;
    assert_eq!(standing(&policies).as_deref(), Some("1.0.0"));
    fail(&policies.current());
    generation(&policies, 5).await;
    assert_eq!(standing(&policies), None, "before it there was none, and version 2 is known");
    // Whoever means it may have it all the same.
    deploy(&policies, version(2, "trap", "builtin")).await;
    assert_eq!(standing(&policies).as_deref(), Some("2.0.0"));
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_back_or_went_on_failing_is_known_after_a_restart() {
    let (catalog, policies) = started().await;
    deploy(&policies, version(1, "moody", "builtin")).await;
    deploy(&policies, version(2, "trap", "builtin")).await;
    fail(&policies.current());
    generation(&policies, 4).await;
    // Version 3 fails as well, and stays, for the breaker is off.
    policies.configure(WatchConfig { breaker: false, ..WatchConfig::default() }, TrustList::default());
    deploy(&policies, version(3, "trap", "previous")).await;
    fail(&policies.current());
    noted(&catalog, "fail").await;
    assert_eq!(standing(&policies).as_deref(), Some("3.0.0"));
    drop(policies);
    let policies = start_with(&catalog, vec![], "pass").await.unwrap();
    assert_eq!(standing(&policies).as_deref(), Some("3.0.0"));
    // What it knows of before comes from the audit, behind those who serve.
    sleep(Duration::from_secs(1)).await;
    deploy(&policies, version(4, "trap", "previous")).await;
    assert_eq!(answered(&policies), ("1.0.0".to_owned(), Some(Fallback::Previous)), "the last that did not fail");
    fail(&policies.current());
    generation(&policies, 7).await;
    assert_eq!(standing(&policies).as_deref(), Some("1.0.0"), "neither 2 nor 3");
    drop(policies);
    let policies = start_with(&catalog, vec![], "pass").await.unwrap();
    fail(&policies.current());
    generation(&policies, 8).await;
    assert_eq!(standing(&policies), None, "every version is known");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_failed_before_it_was_deployed_anew_is_given_another_try_after_a_restart_too() {
    let (catalog, policies) = started().await;
    policies.configure(WatchConfig { breaker: false, ..WatchConfig::default() }, TrustList::default());
    deploy(&policies, version(1, "moody", "builtin")).await;
    fail(&policies.current());
    noted(&catalog, "fail").await;
    change(&policies, Change::Remove { plugin: "p".to_owned(), hook: None }).await.unwrap();
    deploy(&policies, version(1, "moody", "builtin")).await;
    drop(policies);
    let policies = start_with(&catalog, vec![], "pass").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    deploy(&policies, version(2, "trap", "builtin")).await;
    fail(&policies.current());
    generation(&policies, 6).await;
    assert_eq!(standing(&policies).as_deref(), Some("1.0.0"));
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_back_to_a_version_that_was_revoked() {
    let (_, policies) = started().await;
    deploy(&policies, version(1, "moody", "builtin")).await;
    deploy(&policies, version(2, "deny", "builtin")).await;
    change(&policies, Change::Revoke { generation: None }).await.unwrap();
    fail(&policies.current());
    generation(&policies, 5).await;
    assert_eq!(standing(&policies), None);
    let by = policies.history(1).await.unwrap().pop().unwrap();
    assert_eq!((&*by.who, &*by.what), ("heddle", "break"));
}

#[tokio::test(start_paused = true)]
async fn a_late_alarm_does_not_undo_what_an_operator_set_since() {
    let (_, policies) = started().await;
    deploy(&policies, version(1, "deny", "builtin")).await;
    deploy(&policies, version(2, "trap", "builtin")).await;
    let before = policies.current();
    let changes = [("do".to_owned(), json!("pass"))].into_iter().collect();
    change(&policies, Change::Configure { plugin: "p".to_owned(), changes }).await.unwrap();
    fail(&before);
    sleep(Duration::from_secs(60)).await;
    assert_eq!((policies.current().number(), standing(&policies).as_deref()), (4, Some("2.0.0")));
    // The same version in another generation is another matter.
    let changes = [("do".to_owned(), json!("trap"))].into_iter().collect();
    change(&policies, Change::Configure { plugin: "p".to_owned(), changes }).await.unwrap();
    let before = policies.current();
    let other = plugin("other", Hook::Presence, "builtin", "pass", false);
    deploy(&policies, other).await;
    fail(&before);
    generation(&policies, 7).await;
}

#[tokio::test(start_paused = true)]
async fn previous_is_the_last_version_that_did_not_fail_and_the_stamp_names_it() {
    let (_, policies) = started().await;
    deploy(&policies, version(1, "pass", "previous")).await;
    deploy(&policies, version(2, "trap", "previous")).await;
    fail(&policies.current());
    generation(&policies, 4).await;
    // Taken back: version 1 decides, and knows no version before it.
    assert_eq!(answered(&policies), ("1.0.0".to_owned(), None));
    deploy(&policies, version(3, "trap", "previous")).await;
    assert_eq!(answered(&policies), ("1.0.0".to_owned(), Some(Fallback::Previous)));
    // That one has failed now, and is replaced before it is taken back.
    deploy(&policies, version(4, "trap", "previous")).await;
    assert_eq!(answered(&policies), ("1.0.0".to_owned(), Some(Fallback::Previous)));
    deploy(&policies, version(5, "trap", "builtin")).await;
    let (_, decisions) = route(&policies.current(), "carol");
    let [inbox, p] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!((&*p.plugin, p.fallback), ("p", Some(Fallback::Builtin)));
    assert_eq!(p.digest, inbox.digest, "the built-in's file, which is the first in the chain");
}
