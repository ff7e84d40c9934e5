//! Routing with the right name and the wrong type: `decide` takes a text and answers yes or no, as `wit/policy.wit` here says.
//! By hand, in the component model's canonical ABI, because the SDK cannot be made to say this. The host should refuse it before the first call.

/// A result that is no error: a tag, then room for a text.
static OK: [usize; 3] = [0; 3];

#[unsafe(export_name = "heddle:policy/lifecycle@0.1.0#configure")]
extern "C" fn configure(_text: *const u8, _bytes: usize) -> *const usize {
    OK.as_ptr()
}

#[unsafe(export_name = "heddle:policy/routing@0.1.0#decide")]
extern "C" fn decide(_text: *const u8, _bytes: usize) -> bool {
    true
}

/// Room for a text that the host passes: it should not come so far.
#[unsafe(export_name = "cabi_realloc")]
extern "C" fn cabi_realloc(_old: *mut u8, _old_bytes: usize, _align: usize, _bytes: usize) -> *mut u8 {
    std::process::abort()
}
