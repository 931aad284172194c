//! Protocols, without any service: HTTP, server-sent events, and the metrics format.

pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod sse;
