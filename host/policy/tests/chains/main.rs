//! Chains, failure modes and generations, with scripted components in place of an engine.

mod back;
mod chains;
mod older;
mod scripted;
