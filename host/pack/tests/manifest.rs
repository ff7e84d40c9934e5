//! A manifest says everything that is wrong with it at once, and a case names what it does not understand.

use heddle_pack::{Call, Case, Hook, Manifest, OnFailure, PackError, Share};

const GOOD: &str = include_str!("../../../plugins/token-bucket/plugin.toml");

fn problems(text: &str) -> Vec<String> {
    match Manifest::parse(text, "plugin.toml") {
        Err(PackError::Manifest { problems, .. }) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_built_in_manifest_is_read_whole() {
    let manifest = Manifest::parse(GOOD, "plugin.toml").expect("good");
    assert_eq!(
        (manifest.name.as_str(), manifest.version.as_str(), manifest.state_version),
        ("token-bucket", "0.1.0", 1)
    );
    assert_eq!(manifest.hooks[&Hook::RateLimit].scopes.len(), 2);
    assert_eq!(manifest.hooks[&Hook::RateLimit].on_failure, OnFailure::Builtin);
    assert_eq!((manifest.limits.memory_bytes, manifest.limits.deadline_ms), (16 << 20, 5));
    assert_eq!(manifest.config["burst"], 20);
}

#[test]
fn all_problems_come_at_once_each_with_its_key() {
    let text = "nam = \"x\"\nversion = \"one\"\n[hooks.routing]\non_failure = \"open\"\n[hooks.rate-limit]\nscopes = [\"usr\"]\n\
                [limits]\nmemory = \"16 MB\"\ndeadline_ms = 0\n[read]\nbody = true\n";
    let problems = problems(text).join("\n");
    for wanted in [
        "nam: unknown key, did you mean `name`?",
        "read: unknown key, did you mean `reads`?",
        "name: missing",
        "version: \"one\" is no version",
        "hooks.routing.on_failure: \"open\" is not offered for routing",
        "hooks.rate-limit.scopes: \"usr\" is unknown, did you mean \"user\"?",
        "limits.memory: \"16 MB\" is no size",
        "limits.deadline_ms: 0 is not a whole number from 1 to 1000",
    ] {
        assert!(problems.contains(wanted), "{wanted:?} is missing in\n{problems}");
    }
}

#[test]
fn a_rate_limit_counts_on_its_node_unless_its_manifest_says_otherwise() {
    let manifest = |share: &str, scopes: &str| {
        format!("name = \"x\"\nversion = \"1.0.0\"\n[hooks.rate-limit]\nscopes = {scopes}\n{share}\n")
    };
    let share = |text: &str| Manifest::parse(text, "plugin.toml").expect("good").hooks[&Hook::RateLimit].share;
    assert_eq!(share(&manifest("", "[\"user\"]")), Share::Node);
    assert_eq!(share(&manifest("share = \"node\"", "[\"connection\"]")), Share::Node);
    assert_eq!(share(&manifest("share = \"cluster\"", "[\"connection\", \"user\"]")), Share::Cluster);
    let wrong = problems(&manifest("share = \"clustre\"", "[\"user\"]"));
    assert_eq!(wrong, ["hooks.rate-limit.share: \"clustre\" is unknown, did you mean \"cluster\"?"]);
    let nothing = problems(&manifest("share = \"cluster\"", "[\"connection\"]"));
    assert!(nothing[0].starts_with("hooks.rate-limit.share: \"cluster\" shares nothing"), "{nothing:?}");
    let elsewhere = "name = \"x\"\nversion = \"1.0.0\"\n[hooks.routing]\nshare = \"cluster\"\n";
    assert!(problems(elsewhere)[0].starts_with("hooks.routing.share: unknown key"));
}

#[test]
fn steps_share_what_stands_beside_them_and_state_is_handed_on() {
    let text = r#"{"hook": "rate-limit", "at": {"now": 1}, "state": "AQI=", "expect": {"verdict": "allow"},
        "request": {"scope": "user", "key": "a", "command": "typing", "size": 1, "connections": 1, "recipients": 0},
        "steps": [{}, {"at": {"now": 2}}]}"#;
    let case = Case::parse("steps", text).expect("case");
    assert_eq!((case.steps[0].at.now, case.steps[1].at.now), (1, 2));
    assert!(matches!(&case.steps[0].call, Call::RateLimit { state: Some(state), .. } if state == &[1, 2]));
    assert!(matches!(&case.steps[1].call, Call::RateLimit { state: None, .. }));
}

#[test]
fn a_case_with_an_unknown_key_or_hook_is_refused_by_name() {
    let wrong = [
        (r#"{"hook": "rooting", "at": {"now": 1}, "expect": {}}"#, "rooting"),
        (r#"{"hook": "routing", "at": {"now": 1}, "request": {}, "expect": {}, "exspect": {}}"#, "exspect"),
        (r#"{"hook": "fanout", "at": {"now": 1}, "facts": [["loud"]], "expect": {}}"#, "loud"),
    ];
    for (text, named) in wrong {
        let error = Case::parse("c", text).expect_err(named).to_string();
        assert!(error.contains(named), "{error}");
    }
}
