//! What it does, whichever hook is asked.

use std::cell::Cell;
use std::collections::HashMap;
use std::hint::black_box;

use heddle_sdk::log;

/// The first call of an instance that traps under the act `late`.
const LATE: u64 = 1_001;
/// Bytes that a call of the act `leak` never gives back.
const LEAK_BYTES: usize = 64 << 10;

/// Steps of the act `work`: tens of milliseconds at most.
const WORK: u32 = 10_000_000;

/// Does what the act is called; `calls` of this instance so far, this one included.
pub fn perform(act: &str, calls: u64) {
    match act {
        "unreachable" => std::process::abort(),
        "spin" => loop {
            black_box(0);
        },
        "work" => (0..WORK).for_each(|n| drop(black_box(n))),
        "recurse" => drop(black_box(deeper(0))),
        "deep" => drop(black_box(telling(0))),
        "eat" => {
            let mut held = Vec::new();
            loop {
                held.push(Vec::<u8>::with_capacity(1 << 20));
                black_box(&held);
            }
        }
        "leak" => std::mem::forget(black_box(vec![1_u8; LEAK_BYTES])),
        "late" if calls >= LATE => panic!("call {calls} is one too many"),
        "panic" => deeply_wrong(),
        "exit" => std::process::exit(3),
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(3_600)),
        "shout" => (0..300).for_each(|n| log::info(format!("line {n}"))),
        "babble" => (0..300).for_each(|n| println!("line {n}")),
        _ => {}
    }
}

#[inline(never)]
fn deeply_wrong() {
    panic!("the answer is not 42");
}

#[inline(never)]
#[allow(unconditional_recursion, reason = "that is the act")]
fn deeper(depth: u64) -> u64 {
    let frame = [depth; 16];
    black_box(&frame);
    deeper(depth + 1) + frame[(depth % 16) as usize]
}

/// As `deeper`, and says every now and then how deep it is.
#[inline(never)]
#[allow(unconditional_recursion, reason = "that is the act")]
fn telling(depth: u64) -> u64 {
    let frame = [depth; 16];
    black_box(&frame);
    if depth.is_power_of_two() {
        log::info(depth.to_string());
    }
    telling(depth + 1) + frame[(depth % 16) as usize]
}

/// How often this instance was asked: what a policy must not know.
pub fn count() -> u64 {
    thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });
    COUNT.with(|count| count.replace(count.get() + 1))
}

/// The numbers below `below` in the order of a hash map, which no two maps of one instance share.
pub fn order(below: usize) -> Vec<u8> {
    let hashed: HashMap<u8, ()> = (0..below.min(256)).map(|n| (n as u8, ())).collect();
    hashed.into_keys().collect()
}

/// What a host must not take for text.
pub fn no_text() -> String {
    // SAFETY: none. It breaks what `String` promises, as a guest in another language may.
    unsafe { String::from_utf8_unchecked(vec![0xff, 0xfe, b'x']) }
}
