//! Health, metrics, the description of the API and its page.

use super::support::{FALCON, launch, with_defaults};

#[test]
fn a_running_server_is_alive_and_ready() {
    with_defaults(async |client| {
        assert_eq!(client.get("/healthz").await.body, "{\"status\":\"alive\"}");
        assert_eq!(client.get("/readyz").await.body, "{\"status\":\"ready\"}");
    });
}

#[test]
fn metrics_count_what_happens() {
    with_defaults(async |client| {
        client.post(&launch(FALCON, 1, 1)).await;
        client.post(&launch(FALCON, 1, 1)).await;
        let answer = client.get("/metrics").await;
        assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4"));
        for line in [
            "tidings_rockets_messages_total{outcome=\"applied\"} 1",
            "tidings_rockets_messages_total{outcome=\"duplicate\"} 1",
            "tidings_rockets_channels 1",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(answer.body.contains(line), "{line} in {}", answer.body);
        }
    });
}

#[test]
fn the_description_is_openapi_3_1_and_names_every_route() {
    with_defaults(async |client| {
        let description = client.get("/openapi.json").await.json();
        assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
        let paths: Vec<_> = description["paths"].as_object().unwrap().keys().cloned().collect();
        let expected = [
            "/chat",
            "/chat/{username}",
            "/chat/{username}/{id}",
            "/debug/digest",
            "/healthz",
            "/maze",
            "/messages",
            "/metrics",
            "/readyz",
            "/rockets",
            "/rockets/events",
            "/rockets/{id}",
            "/tracker/messages",
            "/tracker/messages/{id}",
            "/tracker/messages/{id}/peers",
            "/traffic",
            "/traffic/events",
            "/traffic/graph.svg",
            "/traffic/topology",
        ];
        assert_eq!(paths, expected);
    });
}

#[test]
fn swagger_ui_works_without_the_internet() {
    with_defaults(async |client| {
        let page = client.get("/swagger/").await;
        assert_eq!(page.status, 200);
        assert!(!page.body.contains("https://"), "{}", page.body);
        let files =
            ["index.css", "swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"];
        for file in files {
            let path = format!("/swagger/{file}");
            let answer = client.get(&path).await;
            assert_eq!(answer.status, 200, "{path}");
        }
        assert!(client.get("/swagger/swagger-initializer.js").await.body.contains("/openapi.json"));
        assert_eq!(client.get("/").await.header("Location"), Some("/swagger/"));
    });
}
