//! Where this device stands, from one start to the next.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

/// The file that holds one device's position at one server.
#[derive(Debug)]
pub struct PositionFile {
    path: Option<PathBuf>,
    stored: Option<u64>,
}

impl PositionFile {
    /// In `XDG_STATE_HOME/heddle`, or `~/.local/state/heddle`. Without a home nothing is kept, and the server's own
    /// memory of the device serves.
    pub fn find(server: &str, user: &str, device: &str) -> Self {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute()).or_else(home);
        Self::within(state.map(|dir| dir.join("heddle")), server, user, device)
    }

    fn within(dir: Option<PathBuf>, server: &str, user: &str, device: &str) -> Self {
        let name = format!("position-{}-{}-{}", plain(server), plain(user), plain(device));
        // A name longer than file systems take is not kept.
        let path = dir.filter(|_| name.len() <= 200).map(|dir| dir.join(name));
        let stored = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
        Self { path, stored }
    }

    /// What stands there.
    pub fn get(&self) -> Option<u64> {
        self.stored
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// If the directory does not take it.
    pub fn store(&mut self, position: u64) -> std::io::Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.stored != Some(position)) else { return Ok(()) };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let beside = path.with_extension("new");
        let mut file = std::fs::File::create(&beside)?;
        writeln!(file, "{position}")?;
        std::fs::rename(&beside, path)?;
        self.stored = Some(position);
        Ok(())
    }
}

/// Letters and digits stay; every other byte is written as two hexadecimal digits, so that no two names become one.
fn plain(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "_{byte:02x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_outlives_the_process_and_belongs_to_one_device() {
        let dir = tempfile::tempdir().unwrap();
        let open = |device: &str| PositionFile::within(Some(dir.path().join("heddle")), "h:1", "../ünï", device);
        let mut file = open("a.b");
        assert_eq!(file.get(), None);
        file.store(7).unwrap();
        file.store(9).unwrap();
        assert_eq!(open("a.b").get(), Some(9));
        assert_eq!(open("a_2eb").get(), None);
    }
}
