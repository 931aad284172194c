//! What was sent and what was reported, summed: once a server has died, in which window something is
//! counted is no longer to be known, but nothing is counted twice, and nothing is lost that was
//! counted in a window which was open then.

use super::super::world::{Counts, Window};

/// Sums over all windows since the first that was not reported when a server died.
#[derive(Default)]
pub(super) struct Totals {
    sent: Window,
    reported: Window,
    /// What may never be reported.
    doubts: Window,
    /// A report did not say how many calls had failed: only the calls are compared then.
    plain: bool,
}

pub(super) fn of(window: &Window, pair: (u32, u32)) -> Counts {
    window.get(&pair).copied().unwrap_or_default()
}

pub(super) fn add(sum: &mut Window, window: &Window) {
    for (pair, counts) in window {
        let parts = sum.entry(*pair).or_default();
        parts.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
}

impl Totals {
    /// This was sent, and must be reported some time.
    pub(super) fn sent(&mut self, counts: &Window) {
        add(&mut self.sent, counts);
    }

    pub(super) fn reported(&mut self, counts: &Window, full: bool) {
        add(&mut self.reported, counts);
        self.plain |= !full;
    }

    /// A server is gone: what is not reported by now may never be, but for so much, which had been
    /// counted in a window that was still open.
    pub(super) fn doubt(&mut self, counted: &Window) {
        for (pair, sent) in &self.sent {
            let (reported, counted) = (of(&self.reported, *pair), of(counted, *pair));
            let parts = sent.iter().zip(reported).zip(counted);
            let mut doubts = Counts::default();
            for (doubt, ((sent, reported), counted)) in doubts.iter_mut().zip(parts) {
                *doubt = sent.saturating_sub(reported).saturating_sub(counted);
            }
            self.doubts.insert(*pair, doubts);
        }
    }

    /// What was reported of a pair, and how much it must be at least and at most, where these differ.
    fn wrong(&self, pair: (u32, u32)) -> Option<[Counts; 3]> {
        let (sent, doubts) = (of(&self.sent, pair), of(&self.doubts, pair));
        let reported = of(&self.reported, pair);
        let mut least = sent;
        least
            .iter_mut()
            .zip(doubts)
            .for_each(|(least, doubt)| *least = least.saturating_sub(doubt));
        let compared = if self.plain { 1 } else { reported.len() };
        let mut parts = reported.iter().zip(least).zip(sent).take(compared);
        let right = parts.all(|((reported, least), most)| (least..=most).contains(reported));
        (!right).then_some([reported, least, sent])
    }

    /// The pairs in which what was reported is not right by now, each with what was reported and what it
    /// must be at least and at most.
    pub(super) fn wrongs(&self) -> impl Iterator<Item = ((u32, u32), [Counts; 3])> {
        let alone = self.reported.keys().filter(|pair| !self.sent.contains_key(pair));
        let pairs = self.sent.keys().chain(alone);
        pairs.filter_map(|pair| self.wrong(*pair).map(|wrong| (*pair, wrong)))
    }
}
