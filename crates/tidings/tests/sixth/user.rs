//! What a user of the pulse sees.

use super::support::with_defaults;

#[test]
fn beats_of_the_pulse_are_counted() {
    with_defaults(async |client| {
        for beats in ["1", "2"] {
            let answer = client.ask("POST", "/pulse", "", "").await;
            assert_eq!((answer.status, answer.body.as_str()), (201, beats));
        }
        assert!(client.get("/metrics").await.body.contains("tidings_pulse_beats_total 2"));
    });
}
