//! What fuzzing has found worth keeping (`fuzz/corpus`), run again.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test ends where it does not go on, and reads files"
)]

#[expect(unreachable_pub, reason = "the fuzz targets call it from outside")]
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
    assert!(count > 0, "there is a corpus");
}

#[test]
fn every_line_is_read_as_a_dumb_parser_reads_it() {
    replay("maze_parse", maze::parse);
}

#[test]
fn it_does_not_show_how_a_stream_was_cut_and_when_the_machine_was_restarted() {
    replay("maze_feed", maze::feed);
}
