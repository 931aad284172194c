//! The order of the tree, which no compiler checks. All breaks are named at once, one a line.

#![expect(clippy::unwrap_used, reason = "a test ends where it does not go on")]

use std::fs;
use std::path::{Path, PathBuf};

use tidings::config;
use tidings::service::Service;

#[path = "tidy/imports.rs"]
mod imports;

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
            if matches!(name.as_str(), "target" | ".git" | ".tools" | "tidings-data") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(ending) {
                let shown = path.strip_prefix(&root).unwrap().display().to_string();
                found.push((shown, fs::read_to_string(&path).unwrap_or_default()));
            }
        }
    }
    found.sort();
    found
}

/// The lines of a text, counted from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

/// Which of our crates a crate may use: those that stand before it, and for the drill core alone.
/// Its tests may use more.
fn arrows(breaks: &mut Vec<String>) {
    let allowed: [(&str, &[&str]); 5] = [
        ("core", &[]),
        ("log", &[]),
        ("node", &["core", "log"]),
        ("drill", &["core"]),
        ("tidings", &["core", "log", "node", "drill"]),
    ];
    for folder in fs::read_dir(root().join("crates")).unwrap() {
        let name = folder.unwrap().file_name().to_string_lossy().into_owned();
        let path = format!("crates/{name}/Cargo.toml");
        let Some((_, may)) = allowed.iter().find(|(known, _)| *known == name) else {
            breaks.push(format!("{path}:1: which crates may {name} use? Say so in tidy.rs"));
            continue;
        };
        let text = fs::read_to_string(root().join(&path)).unwrap();
        let mut section = "";
        for (number, line) in lines(&text) {
            if line.starts_with('[') {
                section = line;
            }
            let used = line.strip_prefix("tidings-").and_then(|rest| rest.split([' ', '.']).next());
            if let Some(used) = used
                && !section.contains("dev-dependencies")
                && !may.contains(&used)
            {
                breaks.push(format!("{path}:{number}: {name} may not use {used}"));
            }
        }
        for field in ["license", "description", "[lints]"] {
            if !text.contains(field) {
                breaks.push(format!("{path}:1: has no {field}"));
            }
        }
    }
}

/// Whether a line names a module of that name as a path does: `name::`, `::name`, `{name, ..}`.
fn names(line: &str, module: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let used = line.trim_start().starts_with("use ") || line.trim_start().starts_with("pub use ");
    line.match_indices(module).any(|(start, _)| {
        let (before, after) = (&line[..start], &line[start + module.len()..]);
        let whole = !before.ends_with(part) && !after.starts_with(part);
        whole && (after.starts_with("::") || before.ends_with("::") || used)
    })
}

/// Walls inside a crate: who must not be named where.
fn walls(breaks: &mut Vec<String>) {
    let mut wall = |below: &str, except: &str, module: &str, why: &str| {
        for (path, text) in files(below, ".rs") {
            if !except.is_empty() && path.contains(except) {
                continue;
            }
            for (number, line) in lines(&text).filter(|(_, line)| names(line, module)) {
                breaks.push(format!("{path}:{number}: {why}: {}", line.trim()));
            }
        }
    };
    wall("crates/core/src/structure", "", "machine", "a structure knows no machine");
    for service in Service::ALL {
        // Its machine in core bears the same name, so only what is meant as an adapter counts.
        for path in ["adapter::", "adapter::{", "super::", "super::{"] {
            let path = format!("{path}{service}");
            let own = format!("adapter/{service}");
            wall("crates/tidings/src/adapter", &own, &path, "adapters do not see each other");
        }
    }
    for module in ["crate::adapter", "crate::server"] {
        wall("crates/tidings/src/wire", "", module, "wire knows no service");
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
        let length = text.lines().count();
        if length > LINES_MAX && !text.contains("// tidy: long because") {
            breaks.push(format!("{path}:{LINES_MAX}: {length} lines; is it about one thing?"));
        }
        for (number, line) in lines(&text) {
            for word in never.iter().map(|parts| parts.concat()).filter(|word| line.contains(word))
            {
                breaks.push(format!("{path}:{number}: {word}"));
            }
        }
    }
}

/// core's clippy.toml replaces the root's, so it must say at least the same.
fn clippy(breaks: &mut Vec<String>) {
    let core = fs::read_to_string(root().join("crates/core/clippy.toml")).unwrap();
    let rules = fs::read_to_string(root().join("clippy.toml")).unwrap();
    for (number, line) in lines(&rules) {
        // A ban may give another reason there; a setting stands there as it is.
        let banned =
            line.trim_start().strip_prefix("{ path = ").and_then(|rest| rest.split(',').next());
        let setting = line.starts_with("allow-") || line.starts_with("doc-");
        if let Some(rule) = banned.or(setting.then_some(line))
            && !core.contains(rule)
        {
            breaks.push(format!("clippy.toml:{number}: core's clippy.toml does not repeat {rule}"));
        }
    }
}

/// The tree speaks of the project alone. (Cargo.lock says where crates come from.)
fn words(breaks: &mut Vec<String>) {
    let never = [["/wo", "rk/"], ["/ro", "ot/"], ["index.crates", ".io"], ["static.crates", ".io"]];
    let never = never.map(|parts| parts.concat());
    for (path, text) in files("", "").into_iter().filter(|(path, _)| !path.ends_with("Cargo.lock"))
    {
        for (number, line) in lines(&text) {
            for word in never.iter().filter(|word| line.contains(*word)) {
                breaks.push(format!("{path}:{number}: {word}"));
            }
        }
    }
}

/// Commands that start a server, in what is not code, give it flags that it has.
fn flags(breaks: &mut Vec<String>) {
    let known: Vec<String> = config::keys().iter().map(|key| config::flag(&key.name)).collect();
    for path in ["compose.yaml", "Dockerfile", "README.md", "docs/cluster.md", "docs/operations.md"]
    {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let mut flags = 0;
        for (number, line) in lines(&text) {
            let starts = ["- --", "CMD [\"serve\"", "tidings serve"];
            if !starts.iter().any(|start| line.trim_start().starts_with(start)) {
                continue;
            }
            let given = line.split([' ', '"']).filter_map(|word| word.strip_prefix("--"));
            for flag in given.filter_map(|flag| flag.split('=').next()) {
                flags += 1;
                if !known.iter().any(|known| known == flag) {
                    breaks.push(format!("{path}:{number}: tidings serve has no --{flag}"));
                }
            }
        }
        if flags == 0 && matches!(path, "compose.yaml" | "Dockerfile") {
            breaks.push(format!("{path}:1: starts no server with a flag"));
        }
    }
}

#[test]
fn the_tree_is_in_order() {
    let mut breaks = Vec::new();
    for check in [arrows, walls, floors, imports::check, habits, clippy, words, flags] {
        check(&mut breaks);
    }
    assert!(breaks.is_empty(), "\n{}\n", breaks.join("\n"));
}
