//! HTTP as all services speak it: the accept loop, bodies with limits, how fresh an answer must be,
//! JSON, errors as problem documents, entity tags and pages.

pub(crate) mod accept;
pub(crate) mod body;
pub(crate) mod consistency;
pub(crate) mod etag;
pub(crate) mod json;
pub(crate) mod page;
pub(crate) mod problem;
mod stream;
mod sweep;

pub(crate) use problem::Problem;
