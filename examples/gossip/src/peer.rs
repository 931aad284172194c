//! One peer: a swarm, and the memory that says what is new.

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

/// How many messages all peers together may be ahead of what a peer has seen. The others may be as far
/// ahead of that again: together fewer than the 5,000 that gossipsub has room for in the queue to a
/// neighbour, beyond which it would lose some.
const AHEAD: usize = 2_000;

/// A message begins with its number, in so many bytes.
const NUMBER_BYTES: usize = 4;

/// What all peers are to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connect,
    Publish,
    /// To say farewell: a message without content, which nobody hands on.
    Part,
    End,
}

/// How far a peer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All neighbours want to hear what it says.
    Connected,
    /// It has all messages of all peers.
    Complete,
    /// All neighbours have said farewell: what they handed on came before that, so no copy is missing.
    Parted,
}

/// What a peer has seen in the end.
pub struct Seen {
    pub peer: u32,
    /// Distinct ones.
    pub messages: u32,
    pub duplicates: u64,
    /// How many messages each neighbour handed on, duplicates too, the most first.
    pub relayed: Vec<(u32, u64)>,
    /// Of all that it remembers, in the order of ids.
    pub digest: u64,
}

/// One peer.
pub struct Peer {
    number: u32,
    net: Net,
    swarm: Swarm<gossipsub::Behaviour>,
    topic: IdentTopic,
    /// What has come.
    memory: Tracker<Message>,
    /// Which neighbour has handed on which message, and how often.
    relays: Relays<u32>,
    /// How many different messages of each peer have come.
    come: Vec<u32>,
    neighbours: BTreeSet<PeerId>,
    /// Which of them have said farewell.
    parted: BTreeSet<PeerId>,
    /// What its messages say, besides their number.
    random: Random,
    messages: u32,
}

/// Who said it, and its number: the same for all copies of a message, whoever hands them on.
/// Gossipsub has checked the signature, which covers both.
fn id_of(message: &gossipsub::Message) -> MessageId {
    let mut id = message.source.map(PeerId::to_bytes).unwrap_or_default();
    id.extend(message.data.iter().take(NUMBER_BYTES));
    MessageId::from(id)
}

impl Peer {
    /// Not connected to anybody yet.
    pub fn new(net: &Net, number: u32, options: &Options) -> Result<Self, Error> {
        let key = net.key(number).ok_or("no such peer")?.clone();
        let neighbours = net.neighbours(number);
        let within = Duration::from_secs(options.within);
        let config = gossipsub::ConfigBuilder::default()
            .message_id_fn(id_of)
            // What comes goes no further until it was looked at, and nothing is remembered: every copy
            // of a message is handed over.
            .validate_messages()
            .duplicate_cache_time(Duration::ZERO)
            .flood_publish(true)
            // Nor is anything thrown away for having waited in a queue.
            .publish_queue_duration(within)
            .forward_queue_duration(within)
            // Every neighbour belongs to the mesh: what is new goes to all of them.
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
        let told_apart =
            NonZeroU32::new(u32::try_from(neighbours)?).ok_or("a peer without neighbours")?;
        Ok(Self {
            number,
            net: net.clone(),
            swarm,
            topic: IdentTopic::new("tidings"),
            memory: Tracker::new(remember, random.next()),
            relays: Relays::new(remember, told_apart),
            come: vec![0; net.len()],
            neighbours: BTreeSet::new(),
            parted: BTreeSet::new(),
            random,
            messages: options.messages,
        })
    }

    /// Listens on a port that is free, and tells which.
    pub async fn listen(&mut self) -> Result<Multiaddr, Error> {
        self.swarm.behaviour_mut().subscribe(&self.topic)?;
        self.swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = self.swarm.select_next_some().await {
                return Ok(address);
            }
        }
    }

    /// Gossips until it is told to end.
    pub async fn run(
        mut self,
        addresses: Vec<Multiaddr>,
        mut phase: watch::Receiver<Phase>,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Seen, Error> {
        for to in self.net.dialled_by(self.number) {
            self.swarm.dial(addresses.get(to as usize).ok_or("no such peer")?.clone())?;
        }
        let (mut connected, mut complete, mut parting, mut parted) = (false, false, false, false);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.hear(event),
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
                    if !complete && self.come.iter().all(|come| *come == self.messages) {
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

    fn hear(&mut self, event: SwarmEvent<gossipsub::Event>) {
        match event {
            SwarmEvent::Behaviour(gossipsub::Event::Subscribed { peer_id, .. }) => {
                self.neighbours.insert(peer_id);
            }
            SwarmEvent::Behaviour(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => {
                let verdict = self.take(propagation_source, &message_id, &message);
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

    /// Remembers a message, and says whether it is to be handed on. Nothing is said of a duplicate:
    /// gossipsub goes on with what it was told the first time.
    fn take(
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

    /// Whether it is new.
    fn remember(&mut self, source: u32, from: u32, id: &[u8], data: &[u8]) -> bool {
        let (inserted, place) =
            self.memory.insert_placed(Message::new(id, from.to_le_bytes(), data));
        if from != self.number {
            self.relays.count(place, from);
        }
        let new = !matches!(inserted, Inserted::Duplicate(_));
        if let Some(come) = self.come.get_mut(source as usize) {
            *come += u32::from(new);
        }
        new
    }

    /// Says what it has to say, as far as the others can follow: it is never further ahead than what
    /// it has heard from every one of them allows.
    fn publish(&mut self) -> Result<(), Error> {
        let ahead = u32::try_from((AHEAD / self.net.len()).max(1))?;
        let slowest = self.come.iter().copied().min().unwrap_or_default();
        while let Some(&said) = self.come.get(self.number as usize)
            && said < self.messages.min(slowest.saturating_add(ahead))
        {
            let mut data = said.to_le_bytes().to_vec();
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
