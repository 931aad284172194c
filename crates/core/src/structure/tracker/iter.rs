//! Iterates over the values of a tracker from either end, along the links.

use core::iter::FusedIterator;

use super::ring::Links;

/// The values in order of arrival. Made by [`Tracker::iter`](super::Tracker::iter).
#[derive(Debug)]
pub struct Iter<'a, T> {
    values: &'a [Option<T>],
    links: &'a [Links],
    front: u32,
    back: u32,
    /// How many values are still to come, from both ends together.
    left: u32,
}

impl<'a, T> Iter<'a, T> {
    pub(super) const fn new(
        values: &'a [Option<T>],
        links: &'a [Links],
        front: u32,
        back: u32,
        left: u32,
    ) -> Self {
        Self { values, links, front, back, left }
    }
}

impl<T> Clone for Iter<'_, T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        self.left = self.left.checked_sub(1)?;
        let at = self.front as usize;
        self.front = self.links.get(at)?.next;
        self.values.get(at)?.as_ref()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl<'a, T> DoubleEndedIterator for Iter<'a, T> {
    fn next_back(&mut self) -> Option<&'a T> {
        self.left = self.left.checked_sub(1)?;
        let at = self.back as usize;
        self.back = self.links.get(at)?.prev;
        self.values.get(at)?.as_ref()
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}

impl<T> FusedIterator for Iter<'_, T> {}
