//! The list against the dumbest one: sort everything, then cut.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tidings_core::machine::rockets::{Command, Content, Delivery, RocketMessage, Rockets};
use tidings_core::machine::{Machine, Timestamp};

use super::*;

fn fleet(rockets: &[(u8, u8, i64, bool)]) -> Rockets {
    let mut machine = Rockets::default();
    for (id, kind, speed, exploded) in rockets {
        let launched = Content::Launched {
            kind: kind.to_string().into(),
            speed: *speed,
            mission: (kind / 2).to_string().into(),
        };
        // A kind of 0 was never launched.
        let first = if *kind == 0 { Content::SpeedIncreased(*speed) } else { launched };
        let last = if *exploded { Content::Exploded("?".into()) } else { Content::UnknownType(0) };
        for (number, content) in [(1, first), (2, last)] {
            let time = MessageTime { seconds: *speed, nanoseconds: 0 };
            let message = RocketMessage { time, content };
            let delivery = Delivery { channel: Channel([*id; 16]), number, message };
            machine.apply(Timestamp(0), Command::Deliver(delivery), &mut |_| {});
        }
    }
    machine
}

fn ids(page: &[u8]) -> Vec<String> {
    let rockets: Vec<serde_json::Value> = serde_json::from_slice(page).unwrap();
    rockets.iter().map(|rocket| rocket["id"].as_str().unwrap().to_owned()).collect()
}

proptest! {
    #[test]
    fn the_pages_joined_are_everything_sorted(
        rockets in prop::collection::vec((any::<u8>(), 0u8..5, 0i64..6, any::<bool>()), 0..60),
        sort in prop::sample::select(vec!["id", "type", "speed", "mission", "status", "updatedAt"]),
        order in prop::sample::select(vec!["asc", "desc"]),
        filter in prop::sample::select(vec!["", "&status=active", "&type=3", "&mission=1"]),
        limit in 1usize..20,
    ) {
        let machine = fleet(&rockets);
        let text = format!("sort={sort}&order={order}&limit={limit}{filter}");
        let query = Query::read(Some(&text)).unwrap();
        let mut expected: Vec<_> = machine.rockets().iter().filter(|rocket| query.wants(rocket)).collect();
        expected.sort_by(|a, b| query.order(&(query.key(a), a), &(query.key(b), b)));
        let expected: Vec<_> = expected.iter().map(|rocket| rocket.channel().to_string()).collect();
        let (mut seen, mut text) = (Vec::new(), text);
        loop {
            let (page, next) = Query::read(Some(&text)).unwrap().run(machine.rockets());
            let page = ids(&page);
            prop_assert!(page.len() <= limit);
            seen.extend(page);
            let Some(next) = next else { break };
            let cursor = page::cursor(&next);
            text = format!("sort={sort}&order={order}&limit={limit}{filter}&cursor={cursor}");
        }
        prop_assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len());
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn a_cursor_belongs_to_its_order() {
    let machine = fleet(&[(1, 1, 1, false), (2, 1, 1, false)]);
    let (_, next) = Query::read(Some("limit=1&sort=speed")).unwrap().run(machine.rockets());
    let cursor = page::cursor(&next.unwrap());
    assert!(Query::read(Some(&format!("sort=type&cursor={cursor}"))).is_err());
    assert!(Query::read(Some(&format!("sort=speed&cursor={cursor}"))).is_ok());
}
