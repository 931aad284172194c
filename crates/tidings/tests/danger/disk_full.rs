//! The danger: the disk fills up while the server accepts messages.
//!
//! A server that acknowledged a message before it was stored would lose it. A server that ended would turn a full disk
//! into an outage that somebody has to repair by hand. What holds: a message that is not stored gets 503 and changes
//! nothing, `/readyz` answers 503 as well, reads continue to work, and the server recovers by itself when there is room
//! again. A restart finds exactly the acknowledged messages.
//!
//! The disk is really full: the test mounts a small tmpfs in a mount namespace of its own, and runs itself again inside
//! of it. Where namespaces are not allowed, the test prints that it proves nothing; in CI it fails.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::process::{Server, applied, faster, until};

/// The variable that names the mounted directory in the inner run.
const INSIDE: &str = "DANGER_DISK_FULL_FOLDER";

#[test]
fn on_a_full_disk_nothing_is_acknowledged_and_with_room_the_server_recovers() {
    if let Ok(folder) = std::env::var(INSIDE) {
        return fill_and_free(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=6m none \"$DANGER_DISK_FULL_FOLDER\" && exec \"$@\"";
    let name =
        "disk_full::on_a_full_disk_nothing_is_acknowledged_and_with_room_the_server_recovers";
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
    let data = folder.join("data");
    let filler = folder.join("filler");
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
    // Fills the disk: the write fails once there is no room left.
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
