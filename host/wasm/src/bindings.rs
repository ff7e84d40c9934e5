//! What `bindgen!` makes of `wit/`. Nothing of it leaves the crate.

#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package heddle:host;
        world host {
            include heddle:policy/every-policy@0.1.0;
            export heddle:policy/state-migration@0.1.0;
        }
    ",
    world: "heddle:host/host",
    imports: { default: trappable },
    ownership: Borrowing { duplicate_if_necessary: true },
});
