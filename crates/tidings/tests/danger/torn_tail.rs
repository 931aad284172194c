//! The danger: the bytes on the disk are not the bytes that were written.
//!
//! A recovery that skipped a damaged batch would continue with a state that never existed, and acknowledged messages would
//! disappear silently. What holds: every batch has a checksum. The start fails and names the position; it skips nothing.
//! `tidings log check` reports the same position and how to continue without the damaged batch. After `tidings log cut` the
//! server starts with everything before that position.

use std::path::Path;
use std::process::{Command, Output};

use super::process::{Server, applied, faster, serve};

fn log(command: &str, data: &Path, more: &[&str]) -> Output {
    let mut tidings = Command::new(env!("CARGO_BIN_EXE_tidings"));
    tidings.args(["log", command, "--data"]).arg(data).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_damaged_batch_stops_the_start_with_its_position_and_can_be_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let server = Server::start(data, "127.0.0.1:0", &[]);
    for number in 1..=9 {
        assert_eq!(server.post(&faster(1, number)).unwrap().status, 202);
    }
    server.kill();
    assert!(log("check", data, &[]).status.success());
    {
        let database = rusqlite::Connection::open(data.join("tidings.db")).unwrap();
        let flip = "UPDATE batch SET body = CAST(substr(body, 1, length(body) - 1) || x'7f' AS BLOB) WHERE position = 7";
        assert_eq!(database.execute(flip, []).unwrap(), 1);
    }
    let start = serve(data, "127.0.0.1:0", &[]).output().unwrap();
    assert_eq!(start.status.code(), Some(1));
    let error = text(&start.stderr);
    assert!(error.contains("the batch at position 7 is damaged"), "{error}");
    assert!(error.contains("2 batches stand behind it"), "{error}");
    let check = log("check", data, &[]);
    assert_eq!(check.status.code(), Some(1));
    assert!(text(&check.stdout).contains("--from 7"), "{}", text(&check.stdout));
    let cut = log("cut", data, &["--from", "7"]);
    assert!(cut.status.success(), "{}", text(&cut.stderr));
    let server = Server::start(data, "127.0.0.1:0", &[]);
    assert_eq!(applied(&server, 1), 6);
    for number in 1..=9 {
        assert_eq!(server.post(&faster(1, number)).unwrap().status, 202);
    }
    assert_eq!(applied(&server, 1), 9);
}
