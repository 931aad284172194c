//! Tests of what a user sees, one module for each subject.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends where it does not go on"
)]

mod bad_input;
mod bulk;
mod chat;
mod connections;
mod consistency;
mod events;
mod golden;
mod list;
mod rockets;
mod support;
mod system;
mod tracker;
mod traffic;
