//! What misbehaves loses its turn, says why in words that its author understands, and harms nobody else.

mod guests;

use std::sync::Arc;
use std::thread;

use guests::{AT, ENGINE, HOSTILE, component, envelope, load, observation, options, request, with_manifest};
use heddle_pack::{Case, Manifest, pack, unpack};
use heddle_wasm::contract::{Audience, RoutingDecision, Verdict};
use heddle_wasm::{Fault, FaultKind, LoadError, LoadOptions, NativeCache, NoMessage, PluginLog, run_cases};

fn limit_fault(act: &str) -> Fault {
    load(act).rate_limit(&AT, &request(), &[]).expect_err(act)
}

#[test]
fn a_guest_that_spins_is_stopped_and_its_neighbours_are_not() {
    let (spinner, good) = (load("spin"), load("behave"));
    thread::scope(|scope| {
        let spins: Vec<_> = (0..4).map(|_| scope.spawn(|| spinner.rate_limit(&AT, &request(), &[]))).collect();
        for _ in 0..200 {
            assert_eq!(good.rate_limit(&AT, &request(), &[1, 2]).expect("neighbour").state, [1, 2]);
        }
        for spin in spins {
            let fault = spin.join().expect("thread").expect_err("spin");
            assert_eq!(fault.kind, FaultKind::Deadline, "{fault}");
        }
    });
}

#[test]
fn a_panic_is_readable_and_the_next_call_gets_a_new_instance() {
    let plugin = load("panic");
    for _ in 0..3 {
        let fault = plugin.rate_limit(&AT, &request(), &[]).expect_err("panic");
        assert_eq!(fault.kind, FaultKind::Trap);
        assert!(fault.text.contains("the answer is not 42") && fault.text.contains("src/acts.rs"), "{fault}");
        assert!(fault.backtrace.len() <= 20, "{fault}");
        assert!(fault.backtrace.iter().any(|frame| frame.contains("deeply_wrong")), "{fault}");
    }
}

#[test]
fn a_guest_that_eats_memory_is_told_its_limit() {
    let fault = limit_fault("eat");
    assert_eq!(fault.kind, FaultKind::Memory, "{fault}");
    assert!(fault.text.contains("`limits.memory` allows 16777216"), "{fault}");
}

#[test]
fn an_answer_outside_its_bounds_is_a_fault() {
    for act in ["state", "keep", "reason"] {
        assert_eq!(limit_fault(act).kind, FaultKind::BadAnswer, "{act}");
    }
    let audience = Audience { group: "g".into(), sender: "alice".into(), members: 3, online: 0 };
    for act in ["few", "code"] {
        let fault = load(act).fanout_sort(&AT, &audience, &[0; 3], &NoMessage).expect_err(act);
        assert_eq!(fault.kind, FaultKind::BadAnswer, "{act}");
    }
    let fault = load("tags").routing(&AT, &envelope(), &NoMessage).expect_err("tags");
    assert_eq!(fault.kind, FaultKind::BadAnswer, "{fault}");
    let fault = load("recheck").presence_observe(&AT, &observation()).expect_err("recheck");
    assert_eq!(fault.kind, FaultKind::BadAnswer, "{fault}");
}

#[test]
fn a_body_that_was_not_declared_is_not_read_and_the_line_to_add_is_named() {
    for act in ["read", "rewrite"] {
        let fault = load(act).routing(&AT, &envelope(), &NoMessage).expect_err(act);
        assert_eq!(fault.kind, FaultKind::BodyNotDeclared, "{fault}");
        assert!(fault.text.contains("add `body = true` under [reads]"), "{fault}");
    }
    let declared = with_manifest(|text| format!("{text}\n[reads]\nbody = true\n"));
    let plugin = ENGINE.load(&declared, &options("rewrite")).expect("declared");
    assert!(matches!(plugin.routing(&AT, &envelope(), &NoMessage), Ok(RoutingDecision::AcceptWith(_))));
}

#[test]
fn the_message_is_there_only_while_it_is_decided() {
    let fault = load("peek").presence_observe(&AT, &observation()).expect_err("peek");
    assert_eq!(fault.kind, FaultKind::NoMessage, "{fault}");
}

#[test]
fn exit_is_a_fault_and_sleep_does_not_wait() {
    let fault = limit_fault("exit");
    assert!(fault.kind == FaultKind::Trap && fault.text.contains("exit"), "{fault}");
    let slept = load("sleep").rate_limit(&AT, &request(), &[]);
    assert!(slept.is_ok() || slept.is_err_and(|fault| fault.kind == FaultKind::Deadline));
}

#[test]
fn clock_randomness_and_environment_are_the_same_in_every_instance() {
    let answers: Vec<_> =
        (0..3).map(|_| load("clock").rate_limit(&AT, &request(), &[]).expect("clock").state).collect();
    assert_eq!(answers[0][..8], AT.now.to_le_bytes());
    assert_eq!(answers[0][8..10], [0, 0], "environment and arguments are empty");
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[test]
fn a_policy_that_remembers_calls_is_found_impure() {
    let text = r#"{"hook": "rate-limit", "at": {"now": 1}, "request": {"scope": "user", "key": "a", "command": "typing",
        "size": 1, "connections": 1, "recipients": 0}, "expect": {"verdict": "allow"}}"#;
    let cases = ["one", "two"].map(|name| Case::parse(name, text).expect("case"));
    let report = run_cases(&load("count"), &cases).expect("run");
    assert!(report.failed.is_empty() && !report.impure.is_empty(), "{report:?}");
    assert!(run_cases(&load("behave"), &cases).expect("run").passed());
}

#[test]
fn a_flood_of_log_lines_is_cut() {
    let log = Arc::new(PluginLog::new(50, 20));
    let options = LoadOptions { log: log.clone(), ..options("shout") };
    let plugin = ENGINE.load(&HOSTILE, &options).expect("load");
    let _ = plugin.rate_limit(&AT, &request(), &[]);
    assert_eq!(log.lines().len(), 20);
    assert_eq!(log.lines()[0].text, "line 0");
    assert!(log.dropped() > 0);
}

#[test]
fn a_refused_configuration_and_a_panic_at_start_are_told_apart() {
    let refused = ENGINE.load(&HOSTILE, &options("refuse")).expect_err("refuse");
    assert!(matches!(&refused, LoadError::Refused { text } if text == "not with me"), "{refused}");
    let fell = ENGINE.load(&HOSTILE, &options("panic-at-start")).expect_err("panic");
    assert!(matches!(&fell, LoadError::ConfigureFault(fault) if fault.text.contains("good enough")), "{fell}");
}

#[test]
fn files_that_are_no_plugins_are_refused_with_a_reason() {
    let refused = |bytes: &[u8]| ENGINE.load_bytes(bytes, &LoadOptions::default()).expect_err("refused").to_string();
    assert!(refused(b"").contains("empty"));
    assert!(refused(b"#!/bin/sh").contains("not a WebAssembly file"));
    assert!(refused(b"\0asm\x01\0\0\0").contains("core WebAssembly module"));
    let bytes = &HOSTILE.bytes;
    for end in [6, bytes.len() / 2, bytes.len() - 1] {
        assert!(refused(&bytes[..end]).contains("truncated"), "{end}: {}", refused(&bytes[..end]));
    }
    assert!(refused(&component()).contains("heddle plugin build"));
    let small = with_manifest(|text| format!("{text}\n[limits]\nmemory = \"512 MiB\"\n"));
    let error = ENGINE.load(&small, &LoadOptions::default()).expect_err("memory").to_string();
    assert!(error.contains("limits.memory"), "{error}");
}

#[test]
fn a_component_of_another_world_is_refused_by_name() {
    let text = "name = \"x\"\nversion = \"0.1.0\"\n[hooks.routing]\n";
    let manifest = Manifest::parse(text, "plugin.toml").expect("manifest");
    let load = |wat: &str| {
        let component = wat::parse_str(wat).expect("wat");
        let packed = unpack(pack(&component, &manifest, &[]).expect("pack")).expect("unpack");
        ENGINE.load(&packed, &LoadOptions::default()).expect_err("refused")
    };
    assert!(matches!(load("(component)"), LoadError::MissingExport { hook, .. } if hook == "routing"));
    let stranger = r#"(component (import "wasi:http/types@0.2.0" (instance)))"#;
    assert!(matches!(load(stranger), LoadError::UnknownImport { import } if import.starts_with("wasi:http")));
    let wrong_type = r#"(component
        (core module $m (func (export "f") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $f (result u32) (canon lift (core func $i "f")))
        (instance $l (export "configure" (func $f)))
        (instance $r (export "decide" (func $f)))
        (export "heddle:policy/lifecycle@0.1.0" (instance $l))
        (export "heddle:policy/routing@0.1.0" (instance $r)))"#;
    assert!(matches!(load(wrong_type), LoadError::WrongType { interface, .. } if interface.contains("lifecycle")));
}

#[test]
fn native_code_is_kept_and_a_damaged_file_is_compiled_again() {
    let dir = tempfile::tempdir().expect("dir");
    let cache = dir.path().join("native");
    let load = || {
        let options = LoadOptions { cache: Some(NativeCache::at(&cache)), ..options("behave") };
        ENGINE.load(&HOSTILE, &options).expect("load").rate_limit(&AT, &request(), &[]).expect("call")
    };
    let files =
        || std::fs::read_dir(&cache).expect("list").map(|entry| entry.expect("entry").path()).collect::<Vec<_>>();
    assert_eq!(load().verdict, Verdict::Allow);
    let kept = files();
    assert_eq!(kept.len(), 1);
    let whole = std::fs::read(&kept[0]).expect("read");
    std::fs::write(&kept[0], &whole[..whole.len() - 1]).expect("damage");
    load();
    assert_eq!(std::fs::read(&kept[0]).expect("read").len(), whole.len(), "written anew");
    load();
    assert_eq!(files().len(), 1);
}
