//! The fast reader against serde, and what the envelope does not let through.

use proptest::prelude::*;

use super::*;

const TEXT_BYTES_MAX: usize = 40;

fn usual(number: &str, time: &str, kind: &str, content: &str, blank: &str) -> String {
    let b = blank;
    format!(
        "{b}{{{b}\"metadata\":{b}{{\"channel\"{b}:\"193270a9-c9cf-404a-8f83-838e71d9ae67\",{b}\
         \"messageNumber\":{b}{number}{b},\"messageTime\":\"{time}\",\"messageType\":{b}\"{kind}\"{b}}}{b},\
         \"message\":{b}{content}{b}}}{b}"
    )
}

fn any_number() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0u64..100).prop_map(|number| number.to_string()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => any::<u64>().prop_map(|number| number.to_string()),
        1 => "-?[0-9]{1,21}",
        1 => prop::sample::select(vec!["1.5", "1e3", "-0", "01", "null", "\"1\"", "9223372036854775807"])
            .prop_map(str::to_owned),
    ]
}

fn any_content() -> impl Strategy<Value = String> {
    let text = "([a-zA-Z é🚀]|\\\\n|\\\\u00e9|\\\\){0,14}";
    prop_oneof![
        any_number().prop_map(|by| format!("{{\"by\":{by}}}")),
        any_number().prop_map(|by| format!("{{ \"by\" : {by} , \"more\":1}}")),
        (text, any_number(), text).prop_map(|(kind, speed, mission)| {
            format!("{{\"type\":\"{kind}\",\"launchSpeed\":{speed},\"mission\":\"{mission}\"}}")
        }),
        text.prop_map(|mission| format!("{{\"newMission\":\"{mission}\"}}")),
        text.prop_map(|reason| format!("{{\"reason\":\"{reason}\"}}")),
        Just("null".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_is_read_fast_is_what_serde_reads(
        number in any_number(),
        time in prop_oneof![
            3 => Just("2022-02-02T19:39:05.86337+01:00".to_owned()),
            1 => "20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,10})?(Z|z|[+-][0-2][0-9]:[0-6][0-9])",
        ],
        kind in prop::sample::select(vec![
            "RocketLaunched", "RocketSpeedIncreased", "RocketSpeedDecreased",
            "RocketMissionChanged", "RocketExploded", "RocketPainted",
        ]),
        content in any_content(),
        blank in prop::sample::select(vec!["", " ", "\n\t", "\r\n "]),
        change in prop::option::weighted(0.5, (any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut json = usual(&number, &time, kind, &content, blank).into_bytes();
        if let Some((place, byte)) = change {
            let place = place.index(json.len());
            json[place] = byte;
        }
        if let Some(fast) = fast::delivery(&json, TEXT_BYTES_MAX) {
            let slow = slow(&json, TEXT_BYTES_MAX);
            prop_assert_eq!(Some(fast), slow.ok(), "{}", String::from_utf8_lossy(&json));
        }
    }
}

#[test]
fn the_usual_shapes_are_read_fast() {
    for (kind, content) in [
        ("RocketLaunched", r#"{"type": "Falcon-9", "launchSpeed": 500, "mission": "ARTEMIS"}"#),
        ("RocketSpeedIncreased", r#"{"by": 3000}"#),
        ("RocketSpeedDecreased", r#"{"by":-1}"#),
        ("RocketMissionChanged", r#"{"newMission":"SHUTTLE_MIR"}"#),
        ("RocketExploded", r#"{"reason":"PRESSURE_VESSEL_FAILURE é"}"#),
    ] {
        for blank in ["", " ", "\n"] {
            let json = usual("12", "2022-02-02T19:39:05.86337+01:00", kind, content, blank);
            assert!(fast::delivery(json.as_bytes(), TEXT_BYTES_MAX).is_some(), "{json}");
        }
    }
}

#[test]
fn a_text_that_is_too_long_makes_the_content_unreadable() {
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    let content = format!("{{\"reason\":\"{long}\"}}");
    let json = usual("1", "2022-02-02T19:39:05Z", "RocketExploded", &content, "");
    let read = delivery(json.as_bytes(), TEXT_BYTES_MAX).unwrap();
    assert!(matches!(read.message.content, Content::Unreadable(_)));
}
