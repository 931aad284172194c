//! The registry against a map of who is connected.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn registry() -> Registry {
    Registry::new(Bounds {
        queue_bytes_max: 1 << 20,
        queues_bytes_max: 1 << 30,
        slow_wait: Duration::from_secs(5),
    })
}

fn sent(registry: &Registry, which: u32) -> String {
    let mut buffer = Vec::new();
    registry.swap(which, &mut buffer);
    registry.written(which, buffer.len());
    String::from_utf8(buffer).unwrap()
}

/// The connections, with their users and what each must have been sent.
type Model = BTreeMap<u32, (u64, String)>;

fn expect(model: &mut Model, line: &str, is_for: impl Fn(u64) -> bool) {
    let them = model.values_mut().filter(|(user, _)| is_for(*user));
    them.for_each(|(_, sent)| sent.push_str(line));
}

proptest! {
    /// Users 0 to 5 stand at the places 5 to 0 once they are placed.
    #[test]
    fn everyone_who_is_connected_gets_what_is_for_him(
        steps in prop::collection::vec((0u8..6, 0u8..6, 0usize..8), 0..200),
    ) {
        let registry = registry();
        let mut placed = [false; 6];
        let mut model = Model::new();
        for (i, (step, user, nth)) in steps.into_iter().enumerate() {
            let line = format!("{i}\n");
            let (stands, id) = (placed[usize::from(user)], u64::from(user));
            let place = UserIndex::from(5 - user);
            match step {
                0 => {
                    let which = registry.add(id, stands.then_some(place), Arc::default());
                    prop_assert!(model.insert(which, (id, String::new())).is_none());
                }
                1 => if let Some(which) = model.keys().nth(nth).copied() {
                    let (id, expected) = model.remove(&which).unwrap();
                    prop_assert_eq!(sent(&registry, which), expected);
                    let user = u8::try_from(id).unwrap();
                    let stands = placed[usize::from(user)];
                    registry.remove(which, |_| stands.then(|| UserIndex::from(5 - user)));
                },
                2 => {
                    registry.lock().deliver(line.as_bytes(), To::User(id));
                    expect(&mut model, &line, |other| other == id);
                }
                3 => {
                    registry.lock().deliver(line.as_bytes(), To::Everybody);
                    expect(&mut model, &line, |_| true);
                }
                4 => {
                    if !stands {
                        placed[usize::from(user)] = true;
                        registry.lock().placed(place, id);
                    }
                    let is_for = |other: u8| other % 2 == user % 2 && placed[usize::from(other)];
                    let places: Vec<UserIndex> =
                        (0..6).filter(|other| is_for(*other)).map(|other| UserIndex::from(5 - other)).collect();
                    let to = To::Followers { places: &places, ids: &[] };
                    registry.lock().deliver(line.as_bytes(), to);
                    expect(&mut model, &line, |other| is_for(u8::try_from(other).unwrap()));
                }
                _ => {
                    placed = [false; 6];
                    registry.lock().cleared();
                }
            }
            registry.lock().wake();
        }
        for (which, (_, expected)) in model {
            prop_assert_eq!(sent(&registry, which), expected);
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_the_source_once_and_is_cut_off() {
    let slow_wait = Duration::from_millis(50);
    let bounds = Bounds { queue_bytes_max: 1 << 20, queues_bytes_max: 1 << 30, slow_wait };
    let registry = Registry::new(bounds);
    let link = Arc::<Link>::default();
    registry.add(1, None, Arc::clone(&link));
    registry.lock().deliver(&vec![b'x'; (1 << 20) + 1], To::Everybody);
    let begun = Instant::now();
    registry.wait_for_room().await;
    assert!(begun.elapsed() >= slow_wait);
    link.cut.notified().await;
    registry.lock().deliver(&vec![b'x'; (1 << 20) + 1], To::Everybody);
    assert!(registry.full().0.is_empty(), "it holds nothing up again");
    assert_eq!(registry.cut_off.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn many_clients_that_stand_still_cost_little_more_than_one() {
    let registry = registry();
    let (mut links, mut taken) = (Vec::new(), Vec::new());
    for user in 0..100 {
        let link = Arc::<Link>::default();
        let which = registry.add(user, None, Arc::clone(&link));
        registry.lock().deliver(b"x\n", To::User(user));
        assert!(registry.swap(which, &mut taken), "its writer is stuck with this");
        links.push((user, link));
        taken.clear();
    }
    let begun = Instant::now();
    for (user, link) in links {
        registry.lock().deliver(&vec![b'x'; 1 << 20], To::User(user));
        registry.wait_for_room().await;
        link.cut.notified().await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(5), "the first is waited for");
    assert!(begun.elapsed() <= Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_on_reading_is_not_cut_off_for_having_stood_still() {
    let registry = registry();
    let link = Arc::<Link>::default();
    let which = registry.add(1, None, Arc::clone(&link));
    let mut taken = Vec::new();
    registry.lock().deliver(b"x\n", To::User(1));
    registry.swap(which, &mut taken);
    tokio::time::advance(Duration::from_secs(60)).await;
    registry.lock().deliver(&vec![b'x'; 1 << 20], To::User(1));
    let reading = async {
        tokio::time::sleep(PATIENCE_MIN / 2).await;
        registry.written(which, 2);
    };
    tokio::join!(reading, registry.wait_for_room());
    assert_eq!(registry.cut_off.load(Ordering::Relaxed), 0);
}

/// Says that the source is another node's, and delivers to everybody.
fn deliver_from_elsewhere(registry: &Registry, bytes: usize) -> bool {
    let mut inner = registry.lock();
    registry.watch_queues(&mut inner, true);
    inner.deliver(&vec![b'x'; bytes], To::Everybody);
    inner.take_over_share()
}

#[tokio::test(start_paused = true)]
async fn a_source_elsewhere_is_told_at_half_a_share_and_room_is_waited_for_below_that() {
    let registry = registry();
    let which = registry.add(1, None, Arc::default());
    assert!(!deliver_from_elsewhere(&registry, 1 << 19));
    assert!(registry.wait_for_change(Duration::MAX).await, "there is room");
    assert!(deliver_from_elsewhere(&registry, 1));
    assert!(!registry.wait_for_change(Duration::from_secs(2)).await);
    assert_eq!(registry.lock().waiting, (1 << 19) + 1);
    assert_eq!(sent(&registry, which).len(), (1 << 19) + 1);
    assert!(registry.wait_for_change(Duration::MAX).await);
    let inner = registry.lock();
    assert_eq!((inner.waiting, inner.overflowed), (0, 0));
}

#[tokio::test]
async fn what_comes_from_elsewhere_is_taken_while_there_is_room_for_all_and_then_the_fullest_go() {
    let slow_wait = Duration::from_secs(5);
    let bounds = Bounds { queue_bytes_max: 1 << 10, queues_bytes_max: 8 << 10, slow_wait };
    let registry = Registry::new(bounds);
    let links = [Arc::<Link>::default(), Arc::default()];
    let stopped = registry.add(1, None, Arc::clone(&links[0]));
    deliver_from_elsewhere(&registry, 7 << 10);
    registry.add(2, None, Arc::clone(&links[1]));
    assert_eq!(registry.lock().overflowed, 0, "more than its share, but there is room");
    deliver_from_elsewhere(&registry, 1 << 10);
    deliver_from_elsewhere(&registry, 1);
    links[0].cut.notified().await;
    let inner = registry.lock();
    assert_eq!((inner.overflowed, inner.waiting), (1, (1 << 10) + 1), "the other one stays");
    drop(inner);
    registry.remove(stopped, |_| None);
    assert_eq!(registry.lock().waiting, (1 << 10) + 1);
}
