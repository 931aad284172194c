//! The list of rockets: order, filters, pages, tags.

use serde_json::{Value, json};

use super::support::{Client, faster, launch, message, with_defaults};

fn id(n: u64) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

/// Five rockets; 4 was never launched, 5 has exploded.
async fn fleet(client: &Client) {
    for (n, kind, speed, mission) in
        [(1, "B", 30, "X"), (2, "A", 10, "Y"), (3, "B", 10, "Z"), (5, "C", 20, "X")]
    {
        let content = json!({"type": kind, "launchSpeed": speed, "mission": mission});
        client.post(&message(&id(n), 1, "RocketLaunched", &content)).await;
    }
    client.post(&faster(&id(4), 2, 5)).await;
    client.post(&message(&id(5), 2, "RocketExploded", &json!({"reason": "?"}))).await;
}

fn order(rockets: &Value) -> String {
    let number = |rocket: &Value| rocket["id"].as_str().unwrap().chars().last().unwrap();
    rockets.as_array().unwrap().iter().map(number).collect()
}

#[test]
fn each_order_has_ties_by_id_and_missing_values_last() {
    with_defaults(async |client| {
        fleet(&client).await;
        for (query, expected) in [
            ("", "12345"),
            ("?order=desc", "54321"),
            ("?sort=speed", "42351"),
            ("?sort=speed&order=desc", "15234"),
            ("?sort=type", "21354"),
            ("?sort=type&order=desc", "51324"),
            ("?sort=mission", "15234"),
            ("?sort=mission&order=desc", "32154"),
            ("?sort=status", "12345"),
            ("?sort=status&order=desc", "51234"),
            ("?sort=updatedAt", "12345"),
            ("?sort=updatedAt&order=desc", "45123"),
        ] {
            let rockets = client.get(&format!("/rockets{query}")).await.json();
            assert_eq!(order(&rockets), expected, "{query}");
        }
    });
}

#[test]
fn a_rocket_must_match_all_filters() {
    with_defaults(async |client| {
        fleet(&client).await;
        for (query, expected) in [
            ("status=active", "1234"),
            ("status=exploded", "5"),
            ("type=B", "13"),
            ("mission=X", "15"),
            ("mission=X&status=active", "1"),
            ("type=nothing", ""),
        ] {
            let rockets = client.get(&format!("/rockets?{query}")).await.json();
            assert_eq!(order(&rockets), expected, "{query}");
        }
    });
}

#[test]
fn following_the_links_visits_every_rocket_once() {
    with_defaults(async |client| {
        fleet(&client).await;
        for (query, expected) in
            [("limit=2&sort=speed&order=desc", "15234"), ("limit=1&sort=type", "21354")]
        {
            let mut seen = String::new();
            let mut path = format!("/rockets?{query}");
            loop {
                let page = client.get(&path).await;
                seen += &order(&page.json());
                let Some(link) = page.header("Link") else { break };
                let (next, rel) = link.split_once(">; ").unwrap();
                assert_eq!(rel, "rel=\"next\"");
                path = next.trim_start_matches('<').to_owned();
            }
            assert_eq!(seen, expected, "{query}");
        }
    });
}

#[test]
fn a_wrong_parameter_is_named_with_what_is_allowed() {
    with_defaults(async |client| {
        for (query, field, says) in [
            ("sort=name", "sort", "allowed are id, type, speed, mission, status and updatedAt"),
            ("order=up", "order", "allowed are asc and desc"),
            ("status=lost", "status", "allowed are active and exploded"),
            ("limit=0", "limit", "allowed are 1 to 10000"),
            ("limit=many", "limit", "allowed are 1 to 10000"),
            ("cursor=zz", "cursor", "from the Link header"),
            ("sorted=id", "sorted", "there are sort, order"),
        ] {
            let answer = client.get(&format!("/rockets?{query}")).await;
            let detail = answer.problem(400);
            assert!(detail.contains(says), "{detail}");
            assert_eq!(answer.json()["field"], field);
        }
    });
}

#[test]
fn the_list_has_a_tag_that_changes_with_any_rocket() {
    with_defaults(async |client| {
        fleet(&client).await;
        let tag = client.get("/rockets").await.header("ETag").unwrap().to_owned();
        let known = format!("If-None-Match: \"other\", {tag}\r\n");
        assert_eq!(client.ask("GET", "/rockets", &known, "").await.status, 304);
        client.post(&launch(&id(6), 1, 1)).await;
        assert_eq!(client.ask("GET", "/rockets", &known, "").await.status, 200);
    });
}
