//! The world of the chat: users whose names are easily confused, and messages that name themselves.
//!
//! A run bears a tag of its own in every name, text and key, so that a server may be drilled again and
//! again; what is posted to whom depends on the seed alone.

use std::fmt::Write;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::judge::{Post, Text};
use super::options::Options;
use crate::random::Random;

/// Ends of names: a server that decodes a path once too often or not at all, takes `+` for a space,
/// ends at a `?` or looks at letters without their case, mixes up two of them.
const ENDS: [&str; 8] = ["", "/x", "%2Fx", " x", "+x", "-é😀", "-É😀", "?limit=1&x#\"\\"];
/// What some texts are filled with: everything that JSON escapes, and letters of every length.
const UNUSUAL: &str = "\"\\/\u{8}\u{c}\n\r\t\u{1}\u{7f}é€😀 ";
/// How long a message lives that is not to expire during the drill.
const LONG: Duration = Duration::from_secs(3_600);
/// How long one lives that says nothing of it.
const DEFAULT: Duration = Duration::from_secs(60);
/// The share of messages that do not expire soon and say nothing of it.
const SILENT: f64 = 0.1;
/// The share of keys under which other content is posted.
const CONTESTED: f64 = 0.2;

/// The messages of a run: their texts and their users.
#[derive(Debug)]
pub(super) struct World {
    options: Options,
    /// What the names, texts and keys of this run begin with.
    tag: String,
    /// The names of the users, as they are, encoded for a path, and encoded as JSON.
    names: Vec<String>,
    paths: Vec<String>,
    quoted: Vec<String>,
    /// The end of most texts and of some, as they are and in JSON.
    fillers: [(String, String); 2],
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) post: Post,
    /// Its idempotency key, if it has one.
    pub(super) key: Option<Key>,
    /// Not its first post: under its key, or against it.
    pub(super) again: bool,
}

/// What happens to an idempotency key: the message is posted under it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Nothing more.
    Kept,
    /// Then other content is posted under it.
    Contested,
}

impl World {
    /// The world of these options, with a tag from the clock.
    pub(super) fn new(options: &Options) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let tag = format!("{:x}", now.as_nanos() & u128::from(u64::MAX));
        Self::with_tag(options, tag)
    }

    fn with_tag(options: &Options, tag: String) -> Self {
        let name = |user: u32| {
            let end = ENDS.get(user as usize % ENDS.len()).copied().unwrap_or_default();
            format!("{tag}-{}{end}", user as usize / ENDS.len())
        };
        let names: Vec<String> = (0..options.users).map(name).collect();
        let room = (options.text_bytes as usize).saturating_sub(tag.len() + 10);
        let fillers = ["Meet me at the harbour at noon. ", UNUSUAL].map(|words| {
            let mut filler = String::new();
            for letter in words.chars().cycle() {
                if filler.len() + letter.len_utf8() > room {
                    break;
                }
                filler.push(letter);
            }
            let json = json(&filler);
            let inner = json.get(1..json.len() - 1).unwrap_or_default().to_owned();
            (filler, inner)
        });
        Self {
            paths: names.iter().map(|name| encoded(name)).collect(),
            quoted: names.iter().map(|name| json(name)).collect(),
            options: options.clone(),
            tag,
            names,
            fillers,
        }
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The path of a user's messages.
    pub(super) fn path(&self, user: u32) -> &str {
        self.paths.get(user as usize).map_or("", String::as_str)
    }

    /// What a message is. Beyond the messages there is, for each, one with other content and the same
    /// key.
    pub(super) fn plan(&self, number: u32) -> Plan {
        let options = &self.options;
        let original = number % options.messages;
        let mut random = Random::at(options.seed, u64::from(original));
        let user = u32::try_from(random.below(options.users.into())).unwrap_or_default();
        let expiring = random.chance(options.expiring);
        let seconds = random.below(u64::from(options.expiring_seconds) + 1);
        let keyed = random.chance(options.keyed) && !expiring;
        let key = if random.chance(CONTESTED) { Key::Contested } else { Key::Kept };
        let silent = random.chance(SILENT);
        let timeout = match (expiring, silent) {
            (true, _) => Duration::from_secs(seconds),
            (false, true) => DEFAULT,
            (false, false) => LONG,
        };
        let conflicts_with = (number != original).then_some(original);
        let post = Post { message: number, user, timeout, conflicts_with };
        Plan { post, key: keyed.then_some(key), again: false }
    }

    /// The number under which other content is posted with the key of a message.
    pub(super) fn contender(&self, number: u32) -> u32 {
        number + self.options.messages
    }

    fn filler(&self, number: u32) -> &(String, String) {
        let [usual, unusual] = &self.fillers;
        if number % 8 == 3 { unusual } else { usual }
    }

    /// Writes the request of a message behind `out`.
    pub(super) fn write_post(&self, plan: &Plan, authority: &str, out: &mut Vec<u8>) {
        let Post { message, user, timeout, conflicts_with } = plan.post;
        let original = conflicts_with.unwrap_or(message);
        let user = self.quoted.get(user as usize).map_or("", String::as_str);
        let filler = &self.filler(message).1;
        let tag = &self.tag;
        let digits = |number: u64| number.checked_ilog10().unwrap_or(0) as usize + 1;
        let timed = timeout != DEFAULT;
        let seconds = timeout.as_secs();
        let length = r#"{"text":"::","username":}"#.len()
            + tag.len()
            + digits(message.into())
            + filler.len()
            + user.len()
            + if timed { r#","timeout":"#.len() + digits(seconds) } else { 0 };
        // Writing to a vector cannot fail.
        let mut write = || {
            write!(out, "POST /chat HTTP/1.1\r\nHost: {authority}\r\n")?;
            out.extend_from_slice(b"Content-Type: application/json\r\n");
            if plan.key.is_some() {
                write!(out, "Idempotency-Key: {tag}-{original}\r\n")?;
            }
            write!(out, "Content-Length: {length}\r\n\r\n")?;
            write!(out, r#"{{"text":"{tag}:{message}:{filler}","username":{user}"#)?;
            if timed {
                write!(out, r#","timeout":{seconds}"#)?;
            }
            out.push(b'}');
            std::io::Result::Ok(())
        };
        write().unwrap_or_default();
    }

    /// Which message a text belongs to.
    pub(super) fn identify(&self, text: &str) -> Text {
        let strange = || Text::Strange(text.chars().take(100).collect());
        let rest = text.strip_prefix(self.tag.as_str()).and_then(|rest| rest.strip_prefix(':'));
        let Some((number, filler)) = rest.and_then(|rest| rest.split_once(':')) else {
            return strange();
        };
        let Ok(number) = number.parse() else { return strange() };
        if filler == self.filler(number).0 { Text::Whole(number) } else { Text::Altered(number) }
    }
}

/// A string in JSON.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A path segment (RFC 3986, section 3.3); a plus in it means itself.
fn encoded(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~+".contains(&byte) {
            out.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{Options, Text, World};

    fn world(options: &Options) -> World {
        World::with_tag(options, "tag".to_owned())
    }

    #[test]
    fn a_post_says_how_long_it_is_and_its_text_names_it() {
        let options = Options { messages: 200, users: 20, expiring: 0.5, ..Options::default() };
        let world = world(&options);
        for number in 0..400 {
            let plan = world.plan(number);
            let mut out = Vec::new();
            world.write_post(&plan, "here:1", &mut out);
            let request = String::from_utf8(out).unwrap();
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{request}");
            assert_eq!(head.contains("Idempotency-Key: tag-"), plan.key.is_some());
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["username"], world.names()[plan.post.user as usize]);
            let timeout = body.get("timeout").map_or(60, |timeout| timeout.as_u64().unwrap());
            assert_eq!(timeout, plan.post.timeout.as_secs());
            let text = body["text"].as_str().unwrap();
            assert_eq!(world.identify(text), Text::Whole(number));
            assert!((80..=100).contains(&text.len()), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_not_whole_or_of_nobody_is_recognised() {
        let world = world(&Options::default());
        assert_eq!(world.identify("tag:7:Meet"), Text::Altered(7));
        for text in ["", "tag", "tag:7", "tag:x:y", "gat:7:y"] {
            assert_eq!(world.identify(text), Text::Strange(text.to_owned()));
        }
    }

    #[test]
    fn names_differ_and_are_encoded_to_the_letter() {
        let options = Options { users: 1_000, ..Options::default() };
        let world = world(&options);
        let mut names = world.names().to_vec();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 1_000);
        assert_eq!(world.path(1), "tag-0%2Fx");
        assert_eq!(world.path(2), "tag-0%252Fx");
        assert_eq!(world.path(13), "tag-1-%C3%A9%F0%9F%98%80");
    }

    #[test]
    fn the_same_seed_gives_the_same_plans() {
        let options = Options { seed: 9, ..Options::default() };
        let (one, other) = (world(&options), World::new(&options));
        assert!((0..1_000).all(|number| one.plan(number) == other.plan(number)));
    }
}
