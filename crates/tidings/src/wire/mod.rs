//! Protocols, without any service: TCP, HTTP, server-sent events, lines over TCP, and the metrics format.

pub(crate) mod http;
pub(crate) mod lines;
pub(crate) mod metrics;
pub(crate) mod sse;
pub(crate) mod tcp;
