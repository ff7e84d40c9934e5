use std::process::{Command, Stdio};

use heddle_model::{Digest, Hook};

use heddle_policy::{Standing, Tally};

use super::*;

fn ready(policies: usize) -> Ready {
    let policy = |number: usize| PolicyInfo {
        hook: Hook::ALL[number % 4],
        name: format!("policy-{number}").into(),
        version: "0.1.0".into(),
        digest: Digest::of(&number.to_be_bytes()),
        micros: 0.65,
        config: serde_json::Map::new(),
        on_failure: heddle_pack::OnFailure::Builtin,
        standing: Standing::Decides,
        tally: Tally::default(),
    };
    Ready {
        client: Some("127.0.0.1:7600".parse().unwrap()),
        admin: "127.0.0.1:7601".parse().unwrap(),
        tokens: vec![("alice".into(), "a.b.c".into()), ("bob".into(), "d.e.f".into())],
        admin_token: "admin".into(),
        generation: 3,
        policies: (0..policies).map(policy).collect(),
        took: Duration::from_millis(412),
        data: "./heddle-data".into(),
        bot: true,
        tls: (false, false),
    }
}

#[test]
fn the_screen_has_at_most_20_lines_however_long_the_chains_are() {
    for policies in [4, 5, 8, 9, 32] {
        let screen = ready(policies).screen("./heddle");
        assert!(screen.lines().count() <= 20, "{screen}");
    }
}

#[test]
fn each_line_of_the_screen_is_something_that_a_shell_takes() {
    for line in ready(4).screen("./heddle").lines() {
        let shell = Command::new("sh").args(["-n", "-c", line]).stderr(Stdio::null()).status().unwrap();
        assert!(shell.success(), "{line}");
        let first = line.split([' ', '=']).next().unwrap();
        assert!(["#", "ALICE", "BOB", "./heddle", "curl"].contains(&first), "{line}");
    }
}

#[test]
fn the_line_for_programs_has_what_the_contract_names() {
    let line = ready(4).json();
    assert!(!line.contains('\n'));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["client"], "127.0.0.1:7600");
    assert_eq!(line["admin"], "127.0.0.1:7601");
    assert_eq!(line["tokens"]["bob"], "d.e.f");
    assert_eq!(line["admin_token"], "admin");
    assert_eq!(line["generation"], 3);
    assert_eq!(line["policies"][0]["hook"], "rate-limit");
    assert_eq!(line["policies"][0]["digest"], Digest::of(&0_usize.to_be_bytes()).to_string());
}

#[test]
fn a_run_file_is_read_back_and_only_its_user_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(RunFile::read(dir.path()).unwrap_err().code, crate::failure::MISSING);
    let ready = ready(4);
    let mut file = RunFile {
        client: ready.client,
        admin: ready.admin,
        admin_token: "secret".into(),
        pid: 7,
        client_tls: true,
        admin_tls: false,
        certificates: vec![],
    };
    file.serving([b"one".as_slice(), b"two", b"one"].into_iter());
    assert_eq!(file.certificates.len(), 2);
    file.write(dir.path()).unwrap();
    file.write(dir.path()).unwrap();
    assert_eq!(RunFile::read(dir.path()).unwrap().admin_token, "secret");
    let mode = std::fs::metadata(dir.path().join("run.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    RunFile::remove(dir.path());
    assert!(RunFile::read(dir.path()).is_err());
}
