//! A cluster without faults. It shows that the drills themselves pass against three nodes, so that a failure in the
//! other files is due to a fault.

use crate::world::World;

#[test]
fn every_drill_passes_against_three_nodes() {
    let Some(world) = World::start(&[]) else { return };
    world.passes(&[
        "rockets --messages 10000 --senders 24",
        "rockets --messages 50000 --bulk 500",
        "chat --messages 5000",
        "tracker --messages 1500 --steps 100",
        "maze --events 100000 --mix heavy --duplicates 0.1 --malformed 0.05 --returning 10",
        "maze --events 100000 --slow 4",
        "traffic --rate 2000 --communications 10000 --array 10 --updates 30 --drops 2 --closes 1",
    ]);
    world.agrees();
}
