//! Single messages, and the state of the rocket that results from them.

use serde_json::json;

use super::support::{FALCON, faster, launch, message, with, with_defaults};

#[test]
fn the_example_of_the_challenge_gives_three_thousand() {
    with_defaults(async |client| {
        for (number, outcome) in [
            (1, "applied"),
            (3, "held"),
            (3, "duplicate"),
            (2, "applied"),
            (5, "held"),
            (4, "applied"),
        ] {
            let message = match number {
                1 => launch(FALCON, 1, 1000),
                _ => faster(FALCON, number, 500),
            };
            assert_eq!(client.post(&message).await.outcome(), outcome, "{number}");
        }
        let rocket = client.rocket(FALCON).await;
        assert_eq!(rocket["speed"], 3000);
        let whole = json!({"last": 5, "applied": 5, "pending": 0, "missing": [], "lost": 0, "complete": true});
        assert_eq!(rocket["sequence"], whole);
    });
}

#[test]
fn a_rocket_is_shown_with_all_its_fields() {
    with_defaults(async |client| {
        client.post(&launch(FALCON, 1, 500)).await;
        client
            .post(&message(FALCON, 2, "RocketMissionChanged", &json!({"newMission": "MIR 🚀"})))
            .await;
        client.post(&message(FALCON, 3, "RocketExploded", &json!({"reason": "PRESSURE"}))).await;
        let expected = json!({
            "id": FALCON,
            "type": "Falcon-9",
            "speed": 500,
            "mission": "MIR 🚀",
            "status": "exploded",
            "exploded": true,
            "reason": "PRESSURE",
            "createdAt": "2022-02-02T18:39:01Z",
            "updatedAt": "2022-02-02T18:39:03Z",
            "sequence": {"last": 3, "applied": 3, "pending": 0, "missing": [], "lost": 0, "complete": true},
        });
        assert_eq!(client.rocket(FALCON).await, expected);
        assert_eq!(client.get("/rockets").await.json(), json!([expected]));
    });
}

#[test]
fn what_is_held_is_shown_with_what_is_missing() {
    with_defaults(async |client| {
        assert_eq!(client.post(&faster(FALCON, 4, 7)).await.outcome(), "held");
        let rocket = client.rocket(FALCON).await;
        assert_eq!((&rocket["speed"], &rocket["type"]), (&json!(7), &json!(null)));
        let sequence = json!({"last": 4, "applied": 0, "pending": 1, "missing": [[1, 3]], "lost": 0, "complete": false});
        assert_eq!(rocket["sequence"], sequence);
    });
}

#[test]
fn a_body_is_answered_only_when_it_is_asked_for() {
    with_defaults(async |client| {
        let prefer = "Prefer: respond-async, return=representation\r\n";
        let body = launch(FALCON, 1, 5).to_string();
        let answer = client.ask("POST", "/messages", prefer, &body).await;
        assert_eq!(answer.status, 202);
        assert_eq!(answer.header("Tidings-Outcome"), Some("applied"));
        let receipt = json!({"channel": FALCON, "messageNumber": 1, "outcome": "applied"});
        assert_eq!(answer.json(), receipt);
    });
}

#[test]
fn every_content_is_consumed_and_none_blocks_later_messages() {
    with_defaults(async |client| {
        client.post(&launch(FALCON, 1, 100)).await;
        let contents = [
            ("RocketTeleported", json!({"to": "MARS"})),
            ("RocketSpeedIncreased", json!({"by": "abc"})),
            ("RocketSpeedIncreased", json!({"by": 1.5})),
            ("RocketSpeedIncreased", json!({"by": -1})),
            ("RocketSpeedIncreased", json!({})),
            ("RocketSpeedDecreased", json!(null)),
            ("RocketMissionChanged", json!({"newMission": 5})),
            ("RocketMissionChanged", json!({"newMission": "x".repeat(1025)})),
            ("RocketExploded", json!({"why": "?"})),
            ("RocketLaunched", json!({"type": "A", "launchSpeed": 1, "mission": "B"})),
        ];
        let count = contents.len() as u64;
        for (number, (kind, content)) in (2..).zip(contents) {
            let answer = client.post(&message(FALCON, number, kind, &content)).await;
            assert_eq!(answer.outcome(), "ignored", "{kind} {content}");
        }
        assert_eq!(client.post(&faster(FALCON, count + 2, 5)).await.outcome(), "applied");
        let rocket = client.rocket(FALCON).await;
        assert_eq!((&rocket["speed"], &rocket["mission"]), (&json!(105), &json!("ARTEMIS")));
        let metrics = client.get("/metrics").await.body;
        assert!(
            metrics.contains("tidings_rockets_anomalies_total{kind=\"unreadable\"} 7"),
            "{metrics}"
        );
        assert!(metrics.contains("tidings_rockets_anomalies_total{kind=\"unknown_type\"} 1"));
    });
}

#[test]
fn beyond_the_bound_the_oldest_gap_is_given_up_and_comes_late() {
    with(&[("rockets.held_max", "2")], async |client| {
        for number in [3, 4, 6] {
            assert_eq!(client.post(&faster(FALCON, number, 1)).await.outcome(), "held");
        }
        assert_eq!(client.post(&faster(FALCON, 1, 1)).await.outcome(), "late");
        let sequence = json!({"last": 6, "applied": 4, "pending": 1, "missing": [[5, 5]], "lost": 2, "complete": false});
        assert_eq!(client.rocket(FALCON).await["sequence"], sequence);
    });
}

#[test]
fn one_channel_too_many_is_refused_and_the_others_go_on() {
    with(&[("rockets.channels_max", "1")], async |client| {
        client.post(&launch(FALCON, 1, 1)).await;
        let other = FALCON.replace('7', "8");
        let refused = client.post(&launch(&other, 1, 1)).await;
        assert!(refused.problem(507).contains("rockets.channels_max"));
        assert_eq!(client.post(&faster(FALCON, 2, 1)).await.outcome(), "applied");
        assert_eq!(client.get(&format!("/rockets/{other}")).await.status, 404);
    });
}

#[test]
fn one_rocket_has_a_tag_that_changes_with_it() {
    with_defaults(async |client| {
        client.post(&launch(FALCON, 1, 1)).await;
        let path = format!("/rockets/{FALCON}");
        let tag = client.get(&path).await.header("ETag").unwrap().to_owned();
        let known = format!("If-None-Match: {tag}\r\n");
        let answer = client.ask("GET", &path, &known, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (304, ""));
        assert_eq!(answer.header("ETag"), Some(tag.as_str()));
        client.post(&faster(FALCON, 2, 1)).await;
        let answer = client.ask("GET", &path, &known, "").await;
        assert_eq!(answer.status, 200);
        assert_ne!(answer.header("ETag"), Some(tag.as_str()));
        assert_eq!(client.ask("HEAD", &path, "", "").await.body, "");
        assert_eq!(
            client.get(&path.to_uppercase().replace("ROCKETS", "rockets")).await.status,
            200
        );
    });
}
