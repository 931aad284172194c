//! The Tracker against the crates that others would take for the same: the last N ids that were seen,
//! first in first out, no refresh. All designs do the same work in turn, in several rounds; what is told
//! is the median of the rounds.

mod designs;
mod page;
mod pauses;
mod rounds;
mod threads;

use std::path::Path;

fn main() {
    let flag = |name: &str| std::env::args().any(|arg| arg == name);
    let (quick, docs) = (flag("--quick"), Path::new("../../docs"));
    if flag("--threads") {
        let table = threads::measure(quick);
        println!("{table}");
        if !quick {
            page::put(docs, "threads", &table);
        }
        return;
    }
    let capacities: &[usize] = if quick { &[1_000] } else { &[1_000, 65_536, 1_048_576] };
    for (kind, name) in [("ids", "32 bytes"), ("strings", "strings of 44")] {
        eprintln!("{name}:");
        let results = match kind {
            "ids" => rounds::measure::<designs::Id>(capacities, quick),
            _ => rounds::measure::<String>(capacities, quick),
        };
        let table = page::table(&results);
        println!("{table}");
        if !quick {
            page::put(docs, kind, &table);
        }
        if kind == "ids" && !quick {
            std::fs::write(docs.join("tracker.svg"), page::plot(&results)).expect("docs are there");
        }
    }
    let table = pauses::measure(quick);
    println!("{table}");
    if !quick {
        page::put(docs, "pauses", &table);
    }
}
