//! Data structures that know no service. A machine is made of them; they never see a machine.

pub mod graph;
pub mod inbox;
pub(crate) mod index;
pub mod sequencer;
pub(crate) mod slab;
pub mod tally;
pub mod tracker;
pub mod wheel;
