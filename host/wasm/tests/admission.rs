//! What the hostile set does before it serves and beside its faults: refused in words, found impure, renewed.

mod guests;

use guests::{AT, ENGINE, HOSTILE, audience, envelope, load, options, request, wat_guest};
use heddle_pack::{Case, Manifest, Packed, pack, unpack};
use heddle_wasm::contract::RoutingDecision;
use heddle_wasm::{FaultKind, LoadError, LoadOptions, NoMessage, run_cases};

#[test]
fn a_guest_in_text_that_lies_about_where_its_answer_is_gives_a_fault() {
    let plugin = ENGINE.load(&wat_guest("out-of-bounds"), &LoadOptions::default()).expect("load");
    let plan = plugin.fanout_plan(&AT, &audience(), &NoMessage).expect_err("case 77");
    assert_eq!((plan.kind, plan.text.contains("77")), (FaultKind::BadAnswer, true), "{plan}");
    let sort = plugin.fanout_sort(&AT, &audience(), &[0; 3], &NoMessage).expect_err("2 GiB of answer");
    assert_eq!(sort.kind, FaultKind::BadAnswer, "{sort}");
}

#[test]
fn a_table_bomb_stops_at_the_limit_and_traps_by_itself() {
    let plugin = ENGINE.load(&wat_guest("table-bomb"), &LoadOptions::default()).expect("load");
    for _ in 0..20 {
        let fault = plugin.fanout_sort(&AT, &audience(), &[0; 3], &NoMessage).expect_err("bomb");
        assert_eq!(fault.kind, FaultKind::Trap, "{fault}");
    }
}

#[test]
fn a_guest_that_falls_after_a_thousand_calls_is_renewed_and_goes_on() {
    let plugin = load("late");
    for round in 0..3 {
        for call in 1..=1_000 {
            plugin
                .rate_limit(&AT, &request(), &[])
                .unwrap_or_else(|fault| panic!("round {round}, call {call}: {fault}"));
        }
        let fault = plugin.rate_limit(&AT, &request(), &[]).expect_err("one too many");
        assert!(fault.kind == FaultKind::Trap && fault.text.contains("call 1001 is one too many"), "{fault}");
    }
}

#[test]
fn answers_that_name_strangers_pass_the_engine_which_knows_no_members() {
    for act in ["outsider", "another-user", "another-group"] {
        let decision = load(act).routing(&AT, &envelope(), &NoMessage).expect("decision");
        assert!(matches!(decision, RoutingDecision::AcceptWith(_)), "{act}: {decision:?}");
    }
}

#[test]
fn a_start_that_misbehaves_is_refused_with_its_kind() {
    let kinds = [
        ("spin", FaultKind::Deadline),
        ("eat", FaultKind::Memory),
        ("recurse", FaultKind::Trap),
        ("unreachable", FaultKind::Trap),
        ("exit", FaultKind::Trap),
    ];
    for (act, kind) in kinds {
        let error = ENGINE.load(&HOSTILE, &options(&format!("{act}-at-start"))).expect_err(act);
        assert!(matches!(&error, LoadError::ConfigureFault(fault) if fault.kind == kind), "{act}: {error}");
    }
}

/// Two equal cases, so that a used instance is asked what a fresh one was.
fn twice(hook: &str, request: &str, expect: &str) -> [Case; 2] {
    let text = format!(r#"{{"hook": "{hook}", "at": {{"now": 1}}, {request}, "expect": {expect}}}"#);
    ["one", "two"].map(|name| Case::parse(name, &text).expect("case"))
}

#[test]
fn what_depends_on_earlier_calls_or_on_a_hash_maps_order_is_found_impure_by_the_cases() {
    let limit = r#""request": {"scope": "user", "key": "a", "command": "typing", "size": 1, "connections": 1, "recipients": 1}"#;
    let route = r#""request": {"sender": "alice", "to": {"direct": "bob"}, "size": 1, "members": 2}"#;
    let cases = [twice("rate-limit", limit, r#"{"verdict": "allow"}"#), twice("routing", route, "{}")]
        .map(|cases| cases.to_vec());
    for act in ["count", "order"] {
        for cases in &cases {
            let report = run_cases(&load(act), cases).expect("run");
            assert!(report.failed.is_empty() && !report.impure.is_empty(), "{act}: {report:?}");
            let said = report.problems().expect("problems").join("\n");
            assert!(said.contains("keep nothing between calls"), "{act}: {said}");
        }
    }
    for cases in &cases {
        assert!(run_cases(&load("behave"), cases).expect("run").passed());
    }
}

#[test]
fn a_counter_is_invisible_to_an_instance_that_is_asked_once() {
    let once = load("count").rate_limit(&AT, &request(), &[]).expect("count");
    assert_eq!(once.state, 0_u64.to_le_bytes(), "why admission asks used instances too");
}

#[test]
fn the_wrong_world_is_refused_by_what_is_missing_and_what_is_there() {
    let manifest = |hook: &str| {
        let text = format!("name = \"x\"\nversion = \"0.1.0\"\n[hooks.{hook}]\n");
        Manifest::parse(&text, "plugin.toml").expect("manifest")
    };
    // A guest of one hook whose manifest promises another.
    let guest = wat_guest("table-bomb");
    let bare = guest.bytes[..guest.bytes.len() - section_bytes(&guest)].to_vec();
    let promised = unpack(pack(&bare, &manifest("routing"), &[]).expect("pack")).expect("unpack");
    let error = ENGINE.load(&promised, &LoadOptions::default()).expect_err("missing export").to_string();
    assert!(error.contains("exports no `heddle:policy/routing@0.1.0`") && error.contains("fanout"), "{error}");
    // All is there, and something is wanted that nobody gives.
    let wants = wat::parse_str(r#"(component (import "wasi:sockets/tcp@0.2.0" (instance)))"#).expect("wat");
    let wants = unpack(pack(&wants, &manifest("routing"), &[]).expect("pack")).expect("unpack");
    let error = ENGINE.load(&wants, &LoadOptions::default()).expect_err("import").to_string();
    assert!(error.contains("imports `wasi:sockets/tcp@0.2.0`"), "{error}");
}

/// Bytes of the section at the end: its id, its length, its name and what it holds.
fn section_bytes(packed: &Packed) -> usize {
    let marker = b"heddle:plugin";
    let at = packed.bytes.windows(marker.len()).rposition(|window| window == marker).expect("section");
    let start = (0..at).rev().find(|start| packed.bytes[*start] == 0 && *start + 7 > at - 1 && *start < at - 1);
    packed.bytes.len() - start.expect("start")
}
