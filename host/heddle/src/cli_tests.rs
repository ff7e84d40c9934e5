use std::path::Path;

use clap::{CommandFactory as _, Parser as _};

use super::{Cli, Command, policy_flag};

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_teaches_with_an_example() {
    fn check(command: &clap::Command, path: &str) {
        let children: Vec<_> = command.get_subcommands().filter(|child| child.get_name() != "help").collect();
        let says = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let teaches = says.contains("heddle ") || !children.is_empty() || command.get_name() == "version";
        assert!(teaches, "{path} --help has no example");
        for child in children {
            check(child, &format!("{path} {}", child.get_name()));
        }
    }
    check(&Cli::command(), "heddle");
}

#[test]
fn dev_listens_and_keeps_its_data_where_the_readme_says() {
    let Ok(Cli { command: Command::Dev(dev), .. }) = Cli::try_parse_from(["heddle", "dev"]) else { panic!("no dev") };
    assert_eq!((dev.listen.to_string(), dev.admin.to_string()), ("127.0.0.1:7600".into(), "127.0.0.1:7601".into()));
    assert_eq!(dev.data, Path::new("./heddle-data"));
    assert!(!dev.no_bot);
}

#[test]
fn a_policy_flag_names_a_hook_and_a_file() {
    assert_eq!(policy_flag("rate-limit=a.wasm").unwrap().key, "policies.rate_limit");
    assert_eq!(policy_flag("routing=dir/a=b.wasm").unwrap().file, "dir/a=b.wasm");
    for (wrong, part) in [("routing", "HOOK=FILE"), ("rooting=a", "rate-limit"), ("routing=", "no file")] {
        assert!(policy_flag(wrong).unwrap_err().contains(part), "{wrong}");
    }
}
