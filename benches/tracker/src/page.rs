//! Writes the tables between the markers of the page, and draws the plot.

use std::fmt::Write as _;
use std::path::Path;

use crate::rounds::{Result, WORKLOADS};

/// Replaces the text between the markers of a section.
pub fn put(docs: &Path, section: &str, text: &str) {
    let path = docs.join("tracker.md");
    let page = std::fs::read_to_string(&path).expect("docs/tracker.md exists");
    let begin = format!("<!-- {section} -->\n");
    let end = format!("<!-- /{section} -->");
    let (before, rest) = page.split_once(&begin).expect("the page has the first marker");
    let (_, after) = rest.split_once(&end).expect("the page has the second marker");
    std::fs::write(path, format!("{before}{begin}{text}{end}{after}")).expect("it is writable");
}

fn capacities(results: &[Result]) -> Vec<usize> {
    let mut capacities: Vec<_> = results.iter().map(|result| result.capacity).collect();
    capacities.dedup();
    capacities
}

fn designs(results: &[Result]) -> impl Iterator<Item = &'static str> {
    let first = results[0].capacity;
    results.iter().filter(move |result| result.capacity == first).map(|result| result.design)
}

fn at<'a>(results: &'a [Result], design: &str, capacity: usize) -> &'a Result {
    let found = results.iter().find(|r| r.design == design && r.capacity == capacity);
    found.expect("every design is measured at every capacity")
}

fn shown(ns: Option<f64>) -> String {
    match ns {
        None => "-".to_owned(),
        Some(ns) if ns < 10.0 => format!("{ns:.1}"),
        Some(ns) => format!("{ns:.0}"),
    }
}

/// Formats a row for each design, a column for each workload, and in each cell a time for each capacity. The
/// fastest design without batches is bold.
pub fn table(results: &[Result]) -> String {
    let capacities = capacities(results);
    let mut table = format!("| ns | {} | bytes/entry |\n", WORKLOADS.join(" | "));
    table += &"| --- ".repeat(WORKLOADS.len() + 2);
    table += "|\n";
    for design in designs(results) {
        let _ = write!(table, "| {design} |");
        for workload in 0..WORKLOADS.len() {
            let cells: Vec<_> = capacities
                .iter()
                .map(|&capacity| {
                    let ns = at(results, design, capacity).ns[workload];
                    let others = designs(results).filter(|design| !design.contains("batches"));
                    let best = others
                        .filter_map(|design| at(results, design, capacity).ns[workload])
                        .fold(f64::MAX, f64::min);
                    let bold = ns.is_some_and(|ns| ns <= best && !design.contains("batches"));
                    if bold { format!("**{}**", shown(ns)) } else { shown(ns) }
                })
                .collect();
            let _ = write!(table, " {} |", cells.join(" / "));
        }
        let last = *capacities.last().expect("there is a capacity");
        let _ = writeln!(table, " {:.0} |", at(results, design, last).bytes);
    }
    table
}

/// Draws a panel for each capacity with a group of bars for each design. Bars that are too long are cut off and
/// labelled.
pub fn plot(results: &[Result]) -> String {
    const SHOWN: [(usize, &str); 3] = [(0, "#2563eb"), (1, "#0d9488"), (3, "#d97706")];
    const WIDTH: f64 = 300.0;
    const BAR: f64 = 9.0;
    const NAMES: f64 = 150.0;
    let capacities = capacities(results);
    let names: Vec<_> = designs(results).collect();
    let group = SHOWN.len() as f64 * BAR + 9.0;
    let height = 60.0 + names.len() as f64 * group + 20.0;
    let width = NAMES + capacities.len() as f64 * (WIDTH + 30.0) + 20.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#1f2937\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (place, (workload, colour)) in SHOWN.iter().enumerate() {
        let x = NAMES + place as f64 * 160.0;
        let name = WORKLOADS[*workload];
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"10\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"20\">{name}, ns</text>",
            x + 17.0
        );
    }
    for (row, name) in names.iter().enumerate() {
        let y = 60.0 + row as f64 * group + group / 2.0;
        let weight = if name.starts_with("Tracker") { "bold" } else { "normal" };
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\" font-weight=\"{weight}\">{name}</text>",
            NAMES - 8.0
        );
    }
    for (panel, &capacity) in capacities.iter().enumerate() {
        let left = NAMES + panel as f64 * (WIDTH + 30.0);
        let plain = ["Tracker", "schnellru", "hashlink", "lru", "HashMap + VecDeque"];
        let longest = plain
            .iter()
            .flat_map(|name| SHOWN.map(|(w, _)| at(results, name, capacity).ns[w].unwrap_or(0.0)))
            .fold(1.0, f64::max);
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"46\" font-weight=\"bold\">{capacity} ids</text>\
             <line x1=\"{left}\" y1=\"54\" x2=\"{left}\" y2=\"{}\" stroke=\"#9ca3af\"/>",
            height - 20.0
        );
        for (row, name) in names.iter().enumerate() {
            for (place, (workload, colour)) in SHOWN.iter().enumerate() {
                let Some(ns) = at(results, name, capacity).ns[*workload] else { continue };
                let y = 60.0 + row as f64 * group + place as f64 * BAR;
                let length = (ns / longest).min(1.0) * (WIDTH - 45.0);
                let mark = if ns > longest { "› " } else { "" };
                let _ = writeln!(
                    svg,
                    "<rect x=\"{left}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                     <text x=\"{:.1}\" y=\"{}\" font-size=\"8\">{mark}{}</text>",
                    BAR - 1.0,
                    left + length + 3.0,
                    y + BAR - 2.0,
                    shown(Some(ns))
                );
            }
        }
    }
    svg + "</svg>\n"
}
