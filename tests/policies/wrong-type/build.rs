//! Tells the linker, which makes the component, the WIT file of this folder: the SDK knows the right contract only.

fn main() {
    println!("cargo::rerun-if-changed=wit/policy.wit");
    println!("cargo::rustc-cdylib-link-arg=--component-type={}/wit/policy.wit", env!("CARGO_MANIFEST_DIR"));
}
