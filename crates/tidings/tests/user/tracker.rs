//! The tracker: the last messages, distinct by id, in order of arrival.

use serde_json::{Value, json};

use super::support::{Answer, Client, with, with_defaults};

const MESSAGES: &str = "/tracker/messages";

async fn post(client: &Client, id: &str, peer: &str) -> Answer {
    let message = json!({"id": id, "peerId": peer, "data": "aGVsbG8="});
    client.ask("POST", MESSAGES, "", &message.to_string()).await
}

/// The ids of a list.
fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|message| message["id"].as_str().unwrap()).collect()
}

async fn metric(client: &Client, name: &str) -> u64 {
    let text = client.get("/metrics").await.body;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

#[test]
fn a_message_is_new_once_and_known_afterwards() {
    with_defaults(async |client| {
        let answer = post(&client, "a", "x").await;
        assert_eq!(answer.status, 201);
        assert_eq!(answer.json(), json!({"id": "a", "outcome": "new", "evicted": 0}));
        assert_eq!(answer.header("Location"), Some("/tracker/messages/a"));
        let other = json!({"id": "a", "peerId": "y", "data": ""});
        let answer = client.ask("POST", MESSAGES, "", &other.to_string()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json(), json!({"id": "a", "outcome": "duplicate", "evicted": 0}));
        assert_eq!(answer.header("Location"), None);
        let first = json!({"id": "a", "peerId": "x", "data": "aGVsbG8="});
        assert_eq!(client.get("/tracker/messages/a").await.json(), first);
        assert_eq!(client.get(MESSAGES).await.json(), json!([first]));
    });
}

#[test]
fn the_list_is_in_order_of_arrival_and_the_oldest_is_evicted_first() {
    with(&[("tracker.capacity", "5")], async |client| {
        assert_eq!(client.get(MESSAGES).await.body, "[]");
        for _ in 0..2 {
            for id in 0..10 {
                post(&client, &id.to_string(), "x").await;
            }
        }
        let list = client.get(MESSAGES).await.json();
        assert_eq!(ids(&list), ["5", "6", "7", "8", "9"]);
        for id in ["5", "7"] {
            assert_eq!(client.ask("DELETE", &format!("{MESSAGES}/{id}"), "", "").await.status, 204);
        }
        post(&client, "5", "x").await;
        let list = client.get(MESSAGES).await.json();
        assert_eq!(ids(&list), ["6", "8", "9", "5"]);
        assert_eq!(metric(&client, "tidings_tracker_bounds_total{bound=\"capacity\"}").await, 15);
        assert_eq!(metric(&client, "tidings_tracker_messages").await, 4);
    });
}

#[test]
fn a_message_that_is_not_tracked_is_not_found() {
    with_defaults(async |client| {
        let path = "/tracker/messages/a";
        assert!(client.get(path).await.problem(404).starts_with("message not found"));
        let deleted = client.ask("DELETE", path, "", "").await;
        assert!(deleted.problem(404).starts_with("message not found"));
        client.get("/tracker/messages/a/peers").await.problem(404);
        client.get("/tracker/messages/a/others").await.problem(404);
        client.get("/tracker/messages/a/peers/x").await.problem(404);
        client.ask("PUT", path, "", "").await.problem(405);
        client.get(&format!("{MESSAGES}/{}", "a".repeat(257))).await.problem(400);
        client.get("/tracker/messages/%FF").await.problem(400);
    });
}

#[test]
fn peers_are_counted_by_message_and_the_rest_together() {
    with(&[("tracker.peers_max", "2")], async |client| {
        for peer in ["z", "a\"", "z", "c", "d"] {
            post(&client, "m", peer).await;
        }
        let answer = client.get("/tracker/messages/m/peers").await;
        assert_eq!(answer.body, r#"{"z":2,"a\"":1}"#);
        assert_eq!(answer.header("Tidings-Other-Relays"), Some("2"));
        assert_eq!(metric(&client, "tidings_tracker_bounds_total{bound=\"peers_max\"}").await, 2);
    });
    with(&[("tracker.peers_max", "0")], async |client| {
        post(&client, "m", "x").await;
        let why = client.get("/tracker/messages/m/peers").await.problem(404);
        assert!(why.contains("tracker.peers_max"), "{why}");
    });
}

#[test]
fn an_id_of_any_characters_has_a_path() {
    with_defaults(async |client| {
        for id in ["a/b", "100%", "ü🚀 ?#", "peers", "..", "a+b&c"] {
            let answer = post(&client, id, "x").await;
            let path = answer.header("Location").unwrap();
            assert_eq!(client.get(path).await.json()["id"], id);
            assert_eq!(client.get(&format!("{path}/peers")).await.json(), json!({"x": 1}));
            assert_eq!(client.ask("DELETE", path, "", "").await.status, 204);
        }
    });
}

#[test]
fn paging_continues_even_if_the_last_message_of_a_page_was_removed() {
    with_defaults(async |client| {
        for id in 0..7 {
            post(&client, &id.to_string(), "x").await;
        }
        let first = client.get("/tracker/messages?limit=3").await;
        assert_eq!(ids(&first.json()), ["0", "1", "2"]);
        let next = |answer: &Answer| {
            let link = answer.header("Link")?;
            Some(link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?.to_owned())
        };
        client.ask("DELETE", "/tracker/messages/2", "", "").await;
        let second = client.get(&next(&first).unwrap()).await;
        assert_eq!(ids(&second.json()), ["3", "4", "5"]);
        let last = client.get(&next(&second).unwrap()).await;
        assert_eq!(ids(&last.json()), ["6"]);
        assert_eq!(next(&last), None);
    });
}

#[test]
fn a_page_is_bounded_in_bytes() {
    with_defaults(async |client| {
        let data = "x".repeat(87_000 / 4 * 4);
        for id in 0..20 {
            let message = json!({"id": id.to_string(), "peerId": "x", "data": data});
            let answer = client.ask("POST", MESSAGES, "", &message.to_string()).await;
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        let page = client.get(MESSAGES).await;
        assert_eq!(ids(&page.json()).len(), 13);
        assert!(page.header("Link").is_some());
    });
}

#[test]
fn the_oldest_messages_are_evicted_beyond_the_bound_in_bytes() {
    with(&[("tracker.bytes_max", "30")], async |client| {
        for id in ["aaaaa", "bbbbb"] {
            post(&client, id, "xxxxx").await;
        }
        let answer = post(&client, "ccccccccccccccc", "xxxxx").await;
        assert_eq!(answer.json()["evicted"], 2);
        assert_eq!(metric(&client, "tidings_tracker_bytes").await, 25);
        assert_eq!(metric(&client, "tidings_tracker_bounds_total{bound=\"bytes_max\"}").await, 2);
    });
}

#[test]
fn bad_input_is_named_and_changes_nothing() {
    let settings = [("tracker.data_bytes_max", "16")];
    with(&settings, async |client| {
        for (body, status, named) in [
            ("", 400, "empty"),
            ("{", 400, "not JSON"),
            ("[]", 400, "message"),
            (r#"{"peerId":"x","data":""}"#, 400, "id: it is missing"),
            (r#"{"id":"a","data":""}"#, 400, "peerId: it is missing"),
            (r#"{"id":"a","peerId":"x"}"#, 400, "data: it is missing"),
            (r#"{"id":1,"peerId":"x","data":""}"#, 400, "id"),
            (r#"{"id":"","peerId":"x","data":""}"#, 400, "id: 0 bytes"),
            (r#"{"id":"a","peerId":"","data":""}"#, 400, "peerId: 0 bytes"),
            (r#"{"id":"a","peerId":"x","data":"a"}"#, 400, "data: it is not base64"),
            (r#"{"id":"a","peerId":"x","data":"aGVsbG8gaGVsbG8gaGVsbG8="}"#, 413, "17 bytes"),
            (r#"{"id":"a","peerId":"x","data":""} x"#, 400, "goes on"),
        ] {
            let why = client.ask("POST", MESSAGES, "", body).await.problem(status);
            assert!(why.contains(named), "{body}: {why}");
        }
        let long = json!({"id": "a".repeat(257), "peerId": "x", "data": ""}).to_string();
        let why = client.ask("POST", MESSAGES, "", &long).await.problem(400);
        assert!(why.contains("257 bytes"), "{why}");
        client.ask("POST", MESSAGES, "Content-Type: text/html\r\n", "{}").await.problem(415);
        for query in ["limit=0", "limit=10001", "limit=x", "cursor=x", "page=1"] {
            let why = client.get(&format!("{MESSAGES}?{query}")).await.problem(400);
            assert!(why.starts_with(query.split('=').next().unwrap()), "{query}: {why}");
        }
        assert_eq!(client.get(MESSAGES).await.body, "[]");
    });
}

#[test]
fn tracked_messages_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let settings = |capacity| [("memory", "false"), ("data", data), ("tracker.capacity", capacity)];
    let list = std::cell::RefCell::new(String::new());
    with(&settings("3"), async |client| {
        for (id, peer) in [("a", "x"), ("b", "x"), ("c", "x"), ("b", "y"), ("d", "x")] {
            post(&client, id, peer).await;
        }
        *list.borrow_mut() = client.get(MESSAGES).await.body;
    });
    with(&settings("3"), async |client| {
        assert_eq!(client.get(MESSAGES).await.body, *list.borrow());
        assert_eq!(client.get("/tracker/messages/b/peers").await.body, r#"{"x":1,"y":1}"#);
    });
    with(&settings("2"), async |client| {
        assert_eq!(ids(&client.get(MESSAGES).await.json()), ["c", "d"], "with room for less");
    });
}
