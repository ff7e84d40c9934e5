//! Each limit of the engine, seen by what it does to a guest that comes up against it.

mod guests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use guests::{AT, HOSTILE, audience, envelope, options, request, wat_guest, with_manifest};
use heddle_pack::Packed;
use heddle_wasm::contract::{FanoutMode, RoutingDecision};
use heddle_wasm::{Engine, Fault, FaultKind, Limits, LoadError, LoadOptions, NoMessage, Plugin, PluginLog};

/// An engine of its own, small enough to stand beside others.
fn engine(change: impl FnOnce(&mut Limits)) -> Engine {
    let mut limits = Limits { instances_max: 16, ..Limits::default() };
    change(&mut limits);
    Engine::new(limits).expect("engine")
}

fn load(engine: &Engine, act: &str) -> Arc<Plugin> {
    engine.load(&HOSTILE, &options(act)).unwrap_or_else(|error| panic!("{act}: {error}"))
}

fn fault(plugin: &Plugin) -> Fault {
    plugin.rate_limit(&AT, &request(), &[]).expect_err("fault")
}

/// How often the instance that answers was asked before.
fn counted(plugin: &Plugin) -> u8 {
    plugin.rate_limit(&AT, &request(), &[]).expect("count").state[0]
}

fn limited(line: &str) -> Packed {
    with_manifest(|text| format!("{text}\n[limits]\n{line}\n"))
}

fn over(engine: &Engine, line: &str) -> (&'static str, u64, u64) {
    match engine.load(&limited(line), &options("behave")) {
        Err(LoadError::OverLimit { key, asked, max }) => (key, asked, max),
        other => panic!("{line}: {other:?}"),
    }
}

/// By its CPU time; on a machine so busy that it got a tenth of a core, by the clock.
fn stopped_after(deadline_ms: u32, fault: &Fault) -> bool {
    let wall_ms = 10 * deadline_ms;
    let texts = [
        format!("used {deadline_ms} ms of CPU time, its deadline"),
        format!("ran for {wall_ms} ms, ten times its deadline"),
    ];
    assert!(fault.kind == FaultKind::Deadline && texts.contains(&fault.text), "{fault}");
    true
}

#[test]
fn a_deadline_is_as_long_as_the_manifest_says_and_no_longer_than_the_host_does() {
    let engine = engine(|limits| limits.deadline_ms_max = 20);
    let spins = engine.load(&limited("deadline_ms = 20"), &options("spin")).expect("load");
    assert!(stopped_after(20, &fault(&spins)));
    assert_eq!(over(&engine, "deadline_ms = 21"), ("limits.deadline_ms", 21, 20));
}

/// How long one call takes by the clock, and its fault.
fn timed(plugin: &Plugin) -> (Duration, Option<Fault>) {
    #[expect(clippy::disallowed_methods, reason = "how long the machine lets a call wait, no other clock knows")]
    let began = Instant::now();
    let fault = plugin.rate_limit(&AT, &request(), &[]).err();
    (began.elapsed(), fault)
}

/// It has a core for a seventeenth of the time.
#[test]
fn on_a_busy_machine_a_call_that_takes_longer_than_its_deadline_and_works_for_less_is_no_fault() {
    const CALLS: usize = 50;
    let engine = engine(|limits| limits.deadline_ms_max = 1_000);
    let unhurried = engine.load(&limited("deadline_ms = 1000"), &options("work")).expect("load");
    let works_for = (0..5).map(|_| timed(&unhurried).0).min().expect("five calls");
    let deadline = (works_for * 4).max(Duration::from_millis(8));
    let line = format!("deadline_ms = {}", deadline.as_millis());
    let plugin = engine.load(&limited(&line), &options("work")).expect("load");
    let (done, mut calls) = (AtomicBool::new(false), Vec::new());
    let waited = |calls: &[(Duration, _)]| calls.iter().filter(|(took, _)| *took > deadline).count();
    std::thread::scope(|threads| {
        for _ in 0..16 * std::thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        while calls.len() < CALLS && waited(&calls) < 3 {
            calls.push(timed(&plugin));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(calls.iter().all(|(_, fault)| fault.is_none()), "{line}: {calls:?}");
    assert!(waited(&calls) > 0, "{line}: none had to wait: {calls:?}");
}

#[test]
fn memory_is_as_much_as_the_manifest_says_and_no_more_than_the_host_does() {
    let engine = engine(|limits| limits.memory_bytes_max = 24 << 20);
    let eats = engine.load(&limited("memory = \"3 MiB\"\ndeadline_ms = 50"), &options("eat")).expect("load");
    let fault = fault(&eats);
    assert!(fault.kind == FaultKind::Memory && fault.text.contains("allows 3145728"), "{fault}");
    assert_eq!(over(&engine, "memory = \"32 MiB\""), ("limits.memory", 32 << 20, 24 << 20));
}

#[test]
fn a_start_that_takes_too_long_is_stopped_at_the_hosts_limit() {
    let engine = engine(|limits| limits.start_ms_max = 30);
    let error = engine.load(&HOSTILE, &options("spin-at-start")).expect_err("spins");
    let LoadError::ConfigureFault(fault) = &error else { panic!("{error}") };
    assert!(stopped_after(30, fault));
}

#[test]
fn a_table_grows_to_the_limit_and_not_beyond() {
    let guest = wat_guest("table-bomb");
    for (elements_max, mode) in [(500, FanoutMode::Push), (1_500, FanoutMode::Pull)] {
        let engine = engine(|limits| limits.table_elements_max = elements_max);
        let plugin = engine.load(&guest, &LoadOptions::default()).expect("load");
        // It answers with the thousands of elements that it got: none is push, one is pull.
        assert_eq!(plugin.fanout_plan(&AT, &audience(), &NoMessage).expect("plan"), mode, "{elements_max}");
    }
}

#[test]
fn recursion_ends_at_the_stack_limit() {
    let depth = |stack_bytes: usize| {
        let engine = engine(|limits| limits.stack_bytes_max = stack_bytes);
        let log = Arc::new(PluginLog::new(100, 100));
        let plugin = engine.load(&HOSTILE, &LoadOptions { log: log.clone(), ..options("deep") }).expect("load");
        let fault = fault(&plugin);
        assert!(fault.kind == FaultKind::Trap && fault.text.contains("call stack exhausted"), "{fault}");
        log.lines().last().expect("it tells its depth").text.parse::<u64>().expect("a number")
    };
    let (shallow, deep) = (depth(64 << 10), depth(512 << 10));
    assert!(shallow > 0 && deep > 4 * shallow, "{shallow} and {deep} frames");
}

#[test]
fn when_all_instances_are_in_use_the_next_plugin_is_told_and_it_is_not_its_fault() {
    let engine = engine(|limits| limits.instances_max = 2);
    let held = [load(&engine, "behave"), load(&engine, "behave")];
    let error = engine.load(&HOSTILE, &options("behave")).expect_err("no third");
    assert!(matches!(&error, LoadError::Start(fault) if fault.kind == FaultKind::Busy), "{error}");
    drop(held);
    load(&engine, "behave");
}

#[test]
fn instances_are_kept_warm_up_to_the_limit() {
    let keeps_one = engine(|limits| limits.warm_max = 1);
    let plugin = load(&keeps_one, "count");
    plugin.warm_up(5).expect("warm");
    assert_eq!([counted(&plugin), counted(&plugin), counted(&plugin)], [0, 1, 2], "one, asked again and again");
    let keeps_none = engine(|limits| limits.warm_max = 0);
    let plugin = load(&keeps_none, "count");
    counted(&plugin);
    assert_eq!([counted(&plugin), counted(&plugin), counted(&plugin)], [0, 0, 0], "a new one each time");
}

#[test]
fn an_instance_is_renewed_after_so_many_calls() {
    let engine = engine(|limits| limits.calls_per_instance_max = 3);
    let plugin = load(&engine, "count");
    let counts: Vec<u8> = (0..7).map(|_| counted(&plugin)).collect();
    assert_eq!(counts, [0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn what_a_call_hands_to_the_host_is_bounded_in_bytes() {
    let reads = with_manifest(|text| format!("{text}\n[reads]\nbody = true\n"));
    let decide = |bytes_max: usize| {
        let engine = engine(|limits| limits.hostcall_bytes_max = bytes_max);
        let plugin = engine.load(&reads, &options("long-text")).expect("load");
        plugin.routing(&AT, &envelope(), &NoMessage)
    };
    assert!(matches!(decide(64 << 10), Ok(RoutingDecision::AcceptWith(_))));
    let fault = decide(16 << 10).expect_err("too much");
    assert!(fault.kind == FaultKind::BadAnswer && fault.text.contains("cannot be read"), "{fault}");
}

#[test]
fn a_call_writes_so_many_lines_and_what_follows_is_dropped() {
    for act in ["shout", "babble"] {
        let engine = engine(|limits| limits.log_lines_per_call_max = 7);
        let log = Arc::new(PluginLog::new(1_000, 1_000));
        let plugin = engine.load(&HOSTILE, &LoadOptions { log: log.clone(), ..options(act) }).expect("load");
        for _ in 0..3 {
            plugin.rate_limit(&AT, &request(), &[]).expect("no harm");
        }
        let lines = log.lines();
        assert_eq!(lines.len(), 21, "{act}");
        assert_eq!(lines[6].text, "line 6", "{act}");
    }
}

#[test]
fn a_log_takes_so_many_lines_a_second_and_counts_the_rest() {
    let engine = engine(|_| ());
    let log = Arc::new(PluginLog::new(1_000, 100));
    let plugin = engine.load(&HOSTILE, &LoadOptions { log: log.clone(), ..options("shout") }).expect("load");
    for _ in 0..3 {
        let _ = plugin.rate_limit(&AT, &request(), &[]);
    }
    assert_eq!((log.lines().len(), log.dropped()), (100, 3 * 64 - 100));
}

#[test]
fn limits_that_are_exchanged_hold_for_what_is_loaded_and_made_after_that() {
    let engine = engine(|limits| limits.calls_per_instance_max = 1_000);
    let plugin = load(&engine, "count");
    assert_eq!([counted(&plugin), counted(&plugin)], [0, 1]);
    let made = engine.limits();
    let limits = Limits { deadline_ms_max: 4, calls_per_instance_max: 1, memory_bytes_max: 1, ..made.as_ref().clone() };
    engine.set_limits(limits);
    assert_eq!(engine.limits().memory_bytes_max, made.memory_bytes_max, "the pool was made for it");
    assert_eq!(over(&engine, "deadline_ms = 5"), ("limits.deadline_ms", 5, 4));
    // The call that it is in is its last.
    counted(&plugin);
    assert_eq!([counted(&plugin), counted(&plugin)], [0, 0], "an instance for each call");
}
