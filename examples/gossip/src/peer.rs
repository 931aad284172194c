//! One peer: a swarm, and the memory that decides which messages are new.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;
use std::time::Duration;

use libp2p::futures::StreamExt;
use libp2p::gossipsub::{self, IdentTopic, MessageAcceptance, MessageAuthenticity, MessageId};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, noise, tcp, yamux};
use tidings_core::structure::tracker::{Inserted, Message, Relays, Tracker};
use tokio::sync::{mpsc, watch};

use crate::net::{Net, Random};
use crate::{Error, Options};

/// How many messages all peers together may publish beyond what a peer has seen. The others may be as far
/// ahead of that again. Together that must stay below the 5,000 messages that gossipsub queues for a
/// neighbour, beyond which it drops some.
const AHEAD: usize = 2_000;

/// A message begins with its number, in this many bytes.
const NUMBER_BYTES: usize = 4;

/// The phase of the run, for all peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connect,
    Publish,
    /// Say farewell: with an empty message, which no peer forwards.
    Part,
    End,
}

/// How far a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All neighbours have subscribed.
    Connected,
    /// The peer has all messages of all peers.
    Complete,
    /// All neighbours have said farewell. They forwarded everything before that, so no copy is missing.
    Parted,
}

/// What a peer has seen at the end of the run.
pub struct Seen {
    pub peer: u32,
    /// Distinct messages.
    pub messages: u32,
    pub duplicates: u64,
    /// How many messages each neighbour forwarded, including duplicates, in descending order.
    pub relayed: Vec<(u32, u64)>,
    /// A digest of all remembered messages, ordered by id.
    pub digest: u64,
}

/// One peer.
pub struct Peer {
    number: u32,
    net: Net,
    swarm: Swarm<gossipsub::Behaviour>,
    topic: IdentTopic,
    /// The messages that have arrived.
    memory: Tracker<Message>,
    /// How often each neighbour has forwarded each message.
    relays: Relays<u32>,
    /// How many distinct messages of each peer have arrived.
    arrived: Vec<u32>,
    neighbours: BTreeSet<PeerId>,
    /// The neighbours that have said farewell.
    parted: BTreeSet<PeerId>,
    /// The source of the messages' contents.
    random: Random,
    messages: u32,
}

/// Returns the publisher and the number of a message: the same for all copies, whichever peer forwards them.
/// Gossipsub has verified the signature, which covers both.
fn id_of(message: &gossipsub::Message) -> MessageId {
    let mut id = message.source.map(PeerId::to_bytes).unwrap_or_default();
    id.extend(message.data.iter().take(NUMBER_BYTES));
    MessageId::from(id)
}

impl Peer {
    /// Creates a peer that is not connected yet.
    pub fn new(net: &Net, number: u32, options: &Options) -> Result<Self, Error> {
        let key = net.key(number).ok_or("no such peer")?.clone();
        let neighbours = net.neighbours(number);
        let within = Duration::from_secs(options.within);
        let config = gossipsub::ConfigBuilder::default()
            .message_id_fn(id_of)
            // A message is forwarded only after validation, and gossipsub remembers none: it passes every
            // copy on to us.
            .validate_messages()
            .duplicate_cache_time(Duration::ZERO)
            .flood_publish(true)
            // No message is dropped for having waited in a queue.
            .publish_queue_duration(within)
            .forward_queue_duration(within)
            // Every neighbour belongs to the mesh, so that new messages go to all of them.
            .mesh_n_high(neighbours + 1)
            .mesh_n(neighbours + 1)
            .mesh_n_low(neighbours + 1)
            .mesh_outbound_min(0)
            .build()?;
        let behaviour =
            gossipsub::Behaviour::new(MessageAuthenticity::Signed(key.clone()), config)?;
        let swarm = SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
            .with_behaviour(|_| behaviour)?
            .build();
        let mut random = Random::new(options.seed, u64::from(number) + 1);
        let remember = NonZeroU32::new(options.remember).ok_or("--remember: at least 1")?;
        let peers_max =
            NonZeroU32::new(u32::try_from(neighbours)?).ok_or("a peer without neighbours")?;
        Ok(Self {
            number,
            net: net.clone(),
            swarm,
            topic: IdentTopic::new("tidings"),
            memory: Tracker::new(remember, random.next()),
            relays: Relays::new(remember, peers_max),
            arrived: vec![0; net.len()],
            neighbours: BTreeSet::new(),
            parted: BTreeSet::new(),
            random,
            messages: options.messages,
        })
    }

    /// Listens on a free port and returns its address.
    pub async fn listen(&mut self) -> Result<Multiaddr, Error> {
        self.swarm.behaviour_mut().subscribe(&self.topic)?;
        self.swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = self.swarm.select_next_some().await {
                return Ok(address);
            }
        }
    }

    /// Gossips until the phase is [`Phase::End`].
    pub async fn run(
        mut self,
        addresses: Vec<Multiaddr>,
        mut phase: watch::Receiver<Phase>,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Seen, Error> {
        for to in self.net.dialled_by(self.number) {
            self.swarm.dial(addresses.get(to as usize).ok_or("no such peer")?.clone())?;
        }
        let mut connected = false;
        let mut complete = false;
        let mut parting = false;
        let mut parted = false;
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                changed = phase.changed() => changed?,
            }
            let now = *phase.borrow();
            match now {
                Phase::Connect
                    if !connected && self.neighbours.len() == self.net.neighbours(self.number) =>
                {
                    connected = true;
                    progress.send(Progress::Connected).await?;
                }
                Phase::Connect => {}
                Phase::Publish => {
                    self.publish()?;
                    if !complete && self.arrived.iter().all(|arrived| *arrived == self.messages) {
                        complete = true;
                        progress.send(Progress::Complete).await?;
                    }
                }
                Phase::Part => {
                    if !parting {
                        parting = true;
                        self.swarm.behaviour_mut().publish(self.topic.clone(), Vec::new())?;
                    }
                    if !parted && self.parted.is_superset(&self.neighbours) {
                        parted = true;
                        progress.send(Progress::Parted).await?;
                    }
                }
                Phase::End => return Ok(self.seen()),
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<gossipsub::Event>) {
        match event {
            SwarmEvent::Behaviour(gossipsub::Event::Subscribed { peer_id, .. }) => {
                self.neighbours.insert(peer_id);
            }
            SwarmEvent::Behaviour(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => {
                let verdict = self.accept(propagation_source, &message_id, &message);
                if let Some(verdict) = verdict {
                    let gossipsub = self.swarm.behaviour_mut();
                    gossipsub.report_message_validation_result(
                        &message_id,
                        &propagation_source,
                        verdict,
                    );
                }
            }
            _ => {}
        }
    }

    /// Remembers a message, and decides whether gossipsub forwards it. Returns `None` for a duplicate:
    /// gossipsub keeps to the first decision.
    fn accept(
        &mut self,
        from: PeerId,
        id: &MessageId,
        message: &gossipsub::Message,
    ) -> Option<MessageAcceptance> {
        if message.data.is_empty() {
            self.parted.insert(from);
            return Some(MessageAcceptance::Ignore);
        }
        let source = message.source.and_then(|source| self.net.number(&source));
        let (Some(source), Some(from)) = (source, self.net.number(&from)) else {
            return Some(MessageAcceptance::Reject);
        };
        self.remember(source, from, &id.0, &message.data).then_some(MessageAcceptance::Accept)
    }

    /// Remembers a message. Returns whether it is new.
    fn remember(&mut self, source: u32, from: u32, id: &[u8], data: &[u8]) -> bool {
        let (inserted, place) =
            self.memory.insert_placed(Message::new(id, from.to_le_bytes(), data));
        if from != self.number {
            self.relays.count(place, from);
        }
        let new = !matches!(inserted, Inserted::Duplicate(_));
        if let Some(arrived) = self.arrived.get_mut(source as usize) {
            *arrived += u32::from(new);
        }
        new
    }

    /// Publishes messages as far as the other peers can follow: never further ahead than the slowest of them
    /// allows.
    fn publish(&mut self) -> Result<(), Error> {
        let ahead = u32::try_from((AHEAD / self.net.len()).max(1))?;
        let slowest = self.arrived.iter().copied().min().unwrap_or_default();
        while let Some(&published) = self.arrived.get(self.number as usize)
            && published < self.messages.min(slowest.saturating_add(ahead))
        {
            let mut data = published.to_le_bytes().to_vec();
            data.extend(self.random.bytes::<60>());
            let id = self.swarm.behaviour_mut().publish(self.topic.clone(), data.clone())?;
            self.remember(self.number, self.number, &id.0, &data);
        }
        Ok(())
    }

    fn seen(&self) -> Seen {
        let mut relayed = vec![0; self.net.len()];
        for message in &self.memory {
            let Ok(place) = self.memory.place(&message.id) else { continue };
            for (from, count) in self.relays.peers(place) {
                if let Some(sum) = relayed.get_mut(*from as usize) {
                    *sum += u64::from(count);
                }
            }
        }
        let mut relayed: Vec<(u32, u64)> =
            (0..).zip(relayed).filter(|(_, count)| *count > 0).collect();
        relayed.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let mut all: Vec<_> =
            self.memory.iter().map(|message| (&message.id, &message.data)).collect();
        all.sort();
        let mut digest = DefaultHasher::new();
        all.hash(&mut digest);
        let stats = self.memory.stats();
        Seen {
            peer: self.number,
            messages: stats.len,
            duplicates: stats.duplicates,
            relayed,
            digest: digest.finish(),
        }
    }
}
