use clap::Parser as _;
use serde_json::Value;

use super::amount::{Unit, read, read_hundredths};
use super::figures::ROWS;
use crate::cli::{Cli, Command};

/// What `heddle capacity` with these arguments prints, or says is wrong.
fn capacity(args: &[&str]) -> Result<String, String> {
    let cli = Cli::try_parse_from(["heddle", "capacity"].iter().chain(args)).map_err(|error| error.to_string())?;
    let Command::Capacity(args) = cli.command else { panic!("it is another command") };
    super::command(&args).map_err(|failure| {
        assert_eq!(failure.code, crate::failure::USAGE, "{failure}");
        failure.text
    })
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&capacity(&[args, &["--output", "json"]].concat()).unwrap()).unwrap()
}

/// The results of one name: one, or one for each region.
fn results(plan: &Value, column: &str, name: &str) -> Vec<u64> {
    let all = plan["results"].as_array().unwrap();
    let of: Vec<u64> = all.iter().filter(|r| r["name"] == name).map(|r| r[column]["value"].as_u64().unwrap()).collect();
    assert!(!of.is_empty(), "there is no {name}");
    of
}

const SMALL: &[&str] = &["--connections", "2M", "--messages-per-day", "300M"];

fn small(more: &[&str]) -> Value {
    json(&[SMALL, more].concat())
}

#[test]
fn the_inputs_of_the_original_design_give_its_outputs() {
    let plan = json(&["--like", "original"]);
    for (name, expected) in [
        ("servers", vec![15_000, 10_000, 12_500, 12_500]),
        ("servers in all", vec![50_000]),
        ("messages a second, average", vec![1_157_408]),
        ("messages a second, peak", vec![3_500_000]),
        ("partitions", vec![100]),
        ("messages a partition, at the peak", vec![35_000]),
        ("memory of all connections", vec![250_000_000_000_000]),
        ("storage of the log, before replication", vec![700_000_000_000_000]),
        ("storage of the log, replicated", vec![2_100_000_000_000_000]),
        ("cost of the servers", vec![7_500_000]),
    ] {
        assert_eq!(results(&plan, "original", name), expected, "{name}");
    }
}

#[test]
fn the_same_target_with_our_figures_stands_beside_it() {
    let plan = json(&["--like", "original"]);
    for (name, expected) in [
        // 16 GB × 50 % / 12,800 B would be 625,000.
        ("connections a server", vec![100_000]),
        ("servers", vec![1_500, 1_000, 1_250, 1_250]),
        ("memory of all connections", vec![6_400_000_000_000]),
        // Both records of a message, with what they add.
        ("storage of the log, before replication", vec![1_890_000_000_000_000]),
        ("partitions", vec![232]),
        ("cost of the servers", vec![750_000]),
    ] {
        assert_eq!(results(&plan, "ours", name), expected, "{name}");
    }
}

/// Made by `heddle capacity --like original`, with and without `--output json`.
#[test]
fn what_is_printed_for_the_original_design_is_what_was_printed() {
    let text = capacity(&["--like", "original"]).unwrap();
    assert_eq!(text.trim_end(), include_str!("golden/original.txt").trim_end());
    let plan = capacity(&["--like", "original", "--output", "json"]).unwrap();
    assert_eq!(plan.trim_end(), include_str!("golden/original.json").trim_end());
}

#[test]
fn every_result_shows_its_formula_and_its_numbers() {
    for result in small(&[])["results"].as_array().unwrap() {
        for text in [&result["formula"], &result["original"]["numbers"], &result["ours"]["numbers"]] {
            assert!(!text.as_str().unwrap().is_empty() && !text.as_str().unwrap().contains('#'), "{result}");
        }
    }
}

#[test]
fn one_connection_more_than_fits_takes_one_server_more() {
    let servers = |connections: &str| {
        let args = ["--connections", connections, "--messages-per-day", "1", "--spare", "none"];
        results(&json(&args), "ours", "servers in all")[0]
    };
    assert_eq!([servers("1"), servers("100_000"), servers("100_001"), servers("200_000")], [1, 1, 2, 2]);
}

#[test]
fn a_server_takes_no_more_connections_than_fit_into_its_memory() {
    let each = |memory: &str| {
        results(&small(&["--set", &format!("server.memory={memory}")]), "ours", "connections a server")[0]
    };
    assert_eq!(each("100 GB"), 100_000, "its own limit");
    assert_eq!(each("1 GB"), 39_062, "1 GB × 50 % / 12,800 B, rounded down");
    assert_eq!(each("1 B"), 1, "never none: nothing could be divided by it");
}

#[test]
fn messages_need_servers_too() {
    let own = ["--set", "log.read_by_all=0"];
    let plan = small(&[&["--peak", "500_000", "--spare", "none"][..], &own].concat());
    assert_eq!(results(&plan, "ours", "servers by connections"), [20]);
    assert_eq!(results(&plan, "ours", "servers"), [20]);
    let plan = small(&[&["--peak", "10M", "--spare", "none"][..], &own].concat());
    assert_eq!(results(&plan, "ours", "messages a server"), [30_240]);
    assert_eq!(results(&plan, "ours", "servers"), [331]);
}

#[test]
fn whoever_reads_the_whole_log_pays_for_the_messages_of_others() {
    let plan = small(&["--peak", "20_000", "--spare", "none"]);
    // 0.25 of 4.8 cores follow.
    assert_eq!(results(&plan, "ours", "messages a server"), [28_665]);
    assert_eq!(results(&plan, "ours", "logs"), [1]);
    // 20,000 × 20 servers × 2.7 KB / 500 MB/s.
    assert_eq!(results(&plan, "ours", "brokers by reading"), [3]);
    // At 8 × 60 % × 10 % × 80,000 following takes a tenth of every server, however many there are.
    let most = small(&["--peak", "38_400", "--spare", "none"]);
    assert_eq!(results(&most, "ours", "logs"), [1]);
    assert_eq!(results(&small(&["--peak", "38_401", "--spare", "none"]), "ours", "logs"), [2]);
    assert_eq!(results(&most, "ours", "messages a server"), [27_216]);
}

#[test]
fn a_spare_server_stands_in_each_region() {
    let regions = ["--region", "us=60", "--region", "eu=40"];
    assert_eq!(results(&small(&[&regions[..], &["--spare", "none"]].concat()), "ours", "servers"), [12, 8]);
    assert_eq!(results(&small(&regions), "ours", "servers"), [13, 9], "that is what one gets without asking");
}

#[test]
fn standbys_are_the_spare_of_archive_and_registry() {
    for name in ["Postgres servers (an estimate)", "Redis servers (an estimate)"] {
        let of = |spare: &str| results(&json(&["--like", "original", "--spare", spare]), "ours", name);
        assert_eq!(of("none"), of("region"), "{name}");
    }
}

#[test]
fn any_region_may_be_lost_where_that_was_asked_for() {
    let args = ["--spare", "region", "--region", "us=50", "--region", "eu=30", "--region", "asia=20"];
    // Without us the others have half of all to take over: 6 and 4 become 12 and 8. Without eu, us has 10 / 70 %.
    assert_eq!(results(&small(&args), "ours", "servers"), [15, 12, 8]);
    let wrong = capacity(&[SMALL, &["--spare", "region"]].concat()).unwrap_err();
    assert!(wrong.contains("one region only"), "{wrong}");
}

#[test]
fn regions_that_do_not_sum_to_a_hundred_are_named_with_their_sum() {
    let wrong =
        capacity(&[SMALL, &["--region", "us=30", "--region", "eu=20.5", "--region", "asia=25"]].concat()).unwrap_err();
    assert!(wrong.contains("sum to 75.5 %, not 100 %: us 30 %, eu 20.5 %, asia 25 %"), "{wrong}");
    let thirds = ["--region", "a=33.33", "--region", "b=33.33", "--region", "c=33.34"];
    assert_eq!(results(&small(&thirds), "ours", "servers").len(), 3);
}

#[test]
fn nothing_and_too_much_are_refused_with_the_key() {
    for (args, part) in [
        (&["--connections", "0", "--messages-per-day", "1"][..], "--connections: 0 is not from 1 to"),
        (&["--connections", "1", "--messages-per-day", "0"], "--messages-per-day: 0 is not from 1"),
        (&["--connections", "1", "--messages-per-day", "1", "--peak", "0"], "--peak: 0 is not from 1"),
        (&["--connections", "1", "--messages-per-day", "1", "--peak-factor", "0.5"], "0.5 is not from 1 to 1,000"),
        (&["--connections", "1", "--messages-per-day", "1", "--replication", "0"], "--replication: 0"),
        (
            &["--connections", "1", "--messages-per-day", "1", "--set", "server.cores=0"],
            "server.cores=0: 0 is not from 1",
        ),
        (
            &["--connections", "1", "--messages-per-day", "1", "--set", "broker.disk_percent=101"],
            "101 is not from 1 to 100",
        ),
        (
            &["--connections", "1", "--messages-per-day", "1", "--region", "eu=0", "--region", "us=100"],
            "--region eu=0: 0 is not",
        ),
        (&["--connections", "9T", "--messages-per-day", "1"], "9,000,000,000,000 is not from 1"),
        (&["--messages-per-day", "1"], "connections is not said: --connections"),
        (&["--connections", "1"], "messages_per_day is not said"),
        (&["--connections", "many", "--messages-per-day", "1"], "\"many\" is not a whole number"),
        (&["--connections", "1.5", "--messages-per-day", "1"], "\"1.5\" is not a whole number"),
        (&["--connections", "1", "--messages-per-day", "1", "--set", "server.core=1"], "did you mean `server.cores`?"),
        (&["--connections", "1", "--messages-per-day", "1", "--region", "eu"], "NAME=SHARE"),
        (
            &["--connections", "1", "--messages-per-day", "1", "--region", "a=50", "--region", "a=50"],
            "the region is there twice",
        ),
    ] {
        let wrong = capacity(args).unwrap_err();
        assert!(wrong.contains(part), "{args:?}: {wrong}");
        assert!(wrong.contains("has 1 problem\n"), "{args:?} is told once: {wrong}");
    }
    let wrong = capacity(&["--connections", "0", "--region", "eu=20"]).unwrap_err();
    assert!(wrong.contains("has 3 problems"), "all at once: {wrong}");
}

#[test]
fn the_largest_and_the_smallest_of_everything_can_be_reckoned() {
    let largest: Vec<String> =
        ROWS.iter().flat_map(|row| ["--set".to_owned(), format!("{}={}", row.key, row.range.1)]).collect();
    let smallest: Vec<String> =
        ROWS.iter().flat_map(|row| ["--set".to_owned(), format!("{}={}", row.key, row.range.0)]).collect();
    let target = [
        "--connections=1_000_000_000_000",
        "--messages-per-day=1_000_000_000_000_000",
        "--peak=1_000_000_000_000",
        "--message-bytes=1_000_000_000",
        "--retention-days=36_500",
        "--archive-days=36_500",
        "--replication=10",
    ];
    for figures in [largest, smallest] {
        let args: Vec<&str> = target.into_iter().chain(figures.iter().map(String::as_str)).collect();
        assert!(capacity(&args).unwrap().contains("cost in all"));
    }
}

#[test]
fn a_file_says_the_same_as_flags_and_flags_win() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target.toml");
    let text = "[target]\nconnections = 2_000_000\nmessages_per_day = \"300M\"\npeak_factor = 2.5\nspare = \"none\"\n\
        [regions]\nus = 60\neu = 40.0\n[server]\ncores = 16\nmemory = \"32 GB\"\n";
    std::fs::write(&path, text).unwrap();
    let file = path.to_str().unwrap();
    let flags = small(&[
        "--peak-factor",
        "2.5",
        "--spare",
        "none",
        "--region",
        "eu=40",
        "--region",
        "us=60",
        "--set",
        "server.cores=16",
        "--set",
        "server.memory=32 GB",
    ]);
    assert_eq!(json(&["--target", file])["results"], flags["results"]);
    assert_eq!(results(&json(&["--target", file, "--region", "all=100"]), "ours", "servers"), [20]);
    std::fs::write(&path, "[target]\nconnectoins = 1\nconnections = 1\nmessages_per_day = 1\n[serfer]\ncores = 1\n")
        .unwrap();
    let wrong = capacity(&["--target", file]).unwrap_err();
    assert!(wrong.contains("target.connectoins") && wrong.contains("`connections`"), "{wrong}");
    assert!(wrong.contains("serfer.cores") && wrong.contains("`server.cores`"), "{wrong}");
}

#[test]
fn a_factor_makes_the_peak_and_a_peak_given_makes_the_factor() {
    let plan = json(&["--connections", "1", "--messages-per-day", "86_400", "--peak-factor", "2.5"]);
    assert_eq!(results(&plan, "ours", "messages a second, peak"), [3], "2.5, rounded up");
    let plan = json(&["--like", "original"]);
    assert_eq!(results(&plan, "ours", "peak by average"), [303], "3.5 million by 1.157 million");
    let plan = json(&["--like", "original", "--peak-factor", "2"]);
    assert_eq!(
        results(&plan, "ours", "messages a second, peak"),
        [2_314_815],
        "a factor takes the place of the preset's peak"
    );
}

#[test]
fn there_are_as_many_brokers_as_copies_and_enough_for_both_needs() {
    let few = json(&["--connections", "1", "--messages-per-day", "1", "--spare", "none"]);
    assert_eq!(results(&few, "ours", "brokers"), [3]);
    let original = json(&["--like", "original"]);
    // 3.5 M × 1 KB × 3 / 250 MB/s = 42; 2,100 TB / (24 TB × 70 %) = 125.
    assert_eq!(results(&original, "original", "brokers by throughput"), [42]);
    assert_eq!(results(&original, "original", "brokers by storage"), [125]);
    assert_eq!(results(&original, "original", "brokers"), [125]);
}

#[test]
fn more_partitions_than_one_log_takes_need_another_log() {
    let logs = |more: &[&str]| {
        let own = ["--like", "original", "--set", "log.read_by_all=0"];
        let plan = json(&[&own, more].concat());
        (results(&plan, "ours", "partitions")[0], results(&plan, "ours", "logs")[0])
    };
    assert_eq!(logs(&["--peak", "20M"]), (1_325, 2));
    assert_eq!(logs(&[]), (232, 1));
}

#[test]
fn numbers_are_read_and_shown_with_their_units() {
    for (text, value) in [
        ("500_000_000", 500_000_000),
        ("500,000,000", 500_000_000),
        ("500M", 500_000_000),
        ("3.5 M", 3_500_000),
        ("1 KB", 1_000),
        ("12.5 KiB", 12_800),
        ("24 TB", 24_000_000_000_000),
        ("7 B", 7),
        ("0", 0),
    ] {
        assert_eq!(read(text), Ok(value), "{text}");
    }
    for wrong in ["", "-1", "1.0005 K", "M", "1e9", "5 QB", "99999999999999999999", "999999999999999999T"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    assert_eq!(read_hundredths("33.33"), Ok(3_333));
    assert!(read_hundredths("33.333").is_err() && read_hundredths("1K").is_err());
    for (unit, value, text) in [
        (Unit::Count, 1_234_567, "1,234,567"),
        (Unit::Count, 999, "999"),
        (Unit::Bytes, 999, "999 B"),
        (Unit::Bytes, 12_800, "12.8 KB"),
        (Unit::Bytes, 700_000_000_000_000, "700 TB"),
        (Unit::Bytes, 1_000_000_000_001, "1.1 TB"),
        (Unit::Hundredths, 3_050, "30.5"),
        (Unit::Hundredths, 3_000, "30"),
        (Unit::Dollars, 7_500_000, "$7,500,000"),
    ] {
        assert_eq!(unit.show(value), text);
    }
}
