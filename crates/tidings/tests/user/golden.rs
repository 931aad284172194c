//! Texts that others rely on literally. If a golden file is missing, the test writes it and fails once:
//! read the new file and commit it.

use std::path::Path;
use std::process::Command;

use super::support::with_defaults;

fn golden(name: &str, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let Ok(golden) = std::fs::read_to_string(&path) else {
        std::fs::write(&path, now).unwrap();
        panic!("{} was missing and has been written: look at it and commit it", path.display());
    };
    let differing = golden.lines().zip(now.lines()).find(|(then, now)| then != now);
    assert!(
        golden == now,
        "{name} has changed; delete the file to accept it. First difference: {differing:?}"
    );
}

fn help(name: &str, args: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(args)
        .env_remove("COLUMNS")
        .output()
        .unwrap();
    assert!(output.status.success());
    golden(name, &String::from_utf8(output.stdout).unwrap());
}

#[test]
fn the_description_of_the_api_is_as_published() {
    with_defaults(async |client| {
        let description = client.get("/openapi.json").await.json();
        golden("openapi.json", &(serde_json::to_string_pretty(&description).unwrap() + "\n"));
    });
}

#[test]
fn the_help_texts_are_as_published() {
    help("help.txt", &["--help"]);
    help("help-serve.txt", &["serve", "--help"]);
    help("help-drill.txt", &["drill", "--help"]);
    help("help-drill-rockets.txt", &["drill", "rockets", "--help"]);
    help("help-log.txt", &["log", "--help"]);
    help("help-log-copy.txt", &["log", "copy", "--help"]);
}
