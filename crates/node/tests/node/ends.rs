//! How a node ends: stopped, dropped, with its log, with its runtime, with its process.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidings_core::machine::{Machine, Malformed, Timestamp};
use tidings_log::faulty::{Fault, Faulty};
use tidings_log::{Log, Memory};
use tidings_node::{Builder, Refused, Settings};

use crate::support::{Gated, Sum, over, propose, until};

#[tokio::test]
async fn a_node_that_was_stopped_takes_nothing_and_has_lost_nothing() {
    let log = Memory::default();
    let (node, sum) = over(log.reopen(), Settings::default());
    assert_eq!(sum.propose(7).await, Ok(7));
    node.stop().await.unwrap();
    assert_eq!(sum.propose(7).await, Err(Refused::Stopping));
    let (node, sum) = over(log.reopen(), Settings::default());
    assert_eq!(sum.read(|sum| sum.total), 7);
    assert_eq!(node.stats().replayed, 0, "the last snapshot covers everything");
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_broken_log_says_so_to_everybody() {
    let log = Faulty::scripted(Memory::default(), [None, Some(Fault::Broken)]);
    let (node, sum) = over(log, Settings::default());
    assert_eq!(sum.propose(1).await, Ok(1));
    assert!(matches!(sum.propose(1).await, Err(Refused::Failed(_))));
    assert!(node.failed().await.to_string().contains("the log is broken"));
    assert!(matches!(sum.propose(1).await, Err(Refused::Failed(_))));
    assert!(node.stop().await.is_err());
}

#[tokio::test]
async fn a_runtime_that_ends_leaves_the_node_to_the_others() {
    let log = Memory::default();
    let (node, sum) = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let started = runtime.block_on(async { over(log, Settings::default()) });
        runtime.block_on(async { started.1.propose(1).await.unwrap() });
        started
    })
    .join()
    .unwrap();
    assert_eq!(sum.propose(1).await, Ok(2));
    node.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_answers_what_was_accepted_and_refuses_what_comes_later() {
    let (log, gate, appends) = Gated::new(Memory::default());
    let (node, sum) = over(log, Settings::default());
    let committing = propose(&sum, 1).await;
    until(|| appends.load(Ordering::SeqCst) == 1).await;
    let waiting = propose(&sum, 1).await;
    let stopping = tokio::spawn(async move { (node.stop().await, node.check().await) });
    tokio::task::yield_now().await;
    let late = propose(&sum, 1).await;
    gate.open();
    assert_eq!(committing.await.unwrap(), Ok(1));
    assert_eq!(waiting.await.unwrap(), Ok(2));
    assert_eq!(late.await.unwrap(), Err(Refused::Stopping));
    let (stopped, checked) = stopping.await.unwrap();
    assert!(stopped.is_ok());
    assert_eq!(checked, Err(Refused::Stopping));
}

#[tokio::test]
async fn a_dropped_node_answers_what_it_has_and_lets_the_log_go() {
    let (log, gate, appends) = Gated::new(Memory::default());
    let (node, sum) = over(log, Settings::default());
    let committing = propose(&sum, 1).await;
    until(|| appends.load(Ordering::SeqCst) == 1).await;
    let waiting = propose(&sum, 1).await;
    drop(node);
    assert_eq!(sum.propose(1).await, Err(Refused::Stopping));
    gate.open();
    assert_eq!(committing.await.unwrap(), Ok(1));
    assert_eq!(waiting.await.unwrap(), Ok(2));
    until(|| Arc::strong_count(&appends) == 1).await;
}

#[tokio::test]
async fn a_node_that_has_ended_leaves_no_task_behind() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (node, sum) = over(Memory::default(), Settings::default());
    sum.propose(1).await.unwrap();
    assert_eq!(tasks(), 1, "the one that gathers proposals");
    node.stop().await.unwrap();
    until(|| tasks() == 0).await;
}

#[tokio::test]
async fn a_node_in_memory_that_was_stopped_takes_nothing_either() {
    let mut builder = Builder::new(Settings::default());
    let sum = builder.add(1, "sum", Sum::default());
    let node = builder.start_in_memory();
    sum.propose(1).await.unwrap();
    node.check().await.unwrap();
    node.stop().await.unwrap();
    assert_eq!(sum.propose(1).await, Err(Refused::Stopping));
    assert_eq!(sum.propose_all(vec![1]).await, Err(Refused::Stopping));
    assert_eq!(node.check().await, Err(Refused::Stopping));
    assert_eq!(sum.read(|sum| sum.total), 1);
}

#[tokio::test]
async fn what_waits_behind_a_commit_that_breaks_the_log_fails_with_it() {
    let broken = Faulty::scripted(Memory::default(), [Some(Fault::Broken)]);
    let (log, gate, appends) = Gated::new(broken);
    let (node, sum) = over(log, Settings::default());
    let committing = propose(&sum, 1).await;
    until(|| appends.load(Ordering::SeqCst) == 1).await;
    let waiting = propose(&sum, 1).await;
    gate.open();
    for failed in [committing, waiting] {
        assert!(matches!(failed.await.unwrap(), Err(Refused::Failed(_))));
    }
    assert!(node.failed().await.to_string().contains("the log is broken"));
    assert_eq!(sum.read(|sum| sum.total), 0);
}

#[tokio::test]
async fn a_start_that_fails_fails_who_has_proposed_already() {
    let mut log = Memory::default();
    log.append(1, b"nothing that a node has written").unwrap();
    let mut builder = Builder::new(Settings::default());
    let sum = builder.add(1, "sum", Sum::default());
    let early = propose(&sum, 1).await;
    assert!(builder.start(Box::new(log), |_| {}).is_err());
    assert!(matches!(early.await.unwrap(), Err(Refused::Failed(_))));
}

#[tokio::test]
async fn what_was_proposed_before_the_start_is_committed_by_it() {
    let mut builder = Builder::new(Settings::default());
    let sum = builder.add(1, "sum", Sum::default());
    let early = propose(&sum, 1).await;
    let node = builder.start(Box::new(Memory::default()), |_| {}).unwrap();
    assert_eq!(early.await.unwrap(), Ok(1));
    node.stop().await.unwrap();
}

/// Cannot do what it is told.
struct Panics;

impl Machine for Panics {
    type Command = ();
    type Reply = ();
    type Event = ();

    fn apply(&mut self, _at: Timestamp, (): (), _emit: &mut impl FnMut(())) {
        panic!("it cannot be applied");
    }

    fn snapshot(&self, _out: &mut Vec<u8>) {}

    fn restore(_bytes: &[u8]) -> Result<Self, Malformed> {
        Ok(Self)
    }
}

/// Set in the process that is to die.
const DIES: &str = "TIDINGS_TEST_DIES";

#[tokio::test]
async fn a_machine_that_panics_ends_the_process_and_hangs_nobody() {
    if std::env::var_os(DIES).is_some() {
        let mut builder = Builder::new(Settings::default());
        let panics = builder.add(1, "panics", Panics);
        let _node = builder.start(Box::new(Memory::default()), |_| {}).unwrap();
        // It stands in the log: if there is time for an answer, then not that nothing has changed.
        let answer = panics.propose(()).await;
        assert!(matches!(answer, Err(Refused::Failed(_))), "answered {answer:?}");
        std::future::pending::<()>().await;
    }
    let name = "ends::a_machine_that_panics_ends_the_process_and_hangs_nobody";
    let mut process = std::process::Command::new(std::env::current_exe().unwrap());
    let process = process.args(["--exact", name, "--nocapture"]).env(DIES, "1").output().unwrap();
    let told = String::from_utf8_lossy(&process.stderr);
    assert!(told.contains("it cannot be applied") && !told.contains("answered"), "{told}");
    use std::os::unix::process::ExitStatusExt;
    assert!(process.status.signal().is_some(), "it is aborted: {}", process.status);
}
