//! The command line as clap sees it.

use super::*;

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn every_setting_has_a_flag() {
    let serve = serve_command();
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
