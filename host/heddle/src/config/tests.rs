use std::path::PathBuf;

use super::keys::KEYS;
use super::{Config, Problem, Sources, annotated, effective};

fn from(text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("heddle.toml");
    std::fs::write(&file, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { file: Some(file), variables, ..Sources::default() }.load().map_err(|problems| problems.0)
}

#[test]
fn the_annotated_file_gives_the_defaults() {
    let read = from(&annotated(), &[]).unwrap();
    assert_eq!(read, Sources::default().load().unwrap());
}

#[test]
fn the_annotated_file_of_deploy_is_the_one_that_the_table_prints() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/heddle.toml");
    let stands = std::fs::read_to_string(&path).unwrap();
    assert_eq!(stands, annotated(), "write it anew: heddle config show --defaults > deploy/heddle.toml");
}

#[test]
fn every_default_is_written_as_it_would_be_shown() {
    let shown = Sources::default().load().unwrap().shown();
    // Else `heddle config show` would mark as changed what is not.
    for (key, shown) in KEYS.iter().zip(shown) {
        assert_eq!(shown.replace('_', ""), key.default.replace('_', ""), "{}", key.path);
    }
}

#[test]
fn every_key_can_be_set_by_its_variable() {
    for key in KEYS.iter().filter(|key| key.form != "a table like { token-bucket = { burst = 50 } }") {
        let text = key.default.trim_matches('"').to_owned();
        let loaded = from("", &[(&key.variable(), &text)]);
        assert!(loaded.is_ok(), "{}: {loaded:?}", key.variable());
    }
}

#[test]
fn all_problems_are_told_at_once_each_with_key_value_and_remedy() {
    let text = "[gateway]\nheartbeet = \"30 s\"\nconnections_per_user = \"many\"\nconnections_per_ip = 0\n\
                [grups]\nmembers_max = 5\n[log]\nretention = 7\n";
    let problems = from(text, &[("HEDDLE_GATEWAY__LISTN", "x"), ("HEDDLE_STORE__READERS_MAX", "three")]).unwrap_err();
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let said = said.join("\n");
    for part in [
        "gateway.heartbeet",
        "did you mean `gateway.heartbeat`?",
        "\"many\" is not a whole number",
        "0 is not between 1 and 1_000_000",
        "grups",
        "did you mean `groups`?",
        "log.retention",
        "7 is not a time with its unit",
        "variable HEDDLE_GATEWAY__LISTN",
        "did you mean `gateway.listen`?",
        "variable HEDDLE_STORE__READERS_MAX",
    ] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    assert_eq!(problems.len(), 7, "{said}");
}

#[test]
fn a_variable_wins_over_the_file_and_a_flag_over_both() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("heddle.toml");
    std::fs::write(&file, "[gateway]\nheartbeat = \"10 s\"\n").unwrap();
    let mut sources = Sources { file: Some(file), ..Sources::default() };
    assert_eq!(sources.load().unwrap().gateway.heartbeat.millis(), 10_000);
    sources.variables = vec![("HEDDLE_GATEWAY__HEARTBEAT".into(), "20 s".into())];
    assert_eq!(sources.load().unwrap().gateway.heartbeat.millis(), 20_000);
    sources.assignments = vec!["gateway.heartbeat=40 s".into()];
    assert_eq!(sources.load().unwrap().gateway.heartbeat.millis(), 40_000);
}

#[test]
fn other_programs_variables_are_left_alone() {
    assert!(from("", &[("HEDDLE_BIN", "x"), ("HOME", "/"), ("HEDDLE_E2E", "long")]).is_ok());
}

#[test]
fn a_secret_is_never_shown_not_even_in_a_problem() {
    let config = from("[auth]\nsecret = \"0123456789012345678901234567890123456789\"\n", &[]).unwrap();
    assert!(!effective(&config).contains("0123456789"), "{}", effective(&config));
    let problems = from("[auth]\nsecret = \"short-and-secret\"\n", &[]).unwrap_err();
    assert!(!problems[0].to_string().contains("short-and-secret"), "{}", problems[0]);
}

#[test]
fn hyphens_and_underscores_name_the_same_hook() {
    let config =
        from("[policies]\nrate-limit = [\"a.wasm\"]\n[policies.config.token-bucket]\nburst = 7\n", &[]).unwrap();
    assert_eq!(config.policies.rate_limit, ["a.wasm"]);
    assert_eq!(config.policies.config.0["token-bucket"]["burst"].as_integer(), Some(7));
}

#[test]
fn sizes_and_times_are_read_with_their_units() {
    let config = from("[log]\nsegment_bytes = \"128 KiB\"\nretention = \"36 h\"\n", &[]).unwrap();
    assert_eq!((config.log.segment_bytes.0, config.log.retention.millis()), (131_072, 129_600_000));
    for wrong in ["\"128\"", "\"128 KB\"", "\"KiB\"", "\"-1 KiB\"", "\"99999999999999 GiB\"", "128"] {
        assert!(from(&format!("[log]\nsegment_bytes = {wrong}\n"), &[]).is_err(), "{wrong}");
    }
}

#[test]
fn the_store_on_a_server_needs_a_url_which_may_stand_in_a_file_and_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("url");
    std::fs::write(&file, "postgres://heddle:hidden@db/heddle\n").unwrap();
    let given = format!("[store]\nbackend = \"postgres\"\nurl_file = {file:?}\n");
    let config = from(&given, &[]).unwrap();
    assert_eq!(config.store.url, "postgres://heddle:hidden@db/heddle");
    assert!(!effective(&config).contains("hidden"), "{}", effective(&config));
    for (wrong, word) in [
        ("backend = \"postgres\"", "is empty"),
        ("backend = \"postgres\"\nurl = \"mysql://hidden@db\"", "does not begin with postgres://"),
        ("url = \"postgres://hidden@db\"", "store.backend is \"sqlite\""),
        ("backend = \"postgres\"\nurl_file = \"/no/such/file\"", "cannot be read"),
        ("backend = \"mysql\"", "\"sqlite\" or \"postgres\""),
    ] {
        let said =
            from(&format!("[store]\n{wrong}\n"), &[]).unwrap_err().iter().map(ToString::to_string).collect::<String>();
        assert!(said.contains(word) && !said.contains("hidden"), "{wrong}: {said}");
    }
}

#[test]
fn shards_are_databases_of_their_own_whose_number_divides_that_of_the_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shards");
    std::fs::write(&file, "postgres://u:hidden@one/x\npostgres://u:hidden@two/x\n\n").unwrap();
    let store = "[store]\nbackend = \"postgres\"\nurl = \"postgres://u:hidden@main/x\"\n";
    let config = from(&format!("{store}shards_file = {file:?}\n"), &[]).unwrap();
    assert_eq!(config.store.shards, ["postgres://u:hidden@one/x", "postgres://u:hidden@two/x"]);
    assert!(!effective(&config).contains("hidden"), "{}", effective(&config));
    assert!(effective(&from("", &[]).unwrap()).contains("shards = []\n"));
    let list = |urls: &[&str]| format!("shards = {urls:?}");
    let (one, two) = ("postgres://u:hidden@one/x", "postgres://u:hidden@two/x");
    for (wrong, words) in [
        (list(&[one]), ["store.shards ", "has one entry"]),
        (list(&[one, one]), ["store.shards[1]", "is store.shards[0] again"]),
        (list(&[one, "postgres://u:hidden@main/x"]), ["store.shards[1]", "is store.url"]),
        (list(&["mysql://hidden", two]), ["store.shards[0]", "does not begin with postgres://"]),
        (list(&[one, two, "postgres://u:hidden@three/x"]), ["store.shards ", "log.partitions is 16"]),
        (format!("{}\nshards_file = {file:?}", list(&[one, two])), ["store.shards_file", "is set beside store.shards"]),
        ("shards_file = \"/no/such/file\"".to_owned(), ["store.shards_file", "cannot be read"]),
    ] {
        let said = from(&format!("{store}{wrong}\n"), &[]).unwrap_err();
        let said = said.iter().map(ToString::to_string).collect::<String>();
        assert!(words.iter().all(|word| said.contains(word)) && !said.contains("hidden"), "{wrong}: {said}");
    }
    let said = from(&format!("[store]\n{}\n", list(&[one, two])), &[]).unwrap_err();
    assert!(said[0].to_string().contains("store.backend is \"sqlite\""), "{}", said[0]);
    let kafka = "[log]\nbackend = \"kafka\"\n[kafka]\nbrokers = \"one:9092\"\n";
    assert!(from(&format!("{store}{}\n{kafka}", list(&[one, two])), &[]).is_ok());
}
