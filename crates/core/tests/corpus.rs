//! Runs the inputs that fuzzing found worth keeping (`fuzz/corpus`).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and reads files"
)]

#[expect(unreachable_pub, reason = "the fuzz targets are another crate that includes this file")]
#[path = "../../../fuzz/src/maze.rs"]
mod maze;

use std::fs;

fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        check(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 0, "the corpus is empty");
}

#[test]
fn every_line_is_parsed_as_by_a_trivial_parser() {
    replay("maze_parse", maze::parse);
}

#[test]
fn results_do_not_depend_on_how_a_stream_is_split_or_on_restarts() {
    replay("maze_feed", maze::feed);
}
