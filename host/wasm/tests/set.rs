//! The hostile set against the real engine: each call is a fault of a known kind, and afterwards the process is as large as before. This is the only test of
//! its file, for another at the same time would disturb what it measures.

mod guests;

use std::sync::{Arc, LazyLock};

use guests::{AT, HOSTILE, audience, envelope, observation, options, request, with_manifest};
use heddle_pack::Packed;
use heddle_wasm::{Engine, Fault, FaultKind, Limits, NoMessage, Plugin};

/// What a guest may leave behind in the process.
const LEFT_BYTES_MAX: u64 = 32 << 20;
const CALLS: usize = 20;

/// Allows deadlines that a memory bomb keeps on a busy machine too, so that each fault is of one kind.
static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(Limits { deadline_ms_max: 1_000, ..Limits::default() }).expect("engine"));

fn patient() -> Packed {
    with_manifest(|text| format!("{text}\n[limits]\ndeadline_ms = 1000\n"))
}

fn load(packed: &Packed, act: &str) -> Arc<Plugin> {
    ENGINE.load(packed, &options(act)).unwrap_or_else(|error| panic!("{act}: {error}"))
}

type Asked = fn(&Plugin) -> Result<(), Fault>;

const RATE_LIMIT: Asked = |plugin| plugin.rate_limit(&AT, &request(), &[]).map(drop);
const ROUTING: Asked = |plugin| plugin.routing(&AT, &envelope(), &NoMessage).map(drop);
const SORT: Asked = |plugin| plugin.fanout_sort(&AT, &audience(), &[0; 3], &NoMessage).map(drop);
const OBSERVE: Asked = |plugin| plugin.presence_observe(&AT, &observation()).map(drop);
const REVEAL: Asked = |plugin| plugin.presence_reveal(&AT, "alice", &[0; 3]).map(drop);
const EVERY: [Asked; 5] = [RATE_LIMIT, ROUTING, SORT, OBSERVE, REVEAL];

/// Memory of this process that lies in the machine's (proc(5): the second number of statm, in pages).
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = text.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a number");
    pages * rustix::param::page_size() as u64
}

#[test]
fn each_hostile_guest_is_a_fault_of_its_kind_on_each_call_and_leaves_no_memory_behind() {
    let packed = patient();
    let set: [(&str, &[Asked], FaultKind, &str); 15] = [
        ("unreachable", &EVERY, FaultKind::Trap, "unreachable"),
        ("panic", &EVERY, FaultKind::Trap, "the answer is not 42"),
        ("exit", &EVERY, FaultKind::Trap, "called `exit`"),
        ("recurse", &EVERY, FaultKind::Trap, "call stack exhausted"),
        ("spin", &EVERY, FaultKind::Deadline, "its deadline"),
        ("eat", &EVERY, FaultKind::Memory, "`limits.memory` allows 16777216"),
        ("giant-text", &[RATE_LIMIT, ROUTING], FaultKind::BadAnswer, "cannot be read"),
        ("giant-list", &[RATE_LIMIT, ROUTING, SORT, REVEAL], FaultKind::BadAnswer, "cannot be read"),
        ("invalid-utf8", &[RATE_LIMIT, ROUTING], FaultKind::BadAnswer, "utf-8"),
        ("few", &[SORT, REVEAL], FaultKind::BadAnswer, "2 codes for 3"),
        ("code", &[SORT, REVEAL], FaultKind::BadAnswer, "code 3 does not exist"),
        ("tags", &[ROUTING], FaultKind::BadAnswer, "17 tags"),
        ("state", &[RATE_LIMIT], FaultKind::BadAnswer, "257 bytes of state"),
        ("recheck", &[OBSERVE], FaultKind::BadAnswer, "recheck = 1 ms"),
        ("peek", &[OBSERVE], FaultKind::NoMessage, "only during a call"),
    ];
    // What the engine itself keeps is there after the first guest.
    EVERY.iter().for_each(|ask| ask(&load(&packed, "behave")).expect("behave"));
    let before = resident_bytes();
    for (act, hooks, kind, text) in set {
        // Who spins has the deadline that is usual.
        let plugin = load(if act == "spin" { &HOSTILE } else { &packed }, act);
        for ask in hooks {
            for call in 0..CALLS {
                let fault = ask(&plugin).expect_err(act);
                assert_eq!(fault.kind, kind, "{act}, call {call}: {fault}");
                assert!(fault.text.contains(text), "{act}, call {call}: {fault}");
            }
        }
    }
    leaves_no_memory(before, "the set");
    growth_is_renewed(&packed, before);
}

fn leaves_no_memory(before: u64, who: &str) {
    let left = resident_bytes().saturating_sub(before);
    assert!(left < LEFT_BYTES_MAX, "{who} left {} KiB in the process", left >> 10);
}

fn growth_is_renewed(packed: &Packed, before: u64) {
    let leaks = load(packed, "leak");
    // 64 KiB a call, hundred times what an instance may have.
    for call in 0..25_600 {
        RATE_LIMIT(&leaks).unwrap_or_else(|fault| panic!("call {call}: {fault}"));
    }
    leaves_no_memory(before, "slow growth");
    for act in ["shout", "babble", "sleep"] {
        let plugin = load(packed, act);
        EVERY.iter().for_each(|ask| assert!(ask(&plugin).is_ok_and(|()| true), "{act} does no harm"));
    }
    leaves_no_memory(before, "floods of lines");
}
