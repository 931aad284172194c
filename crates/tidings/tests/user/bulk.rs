//! Many messages in one request.

use serde_json::{Value, json};

use super::support::{Answer, Client, FALCON, faster, launch, with, with_defaults};

async fn post(client: &Client, media: &str, body: &str) -> Answer {
    client.ask("POST", "/messages", &format!("Content-Type: {media}\r\n"), body).await
}

fn receipt(counts: [u64; 5], rejected: &[(u64, &str)]) -> Value {
    let [applied, held, duplicate, late, ignored] = counts;
    let reject = |(index, reason): &(u64, &str)| json!({"index": index, "reason": reason});
    json!({
        "accepted": counts.iter().sum::<u64>(),
        "outcomes": {"applied": applied, "held": held, "duplicate": duplicate, "late": late, "ignored": ignored},
        "refused": rejected.len(),
        "rejected": rejected.iter().map(reject).collect::<Vec<_>>(),
    })
}

#[test]
fn each_line_is_one_message_and_bad_lines_are_named() {
    with_defaults(async |client| {
        let mut lines = vec![launch(FALCON, 1, 100).to_string(), String::new()];
        lines.extend([3, 2, 2].map(|number| faster(FALCON, number, 5).to_string()));
        lines.insert(3, "{\"metadata\":{}}".to_owned());
        lines.push(faster(FALCON, 0, 5).to_string());
        lines.push(faster(FALCON, 9, 5).to_string());
        let answer = post(&client, "application/x-ndjson", &lines.join("\r\n")).await;
        assert_eq!(answer.status, 200);
        let rejected = [
            (2, "metadata.channel: it is missing"),
            (5, "metadata.messageNumber: 0 is not allowed; expected 1 to 9223372036854775807"),
        ];
        assert_eq!(answer.json(), receipt([2, 2, 1, 0, 0], &rejected));
        assert_eq!(client.rocket(FALCON).await["speed"], 115);
    });
}

#[test]
fn an_array_and_a_batch_of_cloud_events_are_accepted_too() {
    with_defaults(async |client| {
        let array = json!([launch(FALCON, 1, 100), faster(FALCON, 2, 5), "no message"]);
        let answer = post(&client, "application/json", &format!(" \n{array}")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["outcomes"]["applied"], 2);
        assert_eq!(answer.json()["rejected"][0]["index"], 2);
        let events = json!([
            {"specversion": "1.0", "id": "1", "source": "x", "type": "y", "data": faster(FALCON, 3, 5)},
            {"specversion": "1.0", "id": "2", "source": "x", "type": "y"},
        ]);
        let media = "application/cloudevents-batch+json";
        let answer = post(&client, media, &events.to_string()).await;
        assert_eq!(answer.json()["accepted"], 1);
        assert!(
            answer.json()["rejected"][0]["reason"]
                .as_str()
                .unwrap()
                .contains("missing field `data`")
        );
        assert_eq!(client.rocket(FALCON).await["speed"], 110);
        let broken = post(&client, "application/json", "[{}, ").await;
        assert!(broken.problem(400).contains("not an array of messages"));
    });
}

#[test]
fn a_line_that_is_too_long_is_skipped_up_to_its_end() {
    with(&[("http_body_bytes_max", "1KiB")], async |client| {
        let long = "x".repeat(300_000);
        let lines = [
            launch(FALCON, 1, 1).to_string(),
            long.clone(),
            faster(FALCON, 2, 1).to_string(),
            long,
        ];
        let answer = post(&client, "application/x-ndjson", &lines.join("\n")).await;
        let why = "the line is longer than the 1024 bytes allowed";
        assert_eq!(answer.json(), receipt([2, 0, 0, 0, 0], &[(1, why), (3, why)]));
    });
}

#[test]
fn a_bulk_that_is_too_large_changes_nothing() {
    with(&[("http_bulk_bytes_max", "1KiB"), ("http_body_bytes_max", "1KiB")], async |client| {
        let line = launch(FALCON, 1, 1).to_string();
        let lines = vec![line; 10].join("\n");
        post(&client, "application/x-ndjson", &lines).await.problem(413);
        assert_eq!(client.get("/rockets").await.body, "[]");
    });
}

#[test]
fn an_empty_bulk_is_not_an_error() {
    with_defaults(async |client| {
        for (media, body) in [("application/x-ndjson", "\n\n"), ("application/json", "[]")] {
            let answer = post(&client, media, body).await;
            assert_eq!(answer.json(), receipt([0; 5], &[]));
        }
    });
}
