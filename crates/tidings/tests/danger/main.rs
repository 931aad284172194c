//! What must not happen, a file for each danger, against the real binary.

mod disk_full;
mod kill_nine;
mod process;
mod stopping;
mod torn_tail;
