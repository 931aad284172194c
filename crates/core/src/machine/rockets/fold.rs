//! The fold: how a message changes a rocket, and what of a rocket is shown.

use alloc::boxed::Box;
use alloc::sync::Arc;

use serde::{Deserialize, Serialize};

use super::message::{Channel, Content, MessageTime, RocketMessage};
use crate::structure::sequencer::{Gap, Sequencer};

/// A rocket, after some messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The type of rocket; `None` before its launch is known.
    pub kind: Option<Arc<str>>,
    /// Its speed; counted from 0 before its launch is known. May be negative, saturates.
    pub speed: i64,
    /// What it is for; `None` while nothing has said so.
    pub mission: Option<Arc<str>>,
    /// Why it exploded, if it did.
    pub reason: Option<Arc<str>>,
    /// The claimed time of the first message in order.
    pub created: MessageTime,
    /// The claimed time of the last message in order that had an effect; of the first message, if
    /// none had.
    pub updated: MessageTime,
    /// Whether any message is in it: if not, the times are not yet its own.
    begun: bool,
}

/// Why a message had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// Its type is unknown.
    UnknownType,
    /// Its content could not be read.
    Unreadable,
    /// It wanted a change by less than nothing.
    Negative,
    /// It launched what was launched already.
    Relaunched,
    /// It came after the explosion.
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

    /// Whether it has exploded.
    pub const fn exploded(&self) -> bool {
        self.reason.is_some()
    }

    /// Folds in the next message in order.
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

    /// Folds in a held message, for showing: it is counted when it is applied for good.
    pub(super) fn show(&mut self, message: &RocketMessage) {
        let _counted_when_it_is_applied = self.apply(message);
    }
}

/// How complete the knowledge of a rocket is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// The highest number known.
    pub last: u64,
    /// All numbers up to this one have been applied or given up.
    pub applied: u64,
    /// How many messages are held behind gaps.
    pub pending: u32,
    /// The gaps, ascending.
    pub missing: Box<[Gap]>,
    /// How many numbers were given up.
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

    /// Whether every number up to the highest known one has been applied.
    pub const fn complete(&self) -> bool {
        self.pending == 0 && self.lost == 0
    }
}

/// All there is to show of a rocket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Whose it is.
    pub channel: Channel,
    /// The fold of everything known, in order.
    pub state: State,
    /// How complete that is.
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
