//! Two nodes on one log, on clocks that are set by hand and disagree.

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use tidings_log::{AppendError, Batch, Bounds, Error, Log, Memory, Origin, Position, Snapshot};

use super::*;
use crate::clock::{Clock, Manual};
use crate::node::{Builder, Node};
use crate::shared::Settings;

/// The time, and how far a node's clock is off.
#[derive(Default)]
struct Skewed {
    time: Arc<Manual>,
    behind_ms: AtomicU64,
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        Timestamp(self.time.now().0 - self.behind_ms.load(Ordering::Relaxed))
    }
    fn steady(&self) -> Duration {
        self.time.steady()
    }
}

/// A log whose appends take a while of that time, before and after they are done, or do not get
/// through at all.
struct Slow {
    log: Memory,
    time: Arc<Manual>,
    before_ms: Arc<AtomicU64>,
    after_ms: Arc<AtomicU64>,
    silent: Arc<AtomicBool>,
}

fn later(time: &Manual, ms: u64) {
    time.set(Timestamp(time.now().0 + ms));
}

impl Log for Slow {
    fn origin(&self) -> Origin {
        self.log.origin()
    }
    fn bounds(&mut self) -> Result<Bounds, Error> {
        self.log.bounds()
    }
    fn last_number(&self) -> u64 {
        self.log.last_number()
    }
    fn append(&mut self, number: u64, body: &[u8]) -> Result<Position, AppendError> {
        if self.silent.load(Ordering::Relaxed) {
            std::thread::yield_now();
            return Err(AppendError::Unknown("no answer came".to_owned()));
        }
        later(&self.time, self.before_ms.load(Ordering::Relaxed));
        let appended = self.log.append(number, body);
        later(&self.time, self.after_ms.load(Ordering::Relaxed));
        appended
    }
    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Vec<Batch>, Error> {
        self.log.read(from, bytes_max)
    }
    fn write_snapshot(&mut self, _: Position, _: u32, _: &[u8], _: bool) -> Result<(), Error> {
        Err(Error::Store("it takes no snapshots".to_owned()))
    }
    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        Ok(None)
    }
    fn truncate(&mut self, before: Position) -> Result<u64, Error> {
        self.log.truncate(before)
    }
    fn check(&mut self) -> Result<(), Error> {
        Ok(())
    }
    fn is_shared(&self) -> bool {
        self.log.is_shared()
    }
    fn on_news(&mut self, tell: Box<dyn Fn() + Send + Sync>) {
        self.log.on_news(tell);
    }
}

/// A node, a lease on it, and what can be done to them.
struct Seat {
    node: Node,
    lease: Lease,
    clock: Arc<Skewed>,
    before_ms: Arc<AtomicU64>,
    after_ms: Arc<AtomicU64>,
    silent: Arc<AtomicBool>,
}

impl Seat {
    fn over(log: Memory, time: &Arc<Manual>) -> Self {
        let clock = Arc::new(Skewed { time: Arc::clone(time), ..Skewed::default() });
        let settings = Settings { snapshot_on_stop: false, ..Settings::default() };
        let builder = Builder::with_clock(settings, Arc::clone(&clock) as Arc<_>);
        let (before_ms, after_ms, silent) = (Arc::default(), Arc::default(), Arc::default());
        let slow = Slow {
            log,
            time: Arc::clone(time),
            before_ms: Arc::clone(&before_ms),
            after_ms: Arc::clone(&after_ms),
            silent: Arc::clone(&silent),
        };
        let node = builder.start(Box::new(slow), |_| {}).unwrap();
        let lease = node.lease("what only one may do");
        Self { node, lease, clock, before_ms, after_ms, silent }
    }
}

/// Two nodes on one log.
fn two() -> (Seat, Seat, Arc<Manual>) {
    let time = Arc::new(Manual::default());
    time.set(Timestamp(1_000_000));
    let log = Memory::default();
    let other = log.join(Origin(77));
    (Seat::over(log, &time), Seat::over(other, &time), time)
}

fn run<F: Future>(test: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().unwrap().block_on(test)
}

fn token(taken: Taken) -> u64 {
    match taken {
        Taken::Held { token } => token,
        Taken::Other { .. } | Taken::Full => panic!("it is not held: {taken:?}"),
    }
}

#[test]
fn one_of_two_nodes_holds_it_and_the_other_when_it_has_run_out() {
    run(async {
        let (one, other, time) = two();
        let first = token(one.lease.take().await.unwrap());
        let until = Timestamp(1_000_000 + 5000);
        assert_eq!(other.lease.take().await, Ok(Taken::Other { until }));
        assert!(one.lease.is_held_as(first) && !other.lease.is_held());
        later(&time, 3999);
        assert!(one.lease.is_held());
        later(&time, 1);
        assert!(!one.lease.is_held(), "it stops by itself a second before others may begin");
        assert_eq!(other.lease.take().await, Ok(Taken::Other { until }));
        later(&time, 1000);
        let second = token(other.lease.take().await.unwrap());
        assert!(second > first);
        assert!(matches!(one.lease.take().await, Ok(Taken::Other { .. })));
        other.lease.give();
        assert!(!other.lease.is_held());
        other.node.barrier().await.unwrap();
        assert!(token(one.lease.take().await.unwrap()) > second);
        assert!(matches!(other.lease.take().await, Ok(Taken::Other { .. })));
    });
}

#[test]
fn a_renewal_keeps_the_token_and_counts_from_before_it_was_proposed() {
    run(async {
        let (one, _other, time) = two();
        let first = token(one.lease.take().await.unwrap());
        later(&time, 3000);
        one.after_ms.store(1500, Ordering::Relaxed);
        assert_eq!(one.lease.take().await, Ok(Taken::Held { token: first }));
        assert_eq!(one.lease.left(), Some(Duration::from_millis(2500)));
    });
}

#[test]
fn a_clock_that_is_put_forward_ends_it_even_if_the_other_clock_stood_still() {
    run(async {
        let (one, _other, _time) = two();
        one.clock.behind_ms.store(100_000, Ordering::Relaxed);
        one.lease.take().await.unwrap();
        one.clock.behind_ms.store(96_001, Ordering::Relaxed);
        assert!(one.lease.is_held());
        one.clock.behind_ms.store(96_000, Ordering::Relaxed);
        assert!(!one.lease.is_held());
    });
}

#[test]
fn each_handle_of_a_node_is_a_holder_of_its_own_and_each_life_too() {
    run(async {
        let (one, _other, _time) = two();
        one.lease.take().await.unwrap();
        let second = one.node.lease("what only one may do");
        assert!(matches!(second.take().await, Ok(Taken::Other { .. })));
        assert!(second.is_taken() && !second.is_held());
        assert!(!one.node.lease("something else").is_taken());
        assert!(one.lease.clone().is_held());
    });
}

#[test]
fn alone_on_a_log_and_in_memory_it_is_held_at_once_and_nothing_is_logged() {
    run(async {
        let alone = Builder::new(Settings::default()).start(Box::new(Memory::default()), |_| {});
        let in_memory = Builder::new(Settings::default()).start_in_memory();
        for node in [alone.unwrap(), in_memory] {
            let before = node.stats();
            let lease = node.lease("what only one may do");
            let keeper = lease.keep();
            assert_eq!(lease.held().await, 0);
            assert_eq!(lease.take().await, Ok(Taken::Held { token: 0 }));
            drop(keeper);
            assert!(lease.is_held() && lease.left() == Some(Duration::MAX));
            let after = node.stats();
            assert_eq!((after.batches, after.entries), (before.batches, before.entries));
            node.stop().await.unwrap();
        }
    });
}

#[test]
fn a_keeper_takes_it_and_when_it_goes_the_other_has_it_at_once() {
    run(async {
        let (one, other, _time) = two();
        let keeper = one.lease.keep();
        let first = one.lease.held().await;
        let waiting = other.lease.keep();
        one.node.barrier().await.unwrap();
        assert!(!other.lease.is_held());
        // The time stands still: it does not run out, it is given back.
        drop(keeper);
        one.lease.lost(first).await;
        assert!(other.lease.held().await > first);
        drop(waiting);
    });
}

#[test]
fn a_node_that_stops_gives_back_what_it_held() {
    run(async {
        let (one, other, _time) = two();
        let keeper = one.lease.keep();
        one.lease.held().await;
        drop(keeper);
        one.node.stop().await.unwrap();
        assert!(matches!(other.lease.take().await, Ok(Taken::Held { .. })));
    });
}

#[test]
fn a_holder_whose_log_does_not_answer_stops_being_one_by_itself_and_finds_out_who_is() {
    run(async {
        let (one, other, time) = two();
        let keeper = one.lease.keep();
        let first = one.lease.held().await;
        one.silent.store(true, Ordering::Relaxed);
        later(&time, 2000);
        // A renewal that is not appended. It begins here so that it waits for less than the 5 s after which the log counts
        // as stalled and the take would fail.
        let stuck = tokio::spawn({
            let lease = one.lease.clone();
            async move { lease.take().await }
        });
        later(&time, 2000);
        one.lease.lost(first).await;
        assert!(!one.lease.is_held());
        later(&time, 1000);
        let second = token(other.lease.take().await.unwrap());
        one.silent.store(false, Ordering::Relaxed);
        assert!(matches!(stuck.await.unwrap(), Ok(Taken::Other { .. })));
        assert!(other.lease.is_held_as(second) && !one.lease.is_held());
        drop(keeper);
    });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take(bool),
    Give(bool),
    /// Time passes.
    Later(u64),
    /// A clock is put somewhere else within the bound.
    Skew(bool, u64),
    /// Appends of one node take so long, before and after they are done.
    Delay(bool, u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let delay = prop_oneof![2 => Just(0u64), 1 => 0..7000u64];
    prop_oneof![
        6 => any::<bool>().prop_map(Step::Take),
        1 => any::<bool>().prop_map(Step::Give),
        5 => (0..3000u64).prop_map(Step::Later),
        2 => (any::<bool>(), 0..1000u64).prop_map(|(one, skew)| Step::Skew(one, skew)),
        1 => (any::<bool>(), delay.clone(), delay).prop_map(|(one, b, a)| Step::Delay(one, b, a)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn two_holders_are_never_both_valid_while_clocks_keep_to_the_bound(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        run(async {
            let (one, other, time) = two();
            let seat = |which| if which { &one } else { &other };
            let mut highest = 0;
            for step in steps {
                match step {
                    Step::Take(which) => {
                        let taken = seat(which).lease.take().await.unwrap();
                        if let Taken::Held { token } = taken {
                            assert!(token >= highest, "a token never falls");
                            highest = token;
                        }
                    }
                    Step::Give(which) => {
                        seat(which).lease.give();
                        seat(which).node.barrier().await.unwrap();
                    }
                    Step::Later(ms) => later(&time, ms),
                    Step::Skew(which, ms) => {
                        seat(which).clock.behind_ms.store(ms, Ordering::Relaxed);
                    }
                    Step::Delay(which, before, after) => {
                        seat(which).before_ms.store(before, Ordering::Relaxed);
                        seat(which).after_ms.store(after, Ordering::Relaxed);
                    }
                }
                let held = [one.lease.token(), other.lease.token()];
                assert!(held.iter().flatten().count() < 2, "both hold it: {held:?} after {step:?}");
                if let Some(token) = held.iter().flatten().next() {
                    assert_eq!(*token, highest, "the valid holder has the newest token");
                }
            }
        });
    }
}
