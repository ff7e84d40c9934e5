use clap::CommandFactory as _;

use super::{Cli, policy_flag};

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
fn a_policy_flag_names_a_hook_and_a_file() {
    assert_eq!(policy_flag("rate-limit=a.wasm").unwrap().key, "policies.rate_limit");
    assert_eq!(policy_flag("routing=dir/a=b.wasm").unwrap().file, "dir/a=b.wasm");
    for (wrong, part) in [("routing", "HOOK=FILE"), ("rooting=a", "rate-limit"), ("routing=", "no file")] {
        assert!(policy_flag(wrong).unwrap_err().contains(part), "{wrong}");
    }
}
