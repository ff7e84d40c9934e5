//! The first-party policies in the real host: their own cases, fresh and used.

use heddle_wasm::{Engine, Limits, LoadOptions, run_cases};

#[test]
fn every_case_of_the_built_ins_passes_fresh_and_used() {
    let engine = Engine::new(Limits::default()).expect("engine");
    for (hook, builtin) in heddle_builtin::plugins() {
        let packed = heddle_pack::unpack(builtin.bytes).expect(hook);
        assert_eq!(packed.digest, builtin.digest);
        assert!(packed.cases.len() >= 3, "{hook} has too few cases");
        let plugin = engine.load(&packed, &LoadOptions::default()).expect(hook);
        let report = run_cases(&plugin, &packed.cases).expect(hook);
        assert!(report.passed(), "{hook}: {report:#?}");
    }
}
