use super::*;

fn decoded(json: &str) -> String {
    let mut reader = Reader::new(json.as_bytes());
    let text = reader.text_if_string().unwrap().unwrap();
    reader.finish().unwrap();
    text.chars().collect()
}

#[test]
fn a_text_is_decoded_as_serde_json_decodes_it() {
    for json in [
        r#""""#,
        r#""plain""#,
        r#""\"\\\/\b\f\n\r\t""#,
        r#""\u003c\u003E\u0026\u2028 \ud83d\ude80!""#,
        "\"é ü 日本語 🚀 \u{7f}\u{85}\"",
    ] {
        assert_eq!(decoded(json), serde_json::from_str::<String>(json).unwrap(), "{json}");
    }
}

#[test]
fn half_of_a_surrogate_pair_is_the_replacement_character() {
    assert_eq!(decoded(r#""a\ud83dA\ude00\ud83d""#), "a\u{fffd}A\u{fffd}\u{fffd}");
    assert_eq!(decoded(r#""\ud83d\ud83d\ude80""#), "\u{fffd}\u{1f680}");
}

#[test]
fn a_text_is_compared_by_what_it_says_and_not_by_how_it_is_escaped() {
    let text = JsonStr::new(br"\u0061dmin\/\u00fc");
    assert!(text.is("admin/ü") && text.starts_with("admin/") && text.starts_with(""));
    assert!(!text.is("admin/") && !text.is("admin/üx") && !text.starts_with("admin/üx"));
}

#[test]
fn members_are_found_at_any_place_and_values_are_slices_of_the_text() {
    let json = br#" {"\u0061":{"b":[1,{"c":"}"}]} , "d" : "x", "e":[ ] ,"f":-1e9}"#;
    let mut found = Vec::new();
    let mut reader = Reader::new(json);
    reader
        .members(|reader, name| {
            found.push((name.to_vec(), reader.value()?));
            Ok(())
        })
        .unwrap();
    reader.finish().unwrap();
    let wanted: [(&[u8], &[u8]); 4] =
        [(b"a", br#"{"b":[1,{"c":"}"}]}"#), (b"d", b"\"x\""), (b"e", b"[ ]"), (b"f", b"-1e9")];
    assert_eq!(found, wanted.map(|(name, value)| (name.to_vec(), value)));
}

#[test]
fn damage_is_an_error_wherever_it_stands() {
    let whole = br#"{"a":{"b":[1,{"c":"}"}]},"d":"x"}"#;
    let read = |json: &[u8]| {
        let mut reader = Reader::new(json);
        reader.members(|reader, _| reader.value().map(drop)).and_then(|()| reader.finish())
    };
    assert_eq!(read(whole), Ok(()));
    for end in 0..whole.len() {
        assert!(read(&whole[..end]).is_err(), "{end}");
    }
    for at in 0..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[at] = 0;
        assert!(read(&damaged).is_err(), "{at}");
    }
}
