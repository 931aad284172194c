//! What a user sees, a module for each subject.

mod bad_input;
mod bulk;
mod connections;
mod events;
mod golden;
mod list;
mod rockets;
mod support;
mod system;
