use std::time::Duration;

use super::*;

const STAMP: &str = r#","requestReceivedTimestamp":"2026-11-20T21:34:38.123456789Z"}"#;

/// The line without its `\n`, and the reply.
fn review(body: &str, source: Option<&str>) -> Result<(String, String), Invalid> {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_795_210_478, 123_456_789);
    let mut line = body.as_bytes().to_vec();
    let mut reply = b"before".to_vec();
    let result = audit_line(&mut line, time, source, None, Chained::No, &mut reply);
    let reply = String::from_utf8(reply).unwrap();
    let reply = reply.strip_prefix("before").unwrap();
    if result.is_err() {
        assert_eq!(reply, "");
    }
    result?;
    let line = String::from_utf8(line).unwrap();
    Ok((line.strip_suffix('\n').unwrap().to_owned(), reply.to_owned()))
}

fn line(body: &str, source: Option<&str>) -> String {
    review(body, source).unwrap().0
}

/// A review with these members beside its kind and version.
fn with(members: &str) -> String {
    format!(r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1",{members}}}"#)
}

#[test]
fn the_line_is_the_body_and_the_time() {
    let body = with(r#""request":{"uid":"u","object":{"a":[1,-0,1e400,"\u003c\ud800"],"a":null}}"#);
    let wanted = body.strip_suffix('}').unwrap().to_owned() + STAMP;
    assert_eq!(line(&body, None), wanted);
    assert_eq!(line(&format!("{body}\n"), None), wanted);
    assert_eq!(
        line(
            " {\t\"kind\" :\r\n\"AdmissionReview\",\"apiVersion\": \"admission.k8s.io/v1\" ,\"request\":{ \"uid\":\"u\",\"object\":\
             {\"a\":[ 1, -0 ,1e400,\"\\u003c\\ud800\" ],\n\"a\":null} }}\n\n ",
            None
        ),
        wanted
    );
}

#[test]
fn the_reply_names_the_version_and_the_uid_as_asked() {
    let body = with(r#""request":{"uid":"0f3a"}"#);
    assert_eq!(
        review(&body, None).unwrap().1,
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"0f3a","allowed":true}}"#
    );
    let body = r#"{"request":{"kind":{"uid":"no"},"uid":"0f3a"},"apiVersion":"admission.k8s.io\/v1beta1","kind":"AdmissionReview"}"#;
    assert_eq!(
        review(body, None).unwrap().1,
        r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","response":{"uid":"0f3a","allowed":true}}"#
    );
}

#[test]
fn a_uid_of_any_characters_comes_back_as_the_same_text() {
    for uid in [
        r#"\""#,
        r"\\",
        r"\/\b\f\n\r\t\u0000\u001f",
        "<>&'",
        r"\u003c\u2028",
        "\u{2028}\u{7f}\u{fffd}\u{1f600}",
        r"\ud83d\ude00",
        " ",
        r"\ud800",
    ] {
        let body = with(&format!("\"request\" : {{ \"u\\u0069d\" : \"{uid}\" }}"));
        let reply = review(&body, None).unwrap().1;
        assert!(reply.contains(&format!("{{\"uid\":\"{uid}\",")), "{reply}");
        // A Rust string cannot hold half of a surrogate pair: there only the bytes above are compared.
        if uid != r"\ud800" {
            let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
            let uid: String = serde_json::from_str(&format!("\"{uid}\"")).unwrap();
            assert_eq!(reply["response"]["uid"], uid);
        }
    }
}

#[test]
fn a_clients_own_timestamp_is_dropped_wherever_it_stands_and_however_it_is_escaped() {
    let wanted = with(r#""request":{"uid":"u","requestReceivedTimestamp":1}"#);
    let wanted = wanted.strip_suffix('}').unwrap().to_owned() + STAMP;
    let (k, v, r) = (
        r#""kind":"AdmissionReview""#,
        r#""apiVersion":"admission.k8s.io/v1""#,
        r#""request":{"uid":"u","requestReceivedTimestamp":1}"#,
    );
    let t = r#""requestReceivedTimestamp":"mine""#;
    let e = r#""\u0072equestReceived\u0054imestamp" : { "a" : [ "," ] }"#;
    for body in [
        format!("{{{t},{k},{v},{r}}}"),
        format!("{{{t},{e},{t},{k},{v},{r}}}"),
        format!("{{{k},{t},{v},{e},{r}}}"),
        format!("{{{k},{v},{r},{t}}}"),
        format!("{{{k},{v},{r},{t},{t},{e}}}"),
        format!("{{{t},{k},{t},{v},{t},{r},{e}}}"),
        format!("{{ {e} , {k} , {e} , {v} , {t} , {r} , {e} }} "),
    ] {
        assert_eq!(line(&body, None), wanted, "{body}");
    }
}

#[test]
fn the_source_stands_before_the_time_and_a_clients_own_is_dropped() {
    let body = with(r#""source":1,"request":{"uid":"u"},"\u0073ource":[{}],"requestReceivedTimestamp":0"#);
    assert_eq!(
        line(&body, Some("prod \"1\"")),
        with(r#""request":{"uid":"u"},"source":"prod \"1\"""#).strip_suffix('}').unwrap().to_owned() + STAMP
    );
    assert_eq!(
        line(&body, None),
        with(r#""source":1,"request":{"uid":"u"},"\u0073ource":[{}]"#).strip_suffix('}').unwrap().to_owned() + STAMP
    );
}

#[test]
fn what_is_no_review_is_refused_with_a_line_that_says_why() {
    let request = r#""request":{"uid":"u"}"#;
    let long = format!("\"request\":{{\"uid\":\"{}\"}}", "u".repeat(MAX_UID + 1));
    for (body, wanted) in [
        ("", "the body is empty"),
        (" \r\n\t", "the body is empty"),
        ("{", "the body is not JSON: the text ends too early at byte 1"),
        ("garbage", "the body is not JSON: a value was expected at byte 0"),
        ("[1] 2", "the body is not JSON: something follows the document at byte 4"),
        ("[1] ", "not an AdmissionReview"),
        ("{}", "not an AdmissionReview"),
        ("[]", "not an AdmissionReview"),
        ("null", "not an AdmissionReview"),
        (&format!("{{{request}}}"), "not an AdmissionReview"),
        (r#"{"kind":"Pod"}"#, "not an AdmissionReview"),
        (r#"{"kind":["AdmissionReview"]}"#, "not an AdmissionReview"),
        (r#"{"kind":"admissionreview"}"#, "not an AdmissionReview"),
        (
            r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}"#,
            "not an AdmissionReview: an EventList goes to /audit-events",
        ),
        (
            &format!(r#"{{"kind":"AdmissionReview",{request}}}"#),
            "apiVersion is not admission.k8s.io/v1 or admission.k8s.io/v1beta1",
        ),
        (
            &format!(r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v2",{request}}}"#),
            "apiVersion is not admission.k8s.io/v1 or admission.k8s.io/v1beta1",
        ),
        (
            &format!(r#"{{"kind":"AdmissionReview","apiVersion":1,{request}}}"#),
            "apiVersion is not admission.k8s.io/v1 or admission.k8s.io/v1beta1",
        ),
        (&with(r#""response":{}"#), "no request, or it is not an object"),
        (&with(r#""request":null"#), "no request, or it is not an object"),
        (&with(r#""request":[{"uid":"u"}]"#), "no request, or it is not an object"),
        (&with(r#""request":{}"#), "no request.uid, or it is not a string with something in it"),
        (&with(r#""request":{"uid":""}"#), "no request.uid, or it is not a string with something in it"),
        (&with(r#""request":{"uid":1}"#), "no request.uid, or it is not a string with something in it"),
        (&with(r#""request":{"object":{"uid":"u"}}"#), "no request.uid, or it is not a string with something in it"),
        (&with(&long), "request.uid is longer than 4,096 bytes"),
        (&with(&format!("{request},{request}")), "request stands there twice"),
        (&with(&format!("{request},\"\\u0072equest\":{{\"uid\":\"v\"}}")), "request stands there twice"),
        (&with(r#""request":{"uid":"u","\u0075id":"u"}"#), "request.uid stands there twice"),
        (&with(&format!("{request},\"kind\":\"AdmissionReview\"")), "kind stands there twice"),
        (&with(&format!("{request},\"apiVersion\":\"admission.k8s.io/v1\"")), "apiVersion stands there twice"),
        (
            &format!("{}\n{}", with(request), with(request)),
            "the body is not JSON: something follows the document at byte 84",
        ),
    ] {
        assert_eq!(review(body, None).unwrap_err().to_string(), wanted, "{body}");
    }
}

#[test]
fn room_is_what_a_line_grows_by() {
    let body = with(r#""request":{"uid":"u"}"#);
    let grown = line(&body, Some(&"a".repeat(63))).len() + 1 - body.len();
    assert!(grown <= ROOM);
}
