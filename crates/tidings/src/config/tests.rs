//! What a wrong setting says, and that the list is whole.

use std::path::Path;

use super::*;

fn wrong(key: &str, value: &str) -> String {
    Settings::with(&[(key, value)]).unwrap_err().to_string()
}

#[test]
fn every_setting_of_the_list_is_explained_and_its_default_is_usable() {
    assert!(Settings::with(&[]).is_ok());
    for key in keys() {
        assert!(key.help.ends_with('.'), "{}: {}", key.name, key.help);
        assert!(Layers::defaults().set(&key.name, String::new(), Source::Code).is_ok());
    }
}

#[test]
fn a_wrong_value_is_told_with_its_key_and_what_is_allowed() {
    assert_eq!(
        wrong("http", "8088"),
        "http = \"8088\" (from the program) is not usable: allowed is HOST:PORT, such as \
         127.0.0.1:8088; port 0 takes a free one"
    );
    assert!(wrong("rockets.held_max", "-1").contains("a whole number from 0 to"));
    assert!(wrong("http_body_bytes_max", "1TB").contains("such as 65536, 64KiB or 1MiB"));
    assert!(wrong("http_idle_timeout", "0s").contains("such as 500ms, 30s or 2m"));
    assert!(wrong("only", "rockets,snails").contains("allowed are rockets"));
    assert!(wrong("log_format", "xml").contains("allowed are human and json"));
    assert!(wrong("memory", "maybe").contains("true and false"));
}

#[test]
fn an_unknown_key_is_told_with_the_one_that_was_probably_meant() {
    assert!(wrong("rockets.heldmax", "1").contains("did you mean rockets.held_max?"));
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let mut layers = Layers::defaults();
    let file =
        "http = \"127.0.0.1:1\"\ndata = \"a\"\nlog_format = \"json\"\n[rockets]\nheld_max = 5\n";
    layers.set_from_file(Path::new("tidings.toml"), file).unwrap();
    let variables = [("TIDINGS_HTTP", "127.0.0.1:2"), ("TIDINGS_DATA", "b"), ("HOME", "x")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    layers.set_from_environment(variables.into_iter()).unwrap();
    layers.set_from_flag("http", "127.0.0.1:3".to_owned()).unwrap();
    let settings = Settings::read(&layers).unwrap();
    assert_eq!(settings.http, "127.0.0.1:3");
    assert_eq!(settings.data, Some("b".into()));
    assert_eq!(settings.log_format, LogFormat::Json);
    let read = |key| layers.count::<u64>(key, 0..=u64::MAX).unwrap();
    assert_eq!(read("rockets.held_max"), 5);
    assert_eq!(read("rockets.channels_max"), 1_000_000);
}

#[test]
fn variables_for_the_tests_and_for_trying_are_no_settings() {
    let mut layers = Layers::defaults();
    for name in ["TIDINGS_CONFIG", "TIDINGS_SEED", "TIDINGS_NATS_SERVER"] {
        let variable = (name.to_owned(), "x".to_owned());
        layers.set_from_environment([variable].into_iter()).unwrap();
    }
    assert!(Settings::read(&layers).unwrap().nats.is_none());
}

#[test]
fn servers_are_urls_and_there_are_none_in_memory() {
    let nats = |servers, memory| Settings::with(&[("nats", servers), ("memory", memory)]);
    let servers = nats("nats://a:1, tls://b", "false").unwrap().nats.unwrap().servers;
    assert_eq!(servers, ["nats://a:1", "tls://b"]);
    for (servers, memory) in [("http://a", "false"), ("nats://", "false"), ("nats://a", "true")] {
        assert_eq!(nats(servers, memory).unwrap_err().key, "nats", "{servers}");
    }
    let stream = Settings::with(&[("nats", "nats://a"), ("nats_stream", "a.b")]);
    assert_eq!(stream.unwrap_err().key, "nats_stream");
}

#[test]
fn a_file_and_a_variable_with_an_unknown_key_are_named() {
    let mut layers = Layers::defaults();
    let why = layers.set_from_file(Path::new("a.toml"), "[rockets]\nhold = 1\n").unwrap_err();
    assert!(why.to_string().starts_with("rockets.hold = \"1\" (from a.toml) is not usable"));
    let variable = ("TIDINGS_HTPP".to_owned(), "x".to_owned());
    let why = layers.set_from_environment([variable].into_iter()).unwrap_err();
    assert!(why.to_string().contains("from the environment variable TIDINGS_HTPP"));
    let why = layers.set_from_file(Path::new("a.toml"), "http = ").unwrap_err();
    assert!(why.to_string().contains("it is not TOML"));
}
