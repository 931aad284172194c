//! Data structures that know no service. The machines are built from them, and they never see a machine.

pub mod graph;
pub mod inbox;
pub(crate) mod index;
pub mod sequencer;
pub(crate) mod slab;
pub mod tally;
pub mod tracker;
pub mod wheel;
