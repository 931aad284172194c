//! The chat: inboxes that expire and are read once.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::support::{Answer, Client, answer, with, with_defaults};

/// Posts a message and gives its id.
async fn post(client: &Client, user: &str, text: &str) -> String {
    let message = json!({"username": user, "text": text});
    let answer = client.ask("POST", "/chat", "", &message.to_string()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn post_body(client: &Client, headers: &str, body: &str) -> Answer {
    client.ask("POST", "/chat", headers, body).await
}

/// The texts that a GET shows.
async fn texts(client: &Client, path: &str) -> Vec<String> {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    texts_of(&answer)
}

fn texts_of(answer: &Answer) -> Vec<String> {
    let messages = answer.json();
    let texts =
        messages.as_array().unwrap().iter().map(|message| message["text"].as_str().unwrap());
    texts.map(ToOwned::to_owned).collect()
}

/// Asks again and again until a path shows this.
async fn until_it_shows(client: &Client, path: &str, shown: &[&str]) {
    while texts(client, path).await != shown {
        tokio::task::yield_now().await;
    }
}

async fn metric(client: &Client, name: &str) -> u64 {
    let text = client.get("/metrics").await.body;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

/// Asks on a connection of its own, and reads the answer later.
async fn begin(client: &Client, path: &str) -> tokio::net::TcpStream {
    let waiting = metric(client, "tidings_chat_waiting").await;
    let mut stream = client.connect().await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    until_waiting(client, waiting + 1).await;
    stream
}

async fn until_waiting(client: &Client, count: u64) {
    while metric(client, "tidings_chat_waiting").await != count {
        tokio::task::yield_now().await;
    }
}

#[test]
fn messages_are_handed_out_once_and_oldest_first() {
    with_defaults(async |client| {
        assert_eq!(client.get("/chat/ada").await.body, "[]");
        let one = post(&client, "ada", "one").await;
        let two = post(&client, "ada", "two").await;
        post(&client, "bob", "three").await;
        let shown = client.get("/chat/ada").await.json();
        assert_eq!(shown, json!([{"text": "one", "id": one}, {"text": "two", "id": two}]));
        assert_eq!(client.get("/chat/ada").await.body, "[]");
        assert_eq!(texts(&client, "/chat/bob").await, ["three"]);
        let id: uuid::Uuid = one.parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert!(one < two, "ids sort by time");
    });
}

#[test]
fn an_expired_message_is_not_handed_out_and_frees_its_memory_without_a_reader() {
    with_defaults(async |client| {
        let message = json!({"username": "ada", "text": "now", "timeout": 0}).to_string();
        assert_eq!(post_body(&client, "", &message).await.status, 201);
        until_it_shows(&client, "/chat/ada?peek=true", &[]).await;
        assert_eq!(texts(&client, "/chat/ada").await, [""; 0]);
        while metric(&client, "tidings_chat_unread").await > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(metric(&client, "tidings_chat_messages_total{outcome=\"expired\"}").await, 1);
    });
}

#[test]
fn a_peek_hands_out_nothing() {
    with_defaults(async |client| {
        post(&client, "ada", "one").await;
        post(&client, "ada", "two").await;
        assert_eq!(texts(&client, "/chat/ada?peek=true").await, ["one", "two"]);
        let some = client.get("/chat/ada?peek=true&limit=1").await;
        assert_eq!(
            (texts_of(&some), some.header("Tidings-More")),
            (vec!["one".into()], Some("true"))
        );
        let head = client.ask("HEAD", "/chat/ada", "", "").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(texts(&client, "/chat/ada").await, ["one", "two"]);
    });
}

#[test]
fn a_limit_leaves_the_rest() {
    with(&[("chat.take_bytes_max", "10")], async |client| {
        for text in ["one", "two", "three", "a longer one than that"] {
            post(&client, "ada", text).await;
        }
        let some = client.get("/chat/ada?limit=1").await;
        assert_eq!(
            (texts_of(&some), some.header("Tidings-More")),
            (vec!["one".into()], Some("true"))
        );
        assert_eq!(texts(&client, "/chat/ada").await, ["two", "three"]);
        let last = client.get("/chat/ada").await;
        assert_eq!(texts_of(&last), ["a longer one than that"]);
        assert_eq!(last.header("Tidings-More"), None);
    });
}

#[test]
fn a_leased_message_comes_back_unless_it_is_acknowledged() {
    with_defaults(async |client| {
        let one = post(&client, "ada", "one").await;
        post(&client, "ada", "two").await;
        assert_eq!(texts(&client, "/chat/ada?lease=1").await, ["one", "two"]);
        assert_eq!(texts(&client, "/chat/ada").await, [""; 0], "nobody else gets them");
        let done = client.ask("DELETE", &format!("/chat/ada/{one}"), "", "").await;
        assert_eq!((done.status, done.body.as_str()), (204, ""));
        let again = client.ask("DELETE", &format!("/chat/ada/{one}"), "", "").await;
        assert!(again.problem(404).contains("no such message is leased"));
        until_it_shows(&client, "/chat/ada?peek=true", &["two"]).await;
        assert_eq!(texts(&client, "/chat/ada").await, ["two"]);
        let wrong = client.ask("DELETE", "/chat/ada/one", "", "").await;
        assert_eq!(wrong.json()["field"], "id");
        wrong.problem(400);
    });
}

#[test]
fn the_same_idempotency_key_stores_one_message() {
    with_defaults(async |client| {
        let key = "Idempotency-Key: k1\r\n";
        let body = json!({"username": "ada", "text": "once"}).to_string();
        let first = post_body(&client, key, &body).await;
        assert_eq!(texts(&client, "/chat/ada").await, ["once"]);
        let second = post_body(&client, key, &body).await;
        assert_eq!((second.status, &second.body), (201, &first.body));
        assert_eq!(texts(&client, "/chat/ada").await, [""; 0], "it has been read");
        for other in [
            json!({"username": "ada", "text": "twice"}),
            json!({"username": "bob", "text": "once"}),
            json!({"username": "ada", "text": "once", "timeout": 5}),
        ] {
            let answer = post_body(&client, key, &other.to_string()).await;
            assert_eq!(answer.json()["field"], "Idempotency-Key");
            assert!(answer.problem(422).contains("used for another message"));
        }
        for wrong in ["Idempotency-Key: \r\n", "Idempotency-Key: a\r\nIdempotency-Key: b\r\n"] {
            post_body(&client, wrong, &body).await.problem(400);
        }
    });
}

#[test]
fn a_message_beyond_a_bound_is_rejected_and_nothing_is_lost() {
    let bounds =
        [("chat.unread_per_user_max", "2"), ("chat.unread_max", "3"), ("chat.keys_max", "1")];
    with(&bounds, async |client| {
        let body = |user: &str| json!({"username": user, "text": user}).to_string();
        for _ in 0..2 {
            assert_eq!(post_body(&client, "", &body("ada")).await.status, 201);
        }
        let full = post_body(&client, "", &body("ada")).await;
        assert!(full.problem(429).contains("chat.unread_per_user_max"));
        assert_eq!(post_body(&client, "Idempotency-Key: a\r\n", &body("bob")).await.status, 201);
        assert!(
            post_body(&client, "", &body("bob")).await.problem(507).contains("chat.unread_max")
        );
        assert_eq!(texts(&client, "/chat/ada").await, ["ada", "ada"]);
        let keys = post_body(&client, "Idempotency-Key: b\r\n", &body("ada")).await;
        assert!(keys.problem(507).contains("chat.keys_max"));
        assert_eq!(texts(&client, "/chat/bob").await, ["bob"]);
        for bound in ["unread_per_user_max", "unread_max", "keys_max"] {
            let name = format!("tidings_chat_bounds_total{{bound=\"{bound}\"}}");
            assert_eq!(metric(&client, &name).await, 1, "{bound}");
        }
    });
}

#[test]
fn of_many_readers_at_once_one_gets_each_message() {
    with_defaults(async |client| {
        for number in 0..50 {
            post(&client, "ada", &number.to_string()).await;
        }
        let reading = (0..20).map(|_| {
            let client = client.clone();
            tokio::spawn(async move { texts(&client, "/chat/ada?limit=7").await })
        });
        let reading: Vec<_> = reading.collect();
        let mut all = Vec::new();
        for reading in reading {
            all.extend(reading.await.unwrap());
        }
        all.sort_by_key(|text| text.parse::<u32>().unwrap());
        assert_eq!(all, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
    });
}

#[test]
fn waiting_readers_get_messages_in_the_order_in_which_they_began_to_wait() {
    with_defaults(async |client| {
        let mut waiting = Vec::new();
        for _ in 0..3 {
            waiting.push(begin(&client, "/chat/ada?wait=60&limit=1").await);
        }
        for (number, mut stream) in waiting.into_iter().enumerate() {
            let text = number.to_string();
            post(&client, "ada", &text).await;
            assert_eq!(texts_of(&answer(&mut stream).await), [text]);
        }
        assert_eq!(texts(&client, "/chat/ada").await, [""; 0]);
    });
}

#[test]
fn messages_that_arrive_together_are_shared_among_the_waiting_readers() {
    with_defaults(async |client| {
        let mut first = begin(&client, "/chat/ada?wait=60&limit=1").await;
        let mut second = begin(&client, "/chat/ada?wait=60").await;
        let mut other = begin(&client, "/chat/bob?wait=60").await;
        for text in ["one", "two"] {
            post(&client, "ada", text).await;
        }
        assert_eq!(texts_of(&answer(&mut first).await), ["one"]);
        assert_eq!(texts_of(&answer(&mut second).await), ["two"]);
        post(&client, "bob", "three").await;
        assert_eq!(texts_of(&answer(&mut other).await), ["three"]);
    });
}

#[test]
fn a_disconnected_reader_takes_nothing_from_the_readers_behind_it() {
    with_defaults(async |client| {
        let gone = begin(&client, "/chat/ada?wait=60").await;
        let mut patient = begin(&client, "/chat/ada?wait=60").await;
        drop(gone);
        until_waiting(&client, 1).await;
        post(&client, "ada", "one").await;
        assert_eq!(texts_of(&answer(&mut patient).await), ["one"]);
    });
}

#[test]
fn a_wait_ends_empty_or_at_once_with_the_messages_in_the_inbox() {
    with_defaults(async |client| {
        assert_eq!(client.get("/chat/ada?wait=1").await.body, "[]");
        post(&client, "ada", "one").await;
        assert_eq!(texts(&client, "/chat/ada?wait=60&peek=true").await, ["one"]);
        assert_eq!(texts(&client, "/chat/ada?wait=60").await, ["one"]);
    });
}

#[test]
fn an_expired_lease_wakes_waiting_readers() {
    with_defaults(async |client| {
        post(&client, "ada", "one").await;
        assert_eq!(texts(&client, "/chat/ada?lease=1").await, ["one"]);
        assert_eq!(texts(&client, "/chat/ada?wait=60").await, ["one"]);
    });
}

#[test]
fn a_server_that_stops_answers_waiting_readers() {
    let mut stream = None;
    let place = &mut stream;
    with_defaults(async |client| {
        *place = Some(begin(&client, "/chat/ada?wait=60").await.into_std().unwrap());
    });
    let mut text = String::new();
    let mut stream = stream.unwrap();
    stream.set_nonblocking(false).unwrap();
    std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n[]"), "{text}");
}

#[test]
fn any_user_name_works_percent_encoded() {
    with_defaults(async |client| {
        let long = "n".repeat(256);
        let names = [
            ("a/b", "a%2Fb"),
            ("🚀", "%F0%9F%9A%80"),
            ("a b", "a%20b"),
            ("a+b", "a+b"),
            ("100%", "100%25"),
            ("?&#", "%3F%26%23"),
            ("..", "%2E%2E"),
            (long.as_str(), long.as_str()),
        ];
        for (name, path) in names {
            post(&client, name, name).await;
            assert_eq!(texts(&client, &format!("/chat/{path}?peek=true")).await, [name]);
            let taken = client.get(&format!("/chat/{path}?lease=60")).await.json();
            let id = taken[0]["id"].as_str().unwrap();
            let done = client.ask("DELETE", &format!("/chat/{path}/{id}"), "", "").await;
            assert_eq!(done.status, 204, "{name}");
        }
        for (path, status) in [("%FF", 400), ("", 400), (&"n".repeat(257), 400), ("a/b/c", 404)] {
            client.get(&format!("/chat/{path}")).await.problem(status);
        }
    });
}

#[test]
fn a_body_is_read_as_json_unless_its_media_type_is_known_to_be_something_else() {
    with_defaults(async |client| {
        let body =
            json!({"username": "ada", "text": "x", "timeout": null, "other": [1]}).to_string();
        for taken in ["application/json", "application/x-www-form-urlencoded", "text/plain", "x/y"]
        {
            let answer = post_body(&client, &format!("Content-Type: {taken}\r\n"), &body).await;
            assert_eq!(answer.status, 201, "{taken}");
        }
        for refused in ["application/x-ndjson", "multipart/form-data; boundary=x", "text/xml"] {
            let answer = post_body(&client, &format!("Content-Type: {refused}\r\n"), &body).await;
            assert!(answer.problem(415).contains(refused));
        }
    });
}

/// Posts a body that must be refused with 400, naming this field.
async fn refused(client: &Client, body: &str, field: Value, says: &str) {
    let answer = post_body(client, "", body).await;
    let detail = answer.problem(400);
    assert!(detail.contains(says), "{body}: {detail}");
    assert_eq!(answer.json().get("field").cloned().unwrap_or_default(), field, "{body}");
}

#[test]
fn bad_input_is_rejected_with_the_field_at_fault_and_changes_nothing() {
    with_defaults(async |client| {
        let message = |field: &str, to: Value| {
            let mut good = json!({"username": "ada", "text": "x", "timeout": 60});
            good[field] = to;
            good.to_string()
        };
        refused(&client, "", json!(null), "the body is empty").await;
        refused(&client, "hello", json!(null), "the body is not JSON").await;
        refused(&client, "[]", json!(null), "the message: invalid length 0").await;
        refused(&client, "{}", json!("text"), "it is missing").await;
        refused(&client, r#"{"text":"x"}"#, json!("username"), "it is missing").await;
        refused(&client, r#"{"username":"ada"}"#, json!("text"), "it is missing").await;
        for (field, to, says) in [
            ("text", json!(null), "invalid type: null"),
            ("text", json!(5), "invalid type: integer `5`"),
            ("text", json!({}), "invalid type: map"),
            ("text", json!("x".repeat(65_537)), "65537 bytes are too long; allowed are 65536"),
            ("username", json!(7), "invalid type: integer `7`"),
            ("username", json!(""), "0 bytes are not allowed; expected 1 to 256"),
            ("username", json!("n".repeat(257)), "257 bytes are not allowed"),
            (
                "timeout",
                json!(-1),
                "-1 is not allowed; expected a whole number of seconds, 0 to 31536000",
            ),
            ("timeout", json!(31_536_001), "31536001 is not allowed"),
            ("timeout", json!(1e300), "1e+300 is not allowed"),
            ("timeout", json!(1.5), "1.5 is not allowed"),
            ("timeout", json!("60"), "\"60\" is not allowed"),
            ("timeout", json!(true), "true is not allowed"),
            ("timeout", json!([60]), "[60] is not allowed"),
        ] {
            refused(&client, &message(field, to), json!(field), says).await;
        }
        let huge =
            format!("{{\"username\":\"ada\",\"text\":\"x\",\"timeout\":{}}}", "9".repeat(999));
        refused(&client, &huge, json!("timeout"), "is not allowed").await;
        refused(&client, r#"{"username":"ada","text":"\ud800"}"#, json!(null), "not JSON").await;
        let raw = b"POST /chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 32\r\n\r\n{\"username\":\"ada\",\"text\":\"\xff\xfe\xfd\xfc\"}";
        client.raw(raw).await.problem(400);
        let large = client.ask("POST", "/chat", "", &" ".repeat((1 << 20) + 1)).await;
        assert!(large.problem(413).contains("1048576"));
        assert!(client.get("/chat/ada?page=2").await.problem(400).contains("page"));
        assert_eq!(metric(&client, "tidings_chat_unread").await, 0);
        let most = message("text", json!("x".repeat(65_536)));
        assert_eq!(post_body(&client, "", &most).await.status, 201);
    });
}

#[test]
fn an_inbox_of_ten_thousand_messages_is_returned_whole() {
    with_defaults(async |client| {
        let texts: Vec<String> = (0..10_000).map(|number| format!("{number} \"\\\n🚀")).collect();
        let mut stream = client.connect().await;
        for text in &texts {
            let body = json!({"username": "ada", "text": text}).to_string();
            let length = body.len();
            let request =
                format!("POST /chat HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(request.as_bytes()).await.unwrap();
        }
        while metric(&client, "tidings_chat_unread").await < 10_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(post_body(&client, "", r#"{"username":"ada","text":"x"}"#).await.status, 429);
        // Without pieces of its own.
        let all = client.raw(b"GET /chat/ada HTTP/1.0\r\n\r\n").await;
        assert!(texts_of(&all) == texts);
    });
}
