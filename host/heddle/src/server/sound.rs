//! Everything that can be known of a configuration before anything is opened: one run tells all that is wrong.

use std::net::{SocketAddr, TcpListener};

use super::{builtins, settings};
use crate::config::{Config, Problem, Problems, Sources, check_serve};
use crate::token::DEVELOPMENT_SECRET;

/// Reads and checks it: each key, who may enter, key files, certificates, plugin files. `dev`: nobody needs a secret of their own.
///
/// # Errors
/// All problems, at once.
pub fn sound(sources: &Sources, dev: bool) -> Result<Config, Problems> {
    let (config, problems) = found(sources, dev);
    if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
}

/// As [`sound`], for whoever is about to start: if anything is wrong, an address that is taken is told with it.
///
/// # Errors
/// All problems, at once.
pub fn startable(sources: &Sources, dev: bool) -> Result<Config, Problems> {
    let (config, mut problems) = found(sources, dev);
    if problems.is_empty() {
        return Ok(config);
    }
    for (key, address) in [("gateway.listen", config.gateway.listen), ("admin.listen", config.admin.listen)] {
        // A default in the place of what could not be read says nothing.
        if !problems.iter().any(|known| known.of_the_file() || known.key == key) {
            problems.extend(taken(key, address));
        }
    }
    Err(Problems(problems))
}

fn found(sources: &Sources, dev: bool) -> (Config, Vec<Problem>) {
    let (config, mut problems) = sources.read();
    if problems.iter().any(Problem::of_the_file) {
        return (config, problems);
    }
    // Where a key could not be read its default is looked at, which nobody wrote.
    let read: Vec<String> = problems.iter().map(|problem| problem.key.clone()).collect();
    let fresh = |problem: &Problem| !read.contains(&problem.key);
    if !dev && !read.iter().any(|key| key.starts_with("auth.")) {
        problems.extend(check_serve(&config, DEVELOPMENT_SECRET));
    }
    let gateway = settings::gateway(&config, "", dev).err();
    let policies = settings::policies(&config, &builtins()).err();
    problems.extend([gateway, policies].into_iter().flatten().flat_map(|found| found.0).filter(fresh));
    (config, problems)
}

/// Somebody listens there, or it is no address of this machine.
pub(super) fn taken(key: &str, address: SocketAddr) -> Option<Problem> {
    let error = TcpListener::bind(address).err()?;
    Some(Problem {
        key: key.to_owned(),
        origin: "checked".to_owned(),
        wrong: format!("{address} cannot be taken: {error}"),
        remedy: format!("see who has it with `ss -ltnp 'sport = :{}'`, or choose another address", address.port()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is said about a file with that content.
    fn said(content: &str, start: bool) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("heddle.toml");
        std::fs::write(&file, content).unwrap();
        let sources = Sources { file: Some(file), ..Sources::default() };
        let found = if start { startable(&sources, false) } else { sound(&sources, false) };
        found.err().map(|problems| problems.0.iter().map(ToString::to_string).collect()).unwrap_or_default()
    }

    fn one(said: &[String], parts: &[&str]) {
        let met = said.iter().filter(|line| parts.iter().all(|part| line.contains(part))).count();
        assert_eq!(met, 1, "{parts:?} in {said:#?}");
    }

    const MIXED: &str = r#"
[gateway]
heartbeet = "30 s"
[auth]
keys = ["/no/such/key.pem"]
[policies]
rate_limit = ["tokn-bucket"]
routing = ["/no/such/filter.wasm", "last-seen"]
trusted_keys = ["not a key"]
[policies.config.inbox-ruting]
max = 1
"#;

    #[test]
    fn one_run_tells_what_is_wrong_with_keys_files_names_and_signatures() {
        let said = said(MIXED, false);
        one(&said, &["gateway.heartbeet", "did you mean `gateway.heartbeat`?"]);
        one(&said, &["auth.keys", "/no/such/key.pem", "cannot be read"]);
        one(&said, &["policies.rate_limit", "\"tokn-bucket\" is neither", "did you mean \"token-bucket\"?"]);
        one(&said, &["policies.routing", "/no/such/filter.wasm", "cannot be read"]);
        one(&said, &["routing: last-seen", "has no hook routing, only presence"]);
        one(&said, &["policies.trusted_keys", "not a key"]);
        one(&said, &["policies.config", "\"inbox-ruting\"", "did you mean `inbox-routing`?"]);
        assert_eq!(said.len(), 7, "{said:#?}");
    }

    #[test]
    fn who_is_about_to_start_hears_of_a_taken_address_too() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap();
        let content = format!("{MIXED}[admin]\nlisten = \"{taken}\"\n");
        one(&said(&content, true), &["admin.listen", &taken.to_string(), "ss -ltnp"]);
        assert_eq!(said(&content, true).len(), 8);
        // A check is made while the server runs that has the address.
        assert_eq!(said(&content, false).len(), 7);
    }

    #[test]
    fn nothing_is_said_of_a_default_in_the_place_of_what_could_not_be_read() {
        assert_eq!(said("[auth]\nsecret = 7\n", true).len(), 1);
        assert_eq!(said("this is no TOML", true).len(), 1);
        one(&said("", true), &["auth.secret", "no client could enter"]);
    }

    #[test]
    fn the_name_of_a_built_in_policy_stands_in_a_chain_where_a_file_does() {
        let secret = "auth.secret = \"a secret of more than thirty-two bytes\"\n";
        let chains = "[policies]\nrate_limit = [\"token-bucket\"]\nrouting = [\"inbox-routing\"]\nfanout = [\"group-fanout\"]\npresence = [\"last-seen\"]\n[policies.config.token-bucket]\nburst = 3\n";
        assert_eq!(said(&format!("{secret}{chains}"), false), Vec::<String>::new());
    }
}
