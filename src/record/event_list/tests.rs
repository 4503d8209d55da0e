use super::*;

fn lines(body: &str, source: Option<&str>) -> Result<String, Invalid> {
    let mut lines = b"before\n".to_vec();
    let result = audit_lines(&mut body.as_bytes().to_vec(), source, None, Chained::No, &mut lines);
    let lines = String::from_utf8(lines).unwrap();
    let lines = lines.strip_prefix("before\n").unwrap().to_owned();
    match result {
        Ok(events) => {
            assert_eq!(events.count, lines.lines().count());
            assert_eq!(events.mended, 0);
            let longest = lines.split_inclusive('\n').map(str::len).max();
            assert_eq!(events.longest, longest.unwrap_or(0));
        }
        Err(_) => assert_eq!(lines, ""),
    }
    result.map(|_| lines)
}

fn list(items: &str) -> String {
    format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":{items}}}"#)
}

#[test]
fn what_the_items_lack_of_the_log_backends_lines_comes_first() {
    assert_eq!(
        lines(&list(r#"[ {"level" : "Metadata", "n":1e+300}, {"auditID":"a b"} ]"#), None).unwrap(),
        "{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"Metadata\",\"n\":1e+300}\n\
         {\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"auditID\":\"a b\"}\n"
    );
}

#[test]
fn what_an_item_says_of_itself_stays_where_it_is() {
    assert_eq!(
        lines(&list(r#"[{"a":1,"\u006bind":"Event"},{"apiVersion":"audit.k8s.io/v1","b":{"kind":2}}]"#), None).unwrap(),
        "{\"apiVersion\":\"audit.k8s.io/v1\",\"a\":1,\"\\u006bind\":\"Event\"}\n\
         {\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"b\":{\"kind\":2}}\n"
    );
}

#[test]
fn the_source_comes_last_and_a_clients_own_is_dropped() {
    let body = list(r#"[{"source":1,"a":{"source":2}},{"b":3,"\u0073ource":{}},{}]"#);
    let begin = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1""#;
    assert_eq!(
        lines(&body, Some("prod \"1\"")).unwrap(),
        format!(
            "{begin},\"a\":{{\"source\":2}},\"source\":\"prod \\\"1\\\"\"}}\n\
             {begin},\"b\":3,\"source\":\"prod \\\"1\\\"\"}}\n\
             {begin},\"source\":\"prod \\\"1\\\"\"}}\n"
        )
    );
    assert_eq!(
        lines(&body, None).unwrap(),
        format!(
            "{begin},\"source\":1,\"a\":{{\"source\":2}}}}\n\
             {begin},\"b\":3,\"\\u0073ource\":{{}}}}\n\
             {begin}}}\n"
        )
    );
}

#[test]
fn an_events_own_timestamp_stays() {
    let lines = lines(&list(r#"[{"requestReceivedTimestamp":"x"}]"#), Some("s")).unwrap();
    assert!(lines.ends_with("\"requestReceivedTimestamp\":\"x\",\"source\":\"s\"}\n"));
}

#[test]
fn an_empty_list_has_no_lines() {
    for items in ["[ ]", "null", " null\n"] {
        assert_eq!(lines(&list(items), Some("s")).unwrap(), "");
    }
}

#[test]
fn the_order_of_the_lists_members_does_not_matter() {
    let wanted = lines(&list("[{\"a\":1}]"), None).unwrap();
    for body in [
        r#"{"items":[{"a":1}],"metadata":{"items":null},"apiVersion":"audit.k8s.io/v1","kind":"EventList"}"#,
        r#" { "metadata" : { } , "items" : [ { "a" : 1 } ] , "kind" : "EventList" , "apiVersion" : "audit.k8s.io/v1" } "#,
        r#"{"\u006bind":"\u0045ventList","apiVersion":"audit.k8s.io\/v1","it\u0065ms":[{"a":1}]}"#,
    ] {
        assert_eq!(lines(body, None).unwrap(), wanted, "{body}");
    }
}

#[test]
fn what_is_no_event_list_is_refused_and_leaves_no_line() {
    let broken = list("[{\"a\":1},{\"b\":}]");
    let event = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1"}"#;
    let ndjson = format!("{event}\n{event}\n");
    for (body, wanted) in [
        ("", "the body is empty"),
        (" \n", "the body is empty"),
        ("[]", "not an EventList"),
        ("{}", "not an EventList"),
        ("\"EventList\"", "not an EventList"),
        ("{\"kind\":", "the body is not JSON: the text ends too early at byte 8"),
        (&broken, "the body is not JSON: a value was expected at byte 87"),
        (&list("[{},[]]"), "one of the items is not an object"),
        (&list("[null]"), "one of the items is not an object"),
        (&list("nul"), "the body is not JSON: a value was expected at byte 73"),
        (&list("true"), "no items, or they are not an array"),
        (&list("{}"), "no items, or they are not an array"),
        (&list("[{}],\"items\":[{}]"), "items stands there twice"),
        (&list("[{}],\"it\\u0065ms\":[]"), "items stands there twice"),
        (&list("[],\"kind\":\"EventList\""), "kind stands there twice"),
        (&list("[],\"apiVersion\":\"audit.k8s.io/v1\""), "apiVersion stands there twice"),
        (r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1"}"#, "no items, or they are not an array"),
        (
            r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1beta1","items":[]}"#,
            "apiVersion is not audit.k8s.io/v1, the version wanted here",
        ),
        (
            r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1alpha1","items":[]}"#,
            "apiVersion is not audit.k8s.io/v1, the version wanted here",
        ),
        (r#"{"kind":"EventList","items":[{}]}"#, "apiVersion is not audit.k8s.io/v1, the version wanted here"),
        (r#"{"items":[{}],"kind":"Event","apiVersion":"audit.k8s.io/v1"}"#, "not an EventList"),
        (r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","items":null}"#, "not an EventList"),
        (r#"{"kind":"Event","apiVersion":"v1"}"#, "apiVersion is not audit.k8s.io/v1, the version wanted here"),
        (r#"{"kind":"Event","auditID":"a"}"#, "apiVersion is not audit.k8s.io/v1, the version wanted here"),
        (r#"{"auditID":"a","apiVersion":"audit.k8s.io/v1"}"#, "not an EventList"),
        (&ndjson, "NDJSON is not taken: several Events are sent as one EventList"),
        (&ndjson.replace('\n', " "), "NDJSON is not taken: several Events are sent as one EventList"),
        (&ndjson.replace('\n', ","), "the body is not JSON: something follows the document at byte 47"),
        (&(list("[]") + &list("[]")), "the body is not JSON: something follows the document at byte 76"),
        (
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#,
            "not an EventList: an AdmissionReview goes to /log-request",
        ),
    ] {
        assert_eq!(lines(body, None).unwrap_err().to_string(), wanted, "{body}");
    }
}

#[test]
fn a_list_of_nothing_cannot_make_lines_many_times_its_size() {
    let items = |count: usize| list(&format!("[{}{{}}]", "{},".repeat(count - 1)));
    assert_eq!(lines(&items(1000), None).unwrap().lines().count(), 1000);
    assert_eq!(lines(&items(1_000_000), None), Err(Invalid::ManySmallItems));

    let body = items(1_000_000);
    let mut grown = Vec::new();
    let _ = audit_lines(&mut body.clone().into_bytes(), None, None, Chained::No, &mut grown);
    assert!(grown.capacity() <= 2 * (2 * body.len() + SLACK));
}

#[test]
fn a_bare_event_is_a_list_of_one() {
    for (body, line) in [
        (
            r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a"}"#,
            r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a"}"#,
        ),
        (
            "\n { \"auditID\" : \"a\" , \"apiVersion\":\"audit.k8s.io/v1\", \"kind\" :\"Event\" } ",
            r#"{"auditID":"a","apiVersion":"audit.k8s.io/v1","kind":"Event"}"#,
        ),
    ] {
        assert_eq!(lines(body, None).unwrap(), format!("{line}\n"));
    }
    let smuggled = r#"{"source":1,"kind":"Event","apiVersion":"audit.k8s.io/v1","a":{"source":2},"\u0073ource":3}"#;
    assert_eq!(
        lines(smuggled, Some("s")).unwrap(),
        "{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"a\":{\"source\":2},\"source\":\"s\"}\n"
    );
    assert_eq!(lines(smuggled, None).unwrap(), format!("{smuggled}\n"));
}

/// The lines of any bytes, and how many of them were mended.
fn lines_of_bytes(body: &[u8]) -> Result<(String, usize), Invalid> {
    let mut lines = Vec::new();
    let events = audit_lines(&mut body.to_vec(), None, None, Chained::No, &mut lines)?;
    Ok((String::from_utf8(lines).unwrap(), events.mended))
}

fn list_of_bytes(items: &[u8]) -> Vec<u8> {
    [br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#, items, b"]}\n"].concat()
}

const FRONT: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1""#;

#[test]
fn each_run_of_bytes_that_are_not_utf8_becomes_one_replacement_character_in_that_event_only() {
    for (bytes, text) in [
        (&b"a\xff\xfeb"[..], "a\u{fffd}b"),
        (b"\xff", "\u{fffd}"),
        (b"\xffa\xff", "\u{fffd}a\u{fffd}"),
        (b"\xe4\xb8", "\u{fffd}"),
        (b"\xe4\xb8x", "\u{fffd}x"),
        (b"\xe4\xb8\xe4\xb8\xad", "\u{fffd}\u{4e2d}"),
        (b"\xff\xc3\xa9\xff\xff\xff", "\u{fffd}\u{e9}\u{fffd}"),
        (b"\xed\xa0\x80", "\u{fffd}"),
        (b"\xf4\x90\x80\x80", "\u{fffd}"),
        (b"\\n\x80\\u00ff\x80\\\\", "\\n\u{fffd}\\u00ff\u{fffd}\\\\"),
        ("\u{fffd}\u{fffd}".as_bytes(), "\u{fffd}\u{fffd}"),
    ] {
        let bad = [b"{ \"k\xc3\xa9\": \"", bytes, b"\"}"].concat();
        let body = list_of_bytes(&[b"{\"a\":1},", &*bad, b",{\"c\": \"\xc3\xa9\"}"].concat());
        let mended = usize::from(str::from_utf8(bytes).is_err());
        let wanted = format!("{FRONT},\"a\":1}}\n{FRONT},\"k\u{e9}\":\"{text}\"}}\n{FRONT},\"c\":\"\u{e9}\"}}\n");
        assert_eq!(lines_of_bytes(&body), Ok((wanted, mended)), "{bytes:?}");
    }
}

#[test]
fn a_bad_member_name_and_a_bare_event_are_mended_too() {
    let body = list_of_bytes(b"{\"\xff\":1,\"b\":[{\"\xfe\xfe\":\"\xfd\"}]},{\"\xff\":2}");
    let wanted = format!("{FRONT},\"\u{fffd}\":1,\"b\":[{{\"\u{fffd}\":\"\u{fffd}\"}}]}}\n{FRONT},\"\u{fffd}\":2}}\n");
    assert_eq!(lines_of_bytes(&body), Ok((wanted, 2)));
    let body = [FRONT.as_bytes(), b",\"a\":\"\xff\"}"].concat();
    assert_eq!(lines_of_bytes(&body), Ok((format!("{FRONT},\"a\":\"\u{fffd}\"}}\n"), 1)));
}

#[test]
fn bytes_that_are_not_utf8_outside_of_events_are_refused() {
    for (body, at) in [
        (&b"{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"m\":\"\xff\",\"items\":[{}]}"[..], 56),
        (b"{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"items\":[{}],\"m\":\"\xff\"}", 69),
        (b"{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"\xff\":0,\"items\":null}", 52),
    ] {
        let error = json::Error { what: "not UTF-8", at };
        assert_eq!(lines_of_bytes(body), Err(Invalid::Json(error)));
    }
    // Outside of a string, and in an escape, such bytes are no JSON.
    for item in [&b"{\"a\":\xff}"[..], b"{\"a\"\xff:1}", b"{\"a\":\"\\\xff\"}", b"{\"a\":1}\xff"] {
        assert!(lines_of_bytes(&list_of_bytes(item)).is_err(), "{item:?}");
    }
}

#[test]
fn a_list_of_the_worst_patches_has_room_for_its_lines() {
    // Every second byte becomes three bytes, and the events are as short as an API server's shortest.
    let event = [
        br#"{"level":"Request","auditID":"00000000-0000-0000-0000-000000000000","stage":"ResponseComplete","x":""#,
        &*b"a\xff".repeat(5_000),
        b"\"}",
    ]
    .concat();
    let body = list_of_bytes(&vec![event; 400].join(&b','));
    let mut lines = Vec::new();
    let events = audit_lines(&mut body.clone(), Some(&"s".repeat(63)), None, Chained::Yes, &mut lines).unwrap();
    assert_eq!((events.count, events.mended), (400, 400));
    assert!(lines.len() > 2 * body.len() - 100_000 && lines.len() <= most_lines(body.len()));
    assert!(lines.capacity() <= most_lines(body.len()) + body.len() / 4);
}

#[test]
fn a_list_whose_chain_would_be_longer_than_itself_is_refused_and_no_list_of_an_api_server_is() {
    let list = |count, length: usize| {
        list_of_bytes(&vec![format!("{{\"a\":\"{}\"}}", "x".repeat(length)); count].join(",").into_bytes())
    };
    for (count, length, wanted) in
        [(400, 0, Ok(())), (10_000, 160, Ok(())), (10_000, 100, Err(Invalid::ManySmallItems))]
    {
        let mut lines = Vec::new();
        let made = |chained, lines: &mut Vec<u8>| audit_lines(&mut list(count, length), None, None, chained, lines);
        assert_eq!(made(Chained::Yes, &mut lines).map(drop), wanted, "{count} of {length}");
        assert_eq!(lines.is_empty(), wanted.is_err());
        assert!(made(Chained::No, &mut lines).is_ok());
    }
}
