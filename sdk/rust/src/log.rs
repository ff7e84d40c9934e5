//! Lines for the plugin's log (`heddle plugin logs`): at most 1 KiB each, rate limited, never part of a decision. In a native build they go nowhere.

#[cfg(target_family = "wasm")]
use crate::bindings::heddle::policy::log::{Level, write};

/// For the author, while looking for something.
pub fn debug(text: impl AsRef<str>) {
    #[cfg(target_family = "wasm")]
    write(Level::Debug, text.as_ref());
    #[cfg(not(target_family = "wasm"))]
    let _ = text.as_ref();
}

/// Worth knowing.
pub fn info(text: impl AsRef<str>) {
    #[cfg(target_family = "wasm")]
    write(Level::Info, text.as_ref());
    #[cfg(not(target_family = "wasm"))]
    let _ = text.as_ref();
}

/// Strange, but a decision was taken.
pub fn warn(text: impl AsRef<str>) {
    #[cfg(target_family = "wasm")]
    write(Level::Warn, text.as_ref());
    #[cfg(not(target_family = "wasm"))]
    let _ = text.as_ref();
}

/// Somebody should look.
pub fn error(text: impl AsRef<str>) {
    #[cfg(target_family = "wasm")]
    write(Level::Error, text.as_ref());
    #[cfg(not(target_family = "wasm"))]
    let _ = text.as_ref();
}
