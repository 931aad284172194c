//! HTTP as all services speak it: serving connections, bodies with limits, consistency of answers, JSON, errors as
//! problem documents, entity tags and pages.

pub(crate) mod accept;
pub(crate) mod body;
mod bounds;
pub(crate) mod consistency;
pub(crate) mod etag;
pub(crate) mod failures;
pub(crate) mod json;
pub(crate) mod page;
pub(crate) mod problem;
pub(crate) mod query;
mod stream;
mod sweep;

pub(crate) use bounds::Bounds;
pub(crate) use problem::Problem;
