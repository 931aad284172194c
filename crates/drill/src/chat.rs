//! The drill of the chat.

pub mod judge;
