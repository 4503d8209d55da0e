//! What holds for any JSON and for any bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// A value twice: compact, and as the same tokens with white space between them.
type Both = (String, String);

fn space() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 1 => "[ \t\r\n]{1,9}"]
}

fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => any::<char>().prop_map(|c| match c {
            '"' | '\\' | '\0'..='\x1f' => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        }),
        4 => "[ -!#-\\[\\]-~]{0,20}",
        1 => select(vec!["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"]).prop_map(str::to_owned),
        1 => any::<u16>().prop_map(|unit| format!("\\u{unit:04X}")),
    ];
    vec(piece, 0..6).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn value() -> impl Strategy<Value = Both> {
    let leaf = prop_oneof![
        string(),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?",
        select(vec!["null", "true", "false"]).prop_map(str::to_owned),
    ];
    leaf.prop_map(|text| (text.clone(), text)).prop_recursive(6, 60, 6, |value| {
        prop_oneof![
            (vec((space(), value.clone(), space()), 0..6), space()).prop_map(|(elements, empty)| {
                let parts =
                    elements.into_iter().map(|(before, (compact, spread), after)| (compact, before + &spread + &after));
                enclosed('[', parts, empty, ']')
            }),
            (vec((string(), value, [space(), space(), space(), space()]), 0..6), space()).prop_map(
                |(members, empty)| {
                    let parts = members.into_iter().map(|(name, (compact, spread), [a, b, c, d])| {
                        (format!("{name}:{compact}"), format!("{a}{name}{b}:{c}{spread}{d}"))
                    });
                    enclosed('{', parts, empty, '}')
                }
            ),
        ]
    })
}

fn enclosed(open: char, parts: impl Iterator<Item = Both>, empty: String, close: char) -> Both {
    let (compact, spread): (Vec<_>, Vec<_>) = parts.unzip();
    let inside = if spread.is_empty() { empty } else { spread.join(",") };
    (format!("{open}{}{close}", compact.join(",")), format!("{open}{inside}{close}"))
}

/// Changes to a text: at a place, so many bytes go and these come.
fn changes() -> impl Strategy<Value = Vec<(Index, usize, Vec<u8>)>> {
    let insert = prop_oneof![vec(token(), 0..3).prop_map(|tokens| tokens.concat()), vec(any::<u8>(), 1..3),];
    vec((any::<Index>(), 0_usize..4, insert), 1..4)
}

fn changed(text: &[u8], changes: &[(Index, usize, Vec<u8>)]) -> Vec<u8> {
    let mut text = text.to_vec();
    for (place, gone, insert) in changes {
        let start = place.index(text.len() + 1);
        let end = (start + gone).min(text.len());
        text.splice(start..end, insert.iter().copied());
    }
    text
}

fn token() -> impl Strategy<Value = Vec<u8>> {
    let tokens: [&[u8]; 38] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\",
        b"\\u",
        b"\\u00e9",
        b"\\ud800",
        b"\\n",
        b"0",
        b"1",
        b"-",
        b"+",
        b".",
        b"e",
        b"E",
        b"12",
        b"null",
        b"true",
        b"false",
        b"nul",
        b"a",
        b"\"a\"",
        b"\"a\":",
        b" ",
        b"\n",
        b"\t",
        b"\0",
        b"\x1f",
        b"\x7f",
        b"\xc3\xa9",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98\x80",
        b"\xff",
    ];
    select(tokens.to_vec()).prop_map(<[u8]>::to_vec)
}

/// Our verdict is serde_json's, the compacted text is what it should be, and what is made of a text that is no request
/// is an error at most.
fn agree(text: &[u8]) {
    let ours = compact(text);
    assert_eq!(ours.is_ok(), serde_takes(text), "{ours:?}");
    if let Ok(compacted) = ours {
        assert_eq!(compacted, without_white_space(text));
    }
    if let Ok((line, reply)) = audit_line(text) {
        assert!(serde_takes(text) && is_line(&line) && serde_takes(&reply));
    }
    if let Ok(lines) = audit_lines(text) {
        assert!(serde_takes(&replaced(text)) && lines.split_inclusive(|byte| *byte == b'\n').all(is_line));
    }
    assert!(serde_takes(&review_of(text)) || audit_line(&review_of(text)).is_err());
    let lines = audit_lines(&list_of(text));
    assert!(lines.is_ok() || !serde_takes(&replaced(text)), "{lines:?}");
    if let Ok(lines) = lines {
        assert!(lines.split_inclusive(|byte| *byte == b'\n').all(is_line));
        assert_eq!(audit_lines(&list_of(&replaced(text))), Ok(lines));
    }
}

fn is_line(line: &[u8]) -> bool {
    let Some((b'\n', line)) = line.split_last() else {
        return false;
    };
    serde_takes(line) && !line.contains(&b'\n')
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_in_any_formatting_is_compacted((compacted, spread) in value(), before in space(), after in space()) {
        prop_assert!(serde_takes(spread.as_bytes()), "the strategy makes valid JSON");
        let text = before + &spread + &after;
        prop_assert_eq!(compact(text.as_bytes()).unwrap(), compacted.as_bytes());
        prop_assert_eq!(compact(compacted.as_bytes()).unwrap(), compacted.as_bytes());
    }

    #[test]
    fn the_line_of_any_review_is_the_review_and_the_time((compacted, spread) in value()) {
        let wanted = review_of(compacted.as_bytes());
        let wanted = [&wanted[..wanted.len() - 1], STAMP.as_bytes(), b"\n"].concat();
        let (line, _) = audit_line(&review_of(spread.as_bytes())).unwrap();
        prop_assert!(is_line(&line));
        prop_assert_eq!(&line, &wanted);
        // As data: what serde_json's Value cannot hold (1e400, lone surrogates) was compared as bytes alone.
        if let Ok(mut asked) = serde_json::from_slice::<serde_json::Value>(&review_of(spread.as_bytes())) {
            asked["requestReceivedTimestamp"] = "2026-11-20T21:34:38.123456789Z".into();
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&line).unwrap(), asked);
        }
    }

    #[test]
    fn the_lines_of_any_list_are_its_items(values in vec(value(), 0..5)) {
        let (compacted, spread): (Vec<_>, Vec<_>) =
            values.iter().map(|(c, s)| (format!("{{\"a\":{c}}}"), format!(" {{ \"a\":\n{s}}}"))).unzip();
        let body = format!(
            "{{\"items\":[{}], \"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\"}}",
            spread.join(" ,")
        );
        let wanted: String = compacted
            .iter()
            .map(|item| format!("{{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",{}\n", &item[1..]))
            .collect();
        prop_assert_eq!(audit_lines(body.as_bytes()).unwrap(), wanted.as_bytes());
    }

    #[test]
    fn any_bytes_get_the_verdict_of_serde_json(text in vec(any::<u8>(), 0..64)) {
        agree(&text);
        agree(&[b"\"", &*text, b"\""].concat());
    }

    #[test]
    fn any_tokens_get_the_verdict_of_serde_json(tokens in vec(token(), 0..12)) {
        agree(&tokens.concat());
        agree(&[b"[", &*tokens.concat(), b"]"].concat());
        agree(&[b"{\"a\":\"", &*tokens.concat(), b"\"}"].concat());
    }

    #[test]
    fn any_value_with_some_bytes_changed_gets_the_verdict_of_serde_json((_, spread) in value(), changes in changes()) {
        agree(&changed(spread.as_bytes(), &changes));
    }

    #[test]
    fn a_recorded_request_with_some_bytes_changed_gets_the_verdict_of_serde_json(
        body in select(recorded::all().into_iter().filter(|body| body.len() < 20_000).collect::<Vec<_>>()),
        changes in changes(),
    ) {
        agree(&changed(body, &changes));
    }
}
