//! What goes out as JSON, as `/openapi.json` describes it.

use serde::Serialize;
use tidings_core::structure::tally::Id;
use tidings_node::Lease;
use utoipa::ToSchema;
use uuid::Uuid;

use super::report::Named;

/// How the traffic is.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    /// Whether upstream is connected.
    pub(super) connected: bool,
    /// Which node may connect upstream, as far as this one knows; not there where there is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream: Option<Upstream>,
    /// The open window so far; nothing while there is none.
    pub(super) window: Option<Window>,
    /// The windows that have closed, newest first.
    pub(super) reports: Vec<Window>,
    /// Children known.
    pub(super) children: usize,
    /// Parents known.
    pub(super) parents: usize,
    /// Frames that came, since the server started.
    pub(super) frames: u64,
    /// Communications that came.
    pub(super) communications: u64,
    /// Communications whose window closed before their children were known.
    pub(super) unresolved: u64,
    /// Elements of frames that could not be read, since the server started.
    pub(super) malformed: u64,
    /// Connections made again, since the server started.
    pub(super) reconnects: u64,
    /// Reports that were sent.
    pub(super) delivered: u64,
    /// Reports that went unsent because newer ones came.
    pub(super) dropped: u64,
}

/// Which node may connect upstream.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Upstream {
    /// This one.
    Here,
    /// Another one.
    Elsewhere,
    /// None at the moment.
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

/// What a window has counted.
#[derive(Serialize, ToSchema)]
pub(super) struct Window {
    /// Its beginning, in UTC.
    #[schema(format = DateTime, example = "2026-11-21T03:04:00Z")]
    pub(super) start: String,
    /// The first moment behind it.
    #[schema(format = DateTime, example = "2026-11-21T03:05:00Z")]
    pub(super) end: String,
    /// How many pairs of parents it has counted; not more than asked for are in `calls`.
    pub(super) pairs: usize,
    /// Communications of children that are not known, or were not in time.
    pub(super) unresolved: u64,
    /// Whether it was sent upstream; not there for the open one.
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
    /// Those with a status of 500 and above.
    errors: u32,
    /// Those with a status of 400 to 499.
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
