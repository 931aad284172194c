//! Every input is hostile: it gets a clear error that names what is wrong, and changes nothing.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Client, FALCON, faster, launch, message, with, with_defaults};

/// Posts a body that must be refused with 400 and words that contain `says`; nothing changes.
async fn refused(client: &Client, body: &str, field: Value, says: &str) {
    let answer = client.post_text(body).await;
    let detail = answer.problem(400);
    assert!(detail.contains(says), "{body}: {detail}");
    assert_eq!(answer.json().get("field").cloned().unwrap_or_default(), field, "{body}");
    assert_eq!(client.get("/rockets").await.body, "[]", "{body}");
}

fn changed(pointer: &str, to: Value) -> String {
    let mut good = launch(FALCON, 1, 500);
    *good.pointer_mut(pointer).unwrap() = to;
    good.to_string()
}

fn without(parent: &str, field: &str) -> String {
    let mut good = launch(FALCON, 1, 500);
    good.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
    good.to_string()
}

#[test]
fn a_body_that_is_not_json_is_rejected() {
    with_defaults(async |client| {
        refused(&client, "", json!(null), "the body is empty").await;
        refused(&client, "launch!", json!(null), "the body is not JSON").await;
        refused(&client, "{\"metadata\":", json!(null), "the body is not JSON").await;
        refused(&client, "\"text\"", json!(null), "expected struct Envelope").await;
        refused(&client, &format!("{} {{}}", launch(FALCON, 1, 1)), json!(null), "goes on").await;
        let deep = "[".repeat(100_000);
        refused(&client, &format!("{{\"a\":{deep}"), json!(null), "the body is not JSON").await;
    });
}

#[test]
fn a_missing_field_of_the_envelope_is_named() {
    with_defaults(async |client| {
        for field in ["channel", "messageNumber", "messageTime", "messageType"] {
            let path = json!(format!("metadata.{field}"));
            refused(&client, &without("/metadata", field), path, "it is missing").await;
        }
        refused(&client, "{\"message\":{}}", json!("metadata"), "it is missing").await;
    });
}

#[test]
fn a_wrong_type_in_the_envelope_is_named() {
    with_defaults(async |client| {
        let cases = [
            ("channel", json!(5), "invalid type: integer `5`"),
            ("channel", json!("not-a-uuid"), "is not a UUID"),
            ("messageNumber", json!("1"), "invalid type: string"),
            ("messageNumber", json!(1.5), "invalid type: floating point"),
            ("messageNumber", json!(-1), "invalid value: integer `-1`"),
            ("messageNumber", json!(0), "expected 1 to 9223372036854775807"),
            ("messageNumber", json!(1u64 << 63), "expected 1 to 9223372036854775807"),
            ("messageTime", json!(null), "invalid type: null"),
            ("messageTime", json!("yesterday"), "is not an RFC 3339 time"),
            ("messageTime", json!("2022-02-30T00:00:00Z"), "is not an RFC 3339 time"),
            ("messageType", json!(["RocketLaunched"]), "invalid type: sequence"),
        ];
        for (field, to, says) in cases {
            let body = changed(&format!("/metadata/{field}"), to);
            refused(&client, &body, json!(format!("metadata.{field}")), says).await;
        }
        refused(&client, &changed("/metadata", json!(7)), json!("metadata"), "invalid type").await;
    });
}

#[test]
fn invalid_utf_8_is_rejected() {
    with_defaults(async |client| {
        let mut body = launch(FALCON, 1, 1).to_string().into_bytes();
        let place = body.windows(6).position(|part| part == b"Rocket").unwrap();
        body[place] = 0xff;
        let head = format!(
            "POST /messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.raw(&[head.as_bytes(), &body].concat()).await.problem(400);
        assert_eq!(client.get("/rockets").await.body, "[]");
    });
}

#[test]
fn a_message_with_a_very_high_number_is_held_in_little_memory() {
    with_defaults(async |client| {
        let answer = client.post(&faster(FALCON, 1_000_000_000_000, 1)).await;
        assert_eq!(answer.outcome(), "held");
        let last = client.post(&faster(FALCON, (1 << 63) - 1, 1)).await;
        assert_eq!(last.outcome(), "held");
        let sequence = &client.rocket(FALCON).await["sequence"];
        assert_eq!(
            sequence["missing"],
            json!([[1, 999_999_999_999u64], [1_000_000_000_001u64, i64::MAX - 1]])
        );
    });
}

#[test]
fn unknown_fields_are_ignored_and_an_unknown_type_is_consumed() {
    with_defaults(async |client| {
        let mut body = launch(FALCON, 1, 1);
        body["more"] = json!({"metadata": 1});
        body["metadata"]["more"] = json!([1, 2]);
        body["message"]["more"] = json!(null);
        assert_eq!(client.post(&body).await.outcome(), "applied");
        let unknown = message(FALCON, 2, "RocketPainted", &json!("red"));
        assert_eq!(client.post(&unknown).await.outcome(), "ignored");
    });
}

#[test]
fn a_body_that_is_too_large_is_rejected_before_it_is_read() {
    with_defaults(async |client| {
        // Only said to be that large.
        let head = "POST /messages HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{";
        assert!(client.raw(head.as_bytes()).await.problem(413).contains("67108864 bytes allowed"));
        // Really sent.
        let body = changed("/message/mission", json!("x".repeat(2 << 20)));
        assert!(client.post_text(&body).await.problem(413).contains("1048576 bytes allowed"));
        assert_eq!(client.get("/rockets").await.body, "[]");
    });
}

#[test]
fn a_body_that_never_ends_is_rejected_at_the_limit() {
    with_defaults(async |client| {
        let mut stream = client.connect().await;
        let head = "POST /messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = format!("{:x}\r\n{}\r\n", 65536, "{".repeat(65536));
        let (mut reading, mut writing) = stream.split();
        let endless = async { while writing.write_all(chunk.as_bytes()).await.is_ok() {} };
        let mut answer = vec![0; 12];
        tokio::select! {
            () = endless => panic!("the answer comes first"),
            read = reading.read_exact(&mut answer) => assert_eq!(read.unwrap(), 12),
        }
        assert_eq!(answer, b"HTTP/1.1 413");
    });
}

#[test]
fn a_body_that_does_not_arrive_times_out() {
    with(&[("http_body_timeout", "50ms")], async |client| {
        let head = "POST /messages HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{";
        assert!(client.raw(head.as_bytes()).await.problem(408).contains("50ms"));
    });
}

#[test]
fn a_head_that_does_not_arrive_times_out() {
    with(&[("http_idle_timeout", "50ms")], async |client| {
        let answer = client.raw(b"POST /messages HTTP/1.1\r\nHost:").await;
        assert_eq!(answer.status, 0, "closed without a word: {answer:?}");
    });
}

#[test]
fn a_connection_that_does_not_speak_http_is_closed() {
    with_defaults(async |client| {
        assert_eq!(client.raw(b"\0\x01\x02 hello\r\n\r\n").await.status, 400);
    });
}

#[test]
fn a_wrong_method_gets_a_405_that_lists_the_allowed_ones() {
    with_defaults(async |client| {
        for (method, path, allow) in [
            ("GET", "/messages", "POST"),
            ("DELETE", "/rockets", "GET,HEAD"),
            ("POST", "/healthz", "GET,HEAD"),
        ] {
            let answer = client.ask(method, path, "", "").await;
            assert!(answer.problem(405).contains(method));
            assert_eq!(answer.header("Allow"), Some(allow));
        }
    });
}

#[test]
fn an_unsupported_media_type_is_rejected() {
    with_defaults(async |client| {
        let body = launch(FALCON, 1, 1).to_string();
        for media in ["text/plain", "application/xml", "multipart/form-data", ""] {
            let header = format!("Content-Type: {media}\r\n");
            let answer = client.ask("POST", "/messages", &header, &body).await;
            assert!(answer.problem(415).contains("allowed are application/json"), "{media}");
        }
        for media in ["application/x-www-form-urlencoded", "Application/JSON; charset=utf-8"] {
            let header = format!("Content-Type: {media}\r\n");
            assert_eq!(
                client.ask("POST", "/messages", &header, &body).await.status,
                202,
                "{media}"
            );
        }
    });
}

#[test]
fn an_unknown_path_is_not_found() {
    with_defaults(async |client| {
        assert!(client.get("/rocket").await.problem(404).contains("/rocket"));
        assert!(client.get(&format!("/rockets/{FALCON}")).await.problem(404).contains(FALCON));
        let answer = client.get("/rockets/falcon").await;
        assert!(answer.problem(400).contains("expected a UUID"));
        assert_eq!(answer.json()["field"], "id");
    });
}
