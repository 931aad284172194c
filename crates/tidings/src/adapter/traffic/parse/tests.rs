//! What frames say, and the fast way against the slow one.

use proptest::prelude::*;

use super::*;

const A: &str = "193270a9-c9cf-404a-8f83-838e71d9ae67";
const B: &str = "293270a9-c9cf-404a-8f83-838e71d9ae67";

fn read(text: &str) -> (Vec<u8>, Result<(), Malformed>) {
    let mut out = Vec::new();
    let read = frame(text, &mut out);
    (out, read)
}

fn call(status: u16) -> String {
    format!(
        r#"{{"source":"{A}","destination":"{B}","method":"GET","path":"/x","httpStatus":{status}}}"#
    )
}

/// The first bytes of the records: what kind they are.
fn tags(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(record::BYTES).map(|record| record[0]).collect()
}

#[test]
fn a_frame_is_an_element_or_many() {
    let belongs = format!(r#"{{"parent":"{A}","child":"{B}"}}"#);
    for (text, expected) in [
        (call(200), vec![1]),
        (belongs.clone(), vec![0]),
        ("[]".to_owned(), vec![]),
        (format!(" [ {} , {belongs} ,{}] \n", call(404), call(503)), vec![2, 0, 3]),
        (call(200).replace("/x", "\\u002f \\\" 🚀"), vec![1]),
        (call(200).replace("\"path\":\"/x\"", "\"path\":null,\"more\":[{\"a\":1}]"), vec![1]),
        (call(200).replace(A, &A.replace('-', "")), vec![1]),
    ] {
        let (out, read) = read(&text);
        assert_eq!((tags(&out), read), (expected, Ok(())), "{text}");
    }
    let (out, _) = read(&belongs);
    let (child, parent) = (Uuid::try_parse(B).unwrap(), Uuid::try_parse(A).unwrap());
    assert_eq!(out, [&[0][..], child.as_bytes(), parent.as_bytes()].concat());
}

#[test]
fn a_bad_element_does_not_lose_the_others() {
    let text = format!("[{},{{\"source\":5}},{},{{}},7]", call(200), call(500));
    let (out, read) = read(&text);
    assert_eq!(tags(&out), [1, 3]);
    let malformed = read.unwrap_err();
    assert_eq!(malformed.count, 3);
    assert!(malformed.why.starts_with("element 1: invalid type: integer `5`"), "{}", malformed.why);
}

#[test]
fn what_cannot_be_read_is_said() {
    for (text, says) in [
        (String::new(), "EOF"),
        ("hello".to_owned(), "expected value"),
        (format!("[{}", call(200)), "EOF"),
        (format!("{} {}", call(200), call(200)), "trailing"),
        (call(200).replace(A, "x"), "source: \"x\" is not a UUID"),
        (call(200).replace("200", "\"200\""), "invalid type: string"),
        (call(200).replace("200", "70000"), "invalid value"),
        (call(200).replace("httpStatus", "status"), "neither parent and child nor"),
        (call(200).replace("method", "source"), "duplicate field"),
        (format!(r#"{{"parent":"{A}"}}"#), "neither"),
    ] {
        let (out, read) = read(&text);
        let malformed = read.unwrap_err();
        assert!(out.is_empty() && malformed.count == 1, "{text}");
        assert!(malformed.why.contains(says), "{text}: {}", malformed.why);
    }
}

/// Text that is nearly a frame.
fn nearly() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        " ",
        "\n",
        "\\",
        "0",
        "200",
        "404",
        "-1",
        "1e2",
        "0200",
        "null",
        "\"parent\"",
        "\"child\"",
        "\"source\"",
        "\"destination\"",
        "\"httpStatus\"",
        "\"path\"",
        A,
        B,
        "\u{1}",
        "🚀",
    ]);
    let pieces = prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat());
    let field = (
        prop::sample::select(vec![
            "parent",
            "child",
            "source",
            "destination",
            "httpStatus",
            "path",
            "a\\n",
        ]),
        prop::sample::select(vec![
            format!("\"{A}\""),
            format!("\"{B}\""),
            "200".into(),
            "499".into(),
            "007".into(),
            "65536".into(),
            "\"x\"".into(),
            "\"\\u0041\"".into(),
            "null".into(),
            "{\"a\":[1]}".into(),
            "5 ".into(),
            "1.0".into(),
        ]),
    );
    let object = prop::collection::vec(field, 0..6).prop_map(|fields| {
        let fields: Vec<_> =
            fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    });
    let good = prop::sample::select(vec![
        call(200),
        call(404),
        format!(r#"{{"child":"{A}","parent":"{B}"}}"#),
    ]);
    let element = prop_oneof![2 => object, 2 => good];
    let array = prop::collection::vec(element.clone(), 0..5)
        .prop_map(|elements| format!("[{}]", elements.join(" ,")));
    prop_oneof![1 => pieces, 2 => element, 3 => array]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_fast_way_and_the_slow_one_agree(text in nearly()) {
        let (mut fast, mut slow_out) = (Vec::new(), Vec::new());
        let is_fast = fast::frame(text.as_bytes(), &mut fast).is_some();
        let read = slow(&text, &mut slow_out);
        if is_fast {
            prop_assert_eq!(read, Ok(()), "{}", text);
            prop_assert_eq!(fast, slow_out, "{}", text);
        }
    }
}
