//! What is right: the state of a rocket after its messages in the order of their numbers. The
//! dumbest code that can be read off the specification, for it is the measure of everything else.

use serde_json::{Map, Value, json};

use super::message::{Content, Message, Text};
use super::moment::Moment;

/// A rocket after some of its messages.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    launched: bool,
    kind: Option<Text>,
    speed: i64,
    mission: Option<Text>,
    /// Set once it has exploded.
    reason: Option<Text>,
    /// The time of the lowest number, whatever it says.
    created: Option<Moment>,
    /// The time of the highest number that had an effect.
    updated: Option<Moment>,
}

impl State {
    /// The next message in the order of the numbers.
    pub(super) fn take(&mut self, message: &Message) {
        if self.created.is_none() {
            self.created = Some(message.time);
        }
        if self.reason.is_some() {
            return;
        }
        match message.content {
            Content::Launched { .. } if self.launched => return,
            Content::Launched { kind, speed, mission } => {
                self.launched = true;
                self.kind = Some(kind);
                self.speed = speed;
                self.mission = Some(mission);
            }
            Content::Increased(by) if by >= 0 => self.speed = self.speed.saturating_add(by),
            Content::Decreased(by) if by >= 0 => self.speed = self.speed.saturating_sub(by),
            Content::MissionChanged(mission) => self.mission = Some(mission),
            Content::Exploded(reason) => self.reason = Some(reason),
            Content::Increased(_) | Content::Decreased(_) | Content::Unreadable(_) => return,
        }
        self.updated = Some(message.time);
    }

    /// The JSON of the rocket, but for its `sequence`.
    pub(super) fn shown(&self, id: &str) -> Map<String, Value> {
        let text = |text: Option<Text>| text.map(Text::plain);
        let exploded = self.reason.is_some();
        let mut shown = Map::new();
        shown.insert("id".into(), json!(id));
        shown.insert("type".into(), json!(text(self.kind)));
        shown.insert("speed".into(), json!(self.speed));
        shown.insert("mission".into(), json!(text(self.mission)));
        shown.insert("status".into(), json!(if exploded { "exploded" } else { "active" }));
        shown.insert("exploded".into(), json!(exploded));
        if let Some(reason) = self.reason {
            shown.insert("reason".into(), json!(reason.plain()));
        }
        shown.insert("createdAt".into(), json!(self.created.map(|time| time.shown())));
        let updated = self.updated.or(self.created);
        shown.insert("updatedAt".into(), json!(updated.map(|time| time.shown())));
        shown
    }
}

/// Which of a rocket's numbers a server has, as it says itself or as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// The highest number.
    pub(super) last: u32,
    /// The ranges below it that it has not, both ends included, in order.
    pub(super) missing: Vec<(u32, u32)>,
}

impl Known {
    /// The highest number up to which nothing is missing.
    pub(super) fn applied(&self) -> u32 {
        self.missing.first().map_or(self.last, |&(from, _)| from - 1)
    }

    /// Whether it has this number.
    pub(super) fn has(&self, number: u32) -> bool {
        // The first half is for speed: most numbers are before the first gap.
        number <= self.applied()
            || number <= self.last
                && !self.missing.iter().any(|&(from, to)| (from..=to).contains(&number))
    }

    /// The numbers that it has, from this one on, in order.
    pub(super) fn numbers_from(&self, first: u32) -> impl Iterator<Item = u32> {
        let starts = std::iter::once(1).chain(self.missing.iter().map(|&(_, to)| to + 1));
        let ends = self.missing.iter().map(|&(from, _)| from - 1);
        let ends = ends.chain(std::iter::once(self.last));
        starts.zip(ends).flat_map(move |(from, to)| from.max(first)..=to)
    }

    /// The JSON of `sequence`.
    pub(super) fn shown(&self) -> Value {
        let absent: u32 = self.missing.iter().map(|&(from, to)| to - from + 1).sum();
        let pending = self.last - self.applied() - absent;
        json!({
            "last": self.last,
            "applied": self.applied(),
            "pending": pending,
            "missing": self.missing.iter().map(|&(from, to)| [from, to]).collect::<Vec<_>>(),
            "lost": 0,
            "complete": self.missing.is_empty(),
        })
    }

    /// Reads `sequence` of an answer, or says what is wrong with it.
    pub(super) fn read(sequence: &Value, count: u32) -> Result<Self, &'static str> {
        let number = |value: Option<&Value>| {
            value.and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok())
        };
        let last = number(sequence.get("last")).ok_or("last is no number")?;
        if last == 0 || last > count {
            return Err("last is a number that was never sent");
        }
        let ranges = sequence.get("missing").and_then(Value::as_array);
        let mut missing = Vec::new();
        let mut behind = 0;
        for range in ranges.ok_or("missing is no list")? {
            let from = number(range.get(0)).ok_or("a range of missing has no start")?;
            let to = number(range.get(1)).ok_or("a range of missing has no end")?;
            if from <= behind || to < from || to >= last {
                return Err("the ranges of missing are not in order below last");
            }
            behind = to;
            missing.push((from, to));
        }
        Ok(Self { last, missing })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Content, Known, Message, Moment, State, Text};
    use crate::random::Random;

    fn folded(contents: &[Content]) -> State {
        let mut state = State::default();
        for (number, &content) in (1..).zip(contents) {
            let second = 1_600_000_000 + i64::from(number);
            let time = Moment::within(second, &mut Random::new(0));
            state.take(&Message { number, time, content });
        }
        state
    }

    fn text(number: u32) -> Text {
        Text::new(1, number)
    }

    fn launched(number: u32) -> Content {
        Content::Launched { kind: text(number), speed: 1_000, mission: text(number) }
    }

    #[test]
    fn the_example_of_the_task_gives_three_thousand() {
        let contents = [
            launched(1),
            Content::Increased(500),
            Content::Increased(500),
            Content::Increased(500),
            Content::Increased(500),
        ];
        assert_eq!(folded(&contents).shown("a")["speed"], 3_000);
    }

    #[test]
    fn what_has_no_effect_does_not_move_the_time_of_the_last_update() {
        let effective = [launched(1), Content::Increased(5)];
        let expected = folded(&effective).shown("a");
        for content in
            [launched(3), Content::Increased(-1), Content::Decreased(-1), Content::Unreadable(0)]
        {
            let state = folded(&[effective[0], effective[1], content]);
            assert_eq!(state.shown("a"), expected);
        }
    }

    #[test]
    fn nothing_happens_after_an_explosion() {
        let state = folded(&[Content::Exploded(text(1)), launched(2), Content::Increased(3)]);
        let shown = state.shown("a");
        assert_eq!(shown["speed"], 0);
        assert_eq!(shown["type"], json!(null));
        assert_eq!(shown["status"], "exploded");
        assert_eq!(shown["reason"], text(1).plain());
        assert_eq!(shown["updatedAt"], shown["createdAt"]);
    }

    #[test]
    fn speed_stops_at_the_ends_of_its_range() {
        let top = folded(&[Content::Increased(i64::MAX), Content::Increased(1)]);
        assert_eq!(top.shown("a")["speed"], i64::MAX);
        let down = Content::Decreased(i64::MAX);
        assert_eq!(folded(&[down, down]).shown("a")["speed"], i64::MIN);
    }

    #[test]
    fn a_sequence_is_read_and_shown_as_the_specification_has_it() {
        let sequence = json!({"last": 9, "applied": 2, "pending": 4,
                              "missing": [[3, 4], [7, 7]], "lost": 0, "complete": false});
        let known = Known::read(&sequence, 10).unwrap();
        assert_eq!(known.shown(), sequence);
        assert_eq!(known.numbers_from(1).collect::<Vec<_>>(), [1, 2, 5, 6, 8, 9]);
        assert_eq!(known.numbers_from(6).collect::<Vec<_>>(), [6, 8, 9]);
        assert!(known.has(5) && !known.has(7) && !known.has(10));
    }

    #[test]
    fn a_sequence_that_cannot_be_is_refused() {
        for wrong in [
            json!({}),
            json!({"last": 0, "missing": []}),
            json!({"last": 11, "missing": []}),
            json!({"last": 9}),
            json!({"last": 9, "missing": [[0, 1]]}),
            json!({"last": 9, "missing": [[3, 2]]}),
            json!({"last": 9, "missing": [[5, 6], [3, 3]]}),
            json!({"last": 9, "missing": [[9, 9]]}),
        ] {
            assert!(Known::read(&wrong, 10).is_err(), "{wrong}");
        }
    }
}
