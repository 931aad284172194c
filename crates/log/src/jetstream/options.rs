//! The options of a log in JetStream, and the configuration that its stream must have.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

use crate::Error;

/// How long the server recognises the id of a stored message. Beyond that the expected sequence of the
/// origin still rejects a duplicate.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// The name of a stream is part of subjects and of file names on the servers.
const NAME_BYTES_MAX: usize = 64;

/// The metadata key that marks a stream whose copy is not complete.
pub(super) const UNFINISHED: &str = "tidings-copy-unfinished";

/// How to open a [`JetStream`](super::JetStream).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Addresses of servers: `nats://host:port` or `tls://host:port`, optionally with
    /// `user:password@`. One server that answers is enough: it announces the others.
    pub servers: Vec<String>,
    /// The name of the stream: letters, digits, `-` and `_`.
    pub stream: String,
    /// On how many servers the stream is replicated; `None` means 3 in a cluster and 1 otherwise.
    pub replicas: Option<usize>,
    /// The most bytes that the stream may hold: an append beyond it is rejected. `None` means as much as
    /// the servers have. Applies only when the stream is created.
    pub bytes_max: Option<u64>,
    /// A file with the credentials of a user (a JWT and its key).
    pub credentials: Option<PathBuf>,
    /// How long [`JetStream::open`](super::JetStream::open) waits for a server that answers before it
    /// fails.
    pub connect_within: Duration,
    /// Whether each snapshot is published as soon as it is complete. Otherwise only
    /// [`Log::share_snapshot`](crate::Log::share_snapshot) publishes one.
    pub share_every_snapshot: bool,
    /// The directory for this node's local state.
    pub directory: PathBuf,
}

impl Options {
    /// Returns options for the stream `tidings` on these servers, with the local state in `directory`.
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>, directory: &Path) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            stream: "tidings".to_owned(),
            replicas: None,
            bytes_max: None,
            credentials: None,
            connect_within: Duration::from_secs(30),
            share_every_snapshot: false,
            directory: directory.to_owned(),
        }
    }

    /// Returns the configuration of a stream that is created; `first` is its first position.
    pub(super) fn wanted(&self, clustered: bool, first: u64) -> Config {
        Config {
            name: self.stream.clone(),
            subjects: vec![format!("{}.log.*", self.stream)],
            storage: StorageType::File,
            retention: RetentionPolicy::Limits,
            // A full stream must reject new batches; `Old` would drop acknowledged ones.
            discard: DiscardPolicy::New,
            num_replicas: self.replicas_wanted(clustered),
            max_bytes: self.bytes_max.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            max_messages: -1,
            max_messages_per_subject: -1,
            max_consumers: -1,
            max_message_size: -1,
            duplicate_window: DUPLICATE_WINDOW,
            // Nobody may remove a message from the middle; truncation purges from the front.
            deny_delete: true,
            // Direct reads are answered by any replica, which may lag behind the leader.
            allow_direct: false,
            first_sequence: (first > 1).then_some(first),
            description: Some("the log of a Tidings cluster".to_owned()),
            ..Config::default()
        }
    }

    pub(super) fn replicas_wanted(&self, clustered: bool) -> usize {
        self.replicas.unwrap_or(if clustered { 3 } else { 1 })
    }

    /// Rejects names that would be more than one token of a subject.
    pub(super) fn checked_name(&self) -> Result<(), Error> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if self.stream.is_empty()
            || self.stream.len() > NAME_BYTES_MAX
            || !self.stream.bytes().all(fits)
        {
            return Err(Error::Store(format!(
                "{:?} cannot be the name of a stream: 1 to {NAME_BYTES_MAX} letters, digits, - and _",
                self.stream
            )));
        }
        Ok(())
    }

    /// Rejects a stream that would lose acknowledged batches. A stream that was just created is checked
    /// too, because servers ignore settings that they do not know.
    pub(super) fn fits(&self, stream: &Config, clustered: bool) -> Result<(), Error> {
        let none = |limit: i64| limit <= 0;
        let replicas = self.replicas_wanted(clustered);
        let subject = format!("{}.log.*", self.stream);
        let wrong = if stream.storage != StorageType::File {
            Some(("storage", "memory".to_owned(), "file".to_owned()))
        } else if stream.retention != RetentionPolicy::Limits {
            Some(("retention", format!("{:?}", stream.retention), "limits".to_owned()))
        } else if stream.max_age != Duration::ZERO {
            Some(("max_age", format!("{:?}", stream.max_age), "none".to_owned()))
        } else if !none(stream.max_messages_per_subject) {
            let limit = stream.max_messages_per_subject.to_string();
            Some(("max_msgs_per_subject", limit, "none".to_owned()))
        } else if stream.discard != DiscardPolicy::New
            && !(none(stream.max_bytes) && none(stream.max_messages))
        {
            Some(("discard", "old".to_owned(), "new, as there is a limit".to_owned()))
        } else if stream.num_replicas < replicas {
            let wanted = format!("{replicas} (the setting of replicas can ask for fewer)");
            Some(("num_replicas", stream.num_replicas.to_string(), wanted))
        } else if stream.subjects != [subject.as_str()] {
            Some(("subjects", format!("{:?}", stream.subjects), format!("[{subject:?}]")))
        } else if !stream.deny_delete {
            Some(("deny_delete", "false".to_owned(), "true".to_owned()))
        } else if stream.deny_purge || stream.sealed || stream.no_ack || stream.allow_rollup {
            let found = "sealed, without acknowledgements, without purge or with rollup".to_owned();
            Some(("mode", found, "none of these".to_owned()))
        } else if stream.mirror.is_some() || stream.sources.as_ref().is_some_and(|s| !s.is_empty())
        {
            Some(("sources", "another stream".to_owned(), "none".to_owned()))
        } else {
            None
        };
        match wrong {
            None => Ok(()),
            Some((setting, found, wanted)) => Err(Error::Store(format!(
                "the stream {} would not keep what it acknowledges: its {setting} is {found}, needed \
                 is {wanted}",
                self.stream
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::new(["nats://localhost"], Path::new("."))
    }

    #[test]
    fn a_stream_as_it_is_created_fits() {
        let options = options();
        assert!(options.fits(&options.wanted(true, 1), true).is_ok());
        assert_eq!(options.wanted(true, 1).num_replicas, 3);
        assert_eq!(options.wanted(false, 1).num_replicas, 1);
    }

    #[test]
    fn a_stream_that_would_lose_data_is_rejected_with_the_setting() {
        let options = options();
        let rejected = |change: fn(&mut Config), names: &str| {
            let mut config = options.wanted(true, 1);
            change(&mut config);
            let why = options.fits(&config, true).unwrap_err().to_string();
            assert!(why.contains(names), "{why}");
        };
        rejected(|c| c.storage = StorageType::Memory, "storage is memory");
        rejected(|c| c.retention = RetentionPolicy::WorkQueue, "retention");
        rejected(|c| c.max_age = Duration::from_secs(60), "max_age is 60s");
        rejected(|c| c.max_messages_per_subject = 1, "max_msgs_per_subject");
        rejected(
            |c| {
                c.discard = DiscardPolicy::Old;
                c.max_bytes = 1;
            },
            "discard is old",
        );
        rejected(|c| c.num_replicas = 1, "num_replicas is 1, needed is 3");
        rejected(|c| c.subjects.push("more".into()), "subjects");
        rejected(|c| c.deny_delete = false, "deny_delete");
        rejected(|c| c.allow_rollup = true, "rollup");
    }

    #[test]
    fn a_stream_name_that_is_not_one_subject_token_is_rejected() {
        for name in ["", "a.b", "a b", "*", ">", "ü"] {
            let options = Options { stream: name.to_owned(), ..options() };
            assert!(options.checked_name().is_err(), "{name:?}");
        }
        assert!(options().checked_name().is_ok());
    }
}
