//! The graph against a map of sets, and its bounds.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

fn followers(graph: &Graph, id: u64) -> Vec<u64> {
    let mut ids: Vec<u64> =
        graph.followers(id).iter().map(|place| graph.ids()[*place as usize]).collect();
    ids.sort_unstable();
    ids
}

proptest! {
    #[test]
    fn a_graph_behaves_like_a_map_of_sets(
        steps in prop::collection::vec((0u8..5, 0u64..300, 0u64..4), 0..3000),
    ) {
        let mut graph = Graph::new(1000, 100_000);
        let mut model: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for (step, follower, followed) in steps {
            match step {
                0..=2 => {
                    let new = model.entry(followed).or_default().insert(follower);
                    let expected = if new { Followed::New } else { Followed::Again };
                    prop_assert_eq!(graph.follow(follower, followed), expected);
                }
                3 => {
                    let gone = model.entry(followed).or_default().remove(&follower);
                    prop_assert_eq!(graph.unfollow(follower, followed), gone);
                }
                _ => {
                    graph = Graph::from_parts(graph.to_parts(), 1000, 100_000).unwrap();
                }
            }
        }
        for (followed, expected) in &model {
            let expected: Vec<u64> = expected.iter().copied().collect();
            prop_assert_eq!(followers(&graph, *followed), expected);
        }
        let follows: usize = model.values().map(BTreeSet::len).sum();
        prop_assert_eq!(graph.follows(), follows as u64);
    }
}

#[test]
fn a_crowd_can_follow_and_unfollow_in_any_order() {
    let mut graph = Graph::new(10_000, 100_000);
    for follower in 1..=5000 {
        assert_eq!(graph.follow(follower, 0), Followed::New);
    }
    for follower in (1..=5000).step_by(2) {
        assert!(graph.unfollow(follower, 0));
    }
    for follower in (1..=5000).rev() {
        assert_eq!(graph.unfollow(follower, 0), follower % 2 == 0, "{follower}");
    }
    assert_eq!((graph.follows(), graph.followers(0).len()), (0, 0));
}

#[test]
fn beyond_its_bounds_a_follow_is_rejected() {
    let mut graph = Graph::new(3, 2);
    assert_eq!(graph.follow(1, 2), Followed::New);
    assert_eq!(graph.follow(1, 3), Followed::New);
    assert_eq!(graph.follow(2, 3), Followed::FollowsFull);
    assert_eq!(graph.follow(1, 3), Followed::Again);
    assert_eq!(graph.follow(1, 4), Followed::UsersFull);
    assert!(graph.unfollow(1, 2));
    assert_eq!(graph.follow(2, 3), Followed::New);
}

#[test]
fn contradictory_parts_are_rejected() {
    let parts = |ids: &[u64], followers: &[&[UserIndex]]| Parts {
        ids: ids.to_vec(),
        followers: followers.iter().map(|list| list.to_vec()).collect(),
    };
    let restores = |parts| Graph::from_parts(parts, 10, 10).is_some();
    assert!(restores(parts(&[5, 6], &[&[1], &[]])));
    assert!(!restores(parts(&[5, 5], &[&[1], &[]])));
    assert!(!restores(parts(&[5, 6], &[&[1]])));
    assert!(!restores(parts(&[5, 6], &[&[2], &[]])));
    assert!(!restores(parts(&[5, 6], &[&[1, 1], &[]])));
}
