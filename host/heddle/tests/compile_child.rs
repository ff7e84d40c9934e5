//! Compiling in a child of the real binary: what it makes runs, and what it costs is bounded, with words for whoever wrote the component.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use heddle_wasm::contract::{Command, Moment, RateLimitRequest, Scope, Verdict};
use heddle_wasm::{
    ChildCompiler, CompileBounds, CompileError, Compiler, Engine, Limits, LoadError, LoadOptions, NativeCache,
};

/// By the clock there is no hurry: the machine may be busy.
const BOUNDS: CompileBounds =
    CompileBounds { cpu: Duration::from_secs(60), wall: Duration::from_secs(600), memory_bytes: 2 << 30 };

fn child(bounds: CompileBounds) -> ChildCompiler {
    ChildCompiler::new(PathBuf::from(env!("CARGO_BIN_EXE_heddle")), &["compile-component"], bounds)
}

/// A shell in place of the compiler.
fn shell(script: &str, bounds: CompileBounds) -> ChildCompiler {
    ChildCompiler::new(PathBuf::from("/bin/sh"), &["-c", script], bounds)
}

/// 350 KB whose one function of 20,000 loops over 1,000 locals takes 20 s and gigabytes to compile.
fn bomb() -> Vec<u8> {
    let mut random: u64 = 7;
    let mut local = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % 1_000
    };
    let mut text = format!("(component (core module (func (local {})", "i32 ".repeat(1_000));
    for _ in 0..20_000 {
        let (a, b, c) = (local(), local(), local());
        let _ = write!(text, "loop local.get {a} local.get {b} i32.add local.tee {c} br_if 0 end ");
    }
    wat::parse_str(text + ")))").expect("text")
}

#[test]
fn what_the_child_compiles_runs_in_the_engine_of_its_parent() {
    let engine = Engine::with_compiler(Limits::default(), Arc::new(child(BOUNDS))).expect("engine");
    let (_, plugin) = heddle_builtin::plugins().into_iter().find(|(hook, _)| *hook == "rate-limit").expect("built in");
    let cache = tempfile::tempdir().expect("dir");
    for _ in 0..2 {
        let options =
            LoadOptions { cache: Some(NativeCache::at(cache.path().join("native"))), ..LoadOptions::default() };
        let plugin = engine.load_bytes(plugin.bytes, &options).expect("load");
        let (scope, command) = (Scope::User, Command::ChatMessage);
        let request = RateLimitRequest { scope, key: "a".into(), command, size: 1, connections: 1, recipients: 1 };
        let outcome = plugin.rate_limit(&Moment { now: 1, seed: 1 }, &request, &[]).expect("call");
        assert_eq!(outcome.verdict, Verdict::Allow);
    }
}

#[test]
fn a_component_that_takes_too_much_cpu_time_is_given_up_with_the_key_to_raise() {
    let error = child(CompileBounds { cpu: Duration::from_secs(1), ..BOUNDS }).compile(&bomb()).expect_err("bomb");
    assert!(matches!(error, CompileError::Cpu { seconds: 1 }), "{error}");
    let text = LoadError::from(error).to_string();
    assert!(
        text.contains("compiling took more than 1 s of CPU time") && text.contains("policies.compile_time"),
        "{text}"
    );
}

#[test]
fn a_component_that_takes_too_much_memory_is_given_up_with_the_key_to_raise() {
    let error = child(CompileBounds { memory_bytes: 256 << 20, ..BOUNDS }).compile(&bomb()).expect_err("bomb");
    assert!(matches!(error, CompileError::Memory { mebibytes: 256 }), "{error}");
    assert!(error.to_string().contains("policies.compile_memory"), "{error}");
}

#[test]
fn a_child_that_stands_still_is_killed_at_its_deadline() {
    let bounds = CompileBounds { wall: Duration::from_millis(100), ..BOUNDS };
    let error = shell("exec sleep 3600", bounds).compile(b"").expect_err("nothing comes");
    assert!(matches!(error, CompileError::Wall { .. }), "{error}");
}

/// With two seconds of CPU time and ten by the clock, good components were refused on a machine whose cores others wanted.
#[test]
fn a_short_time_is_a_minute_by_the_clock_and_a_long_one_five_times_as_much() {
    let wall = |seconds| CompileBounds::new(Duration::from_secs(seconds), 1 << 20).wall.as_secs();
    assert_eq!((wall(2), wall(60)), (60, 300));
}

#[test]
fn what_is_no_component_is_refused_in_the_compilers_words() {
    let error = child(BOUNDS).compile(b"\0asm\x0d\0\x01\0\xff\xff").expect_err("no component");
    let CompileError::Refused { problem } = &error else { panic!("{error}") };
    assert!(problem.contains("at offset"), "{problem}");
}

#[test]
fn a_compiler_that_falls_is_reported_with_its_signal_and_its_last_words() {
    let error = shell("echo too deep >&2; kill -SEGV $$", BOUNDS).compile(b"x").expect_err("falls");
    assert_eq!(error.to_string(), "the compiler ended with signal 11: too deep");
    let error = shell("exit 3", BOUNDS).compile(b"x").expect_err("falls");
    assert_eq!(error.to_string(), "the compiler ended with exit code 3");
    let error = shell("exit 0", BOUNDS).compile(b"x").expect_err("no code is no success");
    assert_eq!(error.to_string(), "the compiler ended with exit code 0");
}

#[test]
fn a_compiler_that_floods_is_not_listened_to_for_ever() {
    let bounds = CompileBounds { memory_bytes: 1 << 20, ..BOUNDS };
    for script in ["exec cat /dev/zero", "exec cat /dev/zero >&2"] {
        let error = shell(script, bounds).compile(&vec![0; 1 << 20]).expect_err("flood");
        assert!(matches!(error, CompileError::Died { .. }), "{error}");
    }
}

#[test]
fn the_child_gets_none_of_the_servers_variables() {
    // Secrets may come as HEDDLE_AUTH__SECRET; cargo gives this process CARGO_PKG_NAME.
    let seen = shell("env", BOUNDS).compile(b"").expect("env");
    let seen = String::from_utf8(seen).expect("text");
    assert!(std::env::var("CARGO_PKG_NAME").is_ok() && !seen.contains("CARGO_PKG_NAME"), "{seen}");
}

#[test]
fn a_child_that_cannot_be_started_is_nobodys_component_at_fault() {
    let nowhere = ChildCompiler::new(PathBuf::from("/nowhere/heddle"), &[], BOUNDS);
    let error = nowhere.compile(b"x").expect_err("no such program");
    assert!(matches!(error, CompileError::Start(_)) && error.to_string().contains("cannot be started"), "{error}");
}
