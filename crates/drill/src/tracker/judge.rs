//! What answers and lists must not show, by rules that take nothing but what was sent, when, and what
//! came back.
//!
//! Of two calls one was before the other for certain only if its answer came before the other was
//! sent. Everything else may have been either way round.

use std::collections::BTreeMap;

use crate::verdict::Differences;

/// A message by its number, a peer by its.
type Number = u32;

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// 201, or 204 to a removal: it was done.
    Done,
    /// 200, or 404 to a removal: it had been done.
    DoneBefore,
    /// Nothing: it may have been done or not.
    Nothing,
}

/// A message added, or removed, by a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Which message.
    pub message: Number,
    /// By whom.
    pub peer: Number,
    /// When it was sent, on the drill's clock.
    pub begun: u64,
    /// When the answer was there.
    pub ended: u64,
    /// What it said.
    pub said: Said,
}

/// A message in a list, or one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Which message.
    pub message: Number,
    /// Who is said to have relayed it first; `None` for somebody unheard of.
    pub peer: Option<Number>,
    /// Whether the data is what that peer had sent.
    pub is_theirs: bool,
}

/// Of many calls at once that do the same to the same message, exactly one does it. `what` is how it
/// is called when that is broken.
pub fn once(what: &str, calls: &[Call], found: &mut Differences) {
    for (message, calls) in by_message(calls) {
        let count = |said| calls.iter().filter(|call| call.said == said).count();
        match (count(Said::Done), count(Said::Nothing)) {
            (1, _) | (0, 1..) => {}
            (0, 0) => found.add(|| format!("message {message} was never {what}")),
            (times, _) => found.add(|| format!("message {message} was {what} {times} times")),
        }
        let first =
            calls.iter().filter(|call| call.said != Said::DoneBefore).map(|call| call.begun);
        let first = first.min().unwrap_or(u64::MAX);
        let too_early = |call: &&&Call| call.said == Said::DoneBefore && call.ended < first;
        if calls.iter().any(|call| too_early(&call)) {
            found.add(|| format!("message {message} was known to be {what} before it was"));
        }
    }
}

fn by_message(calls: &[Call]) -> BTreeMap<Number, Vec<&Call>> {
    let mut messages = BTreeMap::<_, Vec<_>>::new();
    for call in calls {
        messages.entry(call.message).or_default().push(call);
    }
    messages
}

/// The call that put a listed message there, as far as can be known.
fn winner<'a>(calls: &[&'a Call], listed: &Listed) -> Option<&'a Call> {
    let done = calls.iter().find(|call| call.said == Said::Done);
    let maybe = || {
        let theirs = |call: &&&Call| Some(call.peer) == listed.peer && call.said == Said::Nothing;
        calls.iter().find(theirs)
    };
    done.or_else(maybe).copied()
}

/// A list of all messages, or of the last so many: what was added once, by the one who was first, in
/// the order of arrival, and nothing that came later is missing.
pub fn list(calls: &[Call], listed: &[Listed], capacity: usize, found: &mut Differences) {
    let calls = by_message(calls);
    let mut winners = BTreeMap::new();
    let mut begun_max = 0;
    for item in listed {
        let Listed { message, peer, is_theirs } = *item;
        let winner = calls.get(&message).and_then(|calls| winner(calls, item));
        let Some(winner) = winner else {
            found.add(|| format!("message {message} is listed and was never added"));
            continue;
        };
        if peer != Some(winner.peer) {
            let first = winner.peer;
            found.add(|| format!("message {message} is of peer {peer:?}, but {first} was first"));
        } else if !is_theirs {
            found.add(|| format!("message {message} has other data than its first peer sent"));
        }
        if winners.insert(message, winner).is_some() {
            found.add(|| format!("message {message} is listed twice"));
        }
        if winner.ended < begun_max {
            found.add(|| format!("message {message} is listed behind one that came after it"));
        }
        begun_max = begun_max.max(winner.begun);
    }
    let added = calls.values().filter(|calls| calls.iter().any(|call| call.said == Said::Done));
    let expected = added.clone().count().min(capacity);
    if listed.len() < expected || listed.len() > capacity.min(calls.len()) {
        let length = listed.len();
        found.add(|| format!("{length} messages are listed, {expected} should be"));
    }
    // The missing messages must be older than all that are there.
    let oldest_ended = winners.values().map(|call| call.ended).min().unwrap_or(u64::MAX);
    let missing = added.filter_map(|calls| calls.iter().find(|call| call.said == Said::Done));
    for call in missing.filter(|call| !winners.contains_key(&call.message)) {
        if call.begun > oldest_ended {
            let message = call.message;
            found.add(|| format!("message {message} is missing, and older ones are there"));
        }
    }
}

/// The number of relays of a message by each peer, as shown and as sent.
pub fn relays(
    message: Number,
    calls: &[Call],
    told: &BTreeMap<Number, u64>,
    found: &mut Differences,
) {
    let mut sent = BTreeMap::<_, (u64, u64)>::new();
    for call in calls.iter().filter(|call| call.message == message) {
        let (sure, maybe) = sent.entry(call.peer).or_default();
        *maybe += 1;
        *sure += u64::from(call.said != Said::Nothing);
    }
    for (peer, (sure, maybe)) in &sent {
        let told = told.get(peer).copied().unwrap_or_default();
        if !(*sure..=*maybe).contains(&told) {
            found.add(|| {
                format!("peer {peer} relayed message {message} {sure} times, {told} are told")
            });
        }
    }
    for peer in told.keys().filter(|peer| !sent.contains_key(peer)) {
        found.add(|| format!("peer {peer} never relayed message {message}"));
    }
}

/// The dumbest tracker: a list, for calls one after the other.
#[derive(Debug, Default)]
pub struct Model {
    /// Message and first peer, oldest first.
    pub messages: Vec<(Number, Number)>,
    /// How many there may be.
    pub capacity: usize,
}

impl Model {
    /// Whether a message is there.
    pub fn has(&self, message: Number) -> bool {
        self.messages.iter().any(|(other, _)| *other == message)
    }

    /// Adds one; what has to go for it, or `None` when it is there already.
    pub fn add(&mut self, message: Number, peer: Number) -> Option<usize> {
        if self.has(message) {
            return None;
        }
        self.messages.push((message, peer));
        let over = self.messages.len().saturating_sub(self.capacity);
        self.messages.drain(..over);
        Some(over)
    }

    /// Removes one, if it is there.
    pub fn remove(&mut self, message: Number) -> bool {
        let before = self.messages.len();
        self.messages.retain(|(other, _)| *other != message);
        before > self.messages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(message: u32, peer: u32, begun: u64, ended: u64, said: Said) -> Call {
        Call { message, peer, begun, ended, said }
    }

    fn listed(message: u32, peer: u32) -> Listed {
        Listed { message, peer: Some(peer), is_theirs: true }
    }

    fn found(judge: impl Fn(&mut Differences)) -> Vec<String> {
        let mut found = Differences::default();
        judge(&mut found);
        found.shown().to_vec()
    }

    fn listing(calls: &[Call], items: &[Listed], capacity: usize) -> Vec<String> {
        found(|found| list(calls, items, capacity, found))
    }

    #[test]
    fn a_message_is_new_exactly_once() {
        let [first, again] = [call(1, 1, 0, 5, Said::Done), call(1, 2, 1, 6, Said::DoneBefore)];
        assert!(found(|f| once("added", &[first, again], f)).is_empty());
        let twice = found(|f| once("added", &[first, Call { said: Said::Done, ..again }], f));
        assert_eq!(twice, ["message 1 was added 2 times"]);
        let never = found(|f| once("added", &[again], f));
        assert_eq!(never[0], "message 1 was never added");
        let perhaps = Call { said: Said::Nothing, ..first };
        assert!(found(|f| once("added", &[perhaps, again], f)).is_empty());
        let early = found(|f| once("added", &[call(1, 1, 7, 8, Said::Done), again], f));
        assert_eq!(early, ["message 1 was known to be added before it was"]);
    }

    #[test]
    fn a_list_is_what_was_added_in_its_order() {
        let calls = [
            call(1, 1, 0, 1, Said::Done),
            call(2, 2, 2, 3, Said::Done),
            call(2, 1, 4, 5, Said::DoneBefore),
            call(3, 1, 2, 9, Said::Done),
        ];
        let (one, two, three) = (listed(1, 1), listed(2, 2), listed(3, 1));
        assert!(listing(&calls, &[one, two, three], 9).is_empty());
        assert!(listing(&calls, &[one, three, two], 9).is_empty(), "they came at the same time");
        assert_eq!(
            listing(&calls, &[two, one, three], 9),
            ["message 1 is listed behind one that came after it"]
        );
        assert_eq!(listing(&calls, &[one, two], 9)[0], "2 messages are listed, 3 should be");
        let overwritten = listing(&calls, &[one, listed(2, 1), three], 9);
        assert_eq!(overwritten, ["message 2 is of peer Some(1), but 2 was first"]);
        let changed = listing(&calls, &[one, Listed { is_theirs: false, ..two }, three], 9);
        assert_eq!(changed, ["message 2 has other data than its first peer sent"]);
        assert!(!listing(&calls, &[one, two, three, three], 9).is_empty(), "twice");
        assert!(!listing(&calls, &[one, two, three, listed(4, 1)], 9).is_empty(), "unheard of");
    }

    #[test]
    fn only_the_oldest_are_dropped_and_only_for_want_of_room() {
        let calls: Vec<_> = (0..6)
            .map(|n| call(n, 0, u64::from(n) * 10, u64::from(n) * 10 + 1, Said::Done))
            .collect();
        let last = |from: u32| (from..6).map(|n| listed(n, 0)).collect::<Vec<_>>();
        assert!(listing(&calls, &last(2), 4).is_empty());
        assert!(!listing(&calls, &last(3), 4).is_empty(), "one too few");
        assert!(!listing(&calls, &last(1), 4).is_empty(), "one too many");
        let smallest_stays = [listed(0, 0), listed(3, 0), listed(4, 0), listed(5, 0)];
        assert!(!listing(&calls, &smallest_stays, 4).is_empty(), "2 is missing, 0 is older");
    }

    #[test]
    fn relays_are_as_many_as_were_sent() {
        let calls = [
            call(1, 1, 0, 1, Said::Done),
            call(1, 1, 2, 3, Said::DoneBefore),
            call(1, 2, 2, 3, Said::Nothing),
        ];
        let told = |told: &[(u32, u64)]| {
            found(|found| relays(1, &calls, &told.iter().copied().collect(), found))
        };
        assert!(told(&[(1, 2)]).is_empty());
        assert!(told(&[(1, 2), (2, 1)]).is_empty());
        assert!(!told(&[(1, 1)]).is_empty());
        assert!(!told(&[(1, 2), (2, 2)]).is_empty());
        assert!(!told(&[(1, 2), (3, 1)]).is_empty());
    }

    #[test]
    fn the_model_keeps_the_last_and_has_no_ghosts() {
        let mut model = Model { messages: Vec::new(), capacity: 2 };
        assert_eq!((model.add(1, 0), model.add(2, 0)), (Some(0), Some(0)));
        assert_eq!(model.add(1, 5), None);
        assert!(model.remove(1) && !model.remove(1));
        assert_eq!((model.add(1, 0), model.add(3, 0)), (Some(0), Some(1)));
        assert_eq!(model.messages, [(1, 0), (3, 0)]);
    }
}
