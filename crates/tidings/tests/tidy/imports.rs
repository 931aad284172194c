//! The import graph of each crate: which file names which other file of its crate in a path. A file belongs to a
//! floor, an arrow never goes up, and no two files reach each other.
//!
//! A submodule is a part of its parent and may use what the parent defines, so an import of a file's own ancestor is
//! no arrow.
//!
//! A line-based reader is enough for code that rustfmt has formatted. What it does not see: names brought in by a
//! macro, and method calls (calling a method is no import).

use std::collections::{BTreeMap, BTreeSet};

use tidings::service::Service;

use super::files;

/// The floors of each crate, lowest first. An entry is a file or a folder below `src`, without `.rs`; a folder stands
/// for the file of the same name too. An import goes to the same floor or to a lower one. `lib` and `main` stand
/// above everything.
const FLOORS: &[(&str, &[&str])] = &[
    ("core", &["structure", "machine", "conformance"]),
    (
        "log",
        &[
            "contract",
            "turn",
            "memory",
            "faulty",
            "sqlite",
            "jetstream",
            "nats_server",
            "conformance",
        ],
    ),
    (
        "node",
        &[
            "clock",
            "entry",
            "snapshot",
            "agreement",
            "proposal",
            "stats",
            "slot",
            "memory",
            "queue",
            "engine",
            "shared",
            "writer",
            "handle",
            "lease",
            "node",
        ],
    ),
    (
        "drill",
        &[
            "random", "error", "patience", "options", "verdict", "progress", "http", "metrics",
            "harness",
        ],
    ),
    (
        "tidings",
        &[
            "telemetry",
            "shutdown",
            "layers",
            "wire",
            "contract",
            "adapter",
            "service",
            "config",
            "server",
            "cluster",
            "cli",
        ],
    ),
];

/// An import: the importing file, its line, the imported file.
type Arrow = (String, usize, String);

/// Names every arrow that goes up a floor, every file that is on no floor, and every circle of files.
pub(super) fn check(breaks: &mut Vec<String>) {
    for (name, floors) in FLOORS {
        let mut floors = floors.to_vec();
        if *name == "drill" {
            // Every drill stands on the harness.
            floors.extend(Service::ALL.map(Service::name));
        }
        let src = format!("crates/{name}/src");
        let sources: Vec<_> =
            files(&src, ".rs").into_iter().filter(|(path, _)| !is_test(path)).collect();
        let arrows = arrows(&src, &sources);
        for (path, _) in &sources {
            if floor(&src, path, &floors).is_none() {
                breaks.push(format!("{path}:1: on which floor is it? Say so in tidy/imports.rs"));
            }
        }
        for (from, line, to) in &arrows {
            let higher = floor(&src, from, &floors) < floor(&src, to, &floors);
            if higher {
                breaks.push(format!("{from}:{line}: imports from a higher floor: {to}"));
            }
        }
        for circle in circles(&arrows) {
            breaks.push(format!("{}: a circle of imports", circle.join(" → ")));
        }
    }
}

/// Files of unit tests import what they test, and nothing imports them.
fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

/// The number of the floor that a file is on. The crate's root is above all floors.
fn floor(src: &str, path: &str, floors: &[&str]) -> Option<usize> {
    let inner = path.strip_prefix(src)?.strip_prefix('/')?;
    if matches!(inner, "lib.rs" | "main.rs") {
        return Some(floors.len());
    }
    let inner = inner.strip_suffix(".rs")?;
    floors.iter().position(|floor| {
        let rest = inner.strip_prefix(floor);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Every import between files of one crate. Re-exports by the crate's root are its façade, not imports.
fn arrows(src: &str, sources: &[(String, String)]) -> Vec<Arrow> {
    let modules: BTreeMap<Vec<String>, &str> =
        sources.iter().map(|(path, _)| (module(src, path), path.as_str())).collect();
    let mut arrows = Vec::new();
    for (path, text) in sources {
        let here = module(src, path);
        if here.is_empty() {
            continue;
        }
        for (line, named) in paths(text) {
            let Some(absolute) = absolute(&here, &named, &modules) else { continue };
            let file = (0..=absolute.len()).rev().find_map(|end| modules.get(absolute.get(..end)?));
            let Some(file) = file else { continue };
            let is_ancestor = here.starts_with(&module(src, file));
            if !is_ancestor {
                arrows.push((path.clone(), line, (*file).to_owned()));
            }
        }
    }
    arrows
}

/// The module that a file is, as the segments of its path below `crate`.
fn module(src: &str, path: &str) -> Vec<String> {
    let inner = path.strip_prefix(src).unwrap_or(path).trim_start_matches('/');
    let inner = inner.strip_suffix(".rs").unwrap_or(inner);
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    inner.split('/').filter(|part| !matches!(*part, "lib" | "main")).map(str::to_owned).collect()
}

/// A path as the compiler resolves it, below `crate`; nothing if it leads out of the crate.
fn absolute(
    here: &[String],
    named: &[String],
    modules: &BTreeMap<Vec<String>, &str>,
) -> Option<Vec<String>> {
    let (first, rest) = named.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([here, rest].concat()),
        "super" => {
            let parent = here.split_last()?.1;
            match rest.first().map(String::as_str) {
                Some("super") => absolute(parent, rest, modules),
                _ => Some([parent, rest].concat()),
            }
        }
        _ => {
            let child = [here, std::slice::from_ref(first)].concat();
            modules.contains_key(&child).then(|| [here, named].concat())
        }
    }
}

/// Every path that the code of a file names, with its line: `use` trees taken apart, and `crate::` and `super::` where
/// they stand in an expression or a type. Comments, and tests at the end of the file, are left out.
fn paths(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut statement: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.trim_start();
        if code.starts_with("#[cfg(test)]") {
            break;
        }
        if code.starts_with("//") {
            continue;
        }
        let starts = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
        if let Some(tree) = starts.iter().find_map(|start| code.strip_prefix(start)) {
            statement = Some((number, tree.to_owned()));
        } else if let Some((_, tree)) = &mut statement {
            tree.push_str(code);
        } else {
            found.extend(inline(code).into_iter().map(|path| (number, path)));
        }
        if let Some((first, tree)) = statement.take_if(|(_, tree)| tree.ends_with(';')) {
            let tree = tree.trim_end_matches(';').replace(' ', "");
            let mut leaves = Vec::new();
            expand(&[], &tree, &mut leaves);
            found.extend(leaves.into_iter().map(|path| (first, path)));
        }
    }
    found
}

/// The paths in a line of code that begin with `crate::` or `super::`.
fn inline(code: &str) -> Vec<Vec<String>> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c: char| !is_part(c));
    let paths = words.filter(|word| word.starts_with("crate::") || word.starts_with("super::"));
    paths.map(segments).collect()
}

/// The segments of a path.
fn segments(path: &str) -> Vec<String> {
    path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Takes a `use` tree apart into whole paths.
fn expand(before: &[String], tree: &str, leaves: &mut Vec<Vec<String>>) {
    let Some((path, group)) = tree.split_once('{') else {
        // `a::b as c` has lost its spaces: the name it is given does not matter here.
        leaves.push([before, &segments(tree)].concat());
        return;
    };
    let before = [before, &segments(path)].concat();
    let group = group.strip_suffix('}').unwrap_or(group);
    let mut depth = 0;
    let branches = group.split(|c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    branches.filter(|branch| !branch.is_empty()).for_each(|branch| expand(&before, branch, leaves));
}

/// Every set of files that reach each other, by Kosaraju's algorithm.
fn circles(arrows: &[Arrow]) -> Vec<Vec<String>> {
    let mut forward: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut backward: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, _, to) in arrows {
        forward.entry(from).or_default().insert(to);
        forward.entry(to).or_default();
        backward.entry(to).or_default().insert(from);
    }
    let mut seen = BTreeSet::new();
    let mut finished = Vec::new();
    for file in forward.keys() {
        visit(file, &forward, &mut seen, &mut finished);
    }
    seen.clear();
    let mut circles = Vec::new();
    for file in finished.into_iter().rev() {
        let mut circle = Vec::new();
        visit(file, &backward, &mut seen, &mut circle);
        if circle.len() > 1 {
            circle.sort_unstable();
            circles.push(circle.into_iter().map(str::to_owned).collect());
        }
    }
    circles
}

/// Depth first: appends the files that can be reached and were not seen before, the deepest first.
fn visit<'a>(
    file: &'a str,
    edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    seen: &mut BTreeSet<&'a str>,
    finished: &mut Vec<&'a str>,
) {
    if !seen.insert(file) {
        return;
    }
    for next in edges.get(file).into_iter().flatten() {
        visit(next, edges, seen, finished);
    }
    finished.push(file);
}

#[test]
fn a_path_is_resolved_as_the_compiler_does() {
    let text = "use crate::{a::{b, C}, d};\nuse super::e::F;\n// crate::never\nlet x = super::super::g();\n";
    let found: Vec<_> =
        paths(text).into_iter().map(|(line, path)| (line, path.join("::"))).collect();
    let expected = [
        (1, "crate::a::b"),
        (1, "crate::a::C"),
        (1, "crate::d"),
        (2, "super::e::F"),
        (4, "super::super::g"),
    ];
    assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
    let here = ["x", "y"].map(str::to_owned);
    let up = absolute(&here, &segments("super::super::g"), &BTreeMap::new());
    assert_eq!(up, Some(vec!["g".to_owned()]));
}

#[test]
fn files_that_reach_each_other_are_a_circle() {
    let arrow = |from: &str, to: &str| (from.to_owned(), 1, to.to_owned());
    let arrows = [arrow("a", "b"), arrow("b", "c"), arrow("c", "b"), arrow("d", "a")];
    assert_eq!(circles(&arrows), [["b".to_owned(), "c".to_owned()]]);
}
