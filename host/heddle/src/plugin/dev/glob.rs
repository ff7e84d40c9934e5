//! Globs as `[build] watch` writes them: `*` and `?` within a name, `**` for any number of directories.

use std::path::{Path, PathBuf};

/// One glob, relative to the plugin's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<String>,
}

impl Glob {
    /// Every text is one.
    pub fn new(text: &str) -> Self {
        Self { parts: text.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect() }
    }

    /// Where its files are: the names before the first wildcard.
    pub fn root(&self) -> PathBuf {
        self.parts.iter().take_while(|part| !part.contains(['*', '?'])).collect()
    }

    /// Does it name this file?
    pub fn takes(&self, path: &Path) -> bool {
        let names: Vec<String> = path.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let parts: Vec<&str> = self.parts.iter().map(String::as_str).collect();
        parts_take(&parts, &names)
    }
}

fn parts_take(parts: &[&str], names: &[&str]) -> bool {
    match (parts, names) {
        ([], names) => names.is_empty(),
        (["**"], _) => true,
        (["**", rest @ ..], names) => (0..=names.len()).any(|skip| parts_take(rest, &names[skip..])),
        ([part, parts @ ..], [name, names @ ..]) => {
            name_takes(part.as_bytes(), name.as_bytes()) && parts_take(parts, names)
        }
        (_, []) => false,
    }
}

/// Back to the last star when it does not go on: linear in practice, never exponential.
fn name_takes(part: &[u8], name: &[u8]) -> bool {
    let (mut at, mut of, mut star) = (0, 0, None);
    while of < name.len() {
        match part.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[of] => (at, of) = (at + 1, of + 1),
            _ => match star {
                Some((from, taken)) => {
                    star = Some((from, taken + 1));
                    (at, of) = (from + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    part[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_a_name_and_two_cross_directories() {
        for (glob, takes, leaves) in [
            ("src/**", &["src/lib.rs", "src/a/b.rs"][..], &["srcs/lib.rs", "lib.rs"][..]),
            ("plugin.toml", &["plugin.toml"], &["a/plugin.toml", "plugin.tom"]),
            ("./src/*.rs", &["src/lib.rs", "src/.rs"], &["src/a/lib.rs", "src/lib.rsx"]),
            ("**/*.wit", &["a.wit", "x/y/a.wit"], &["a.wit/b"]),
            ("src/**/mod.?s", &["src/mod.rs", "src/a/b/mod.ts"], &["src/a/mod.s"]),
            ("a*b*c", &["abc", "axxbbc"], &["abcd", "acb"]),
        ] {
            for path in takes {
                assert!(Glob::new(glob).takes(Path::new(path)), "{glob} {path}");
            }
            for path in leaves {
                assert!(!Glob::new(glob).takes(Path::new(path)), "{glob} {path}");
            }
        }
    }

    #[test]
    fn the_root_ends_before_the_first_wildcard() {
        assert_eq!(Glob::new("src/a/*.rs").root(), Path::new("src/a"));
        assert_eq!(Glob::new("**").root(), Path::new(""));
    }
}
