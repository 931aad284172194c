//! What is right: who hears an event, with plain sets. Only users who are connected hear anything,
//! so the followers of a user are kept as a set of bits, one for each client.

use super::line::Event;

/// No client claims this user.
const NOBODY: usize = usize::MAX;

/// Who follows whom, as far as it can be heard.
#[derive(Debug)]
pub(super) struct Fold {
    /// For each user, the first client that claims its id, or `NOBODY`. With more clients than users
    /// every `users`-th client after it claims the same.
    first_of: Vec<usize>,
    clients: usize,
    users: usize,
    /// The clients that follow a user: `words` words for each user, a bit for each client.
    followers: Vec<u64>,
    words: usize,
}

impl Fold {
    /// Nobody follows anybody. `claimed` says which user each client is; if there are more clients
    /// than users, client `i` is the same user as client `i - users`.
    pub(super) fn new(users: usize, claimed: &[u32]) -> Self {
        let mut first_of = vec![NOBODY; users];
        for (client, &user) in claimed.iter().enumerate().take(users) {
            if let Some(first) = first_of.get_mut(user as usize) {
                *first = client;
            }
        }
        let words = claimed.len().div_ceil(64);
        Self { first_of, clients: claimed.len(), users, followers: vec![0; users * words], words }
    }

    /// Applies the next event in order, and calls back once for every client that must receive it.
    pub(super) fn route(&mut self, event: Event, mut notify: impl FnMut(usize)) {
        match event {
            Event::Follow { from, to } => {
                self.set(from, to, true);
                self.clients_of(to).for_each(notify);
            }
            Event::Unfollow { from, to } => self.set(from, to, false),
            Event::Broadcast => (0..self.clients).for_each(notify),
            Event::Private { to, .. } => self.clients_of(to).for_each(notify),
            Event::Status { from } => {
                let start = from as usize * self.words;
                let words = self.followers.get(start..start + self.words).unwrap_or_default();
                for (at, &word) in words.iter().enumerate() {
                    let mut left = word;
                    while left != 0 {
                        notify(at * 64 + left.trailing_zeros() as usize);
                        left &= left - 1;
                    }
                }
            }
        }
    }

    /// The clients that are connected as this user.
    fn clients_of(&self, user: u32) -> impl Iterator<Item = usize> + use<> {
        let first = self.first_of.get(user as usize).copied().unwrap_or(NOBODY);
        (first..self.clients).step_by(self.users.max(1))
    }

    fn set(&mut self, from: u32, to: u32, follows: bool) {
        for client in self.clients_of(from) {
            let word = to as usize * self.words + client / 64;
            if let Some(word) = self.followers.get_mut(word) {
                let bit = 1 << (client % 64);
                *word = if follows { *word | bit } else { *word & !bit };
            }
        }
    }
}
