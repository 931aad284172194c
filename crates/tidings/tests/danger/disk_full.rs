//! The disk is full.
//!
//! Messages get 503 and nothing is acknowledged that is not stored; `/readyz` says why; when there
//! is room again the server goes on by itself, and a restart finds all that was acknowledged.
//!
//! A real full disk: a small tmpfs, mounted in a namespace of the test's own. The test runs itself
//! again inside it. Where namespaces are not allowed that is said loudly, and in CI it is a failure.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::process::{Server, applied, faster, until};

/// Set to the mounted folder in the run inside.
const INSIDE: &str = "DANGER_DISK_FULL_FOLDER";

#[test]
fn without_room_nothing_is_acknowledged_and_with_room_it_goes_on() {
    if let Ok(folder) = std::env::var(INSIDE) {
        return fill_and_free(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=6m none \"$DANGER_DISK_FULL_FOLDER\" && exec \"$@\"";
    let name = "disk_full::without_room_nothing_is_acknowledged_and_with_room_it_goes_on";
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount"]);
    let probe = unshare.args(["sh", "-c", "mount -t tmpfs none /mnt"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "no tmpfs can be mounted here, and CI must");
        eprintln!("NOT TESTED: a full disk. No tmpfs can be mounted in a namespace here.");
        return;
    }
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, folder.path())
        .status();
    assert!(status.unwrap().success());
}

fn fill_and_free(folder: &Path) {
    let (data, filler) = (folder.join("data"), folder.join("filler"));
    let server = Server::start(&data, "127.0.0.1:0", &[]);
    let mut acknowledged = 0;
    let mut post = |server: &Server, count: u64| {
        for _ in 0..count {
            let number = u32::try_from(acknowledged + 1).unwrap();
            let answer = server.post(&faster(1, number)).unwrap();
            if answer.status != 202 {
                assert_eq!(answer.status, 503, "{}", answer.body);
                assert!(answer.body.contains("there is no room to store it"), "{}", answer.body);
                return (acknowledged, true);
            }
            acknowledged += 1;
        }
        (acknowledged, false)
    };
    assert_eq!(post(&server, 20), (20, false));
    // As much as there is room for.
    assert!(fs::write(&filler, vec![1; 16 << 20]).is_err());
    let (stored, refused) = post(&server, 100_000);
    assert!(refused, "the disk is full");
    assert_eq!(applied(&server, 1), stored, "a refused message changes nothing");
    let ready = server.get("/readyz").unwrap();
    assert_eq!(ready.status, 503, "{}", ready.body);
    fs::remove_file(&filler).unwrap();
    until("there is room again", || server.get("/readyz").unwrap().status == 200);
    let (stored, refused) = post(&server, 100);
    assert!(!refused);
    server.kill();
    let server = Server::start(&data, "127.0.0.1:0", &[]);
    assert_eq!(applied(&server, 1), stored);
}
