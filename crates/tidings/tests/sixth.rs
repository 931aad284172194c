//! A sixth service, added to a copy of the tree: the smallest service there is takes four new files and a line or two in few
//! existing ones, and whatever is left out is named by the compiler or by `tidy`. CONTRIBUTING.md lists the same places.
//!
//! Danger: a service that is wired by hand in many places. One forgotten place used to be a service without metrics, readiness
//! or a description, and nothing said so.

#![expect(clippy::unwrap_used, reason = "a test ends where it does not go on")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// New files: where each goes, and its text.
const NEW: [(&str, &str); 4] = [
    ("crates/core/src/machine/pulse.rs", include_str!("sixth/machine.rs")),
    ("crates/tidings/src/adapter/pulse.rs", include_str!("sixth/adapter.rs")),
    ("crates/drill/src/pulse.rs", include_str!("sixth/drill.rs")),
    ("crates/tidings/tests/user/pulse.rs", include_str!("sixth/user.rs")),
];

/// A service must not touch more existing files than this, documents included.
const TOUCHED_MAX: usize = 11;
/// Documents to extend, which no compiler checks: README.md, ARCHITECTURE.md, CHANGELOG.md.
const DOCUMENTS: usize = 3;

/// Existing files: the text that is looked for, and what is put before it.
const TOUCHED: [(&str, &str, &str); 8] = [
    ("crates/core/src/machine/mod.rs", "pub mod rockets;", "pub mod pulse;\n"),
    ("crates/tidings/src/adapter/mod.rs", "pub(crate) mod rockets;", "pub(crate) mod pulse;\n"),
    (
        "crates/tidings/src/service.rs",
        "}\n\nimpl Service {\n    /// Returns the service of this name.",
        "    /// Beats, counted.\n    Pulse: pulse, machine 6;\n",
    ),
    (
        "crates/tidings/config/default.toml",
        "[rockets]",
        "[pulse]\n\n# The highest count.\nbeats_max = 1000\n\n",
    ),
    ("crates/drill/src/lib.rs", "pub mod rockets;", "pub mod pulse;\n"),
    (
        "crates/tidings/src/cli/drill.rs",
        "        Service::Rockets => rockets::Options::augment_args(command)",
        "        Service::Pulse => tidings_drill::pulse::Options::augment_args(command),\n",
    ),
    (
        "crates/tidings/src/cli/drill.rs",
        "        Service::Rockets => {\n            let options",
        "        Service::Pulse => {\n            \
            let options = tidings_drill::pulse::Options::from_arg_matches(matches)?;\n            \
            Prepared::new(Vec::new(), async move |servers: Rc<Servers>| {\n                \
            Ok(tidings_drill::pulse::run(&servers.http, &options, Progress::shown()).await?)\n            \
            })\n        }\n",
    ),
    ("crates/tidings/tests/user/main.rs", "mod rockets;", "mod pulse;\n"),
];

/// A copy of the tree. It has a target folder of its own, since cargo tells a workspace's artifacts apart by their path within
/// the workspace; the dependencies that are built already are copied into it.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = built.join("sixth");
        let target = root.join("target");
        drop(fs::remove_dir_all(&root));
        copy(&tree, &root);
        fs::create_dir_all(target.join("debug")).unwrap();
        for part in ["deps", "build", ".fingerprint"] {
            let from = built.join("debug").join(part);
            let copied = Command::new("cp").arg("-a").arg(from).arg(target.join("debug")).status();
            assert!(copied.unwrap().success());
        }
        Self { root, target }
    }

    fn add(&self, (path, text): (&str, &str)) {
        fs::write(self.root.join(path), text).unwrap();
    }

    fn touch(&self, (path, before, line): (&str, &str, &str)) {
        let path = self.root.join(path);
        let text = fs::read_to_string(&path).unwrap();
        let shown = path.display();
        let (head, tail) =
            text.split_once(before).unwrap_or_else(|| panic!("{shown}: no {before}"));
        fs::write(&path, format!("{head}{line}{before}{tail}")).unwrap();
    }

    /// Runs cargo in the copy. Returns whether it succeeded, and what it said.
    fn cargo(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(&self.root).args(arguments);
        command.args(["--workspace", "--all-features", "--locked", "--offline"]);
        let output = command.env("CARGO_TARGET_DIR", &self.target).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }
}

/// Copies a tree without what is built and what only git needs.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if name == "target" || name == ".git" || name == "tidings-data" {
            continue;
        }
        let to = to.join(&name);
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_sixth_service_touches_few_files_and_every_missing_place_is_named() {
    let mut files: Vec<_> = TOUCHED.iter().map(|(path, ..)| path).collect();
    files.dedup();
    assert!(files.len() + DOCUMENTS <= TOUCHED_MAX, "{files:?}");

    let copy = Copy::new();
    let is_drill = |path: &str| path.contains("drill");
    NEW.into_iter().filter(|(path, _)| !is_drill(path)).for_each(|file| copy.add(file));
    TOUCHED.into_iter().filter(|(path, ..)| !is_drill(path)).for_each(|place| copy.touch(place));
    let (built, said) = copy.cargo(&["check"]);
    assert!(!built, "a service without a drill must not be built");
    for place in ["`service::Service::Pulse` not covered", "crates/tidings/src/cli/drill.rs"] {
        assert!(said.contains(place), "{place} is not named:\n{said}");
    }

    TOUCHED
        .into_iter()
        .filter(|(path, ..)| path.contains("cli/drill"))
        .for_each(|place| copy.touch(place));
    copy.touch((
        "crates/drill/src/lib.rs",
        "pub mod rockets;",
        "#[path = \"elsewhere.rs\"]\npub mod pulse;\n",
    ));
    copy.add(("crates/drill/src/elsewhere.rs", include_str!("sixth/drill.rs")));
    let (passed, said) = copy.cargo(&["test", "--test", "tidy"]);
    assert!(!passed && said.contains("still to write: crates/drill/src/pulse.rs"), "{said}");

    fs::rename(
        copy.root.join("crates/drill/src/elsewhere.rs"),
        copy.root.join("crates/drill/src/pulse.rs"),
    )
    .unwrap();
    let lib = copy.root.join("crates/drill/src/lib.rs");
    let text = fs::read_to_string(&lib).unwrap().replace("#[path = \"elsewhere.rs\"]\n", "");
    fs::write(&lib, text).unwrap();
    let (passed, said) = copy.cargo(&["test", "--test", "tidy"]);
    assert!(passed, "{said}");
    let (passed, said) = copy.cargo(&["test", "--test", "user", "pulse"]);
    assert!(passed && said.contains("beats_of_the_pulse_are_counted ... ok"), "{said}");
    drop(fs::remove_dir_all(&copy.root));
}
