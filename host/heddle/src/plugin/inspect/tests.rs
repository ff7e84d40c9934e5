use heddle_wasm::Limits;

use super::*;

fn inspected(bytes: &[u8]) -> Inspected {
    let bytes: Arc<[u8]> = bytes.into();
    Inspected {
        path: "x.wasm".to_owned(),
        bytes: bytes.len(),
        signed: None,
        digest: heddle_pack::digest(&bytes),
        surface: heddle_pack::surface(&bytes),
        packed: heddle_pack::unpack(bytes),
    }
}

#[test]
fn every_built_in_plugin_fits_and_its_border_is_read() {
    let engine = cases::engine().unwrap();
    for (hook, plugin) in heddle_builtin::plugins() {
        let file = inspected(plugin.bytes);
        let measured = file.measure(&engine);
        assert_eq!(measured.problems, Vec::<String>::new(), "{hook}");
        assert!(measured.memory_start_bytes > Some(100_000) && measured.cases > 0, "{measured:?}");
        let surface = file.surface.as_ref().unwrap();
        let export = surface.exports.iter().find(|export| export.bare() == format!("heddle:policy/{hook}")).unwrap();
        assert!(!export.functions.is_empty(), "{export:?}");
        assert!(problems::notes(&file).is_empty(), "{hook}: {:?}", problems::notes(&file));
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let mut file = inspected(heddle_builtin::ROUTING.bytes);
    let packed = file.packed.as_mut().unwrap();
    let declared = packed.manifest.hooks.values().next().unwrap().clone();
    packed.manifest.hooks.insert(heddle_pack::Hook::Presence, declared);
    packed.manifest.limits.memory_bytes = 1 << 30;
    packed.manifest.limits.deadline_ms = 900;
    let surface = file.surface.as_mut().unwrap();
    let message = surface.imports.iter_mut().find(|import| import.bare() == "heddle:policy/message").unwrap();
    message.functions.push("text".to_owned());
    surface.imports.push(heddle_pack::Interface { name: "wasi:sockets/tcp@0.2.3".to_owned(), functions: Vec::new() });
    let said = problems::of(&file, &Limits::default());
    for part in ["limits.memory", "limits.deadline_ms", "wasi:sockets/tcp", "body = true", "[hooks.presence]"] {
        assert!(said.iter().any(|problem| problem.contains(part)), "{part}: {said:#?}");
    }
    assert_eq!(said.len(), 5, "{said:#?}");
}

#[test]
fn what_is_no_plugin_is_one_problem_with_a_remedy() {
    for (bytes, part) in
        [(&b"hello"[..], "WebAssembly"), (&[], "empty"), (&heddle_builtin::ROUTING.bytes[..9_000], "truncated")]
    {
        let said = problems::of(&inspected(bytes), &Limits::default());
        assert!(said.len() == 1 && said[0].contains(part), "{said:?}");
    }
}
