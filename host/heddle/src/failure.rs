//! How a command ends when it did not do what was asked: a text that says what to do, and an exit code.

use std::fmt;

/// The command line or the configuration is wrong.
pub const USAGE: u8 = 64;
/// Something that was named is not there.
pub const MISSING: u8 = 66;
/// Something else went wrong.
pub const FAILED: u8 = 1;

/// The end of a command.
#[derive(Debug)]
pub struct Failure {
    /// What the process ends with.
    pub code: u8,
    /// What is said on stderr.
    pub text: String,
}

impl Failure {
    /// With [`FAILED`].
    pub fn new(text: impl Into<String>) -> Self {
        Self { code: FAILED, text: text.into() }
    }

    /// With [`USAGE`].
    pub fn usage(text: impl Into<String>) -> Self {
        Self { code: USAGE, text: text.into() }
    }

    /// With [`MISSING`].
    pub fn missing(text: impl Into<String>) -> Self {
        Self { code: MISSING, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<crate::config::Problems> for Failure {
    fn from(problems: crate::config::Problems) -> Self {
        Self::usage(problems.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(format!("{error:#}"))
    }
}
