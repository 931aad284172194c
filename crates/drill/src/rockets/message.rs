//! One message: what it says, and its JSON. Written by hand, because a drill that sends millions
//! a second cannot wait for a general serializer; a test holds every kind to `serde_json`.

use super::moment::{Moment, write_number};

/// A message about a rocket. It owns nothing, so that it can be made anew whenever it is needed
/// instead of being kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    pub(super) number: u32,
    pub(super) time: Moment,
    pub(super) content: Content,
}

/// What a message says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    Launched {
        kind: Text,
        speed: i64,
        mission: Text,
    },
    Increased(i64),
    Decreased(i64),
    MissionChanged(Text),
    Exploded(Text),
    /// An envelope that can be read around something that cannot: it counts as a number and
    /// does nothing else. An index into `UNREADABLE`.
    Unreadable(usize),
}

/// A string of a message: one of a few words, made different by a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Text {
    /// An index into `WORDS`, modulo its length.
    word: usize,
    number: u32,
}

/// Words, and one of the ways in which JSON can write them between quotes.
const WORDS: [(&str, &str); 12] = [
    ("Falcon-9", "Falcon-9"),
    ("ARTEMIS", "ARTEMIS"),
    ("Saturn V", "Saturn V"),
    ("Étoile du nord", "Étoile du nord"),
    ("Étoile du nord", "\\u00c9toile du nord"),
    ("the \"quoted\" one", "the \\\"quoted\\\" one"),
    ("back\\slash/slash", "back\\\\slash\\/slash"),
    ("line\nend\tand tab", "line\\nend\\tand tab"),
    ("火箭 🚀", "火箭 🚀"),
    ("火箭 🚀", "火箭 \\uD83D\\uDE80"),
    ("\u{1}\u{7f}<script>&amp;", "\\u0001\u{7f}<script>&amp;"),
    ("", ""),
];

/// Contents that have no effect: type and, if there is one, the JSON under `message`.
const UNREADABLE: [(&str, Option<&str>); 9] = [
    ("RocketRefuelled", Some(r#"{"litres":12000}"#)),
    ("RocketRefuelled", None),
    ("", Some("{}")),
    ("RocketSpeedIncreased", Some(r#"{"by":"abc"}"#)),
    ("RocketSpeedIncreased", Some(r#"{"by":1.5}"#)),
    ("RocketSpeedDecreased", Some("{}")),
    ("RocketSpeedDecreased", None),
    ("RocketMissionChanged", Some(r#"{"newMission":17}"#)),
    ("RocketLaunched", Some(r#"{"type":"Falcon-9","launchSpeed":"fast","mission":"X"}"#)),
];

/// How many contents there are that have no effect.
pub(super) const UNREADABLE_COUNT: usize = UNREADABLE.len();

impl Text {
    /// The text of this word, which may be any number, and this number.
    pub(super) fn new(word: usize, number: u32) -> Self {
        Self { word: word % WORDS.len(), number }
    }

    /// As a reader sees it.
    pub(super) fn plain(self) -> String {
        let word = WORDS.get(self.word).map_or("", |(plain, _)| plain);
        format!("{word} {}", self.number)
    }

    /// As JSON has it, with its quotes.
    fn write(self, out: &mut Vec<u8>) {
        let word = WORDS.get(self.word).map_or("", |(_, escaped)| escaped);
        out.push(b'"');
        out.extend_from_slice(word.as_bytes());
        out.push(b' ');
        write_number(i64::from(self.number), out);
        out.push(b'"');
    }
}

impl Message {
    /// Writes its JSON, on one line.
    pub(super) fn write(&self, channel: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"metadata":{"channel":""#);
        out.extend_from_slice(channel.as_bytes());
        out.extend_from_slice(br#"","messageNumber":"#);
        write_number(i64::from(self.number), out);
        out.extend_from_slice(br#","messageTime":""#);
        self.time.write_sent(out);
        out.extend_from_slice(br#"","messageType":""#);
        self.content.write(out);
        out.push(b'}');
    }
}

impl Content {
    /// Writes the rest of a message from the type on.
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Launched { kind, speed, mission } => {
                out.extend_from_slice(br#"RocketLaunched"},"message":{"type":"#);
                kind.write(out);
                out.extend_from_slice(br#","launchSpeed":"#);
                write_number(speed, out);
                out.extend_from_slice(br#","mission":"#);
                mission.write(out);
                out.push(b'}');
            }
            Self::Increased(by) => {
                out.extend_from_slice(br#"RocketSpeedIncreased"},"message":{"by":"#);
                write_number(by, out);
                out.push(b'}');
            }
            Self::Decreased(by) => {
                out.extend_from_slice(br#"RocketSpeedDecreased"},"message":{"by":"#);
                write_number(by, out);
                out.push(b'}');
            }
            Self::MissionChanged(mission) => {
                out.extend_from_slice(br#"RocketMissionChanged"},"message":{"newMission":"#);
                mission.write(out);
                out.push(b'}');
            }
            Self::Exploded(reason) => {
                out.extend_from_slice(br#"RocketExploded"},"message":{"reason":"#);
                reason.write(out);
                out.push(b'}');
            }
            Self::Unreadable(index) => {
                let (kind, message) = UNREADABLE.get(index).copied().unwrap_or_default();
                out.extend_from_slice(kind.as_bytes());
                out.extend_from_slice(b"\"}");
                if let Some(message) = message {
                    out.extend_from_slice(b",\"message\":");
                    out.extend_from_slice(message.as_bytes());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Content, Message, Moment, Text, UNREADABLE_COUNT, WORDS};
    use crate::random::Random;

    fn written(content: Content) -> Value {
        let time = Moment::within(1_643_827_145, &mut Random::new(444));
        let mut out = Vec::new();
        Message { number: 7, time, content }.write("193270a9", &mut out);
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["metadata"]["channel"], "193270a9");
        assert_eq!(value["metadata"]["messageNumber"], 7);
        value
    }

    #[test]
    fn every_word_is_read_from_its_json_as_it_was_meant() {
        for word in 0..WORDS.len() {
            let text = Text::new(word, 12);
            let value = written(Content::Exploded(text));
            assert_eq!(value["message"], json!({"reason": text.plain()}));
        }
    }

    #[test]
    fn every_kind_has_the_shape_of_the_specification() {
        let text = Text::new(5, 3);
        let plain = text.plain();
        let launched = Content::Launched { kind: text, speed: 500, mission: text };
        for (content, kind, message) in [
            (
                launched,
                "RocketLaunched",
                json!({"type": plain, "launchSpeed": 500, "mission": plain}),
            ),
            (Content::Increased(-4), "RocketSpeedIncreased", json!({"by": -4})),
            (Content::Decreased(i64::MAX), "RocketSpeedDecreased", json!({"by": i64::MAX})),
            (Content::MissionChanged(text), "RocketMissionChanged", json!({"newMission": plain})),
            (Content::Exploded(text), "RocketExploded", json!({"reason": plain})),
        ] {
            let value = written(content);
            assert_eq!(value["metadata"]["messageType"], kind);
            assert_eq!(value["message"], message);
        }
    }

    #[test]
    fn what_has_no_effect_is_still_json() {
        for index in 0..UNREADABLE_COUNT {
            let value = written(Content::Unreadable(index));
            assert!(value["metadata"]["messageType"].is_string());
        }
    }
}
