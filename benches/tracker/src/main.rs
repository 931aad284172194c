//! The Tracker compared with other crates for the same purpose: the last N distinct ids, first in first out,
//! without refresh. In each of several rounds all designs do the same work in turn; the result is the median
//! of the rounds.

mod designs;
mod page;
mod pauses;
mod rounds;
mod threads;

use std::path::Path;

fn main() {
    let flag = |name: &str| std::env::args().any(|arg| arg == name);
    let quick = flag("--quick");
    let docs = Path::new("../../docs");
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
            let svg = page::plot(&results);
            std::fs::write(docs.join("tracker.svg"), svg).expect("the folder docs exists");
        }
    }
    let table = pauses::measure(quick);
    println!("{table}");
    if !quick {
        page::put(docs, "pauses", &table);
    }
}
