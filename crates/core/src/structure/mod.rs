//! Data structures that know no service. A machine is made of them; they never see a machine.

pub mod graph;
pub mod sequencer;
pub mod tracker;
