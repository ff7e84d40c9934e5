//! Whoever compiles for the engine does it one component at a time, and what it says reaches the plugin's author.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use heddle_pack::{Manifest, Packed, pack, unpack};
use heddle_wasm::{CompileError, Compiler, Engine, Limits, LoadError, LoadOptions, NativeCache};

/// Counts who is inside at once, and refuses everybody.
#[derive(Default)]
struct Turnstile {
    inside: AtomicUsize,
    most: AtomicUsize,
    asked: AtomicUsize,
}

impl Compiler for Turnstile {
    fn compile(&self, _component: &[u8]) -> Result<Vec<u8>, CompileError> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        self.asked.fetch_add(1, Ordering::SeqCst);
        (0..1_000).for_each(|_| thread::yield_now());
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Err(CompileError::Cpu { seconds: 7 })
    }
}

fn packed(version: usize) -> Packed {
    let text = format!("name = \"x\"\nversion = \"0.1.{version}\"\n[hooks.routing]\n");
    let manifest = Manifest::parse(&text, "plugin.toml").expect("manifest");
    unpack(pack(b"\0asm\x0d\0\x01\0", &manifest, &[]).expect("pack")).expect("unpack")
}

#[test]
fn components_are_compiled_one_at_a_time_with_a_cache_and_without() {
    let turnstile = Arc::new(Turnstile::default());
    let limits = Limits { instances_max: 8, ..Limits::default() };
    let engine = Engine::with_compiler(limits, Arc::clone(&turnstile) as Arc<dyn Compiler>).expect("engine");
    let dir = tempfile::tempdir().expect("dir");
    thread::scope(|scope| {
        for version in 0..8 {
            let cache = (version % 2 == 0).then(|| NativeCache::at(dir.path().join("native")));
            let engine = &engine;
            scope.spawn(move || {
                let options = LoadOptions { cache, ..LoadOptions::default() };
                let error = engine.load(&packed(version), &options).expect_err("refused");
                assert!(matches!(error, LoadError::Compile(CompileError::Cpu { seconds: 7 })), "{error}");
            });
        }
    });
    assert_eq!((turnstile.asked.load(Ordering::SeqCst), turnstile.most.load(Ordering::SeqCst)), (8, 1));
}
