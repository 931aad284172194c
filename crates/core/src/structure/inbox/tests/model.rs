//! A trivial model of the inboxes: one list of all messages, searched from end to end.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Id, InboxMessage, Pushed, Wanted};

pub(crate) struct Entry {
    pub(crate) user: String,
    pub(crate) message: InboxMessage,
    /// 0 when the message is not leased.
    pub(crate) until: u64,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) all: Vec<Entry>,
    next_seq: u64,
}

impl Model {
    /// Ends leases and forgets expired messages.
    pub(crate) fn expire(&mut self, now: u64) {
        for entry in &mut self.all {
            if entry.until <= now {
                entry.until = 0;
            }
        }
        self.all.retain(|entry| entry.until > 0 || now < entry.message.gone_at);
    }

    pub(crate) fn unread(&self, user: &str) -> usize {
        self.all.iter().filter(|entry| entry.user == user).count()
    }

    pub(crate) fn knows(&self, id: Id) -> bool {
        self.all.iter().any(|entry| entry.message.id == id)
    }

    /// Adds a message, under the bound per user.
    pub(crate) fn push(
        &mut self,
        now: u64,
        user: &str,
        id: Id,
        text: &str,
        gone_at: u64,
        per_user_max: u32,
    ) -> Pushed {
        self.expire(now);
        if self.knows(id) {
            return Pushed::Known;
        }
        if self.unread(user) >= per_user_max as usize {
            return Pushed::InboxFull;
        }
        let message = InboxMessage { seq: self.next_seq, id, text: text.into(), gone_at };
        self.next_seq += 1;
        self.all.push(Entry { user: user.into(), message, until: 0 });
        Pushed::Stored
    }

    pub(crate) fn available(&mut self, now: u64, user: &str) -> Vec<InboxMessage> {
        self.expire(now);
        let mine =
            |entry: &&Entry| entry.user == user && entry.until == 0 && now < entry.message.gone_at;
        self.all.iter().filter(mine).map(|entry| entry.message.clone()).collect()
    }

    pub(crate) fn hand_out(
        &mut self,
        now: u64,
        user: &str,
        wanted: Wanted,
    ) -> (Vec<InboxMessage>, bool) {
        let available = self.available(now, user);
        let mut out = Vec::new();
        let mut bytes = 0;
        for message in &available {
            bytes += message.text.len() as u64;
            let over = bytes > wanted.bytes_max && !out.is_empty();
            if out.len() == wanted.limit as usize || over {
                break;
            }
            out.push(message.clone());
        }
        for message in &out {
            let at = self.all.iter().position(|entry| entry.message == *message).unwrap();
            match wanted.leased_until {
                Some(until) => self.all[at].until = until,
                None => drop(self.all.remove(at)),
            }
        }
        let more = out.len() < available.len();
        (out, more)
    }

    pub(crate) fn acknowledge(&mut self, now: u64, user: &str, id: Id) -> bool {
        self.expire(now);
        let before = self.all.len();
        self.all.retain(|entry| entry.user != user || entry.message.id != id || entry.until == 0);
        self.all.len() < before
    }

    pub(crate) fn put_back(
        &mut self,
        now: u64,
        user: &str,
        messages: &[InboxMessage],
        per_user_max: u32,
    ) -> u32 {
        self.expire(now);
        let mut back = 0;
        let mut messages = messages.to_vec();
        messages.sort_by_key(|message| message.seq);
        for message in messages {
            let room = self.unread(user) < (per_user_max + per_user_max / 4) as usize;
            if now >= message.gone_at || self.knows(message.id) || !room {
                continue;
            }
            back += 1;
            self.all.push(Entry { user: user.into(), message, until: 0 });
        }
        self.all.sort_by_key(|entry| entry.message.seq);
        back
    }
}
