//! The order of the tree, which no compiler checks. All breaks are named at once, one a line.

#![expect(clippy::unwrap_used, reason = "a test ends where it does not go on")]

use std::fs;
use std::path::{Path, PathBuf};

use tidings::service::Service;

/// A longer file is about more than one thing, unless it says why not: `// tidy: long because ...`.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every file below a folder whose name ends so, with its text; paths from the root.
fn files(below: &str, ending: &str) -> Vec<(String, String)> {
    let (root, mut found) = (root(), Vec::new());
    let mut folders = vec![root.join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | ".git" | ".tools" | "tidings-data") {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                let shown = path.strip_prefix(&root).unwrap().display().to_string();
                found.push((shown, fs::read_to_string(&path).unwrap_or_default()));
            }
        }
    }
    found.sort();
    found
}

/// Which of our crates a crate may use: those that stand before it, and for the drill core alone.
fn arrows(breaks: &mut Vec<String>) {
    let allowed: [(&str, &[&str]); 5] = [
        ("core", &[]),
        ("log", &[]),
        ("node", &["core", "log"]),
        ("drill", &["core"]),
        ("tidings", &["core", "log", "node", "drill"]),
    ];
    for (name, may) in allowed {
        let path = format!("crates/{name}/Cargo.toml");
        let text = fs::read_to_string(root().join(&path)).unwrap();
        let used = text.lines().filter_map(|line| line.strip_prefix("tidings-")?.split(' ').next());
        for used in used.filter(|used| !may.contains(used)) {
            breaks.push(format!("{path}: {name} may not use {used}"));
        }
        for field in ["license", "description", "[lints]"] {
            if !text.contains(field) {
                breaks.push(format!("{path}: has no {field}"));
            }
        }
    }
}

/// Walls inside a crate: who must not be named where.
fn walls(breaks: &mut Vec<String>) {
    for (path, text) in files("crates/core/src/structure", ".rs") {
        for (number, line) in
            text.lines().enumerate().filter(|(_, line)| line.contains("machine::"))
        {
            breaks.push(format!("{path}:{}: a structure knows no machine: {line}", number + 1));
        }
    }
    for service in Service::ALL {
        for (path, text) in files("crates/tidings/src/adapter", ".rs") {
            let own =
                path.contains(&format!("adapter/{service}")) || path.ends_with("adapter/mod.rs");
            if !own && text.contains(&format!("adapter::{service}")) {
                breaks.push(format!(
                    "{path}: adapters do not see each other, and it names {service}"
                ));
            }
        }
    }
    for (path, text) in files("crates/tidings/src/wire", ".rs") {
        if text.contains("crate::adapter") || text.contains("crate::server") {
            breaks.push(format!("{path}: wire knows no service"));
        }
    }
}

/// A service has its file on every floor.
fn floors(breaks: &mut Vec<String>) {
    for service in Service::ALL {
        for floor in ["core/src/machine", "tidings/src/adapter", "drill/src"] {
            let file = root().join(format!("crates/{floor}/{service}.rs"));
            if !file.exists() && !file.with_extension("").join("mod.rs").exists() {
                breaks.push(format!("still to write: crates/{floor}/{service}.rs"));
            }
        }
    }
}

/// What every file keeps to.
fn habits(breaks: &mut Vec<String>) {
    // Written in two parts, so that this file does not break its own rules.
    let never = [
        ["#[al", "low("],
        ["#![al", "low("],
        ["#[ign", "ore"],
        ["TO", "DO"],
        ["FIX", "ME"],
        ["todo", "!("],
        ["dbg", "!("],
        ["unimpl", "emented!("],
    ];
    for (path, text) in files("crates", ".rs") {
        if !text.starts_with("//!") {
            breaks.push(format!("{path}:1: does not say in a `//!` line what lives there"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX && !text.contains("// tidy: long because") {
            breaks.push(format!("{path}: {lines} lines; is it about one thing?"));
        }
        for (number, line) in text.lines().enumerate() {
            for word in never.iter().map(|parts| parts.concat()).filter(|word| line.contains(word))
            {
                breaks.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
}

/// core's clippy.toml replaces the root's, so it must say at least the same.
fn clippy(breaks: &mut Vec<String>) {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let core = read("crates/core/clippy.toml");
    for line in read("clippy.toml")
        .lines()
        .filter(|line| line.starts_with("allow-") || line.starts_with("doc-"))
    {
        if !core.contains(line) {
            breaks.push(format!("crates/core/clippy.toml: does not repeat {line}"));
        }
    }
}

/// The tree speaks of the project alone.
fn words(breaks: &mut Vec<String>) {
    let never = [["/wo", "rk/"], ["/ro", "ot/"], ["index.crates", ".io"], ["static.crates", ".io"]];
    let all =
        ["rs", "toml", "md", "yaml"].iter().flat_map(|ending| files("", &format!(".{ending}")));
    for (path, text) in all {
        for word in never.iter().map(|parts| parts.concat()).filter(|word| text.contains(word)) {
            breaks.push(format!("{path}: {word}"));
        }
    }
}

#[test]
fn the_tree_is_in_order() {
    let mut breaks = Vec::new();
    for check in [arrows, walls, floors, habits, clippy, words] {
        check(&mut breaks);
    }
    assert!(breaks.is_empty(), "\n{}\n", breaks.join("\n"));
}
