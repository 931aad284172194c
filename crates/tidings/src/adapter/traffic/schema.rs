//! The JSON of answers, as `/openapi.json` describes it.

use serde::Serialize;
use tidings_core::structure::tally::Id;
use tidings_node::Lease;
use utoipa::ToSchema;
use uuid::Uuid;

use super::report::Named;

/// The state of the traffic.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    /// Whether this node is connected upstream.
    pub(super) connected: bool,
    /// Which node may connect upstream, as far as this node knows; absent where there is only one node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream: Option<Upstream>,
    /// The open window so far; null while there is none.
    pub(super) window: Option<Window>,
    /// The windows that have closed, newest first.
    pub(super) reports: Vec<Window>,
    /// Known children.
    pub(super) children: usize,
    /// Known parents.
    pub(super) parents: usize,
    /// Frames received since the server started.
    pub(super) frames: u64,
    /// Communications received.
    pub(super) communications: u64,
    /// Communications whose window closed before their children were known.
    pub(super) unresolved: u64,
    /// Elements of frames that could not be read, since the server started.
    pub(super) malformed: u64,
    /// Connections opened again since the server started.
    pub(super) reconnects: u64,
    /// Reports that were sent.
    pub(super) delivered: u64,
    /// Reports dropped unsent because newer ones came.
    pub(super) dropped: u64,
}

/// Which node may connect upstream.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Upstream {
    /// This node.
    Here,
    /// Another node.
    Elsewhere,
    /// No node at the moment.
    Nobody,
}

impl Upstream {
    pub(super) fn of(lease: &Lease) -> Option<Self> {
        lease.is_shared().then(|| match lease.is_held() {
            true => Self::Here,
            false if lease.is_taken() => Self::Elsewhere,
            false => Self::Nobody,
        })
    }
}

/// The counts of a window.
#[derive(Serialize, ToSchema)]
pub(super) struct Window {
    /// The beginning, in UTC, inclusive.
    #[schema(format = DateTime, example = "2026-11-21T03:04:00Z")]
    pub(super) start: String,
    /// The end, in UTC, exclusive.
    #[schema(format = DateTime, example = "2026-11-21T03:05:00Z")]
    pub(super) end: String,
    /// How many pairs of parents were counted; `calls` has at most as many as were asked for.
    pub(super) pairs: usize,
    /// Communications of children that are not known, or were not known in time.
    pub(super) unresolved: u64,
    /// Whether the report was sent upstream; absent for the open window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sent: Option<bool>,
    /// In order of `from` and `to`.
    pub(super) calls: Vec<Call>,
}

/// The calls from one parent to another.
#[derive(Serialize, ToSchema)]
pub(super) struct Call {
    #[schema(format = Uuid)]
    from: String,
    #[schema(format = Uuid)]
    to: String,
    count: u64,
    /// Calls with a status of 500 and above.
    errors: u32,
    /// Calls with a status of 400 to 499.
    rejected: u32,
}

impl From<Named> for Call {
    fn from(row: Named) -> Self {
        let Named { from, to, counts } = row;
        Self {
            from: Uuid::from_bytes(from).to_string(),
            to: Uuid::from_bytes(to).to_string(),
            count: counts.calls,
            errors: counts.failed,
            rejected: counts.rejected,
        }
    }
}

/// A child and its parent.
#[derive(Serialize, ToSchema)]
pub(super) struct Belongs {
    #[schema(format = Uuid)]
    parent: String,
    #[schema(format = Uuid)]
    child: String,
}

impl From<(Id, Id)> for Belongs {
    fn from((parent, child): (Id, Id)) -> Self {
        Self {
            parent: Uuid::from_bytes(parent).to_string(),
            child: Uuid::from_bytes(child).to_string(),
        }
    }
}
