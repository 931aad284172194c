//! A queue of bytes: lines go in at the end, any number of bytes is taken from the front. One holds
//! what is to be sent, and one for each client what it must still receive.

use super::line::{LINE_BYTES_MAX, Line};

/// What a queue starts with once it holds anything.
const BYTES_MIN: usize = 1 << 10;

/// A queue of bytes that lie in one piece, so that they can be compared and written as a whole.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// `start..end` of it is in the queue; it grows to the most there was.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Queue {
    /// How many bytes are in it.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// All that is in it.
    pub(super) fn front(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Appends a line. Amortised `O(1)`: a copy of 32 bytes, whatever its length.
    pub(super) fn push(&mut self, line: &Line) {
        if self.end + LINE_BYTES_MAX > self.bytes.len() {
            self.make_room(LINE_BYTES_MAX);
        }
        if let Some(place) = self.bytes.get_mut(self.end..).and_then(<[u8]>::first_chunk_mut) {
            *place = *line.block();
        }
        self.end += line.len();
    }

    /// Appends any bytes.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.end + bytes.len() > self.bytes.len() {
            self.make_room(bytes.len());
        }
        if let Some(place) = self.bytes.get_mut(self.end..self.end + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.end += bytes.len();
    }

    /// Takes bytes away from the front.
    pub(super) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len(), "no more is taken than there is");
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Removes bytes from the end until this many are left.
    pub(super) fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    /// Makes room at the end: moves the content to the beginning if that is cheap enough, and allocates otherwise.
    #[cold]
    fn make_room(&mut self, wanted: usize) {
        if self.start >= self.bytes.len() / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end + wanted > self.bytes.len() {
            let len = (self.bytes.len() * 2).max(self.end + wanted).max(BYTES_MIN);
            self.bytes.resize(len, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::Queue;

    proptest! {
        #[test]
        fn a_queue_gives_back_what_was_put_in(
            steps in prop::collection::vec((0..3_000usize, 0..3_000usize), 0..100)
        ) {
            let (mut queue, mut model) = (Queue::default(), VecDeque::new());
            for (round, (put, taken)) in steps.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..put).map(|at| u8::try_from((at * 7 + round) % 251).unwrap()).collect();
                queue.extend(&bytes);
                model.extend(bytes);
                let taken = taken.min(queue.len());
                queue.consume(taken);
                model.drain(..taken);
                prop_assert_eq!(queue.front(), &*model.make_contiguous());
            }
        }
    }
}
