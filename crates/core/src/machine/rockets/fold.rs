//! The fold: how a message changes a rocket, and what is displayed of a rocket.

use alloc::boxed::Box;
use alloc::sync::Arc;

use serde::{Deserialize, Serialize};

use super::message::{Channel, Content, MessageTime, RocketMessage};
use crate::structure::sequencer::{Gap, Sequencer};

/// A rocket after some messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The type of rocket; `None` until its launch is known.
    pub kind: Option<Arc<str>>,
    /// The speed, counted from 0 until the launch is known. May be negative; saturates.
    pub speed: i64,
    /// The mission; `None` until a message names it.
    pub mission: Option<Arc<str>>,
    /// Why the rocket exploded, if it did.
    pub reason: Option<Arc<str>>,
    /// The claimed time of the first message in order.
    pub created: MessageTime,
    /// The claimed time of the last message in order that had an effect; of the first message, if
    /// none had.
    pub updated: MessageTime,
    /// Whether any message has been folded: until then the times are provisional.
    begun: bool,
}

/// Why a message had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// Its type is unknown.
    UnknownType,
    /// Its content could not be read.
    Unreadable,
    /// It would change the speed by a negative amount.
    Negative,
    /// The rocket has been launched already.
    Relaunched,
    /// The rocket has exploded already.
    AfterExplosion,
}

impl State {
    pub(super) const fn new(first_seen: MessageTime) -> Self {
        Self {
            kind: None,
            speed: 0,
            mission: None,
            reason: None,
            created: first_seen,
            updated: first_seen,
            begun: false,
        }
    }

    /// Returns whether the rocket has exploded.
    pub const fn exploded(&self) -> bool {
        self.reason.is_some()
    }

    /// Folds the next message in order.
    pub(super) fn apply(&mut self, message: &RocketMessage) -> Result<(), Anomaly> {
        if !self.begun {
            self.begun = true;
            self.created = message.time;
            self.updated = message.time;
        }
        if self.exploded() {
            return Err(Anomaly::AfterExplosion);
        }
        match &message.content {
            Content::Launched { kind, speed, mission } => {
                if self.kind.is_some() {
                    return Err(Anomaly::Relaunched);
                }
                self.kind = Some(kind.clone());
                self.speed = *speed;
                self.mission = Some(mission.clone());
            }
            Content::SpeedIncreased(by) if *by >= 0 => self.speed = self.speed.saturating_add(*by),
            Content::SpeedDecreased(by) if *by >= 0 => self.speed = self.speed.saturating_sub(*by),
            Content::SpeedIncreased(_) | Content::SpeedDecreased(_) => {
                return Err(Anomaly::Negative);
            }
            Content::MissionChanged(mission) => self.mission = Some(mission.clone()),
            Content::Exploded(reason) => self.reason = Some(reason.clone()),
            Content::UnknownType(_) => return Err(Anomaly::UnknownType),
            Content::Unreadable(_) => return Err(Anomaly::Unreadable),
        }
        self.updated = message.time;
        Ok(())
    }

    /// Folds a held message, for display. Anomalies are counted later, when the message is applied.
    pub(super) fn show(&mut self, message: &RocketMessage) {
        let _counted_when_it_is_applied = self.apply(message);
    }
}

/// How complete the messages of a rocket are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// The highest number known.
    pub last: u64,
    /// All numbers up to this one have been applied or dropped.
    pub applied: u64,
    /// How many messages are held behind gaps.
    pub pending: u32,
    /// The gaps, ascending.
    pub missing: Box<[Gap]>,
    /// How many numbers were dropped.
    pub lost: u64,
}

impl Sequence {
    pub(super) fn of<T>(sequencer: &Sequencer<T>) -> Self {
        Self {
            last: sequencer.last(),
            applied: sequencer.next() - 1,
            pending: sequencer.held(),
            missing: sequencer.missing().collect(),
            lost: sequencer.lost(),
        }
    }

    /// Returns whether every number up to the highest known one has been applied.
    pub const fn complete(&self) -> bool {
        self.pending == 0 && self.lost == 0
    }
}

/// Everything that is displayed of a rocket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The channel.
    pub channel: Channel,
    /// The fold of everything known, in order.
    pub state: State,
    /// How complete the state is.
    pub sequence: Sequence,
}

impl View {
    pub(super) fn bytes(&self) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        size_of_val(self)
            + size_of_val(&*self.sequence.missing)
            + text(&self.state.kind)
            + text(&self.state.mission)
            + text(&self.state.reason)
    }
}
