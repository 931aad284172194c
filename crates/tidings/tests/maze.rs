//! The maze, from outside: what was measured of other servers of this protocol and must not happen
//! here, each against the real binary, and what a person sees of it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends where it does not go on"
)]

mod maze_support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use maze_support::{PATIENCE, Server, until};

#[test]
fn a_missing_number_one_keeps_memory_bounded_and_is_skipped() {
    let server = Server::start(&["--maze-held-max", "1000", "--maze-gap-wait", "1h"]);
    let mut client = server.client(1);
    let mut source = server.source();
    let before = server.resident_bytes();
    let lines: String =
        (2..400_000).map(|number| format!("{number}|P|2|1\n")).collect::<Vec<_>>().concat();
    source.write_all(lines.as_bytes()).unwrap();
    assert_eq!(client.lines(399_998).last().unwrap(), "399999|P|2|1\n");
    assert_eq!(server.shows("gaps"), 1);
    assert_eq!(server.shows("lost"), 1);
    assert!(server.resident_bytes() < before + (32 << 20), "bounded");
}

#[test]
fn a_gap_is_skipped_after_its_wait_while_the_source_stays_open() {
    let server = Server::start(&["--maze-gap-wait", "50ms"]);
    let mut client = server.client(1);
    let mut source = server.source();
    source.write_all(b"2|B\n").unwrap();
    assert_eq!(client.lines(1), ["2|B\n"]);
    source.write_all(b"1|B\n3|B\n").unwrap();
    assert_eq!(client.lines(1), ["3|B\n"]);
    assert_eq!(server.shows("late"), 1);
}

#[test]
fn a_malformed_line_crashes_nothing_and_uses_up_no_number() {
    let server = Server::start(&[]);
    let mut client = server.client(1);
    let mut source = server.source();
    source.write_all(b"1|X|1\nhello\n\n1|\xff\xfe\n1|P|2\n1|B\n|||\n2|B|\n2|B\r\n").unwrap();
    assert_eq!(client.lines(2), ["1|B\n", "2|B\r\n"]);
    assert_eq!(server.shows("malformed"), 7);
}

#[test]
fn a_client_that_sends_nothing_or_garbage_affects_no_other_client() {
    let server = Server::start(&["--maze-handshake-wait", "100ms"]);
    let mut silent = server.connect_client();
    let mut garbage: Vec<_> = ["x\n", "-1\n", "\n", "1 2\n", "18446744073709551616\n"]
        .into_iter()
        .map(|text| {
            let mut stream = server.connect_client();
            stream.write_all(text.as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut endless = server.connect_client();
    endless.write_all(&[b'1'; 100]).unwrap();
    let mut client = server.client(1);
    let mut source = server.source();
    source.write_all(b"1|B\n").unwrap();
    assert_eq!(client.lines(1), ["1|B\n"]);
    garbage.extend([std::mem::replace(&mut silent, endless)]);
    garbage.push(silent);
    for mut stream in garbage {
        // Closed, or reset because it was still sending.
        let mut waste = Vec::new();
        drop(stream.read_to_end(&mut waste));
        assert!(waste.is_empty());
    }
    until("they are counted", || server.shows("clients_refused") == 7);
}

#[test]
fn a_reader_that_stops_costs_the_others_a_bounded_time_once() {
    let slow = ["--maze-slow-client-wait", "300ms", "--maze-client-queue-bytes-max", "1MiB"];
    let server = Server::start(&slow);
    let _stopped = server.client(1);
    let mut client = server.client(2);
    let mut source = server.source();
    let count = 2_000_000;
    let piece = 20_000;
    // However slowly it gets to read on this machine, what waits for the other is less than its queue.
    let (read, may_send) = std::sync::mpsc::sync_channel(4);
    (0..4).for_each(|_| read.send(()).unwrap());
    let sending = std::thread::spawn(move || {
        for first in (1..=count).step_by(piece) {
            may_send.recv().unwrap();
            let lines: Vec<String> =
                (first..first + piece).map(|number| format!("{number}|B\n")).collect();
            source.write_all(lines.concat().as_bytes()).unwrap();
        }
        source
    });
    for first in (1..=count).step_by(piece) {
        let lines = client.lines(piece);
        assert_eq!(lines.last().unwrap(), &format!("{}|B\n", first + piece - 1));
        // At the end nobody waits for it.
        let _ended = read.send(());
    }
    drop(sending.join().unwrap());
    until("it is cut off", || server.shows("slow_clients_cut") == 1);
    until("it is gone", || server.shows("clients") == 1);
}

#[test]
fn a_number_queued_behind_a_stalled_reader_is_not_skipped() {
    let server = Server::start(&[
        "--maze-gap-wait",
        "100ms",
        "--maze-slow-client-wait",
        "2s",
        "--maze-client-queue-bytes-max",
        "64KiB",
    ]);
    let _stopped = server.client(1);
    let mut client = server.client(2);
    let mut source = server.source();
    let count = 1_000_000;
    let sending = std::thread::spawn(move || {
        // Backwards, a hundred at a time: wherever the source is stopped, a number is missing.
        for last in (100..=count).step_by(100) {
            let lines: Vec<String> =
                (last - 99..=last).rev().map(|number| format!("{number}|B\n")).collect();
            source.write_all(lines.concat().as_bytes()).unwrap();
        }
        source
    });
    let lines = client.lines_to(&format!("{count}|B\n"));
    assert_eq!((lines, server.shows("lost")), (count, 0));
    drop(sending.join().unwrap());
    until("it is cut off", || server.shows("slow_clients_cut") == 1);
    assert_eq!(server.shows("lost"), 0);
}

#[test]
fn a_number_that_arrived_while_the_server_was_paused_is_not_skipped() {
    let server = Server::start(&["--maze-gap-wait", "1s"]);
    let mut client = server.client(1);
    let mut source = server.source();
    for first in [1, 4, 7] {
        source.write_all(format!("{}|B\n", first + 1).as_bytes()).unwrap();
        until("it is held", || server.shows("held") == 1);
        server.stand_still(true);
        source.write_all(format!("{first}|B\n").as_bytes()).unwrap();
        // Time is what passes here: more than the gap is waited for.
        std::thread::sleep(Duration::from_millis(1100));
        server.stand_still(false);
        source.write_all(format!("{}|B\n", first + 2).as_bytes()).unwrap();
        let lines = [0, 1, 2].map(|more| format!("{}|B\n", first + more));
        assert_eq!(client.lines(3), lines);
    }
    assert_eq!(server.shows("lost"), 0);
}

#[test]
fn a_gap_is_skipped_after_its_wait_although_the_source_never_pauses() {
    let server = Server::start(&["--maze-gap-wait", "50ms", "--maze-held-max", "100000000"]);
    let mut client = server.client(1);
    let mut source = server.source();
    let (seen, stop) = std::sync::mpsc::sync_channel::<()>(1);
    let sending = std::thread::spawn(move || {
        let mut first = 2;
        while stop.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let lines: Vec<String> =
                (first..first + 1000).map(|number| format!("{number}|P|1|1\n")).collect();
            source.write_all(lines.concat().as_bytes()).unwrap();
            first += 1000;
        }
        source
    });
    assert_eq!(client.lines(1), ["2|P|1|1\n"]);
    drop(seen);
    // Nobody reads the rest: the server is not to wait for that.
    drop(client);
    drop(sending.join().unwrap());
    assert_eq!((server.shows("gaps"), server.shows("lost")), (1, 1));
}

#[test]
fn the_last_lines_come_at_once_while_the_source_stays_open() {
    let server = Server::start(&[]);
    let mut client = server.client(1);
    let mut source = server.source();
    for number in 1..=50 {
        let line = format!("{number}|P|2|1\n");
        source.write_all(line.as_bytes()).unwrap();
        assert_eq!(client.lines(1), [line]);
    }
}

#[test]
fn the_last_lines_come_in_order_when_the_source_closes_with_events_held() {
    let server = Server::start(&[]);
    let mut client = server.client(1);
    let mut source = server.source();
    source.write_all(b"9|B\n3|B\n5|P|2|1\n1|B\n7|S|").unwrap();
    assert_eq!(client.lines(1), ["1|B\n"]);
    drop(source);
    assert_eq!(client.lines(3), ["3|B\n", "5|P|2|1\n", "9|B\n"]);
    until("all is counted", || server.shows("lost") == 5 && server.shows("malformed") == 1);
}

#[test]
fn a_new_source_starts_at_one_with_an_empty_graph_after_everything_of_the_last_is_delivered() {
    let server = Server::start(&[]);
    let mut client = server.client(1);
    for _ in 0..20 {
        let mut source = server.source();
        // The one before has closed, but maybe not everything it sent has been dealt with.
        source.write_all(b"2|S|2\n1|F|1|2\n4|S|2\n").unwrap();
        drop(source);
        assert_eq!(client.lines(2), ["2|S|2\n", "4|S|2\n"]);
    }
    assert_eq!(server.shows("sources_refused"), 0);
}

#[test]
fn a_second_follow_does_not_double_a_delivery() {
    let server = Server::start(&[]);
    let (mut follower, mut followed) = (server.client(1), server.client(2));
    let mut source = server.source();
    source.write_all(b"1|F|1|2\n2|F|1|2\n3|S|2\n4|U|1|2\n5|S|2\n6|B\n").unwrap();
    assert_eq!(follower.lines(2), ["3|S|2\n", "6|B\n"]);
    assert_eq!(followed.lines(3), ["1|F|1|2\n", "2|F|1|2\n", "6|B\n"]);
}

#[test]
fn lines_may_come_a_byte_at_a_time() {
    let server = Server::start(&[]);
    let mut client = server.client(1);
    let mut source = server.source();
    source.set_nodelay(true).unwrap();
    for byte in b"2|P|7|1\r\n1|F|9|1\n3|B\n" {
        source.write_all(&[*byte]).unwrap();
    }
    assert_eq!(client.lines(3), ["1|F|9|1\n", "2|P|7|1\r\n", "3|B\n"]);
}

#[test]
fn a_line_of_64_megabytes_is_not_buffered_and_is_counted_once() {
    let server = Server::start(&[]);
    let mut client = server.client(1);
    let mut source = server.source();
    source.write_all(b"1|B\n").unwrap();
    assert_eq!(client.lines(1), ["1|B\n"]);
    let before = server.resident_bytes();
    for _ in 0..64 {
        source.write_all(&vec![b'9'; 1 << 20]).unwrap();
    }
    source.write_all(b"|B\n2|B\n").unwrap();
    assert_eq!(client.lines(1), ["2|B\n"]);
    assert!(server.resident_bytes() < before + (8 << 20), "not buffered");
    assert_eq!(server.shows("malformed"), 1);
}

#[test]
fn a_source_that_has_ended_is_closed_when_all_is_delivered() {
    let server = Server::start(&[]);
    let mut client = server.client(1);
    let mut source = server.source();
    source.write_all(b"2|B\n").unwrap();
    source.shutdown(Shutdown::Write).unwrap();
    assert_eq!(source.read(&mut [0; 9]).unwrap(), 0);
    assert_eq!(client.lines(1), ["2|B\n"]);
}

#[test]
fn a_second_source_is_rejected_while_one_is_connected() {
    let server = Server::start(&[]);
    let mut client = server.client(1);
    let mut first = server.source();
    first.write_all(b"1|B\n").unwrap();
    assert_eq!(client.lines(1), ["1|B\n"]);
    let mut second = server.source();
    // Closed, or reset because it was still sending.
    drop(second.write_all(b"2|P|1|1\n"));
    assert!(matches!(second.read(&mut [0; 9]), Ok(0) | Err(_)));
    first.write_all(b"2|B\n").unwrap();
    assert_eq!(client.lines(1), ["2|B\n"]);
    assert_eq!(server.shows("sources_refused"), 1);
}

#[test]
fn several_connections_of_one_user_get_each_all_and_one_that_leaves_is_not_missed() {
    let server = Server::start(&[]);
    let (mut one, two, mut three) = (server.client(1), server.client(1), server.client(1));
    let mut source = server.source();
    source.write_all(b"1|P|2|1\n2|F|1|3\n").unwrap();
    assert_eq!(
        (one.lines(1), three.lines(1)),
        (vec!["1|P|2|1\n".into()], vec!["1|P|2|1\n".into()])
    );
    drop(two);
    until("it has left", || server.shows("clients") == 2);
    source.write_all(b"3|S|3\n").unwrap();
    assert_eq!((one.lines(1), three.lines(1)), (vec!["3|S|3\n".into()], vec!["3|S|3\n".into()]));
}

#[test]
fn a_client_gets_what_it_follows_although_it_connects_later() {
    let server = Server::start(&[]);
    let mut source = server.source();
    source.write_all(b"1|F|1|2\n").unwrap();
    until("the follow stands", || server.shows("follows") == 1);
    let mut client = server.client(1);
    source.write_all(b"2|S|2\n").unwrap();
    assert_eq!(client.lines(1), ["2|S|2\n"]);
}

#[test]
fn what_was_accepted_before_a_crash_and_not_yet_released_is_released_after_it_and_nothing_twice() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_on(data.path(), &["--maze-gap-wait", "2s"]);
    let mut client = server.client(1);
    let mut source = server.source();
    source.write_all(b"1|B\n3|B\n4|F|1|2\n6|S|2\n").unwrap();
    assert_eq!(client.lines(1), ["1|B\n"]);
    until("the rest is held", || server.shows("held") == 3);
    server.kill();
    let server = Server::start_on(data.path(), &["--maze-gap-wait", "2s"]);
    let mut client = server.client(1);
    assert_eq!(client.lines(2), ["3|B\n", "6|S|2\n"]);
    // And the next source begins anew.
    let mut source = server.source();
    source.write_all(b"2|B\n1|B\n").unwrap();
    assert_eq!(client.lines(2), ["1|B\n", "2|B\n"]);
}

#[test]
fn stopping_delivers_what_is_held_and_ends_in_time() {
    let server = Server::start(&[]);
    let mut client = server.client(1);
    let mut source = server.source();
    source.write_all(b"2|B\n4|B\n1|B\n").unwrap();
    assert_eq!(client.lines(2), ["1|B\n", "2|B\n"]);
    let begun = Instant::now();
    assert!(server.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(client.lines(1), ["4|B\n"]);
    assert_eq!(client.rest(), "");
}

/// Waits for the kernel's own timers: 14 s.
#[test]
fn a_source_that_vanishes_silently_is_detected_within_15_seconds() {
    let Some(network) = maze_support::Network::make() else {
        eprintln!("skipped: network namespaces cannot be made here");
        return;
    };
    let server = Server::start(&["--maze-source", "10.77.0.1:0"]);
    let mut client = server.client(1);
    let mut gone = network.source(server.source);
    gone.send("1|B\n3|B\n");
    assert_eq!(client.lines(1), ["1|B\n"]);
    network.cut();
    let begun = Instant::now();
    assert_eq!(client.lines(1), ["3|B\n"]);
    until("it is found", || server.shows("source") == 0);
    assert!(begun.elapsed() < Duration::from_secs(16));
}

#[test]
fn a_client_that_closes_its_side_is_disconnected() {
    let server = Server::start(&[]);
    let client = server.client(1);
    client.stream.shutdown(Shutdown::Write).unwrap();
    let begun = Instant::now();
    until("it is gone", || server.shows("clients") == 0);
    assert!(begun.elapsed() < PATIENCE);
}
