//! The danger: the process is told to stop, or is started wrongly, while there is data to lose.
//!
//! A server that stopped at once on SIGTERM would drop requests that it had accepted; one that waited for all clients
//! would never stop. A second process on the same data would write to the same log. What holds: accepted requests are
//! answered and the process ends within 10 s; a lock keeps a second process out; a start that fails names the setting.

use std::process::Command;
use std::time::{Duration, Instant};

use super::process::{Server, applied, faster, serve, until};

/// Posts one channel's messages in order until the server is gone; returns how many were
/// acknowledged.
fn post_until_gone(server: &Server, channel: u32) -> u64 {
    let mut acknowledged = 0;
    for number in 1.. {
        match server.post(&faster(channel, number)) {
            Some(answer) if answer.status == 202 => acknowledged += 1,
            Some(_) | None => break,
        }
    }
    acknowledged
}

#[test]
fn sigterm_under_load_ends_the_server_in_time_and_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), "127.0.0.1:0", &[]);
    let begun = std::sync::OnceLock::new();
    let acknowledged: Vec<u64> = std::thread::scope(|scope| {
        let post = |channel| {
            scope.spawn({
                let server = &server;
                move || post_until_gone(server, channel)
            })
        };
        let posting: Vec<_> = (1..=4).map(post).collect();
        until("the server is loaded", || (1..=4).all(|channel| applied(&server, channel) > 20));
        begun.get_or_init(Instant::now);
        server.signal("-TERM");
        posting.into_iter().map(|posting| posting.join().unwrap()).collect()
    });
    assert!(server.wait().success());
    assert!(begun.get().unwrap().elapsed() < Duration::from_secs(10));
    let server = Server::start(folder.path(), "127.0.0.1:0", &[]);
    for (channel, acknowledged) in (1..).zip(acknowledged) {
        assert!(applied(&server, channel) >= acknowledged);
    }
}

#[test]
fn a_second_process_on_the_same_data_stops_with_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), "127.0.0.1:0", &[]);
    let second = serve(folder.path(), "127.0.0.1:0", &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(error.contains("is in use by process"), "{error}");
    assert!(error.contains(&folder.path().display().to_string()), "{error}");
    assert_eq!(server.post(&faster(1, 1)).unwrap().status, 202);
}

#[test]
fn a_start_on_a_taken_port_names_the_port_and_the_setting() {
    let folder = tempfile::tempdir().unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let second = serve(folder.path(), &taken.to_string(), &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(error.contains(&format!("cannot listen on {taken} (setting http)")), "{error}");
}

#[test]
fn a_wrong_setting_stops_the_start_with_the_key_the_value_and_what_is_allowed() {
    let run = |variable: Option<(&str, &str)>, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
        let output = command.arg("serve").args(args).envs(variable).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let error = run(None, &["--http", "nowhere"]);
    assert!(
        error.contains("http = \"nowhere\" (from --http) is not usable: allowed is HOST:PORT"),
        "{error}"
    );
    let error = run(Some(("TIDINGS_ROCKETS_HELD_MAX", "many")), &[]);
    assert!(error.contains("from the environment variable TIDINGS_ROCKETS_HELD_MAX"), "{error}");
    let error = run(None, &["--config", "/nowhere/tidings.toml"]);
    assert!(error.contains("config = \"/nowhere/tidings.toml\""), "{error}");
}
