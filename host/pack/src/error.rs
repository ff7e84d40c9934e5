use std::io;
use std::path::PathBuf;

/// What can be wrong with a plugin's file or folder. All of it is for the plugin's author, or for the operator who was given the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// Everything that is wrong with a manifest, one problem a line.
    #[error("{place} has {} problem(s):\n  {}", problems.len(), problems.join("\n  "))]
    Manifest {
        /// The file's name.
        place: String,
        /// Each names its key.
        problems: Vec<String>,
    },
    /// A test case that cannot be read.
    #[error("case {name}: {problem}")]
    Case {
        /// The case's name, its file without `.json`.
        name: String,
        /// What is wrong, with the key.
        problem: String,
    },
    /// Too many cases.
    #[error("{count} cases: at most {max} are packed, put several steps into one")]
    TooManyCases {
        /// As many as came.
        count: usize,
        /// As many as may.
        max: usize,
    },
    /// Nothing there.
    #[error("the file is empty")]
    Empty,
    /// Something else than WebAssembly.
    #[error("not a WebAssembly file: it starts with {start:?}, not with \"\\0asm\"")]
    NotWasm {
        /// The first bytes.
        start: String,
    },
    /// A module where a component is wanted.
    #[error(
        "a core WebAssembly module, not a component: build it for wasm32-wasip2, or turn it into one with `wasm-tools component new`"
    )]
    CoreModule,
    /// The end is missing.
    #[error("the file is truncated: it ends at byte {offset} in the middle of a section; copy or build it again")]
    Truncated {
        /// Where it ends.
        offset: u64,
    },
    /// Broken in another way.
    #[error("the component is malformed at byte {offset}: {problem}")]
    Malformed {
        /// Where.
        offset: u64,
        /// What the parser says.
        problem: String,
    },
    /// A component that was not packed.
    #[error("a component without the section `heddle:plugin`: pack it with `heddle plugin build`")]
    NoSection,
    /// Packed twice.
    #[error(
        "the section `heddle:plugin` stands in it {count} times: pack the component as the compiler wrote it, once"
    )]
    SectionTwice {
        /// As many as were found.
        count: usize,
    },
    /// The section is not what this host writes.
    #[error("the section `heddle:plugin` cannot be read: {problem}")]
    Section {
        /// What is wrong.
        problem: String,
    },
    /// Over a limit.
    #[error("{what} is {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// What is too large.
        what: String,
        /// As it is.
        bytes: usize,
        /// As it may be.
        max: usize,
    },
    /// A file that cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// "read", "write", "list", "run".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The build command failed.
    #[error("`{command}` failed in {} ({status}){hint}\n{output}", dir.display())]
    Build {
        /// As the manifest says it.
        command: String,
        /// Where it ran.
        dir: PathBuf,
        /// How it ended.
        status: String,
        /// What to do, if it is known.
        hint: String,
        /// The end of what it printed.
        output: String,
    },
    /// The build command ended well, but left nothing.
    #[error("{} is not there after the build: set `artifact` under [build] to the file that the build writes", path.display())]
    NoArtifact {
        /// Where it was looked for.
        path: PathBuf,
    },
}
