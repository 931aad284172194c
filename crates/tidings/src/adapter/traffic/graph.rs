//! A picture of a window: parents as nodes, calls as edges, wider with their count and redder with
//! the share of errors.

use layout::backends::svg::SVGWriter;
use layout::core::base::Orientation;
use layout::core::color::Color;
use layout::core::geometry::Point;
use layout::core::style::StyleAttr;
use layout::std_shapes::shapes::{Arrow, Element, LineEndKind, ShapeKind};
use layout::topo::layout::VisualGraph;
use tidings_core::structure::tally::Id;
use uuid::Uuid;

use super::report::Named;

/// A picture with more parents than this cannot be read: those with the fewest calls are left out.
pub(super) const NODES_MAX: usize = 50;
/// The eye can follow this many edges a parent: the busiest are shown, and at least this many in all.
const EDGES_PER_NODE: usize = 2;
const EDGES_MIN: usize = 12;
/// With more edges than this, their counts are left out, because they would cover each other.
const COUNTS_MAX: usize = 30;
/// The widest edge.
const WIDTH_MAX: u64 = 5;

/// The content of the picture: the busiest parents, the calls between them, and how many of each are left out.
struct Shown {
    nodes: Vec<Id>,
    edges: Vec<Named>,
    hidden_nodes: usize,
    hidden_edges: usize,
}

/// Draws rows. O(rows log rows).
pub(super) fn svg(rows: &[Named], title: &str) -> String {
    let shown = choose(rows);
    let drawing = if shown.nodes.is_empty() { empty() } else { draw(&shown) };
    let mut words = title.to_owned();
    if shown.hidden_nodes + shown.hidden_edges > 0 {
        let Shown { hidden_nodes, hidden_edges, .. } = shown;
        words = format!(
            "{words}; not shown: {hidden_nodes} parents, {hidden_edges} pairs with the fewest calls"
        );
    }
    // Without a size the picture fills its room. Browsers show the title.
    let drawing = fit(drawing);
    match drawing.find("<defs>").or_else(|| drawing.find("<g")) {
        Some(place) => {
            let (head, rest) = drawing.split_at(place);
            format!("{head}<title>{words}</title>\n{rest}")
        }
        None => drawing,
    }
}

/// Removes the size of the first tag. The view box has the proportions.
fn fit(drawing: String) -> String {
    let size = drawing.find("<svg width=").zip(drawing.find(" viewBox="));
    let Some((from, to)) = size.filter(|(from, to)| from < to) else { return drawing };
    let (head, tail) =
        (drawing.get(..from).unwrap_or_default(), drawing.get(to..).unwrap_or_default());
    format!("{head}<svg width=\"100%\"{tail}")
}

fn choose(rows: &[Named]) -> Shown {
    let mut calls = std::collections::BTreeMap::<Id, u64>::new();
    for row in rows {
        *calls.entry(row.from).or_default() += row.counts.calls;
        *calls.entry(row.to).or_default() += row.counts.calls;
    }
    let mut nodes: Vec<_> = calls.into_iter().collect();
    nodes.sort_by_key(|(id, calls)| (std::cmp::Reverse(*calls), *id));
    let hidden_nodes = nodes.len().saturating_sub(NODES_MAX);
    nodes.truncate(NODES_MAX);
    let mut nodes: Vec<_> = nodes.into_iter().map(|(id, _)| id).collect();
    nodes.sort_unstable();
    let stands = |id: &Id| nodes.binary_search(id).is_ok();
    let between = rows.iter().filter(|row| stands(&row.from) && stands(&row.to));
    let mut edges: Vec<_> = between.copied().collect();
    edges.sort_by_key(|row| (std::cmp::Reverse(row.counts.calls), row.from, row.to));
    edges.truncate((nodes.len() * EDGES_PER_NODE).max(EDGES_MIN));
    let hidden_edges = rows.len() - edges.len();
    Shown { nodes, edges, hidden_nodes, hidden_edges }
}

fn empty() -> String {
    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"360\" height=\"60\"><g>\
     <text x=\"20\" y=\"36\" font-family=\"sans-serif\">no calls in this window</text></g></svg>\n"
        .to_owned()
}

fn draw(shown: &Shown) -> String {
    let mut graph = VisualGraph::new(Orientation::LeftToRight);
    let size = Point::new(110., 34.);
    let handles: Vec<_> = shown
        .nodes
        .iter()
        .map(|id| {
            let name = Uuid::from_bytes(*id).to_string();
            // The beginning tells parents apart; the tooltip has the whole name.
            let label = name.get(..8).unwrap_or_default();
            let mut look = StyleAttr::simple();
            look.fill_color = Some(Color::fast("#eef3fa"));
            let node = ShapeKind::new_box(label);
            let element = Element::create(node, look, Orientation::LeftToRight, size);
            graph.add_node(element)
        })
        .collect();
    let most = shown.edges.iter().map(|row| row.counts.calls).max().unwrap_or(1).max(1);
    for row in &shown.edges {
        let place = |id: &Id| shown.nodes.binary_search(id).ok();
        let ends = (place(&row.from), place(&row.to));
        let (Some(from), Some(to)) = ends else { continue };
        let (Some(from), Some(to)) = (handles.get(from), handles.get(to)) else { continue };
        let mut look = StyleAttr::simple();
        look.line_color = colour(u64::from(row.counts.failed), row.counts.calls);
        look.line_width =
            usize::try_from(1 + row.counts.calls * (WIDTH_MAX - 1) / most).unwrap_or(1);
        let text = if shown.edges.len() > COUNTS_MAX {
            String::new()
        } else {
            row.counts.calls.to_string()
        };
        let ends = (LineEndKind::None, LineEndKind::Arrow);
        let style = layout::core::style::LineStyleKind::Normal;
        let arrow = Arrow::new(ends.0, ends.1, style, &text, &look, &None, &None);
        graph.add_edge(arrow, *from, *to);
    }
    let mut writer = SVGWriter::new();
    graph.do_it(false, false, false, &mut writer);
    writer.finalize()
}

/// From grey, with no errors, to red, with errors only.
fn colour(failed: u64, calls: u64) -> Color {
    let share = u32::try_from(failed * 255 / calls.max(1)).unwrap_or(255).min(255);
    let (red, others) = (0x70 + share * (0xd0 - 0x70) / 255, 0x70 - share * 0x60 / 255);
    Color::new((red << 24) | (others << 16) | (others << 8) | 0xff)
}

#[cfg(test)]
mod tests {
    use tidings_core::structure::tally::Counts;

    use super::*;

    fn row(from: u8, to: u8, calls: u64, failed: u32) -> Named {
        Named { from: [from; 16], to: [to; 16], counts: Counts { calls, rejected: 0, failed } }
    }

    #[test]
    fn every_parent_and_every_count_is_in_the_picture() {
        let picture = svg(&[row(1, 2, 700, 0), row(2, 1, 3, 3), row(2, 2, 5, 0)], "a <window>");
        for text in ["01010101", "02020202", "700", "<title>", "<svg width=\"100%\" viewBox"] {
            assert!(picture.contains(text), "{text}: {picture}");
        }
    }

    #[test]
    fn the_busiest_are_shown_of_many() {
        let rows: Vec<_> =
            (0..200).map(|n: u8| row(n, n.wrapping_add(1), 1 + u64::from(n), 0)).collect();
        let picture = svg(&rows, "t");
        assert!(picture.contains("not shown: 151 parents"), "{}", &picture[..500]);
        assert!(!svg(&[], "t").is_empty());
    }

    #[test]
    fn many_calls_among_many_parents_are_laid_out() {
        let rows: Vec<_> = (0..50u8)
            .flat_map(|from| {
                (0..50).map(move |to| row(from, to, 1 + u64::from(from) * u64::from(to), 1))
            })
            .collect();
        assert!(svg(&rows, "t").contains("not shown: 0 parents, 2400 pairs"));
    }
}
