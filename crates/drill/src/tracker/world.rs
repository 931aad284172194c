//! Which messages there are: ids with characters that a path cannot hold as they are, and data that
//! depends on the peer that relays it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::random::Random;

/// The characters of ids. Some of them must be escaped in a path, in a query or in JSON.
const LETTERS: &[char] = &[
    'a', 'b', 'c', 'Z', '0', '9', '-', '_', '.', '/', '%', '?', '#', '+', '&', ' ', '"', '\\', 'ü',
    '🚀',
];
/// Streams of data lie behind those of ids.
const DATA_STREAMS: u64 = 1 << 40;

/// The messages of a seed.
#[derive(Debug, Clone)]
pub(super) struct World {
    seed: u64,
    data_bytes: u32,
}

impl World {
    pub(super) const fn new(seed: u64, data_bytes: u32) -> Self {
        Self { seed, data_bytes }
    }

    /// The id of a message: letters that are drawn, then its number, so that no two are alike.
    pub(super) fn id(&self, message: u32) -> String {
        let mut random = Random::at(self.seed, message.into());
        let letters =
            (0..random.below(24)).filter_map(|_| LETTERS.get(random.index(LETTERS.len())));
        letters.chain(&['!']).collect::<String>() + &message.to_string()
    }

    /// The number at the end of an id that is one of ours.
    pub(super) fn message(&self, id: &str) -> Option<u32> {
        let (_, number) = id.rsplit_once('!')?;
        let message = number.parse().ok()?;
        (self.id(message) == id).then_some(message)
    }

    /// The name of a peer.
    #[expect(clippy::unused_self, reason = "what there is in the world is asked of the world")]
    pub(super) fn peer(&self, peer: u32) -> String {
        format!("peer {peer}")
    }

    /// What a peer says that a message says, in base64.
    pub(super) fn data(&self, message: u32, peer: u32) -> String {
        let place = DATA_STREAMS + (u64::from(message) << 16) + u64::from(peer);
        let mut random = Random::at(self.seed, place);
        let length = random.below(u64::from(self.data_bytes) + 1);
        let data: Vec<u8> = (0..length).map(|_| random.bits().to_le_bytes()[0]).collect();
        STANDARD.encode(data)
    }

    /// The body of the request that adds a message.
    pub(super) fn body(&self, message: u32, peer: u32) -> String {
        let (id, peer_id) = (self.id(message), self.peer(peer));
        serde_json::json!({"id": id, "peerId": peer_id, "data": self.data(message, peer)})
            .to_string()
    }

    /// The path of a message.
    pub(super) fn path(&self, message: u32) -> String {
        let mut path = String::from("/tracker/messages/");
        for byte in self.id(message).bytes() {
            if byte.is_ascii_alphanumeric() {
                path.push(byte.into());
            } else {
                let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('0');
                path.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::World;

    #[test]
    fn a_message_is_known_by_its_id_and_nothing_else_is() {
        let world = World::new(7, 10);
        for message in 0..200 {
            assert_eq!(world.message(&world.id(message)), Some(message));
            assert!(world.id(message).len() <= 256);
        }
        assert_eq!(world.message("!5x"), None);
        assert_eq!(world.message(&format!("x{}", world.id(3))), None);
        assert_ne!(world.data(1, 1), world.data(1, 2));
    }
}
