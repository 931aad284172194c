//! Many connections, and misbehaving clients.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{FALCON, faster, launch, with, with_defaults};

#[test]
fn with_many_open_connections_each_answer_closes_its_connection() {
    with(&[("http_connections_busy", "3")], async |client| {
        let get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut first = client.connect().await;
        let mut answer = [0; 1024];
        first.write_all(get).await.unwrap();
        let read = first.read(&mut answer).await.unwrap();
        assert!(!String::from_utf8_lossy(&answer[..read]).contains("connection: close"));
        let mut others = Vec::new();
        for _ in 0..3 {
            others.push(client.connect().await);
        }
        // This asks on a connection of its own, which makes five.
        while !client.get("/metrics").await.body.contains("tidings_http_connections 5\n") {}
        first.write_all(get).await.unwrap();
        let mut rest = String::new();
        first.read_to_string(&mut rest).await.unwrap();
        assert!(rest.contains("connection: close"), "{rest}");
        assert!(client.get("/metrics").await.body.contains("tidings_http_connections_busy_total"));
    });
}

#[test]
fn many_requests_may_be_in_flight_on_one_connection() {
    with_defaults(async |client| {
        let mut requests = String::new();
        for number in 1..=100 {
            let body = faster(FALCON, number, 1).to_string();
            let close = if number == 100 { "Connection: close\r\n" } else { "" };
            let length = body.len();
            let request = format!(
                "POST /messages HTTP/1.1\r\nHost: x\r\n{close}Content-Length: {length}\r\n\r\n{body}"
            );
            requests += &request;
        }
        let answers = client.raw(requests.as_bytes()).await;
        assert_eq!(answers.status, 202);
        assert_eq!(client.rocket(FALCON).await["speed"], 100);
    });
}

#[test]
fn a_client_that_reads_nothing_delays_no_other_client() {
    with_defaults(async |client| {
        client.post(&launch(FALCON, 1, 1)).await;
        let mut silent = client.connect().await;
        let request = b"GET /swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n";
        for _ in 0..20 {
            silent.write_all(request).await.unwrap();
        }
        for number in 2..100 {
            assert_eq!(client.post(&faster(FALCON, number, 1)).await.outcome(), "applied");
        }
        drop(silent);
    });
}
