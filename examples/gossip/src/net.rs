//! The peers and their connections, all derived from the seed.

use std::collections::BTreeSet;

use libp2p::PeerId;
use libp2p::identity::Keypair;

use crate::Error;

/// Pseudo-random numbers: the same seed gives the same sequence.
pub struct Random(u64);

impl Random {
    /// Returns an independent sequence for each `stream`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.rotate_left(32));
        random.next();
        random
    }

    /// `SplitMix64` (Steele, Lea and Flood, 2014).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns `N` pseudo-random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next().to_le_bytes()[0])
    }
}

/// All peers.
#[derive(Clone)]
pub struct Net {
    keys: Vec<Keypair>,
    ids: Vec<PeerId>,
    /// The dialling and the dialled peer of each connection.
    dials: BTreeSet<(u32, u32)>,
}

impl Net {
    /// Creates `peers` peers. Each dials the next one and others at random, `dials` in total as far as there
    /// are peers that it is not connected to yet.
    pub fn new(peers: u32, dials: u32, seed: u64) -> Result<Self, Error> {
        let mut random = Random::new(seed, 0);
        let mut net = Self { keys: Vec::new(), ids: Vec::new(), dials: BTreeSet::new() };
        for _ in 0..peers {
            let key = Keypair::ed25519_from_bytes(random.bytes::<32>())?;
            net.ids.push(key.public().to_peer_id());
            net.keys.push(key);
        }
        for from in 0..peers {
            net.connect(from, (from + 1) % peers);
        }
        for from in 0..peers {
            for _ in 1..dials {
                let strangers: Vec<u32> =
                    (0..peers).filter(|&to| to != from && !net.connected(from, to)).collect();
                let drawn = random.next() % (strangers.len() as u64).max(1);
                if let Some(&to) = strangers.get(usize::try_from(drawn)?) {
                    net.connect(from, to);
                }
            }
        }
        Ok(net)
    }

    fn connected(&self, a: u32, b: u32) -> bool {
        self.dials.contains(&(a, b)) || self.dials.contains(&(b, a))
    }

    /// Connects two peers, unless they are connected already in either direction.
    fn connect(&mut self, from: u32, to: u32) {
        if !self.connected(from, to) {
            self.dials.insert((from, to));
        }
    }

    /// Returns the number of peers.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Returns the signing key of a peer.
    pub fn key(&self, peer: u32) -> Option<&Keypair> {
        self.keys.get(peer as usize)
    }

    /// Returns the number of a peer; `None` for an unknown one.
    pub fn number(&self, id: &PeerId) -> Option<u32> {
        u32::try_from(self.ids.iter().position(|known| known == id)?).ok()
    }

    /// Returns which peers a peer dials.
    pub fn dialled_by(&self, peer: u32) -> impl Iterator<Item = u32> {
        self.dials.iter().filter(move |(from, _)| *from == peer).map(|(_, to)| *to)
    }

    /// Returns how many connections a peer has.
    pub fn neighbours(&self, peer: u32) -> usize {
        self.dials.iter().filter(|(from, to)| *from == peer || *to == peer).count()
    }
}
