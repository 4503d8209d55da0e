use super::*;

fn lines(body: &str, source: Option<&str>) -> Result<String, Invalid> {
    let mut lines = b"before\n".to_vec();
    let result = audit_lines(&mut body.as_bytes().to_vec(), source, &mut lines);
    let lines = String::from_utf8(lines).unwrap();
    let lines = lines.strip_prefix("before\n").unwrap().to_owned();
    match result {
        Ok(events) => {
            assert_eq!(events.count, lines.lines().count());
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
    assert_eq!(lines(&list("[ ]"), Some("s")).unwrap(), "");
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
        (&list("null"), "no items, or they are not an array"),
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
    let _ = audit_lines(&mut body.clone().into_bytes(), None, &mut grown);
    assert!(grown.capacity() <= 2 * (2 * body.len() + SLACK));
}
