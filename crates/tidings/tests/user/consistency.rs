//! The consistency of answers, the state that two nodes on one log show, and the answers while the log stalls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tidings_drill::{Progress, Target, chat, rockets, tracker};
use tidings_log::faulty::{Call, Fault, Faulty};
use tidings_log::{Memory, Origin};

use super::support::{
    Answer, Client, FALCON, faster, launch, over, over_with, with_defaults, with_two, with_two_deaf,
};

const STRONG: &str = "Tidings-Consistency: strong\r\n";

async fn strong(client: &Client, path: &str) -> Answer {
    client.ask("GET", path, STRONG, "").await
}

async fn post_chat(client: &Client, user: &str, text: &str) {
    let message = json!({"username": user, "text": text}).to_string();
    let answer = client.ask("POST", "/chat", "", &message).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[test]
fn a_single_node_answers_strong_reads_too() {
    with_defaults(async |client| {
        client.post(&launch(FALCON, 1, 1)).await;
        for path in ["/rockets", &format!("/rockets/{FALCON}"), "/chat/ada", "/traffic", "/readyz"]
        {
            assert_eq!(strong(&client, path).await.status, 200, "{path}");
        }
    });
}

#[test]
fn every_route_rejects_an_unknown_consistency_and_changes_nothing() {
    with_defaults(async |client| {
        for path in ["/rockets", "/chat/ada?peek=true", "/metrics", "/nowhere"] {
            let answer = client.ask("GET", path, "Tidings-Consistency: eventual\r\n", "").await;
            let expected = "Tidings-Consistency: invalid value \"eventual\"; expected \"strong\", or no such header";
            assert_eq!(answer.problem(400), expected, "{path}");
            assert_eq!(answer.json()["field"], "Tidings-Consistency");
        }
        let message = launch(FALCON, 1, 1).to_string();
        let answer =
            client.ask("POST", "/messages", "Tidings-Consistency: weak\r\n", &message).await;
        assert_eq!(answer.status, 400);
        assert_eq!(client.get(&format!("/rockets/{FALCON}")).await.status, 404);
    });
}

#[test]
fn the_header_is_described_once_and_named_by_everything_that_can_be_read() {
    with_defaults(async |client| {
        let description = client.get("/openapi.json").await.json();
        let parameter = &description["components"]["parameters"]["Consistency"];
        assert_eq!(parameter["name"], "Tidings-Consistency");
        assert_eq!(parameter["schema"]["enum"], json!(["strong"]));
        let reference = json!({"$ref": "#/components/parameters/Consistency"});
        for (path, item) in description["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let parameters = operation["parameters"].as_array();
                let named = parameters.is_some_and(|parameters| parameters.contains(&reference));
                assert_eq!(named, method == "get", "{method} {path}");
            }
        }
    });
}

#[test]
fn a_strong_read_of_one_node_shows_what_another_has_acknowledged() {
    with_two_deaf(async |one, two| {
        let path = format!("/rockets/{FALCON}");
        for number in 1..=100 {
            let (writer, reader) = if number % 2 == 0 { (&one, &two) } else { (&two, &one) };
            assert_eq!(writer.post(&faster(FALCON, number, 1)).await.outcome(), "applied");
            let shown = writer.get(&path).await.json();
            assert_eq!(shown["sequence"]["last"], number, "its own it shows at once");
            let behind = reader.get(&path).await;
            assert!(
                number == 1 && behind.status == 404 || {
                    behind.json()["sequence"]["last"] == number - 1
                }
            );
            let rocket = strong(reader, &path).await.json();
            assert_eq!(rocket["sequence"]["last"], number, "{rocket}");
        }
    });
}

#[test]
fn a_take_at_one_node_gets_what_another_has_acknowledged() {
    with_two_deaf(async |one, two| {
        for number in 0..100 {
            let text = number.to_string();
            post_chat(&one, "ada", &text).await;
            let path = if number == 0 { "/chat/ada?wait=1" } else { "/chat/ada" };
            let taken = two.get(path).await.json();
            assert_eq!(taken[0]["text"], text, "{taken}");
            assert_eq!(one.get("/chat/ada").await.json(), json!([]));
        }
    });
}

#[test]
fn a_reader_waiting_at_one_node_gets_a_message_posted_to_another() {
    with_two(async |one, two| {
        let waiting = async { two.get("/chat/ada?wait=20").await.json() };
        let posting = async { post_chat(&one, "ada", "hello").await };
        let (taken, ()) = tokio::join!(waiting, posting);
        assert_eq!(taken[0]["text"], "hello");
        assert_eq!(two.get("/chat/ada?wait=1").await.json(), json!([]));
    });
}

#[test]
fn the_drills_cannot_tell_two_nodes_on_one_log_from_one_server() {
    with_two(async |one, two| {
        let targets = [
            Target::resolve(&one.address).await.unwrap(),
            Target::resolve(&two.address).await.unwrap(),
        ];
        let silent = Progress::silent;
        let options =
            rockets::Options { messages: 3_000, watch: 50, ..rockets::Options::default() };
        let verdict = rockets::run(&targets, &options, silent()).await.unwrap();
        assert!(verdict.passed(), "{verdict}");
        let options = chat::Options { messages: 1_500, users: 20, ..chat::Options::default() };
        let verdict = chat::run(&targets, &options, silent()).await.unwrap();
        assert!(verdict.passed(), "{verdict}");
        let options = tracker::Options {
            messages: 300,
            connections: 4,
            steps: 200,
            ..tracker::Options::default()
        };
        let verdict = tracker::run(&targets, &options, silent()).await.unwrap();
        assert!(verdict.passed(), "{verdict}");
    });
}

#[test]
fn nodes_at_the_same_position_have_the_same_digest() {
    with_two(async |one, two| {
        let mut before = String::new();
        for number in 1..=3 {
            one.post(&launch(FALCON, number, 1)).await;
            // A strong answer is a commit, so both are compared where they are equally far.
            strong(&two, "/rockets").await;
            let (mine, theirs) = loop {
                let answers =
                    [one.get("/debug/digest").await.json(), two.get("/debug/digest").await.json()];
                let [mine, theirs] = answers;
                if mine["position"] == theirs["position"] {
                    break (mine, theirs);
                }
            };
            assert_eq!(mine, theirs);
            let digest = mine["digest"].as_str().unwrap();
            assert!(digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
            assert!(mine["entries"].as_u64().unwrap() >= number);
            assert_ne!(digest, before);
            before = digest.to_owned();
        }
    });
}

#[test]
fn a_server_in_memory_has_no_digest_and_explains_why() {
    with_defaults(async |client| {
        let detail = client.get("/debug/digest").await.problem(404);
        assert!(detail.contains("in memory") && detail.contains("--data"), "{detail}");
    });
}

#[test]
fn while_the_log_stalls_the_answers_say_what_may_have_been_stored() {
    let silent = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&silent);
    let log = Memory::new(Origin(1));
    let other = log.join(Origin(2));
    let log = Faulty::new(log, move |call| {
        let silent = asked.load(Ordering::SeqCst) && matches!(call, Call::Append { .. });
        if silent {
            // As long as a server that does not answer is waited for.
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        silent.then_some(Fault::UnknownLost)
    });
    over(vec![Box::new(log)], async |clients| {
        let client = &clients[0];
        assert_eq!(client.post(&launch(FALCON, 1, 1)).await.outcome(), "applied");
        silent.store(true, Ordering::SeqCst);
        let kind = async |answer: Answer| {
            answer.problem(503);
            assert_eq!(answer.header("Retry-After"), Some("1"));
            answer.json()["type"].as_str().unwrap().to_owned()
        };
        let detail = client.post(&faster(FALCON, 2, 1)).await;
        assert!(detail.problem(503).contains("the same number or Idempotency-Key"), "{detail:?}");
        assert_eq!(kind(detail).await, "urn:tidings:problem:unknown");
        // Now it is known that the log does not answer: nothing is tried.
        let answer = client.post(&faster(FALCON, 3, 1)).await;
        assert_eq!(kind(answer).await, "urn:tidings:problem:silent");
        assert_eq!(kind(strong(client, "/rockets").await).await, "urn:tidings:problem:silent");
        assert_eq!(kind(client.get("/debug/digest").await).await, "urn:tidings:problem:silent");
        assert_eq!(client.get("/rockets").await.status, 200, "what was applied can be read");
        silent.store(false, Ordering::SeqCst);
        // The same number again: it is not done twice.
        while client.post(&faster(FALCON, 2, 1)).await.status != 202 {}
        let rocket = strong(client, &format!("/rockets/{FALCON}")).await.json();
        assert_eq!(rocket["speed"], 2, "{rocket}");
        drop(other);
    });
}

#[test]
fn a_node_starts_although_its_settings_cannot_be_stored_at_once() {
    let log = Memory::new(Origin(1));
    let other = log.join(Origin(2));
    let log = Faulty::scripted(log, [Some(Fault::Full)]);
    over_with(&[("rockets.held_max", "5")], vec![Box::new(log)], async |clients| {
        assert_eq!(clients[0].post(&launch(FALCON, 1, 1)).await.outcome(), "applied");
        drop(other);
    });
}
