//! Bodies larger than a message may be, and the snapshots that nodes share. Both are objects in buckets
//! of the same servers.

use std::time::Duration;

use async_nats::jetstream::object_store::{Config, ObjectStore};
use async_nats::jetstream::stream::StorageType;
use futures_util::StreamExt as _;
use tokio::io::AsyncReadExt as _;

use super::link::{Link, chain};
use crate::{Position, Snapshot};

/// How long reading or writing one object may take.
const OBJECT_WITHIN: Duration = Duration::from_secs(60);
/// How long finding or creating a bucket, or listing its objects, may take.
const BUCKET_WITHIN: Duration = Duration::from_secs(10);
/// How many shared snapshots are kept: the newest, and one more for a node that is reading it.
const SNAPSHOTS_KEPT: usize = 2;

/// The purpose of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bucket {
    /// Bodies of batches that do not fit into a message.
    Bodies,
    /// Snapshots that nodes share.
    Snapshots,
}

impl Link {
    async fn bucket(&self, bucket: Bucket) -> Result<ObjectStore, String> {
        let name = match bucket {
            Bucket::Bodies => format!("{}-bodies", self.name),
            Bucket::Snapshots => format!("{}-snapshots", self.name),
        };
        let open = async {
            if let Ok(found) = self.context.get_object_store(&name).await {
                return Ok(found);
            }
            let config = Config {
                bucket: name.clone(),
                storage: StorageType::File,
                num_replicas: self.replicas,
                max_bytes: -1,
                ..Config::default()
            };
            self.context.create_object_store(config).await.map_err(|why| chain(&why))
        };
        within(BUCKET_WITHIN, &format!("the bucket {name}"), open).await
    }

    /// Writes an object and reads it back: nothing may refer to an object that cannot be read.
    pub(super) async fn put(&self, bucket: Bucket, name: &str, body: &[u8]) -> Result<(), String> {
        let store = self.bucket(bucket).await?;
        let put = async {
            store.put(name, &mut &*body).await.map_err(|why| chain(&why))?;
            if read(&store, name).await? != body {
                return Err("it does not read back as it was written".to_owned());
            }
            Ok(())
        };
        within(OBJECT_WITHIN, &format!("the object {name}"), put).await
    }

    pub(super) async fn get(&self, bucket: Bucket, name: &str) -> Result<Vec<u8>, String> {
        let store = self.bucket(bucket).await?;
        within(OBJECT_WITHIN, &format!("the object {name}"), read(&store, name)).await
    }

    pub(super) async fn remove(&self, bucket: Bucket, name: &str) -> Result<(), String> {
        let store = self.bucket(bucket).await?;
        let delete = async { store.delete(name).await.map_err(|why| chain(&why)) };
        within(BUCKET_WITHIN, &format!("the object {name}"), delete).await
    }

    /// Returns the names of all objects.
    pub(super) async fn names(&self, bucket: Bucket) -> Result<Vec<String>, String> {
        let store = self.bucket(bucket).await?;
        let list = async {
            let mut list = store.list().await.map_err(|why| chain(&why))?;
            let mut names = Vec::new();
            while let Some(info) = list.next().await {
                names.push(info.map_err(|why| chain(&why))?.name);
            }
            Ok(names)
        };
        within(BUCKET_WITHIN, "the list of objects", list).await
    }

    /// Publishes a snapshot, and removes all but the newest [`SNAPSHOTS_KEPT`].
    pub(super) async fn share(&self, snapshot: &Snapshot) -> Result<(), String> {
        self.put(Bucket::Snapshots, &snapshot_name(snapshot.position), &snapshot.body).await?;
        let mut names = self.names(Bucket::Snapshots).await?;
        names.sort_unstable();
        let old = names.len().saturating_sub(SNAPSHOTS_KEPT);
        for name in names.iter().take(old) {
            self.remove(Bucket::Snapshots, name).await?;
        }
        Ok(())
    }

    /// Returns the last position that the newest shared snapshot covers. Names are positions, so the list
    /// of objects is enough.
    pub(super) async fn shared_position(&self) -> Result<Option<Position>, String> {
        let names = self.names(Bucket::Snapshots).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).max().map(Position))
    }

    /// Returns the newest shared snapshot.
    pub(super) async fn shared_snapshot(&self) -> Result<Option<Snapshot>, String> {
        let Some(position) = self.shared_position().await? else { return Ok(None) };
        let body = self.get(Bucket::Snapshots, &snapshot_name(position)).await?;
        Ok(Some(Snapshot { position, body }))
    }
}

/// Pads with zeros, so that names sort by position.
fn snapshot_name(position: Position) -> String {
    format!("{:020}", position.0)
}

async fn read(store: &ObjectStore, name: &str) -> Result<Vec<u8>, String> {
    let mut object = store.get(name).await.map_err(|why| chain(&why))?;
    let mut body = Vec::with_capacity(object.info.size);
    object.read_to_end(&mut body).await.map_err(|why| chain(&why))?;
    Ok(body)
}

async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|why| format!("{what}: {why}")),
        Err(_) => Err(format!("{what}: no answer within {} s", limit.as_secs())),
    }
}
