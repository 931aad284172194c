//! The command line as clap sees it.

use super::*;

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn several_targets_are_repeated_or_have_commas_and_stand_before_or_behind_the_drill() {
    let expected = ["a:1", "b:2", "c:3"];
    for line in [
        "drill rockets --target a:1,b:2,c:3",
        "drill rockets --target a:1 --target b:2,c:3",
        "drill --target a:1,b:2 --target c:3 chat",
        "drill tracker --target a:1,b:2,c:3",
        "drill traffic --target a:1,b:2,c:3",
        "drill maze --maze-clients x:1,x:2 --target a:1,b:2,c:3",
    ] {
        let words = std::iter::once("tidings").chain(line.split(' '));
        let matches = command().try_get_matches_from(words).unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        let targets: Vec<&String> = matches.get_many("target").unwrap().collect();
        assert_eq!(targets, expected, "{line}");
    }
}

#[test]
fn every_setting_has_a_flag() {
    let serve = serve::command();
    for key in config::keys() {
        let flag = config::flag(&key.name);
        assert!(serve.get_arguments().any(|arg| arg.get_long() == Some(&flag)), "--{flag}");
    }
}

#[test]
fn a_flag_without_value_means_yes_only_for_yes_or_no() {
    let matches = command().try_get_matches_from(["tidings", "serve", "--memory"]).unwrap();
    let (_, matches) = matches.subcommand().unwrap();
    let settings = Settings::read(&layers(matches).unwrap()).unwrap();
    assert_eq!(settings.data, None);
    assert!(command().try_get_matches_from(["tidings", "serve", "--http"]).is_err());
}
