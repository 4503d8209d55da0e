use super::*;

fn parse(text: &str) -> Result<Head<'_>, Refusal> {
    match head_length(text.as_bytes(), 0)? {
        Some(length) => parse_head(text.as_bytes().get(..length).unwrap()),
        None => panic!("incomplete: {text:?}"),
    }
}

fn with(fields: &str) -> Result<Head<'static>, Refusal> {
    let text = format!("POST /log-request?timeout=1s HTTP/1.1\r\nHost: a.b.svc:443\r\n{fields}\r\n");
    parse(text.leak())
}

fn status(result: Result<Head<'_>, Refusal>) -> &'static str {
    result.err().map_or("accepted", |refusal| refusal.status.name())
}

#[test]
fn the_api_servers_head_is_read() {
    let head = with("User-Agent: kube-apiserver-admission\r\nContent-Length: 12\r\nAccept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n").unwrap();
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.path, "/log-request");
    assert_eq!(head.framing, Framing::Length(12));
    assert_eq!(head.content, Content::Json);
    assert!(head.keep_alive && !head.http10 && !head.expects_continue);
}

#[test]
fn a_bare_line_feed_is_refused_before_the_head_is_complete() {
    assert!(head_length(b"POST / HTTP/1.1\nHost: a\n", 0).is_err());
    assert!(head_length(b"POST / HTTP/1.1\r\nHost: a\n\r\n", 0).is_err());
}

#[test]
fn what_tells_a_bodys_length_in_two_ways_is_refused() {
    assert_eq!(status(with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n")), "400");
    assert_eq!(status(with("Content-Length: 3\r\nContent-Length: 4\r\n")), "400");
    assert_eq!(status(with("Content-Length: 3\r\nContent-Length: 3\r\n")), "accepted");
    assert_eq!(status(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")), "400");
    for length in ["+3", "-3", "3, 3", "3 3", "0x3", "", "18446744073709551616", "3;"] {
        assert_eq!(status(with(&format!("Content-Length: {length}\r\n"))), "400", "{length}");
    }
    for coding in ["gzip", "gzip, chunked", "identity", "xchunked", "chunked, chunked", "\u{b}chunked"] {
        assert_ne!(status(with(&format!("Transfer-Encoding: {coding}\r\n"))), "accepted", "{coding}");
    }
}

#[test]
fn white_space_before_a_colon_folding_and_control_bytes_are_refused() {
    for fields in [
        "Content-Length : 3\r\n",
        "X: a\r\n b\r\n",
        "X: a\0b\r\n",
        "X\0: a\r\n",
        " X: a\r\n",
        "X: a\rb\r\n",
        ": a\r\n",
        "X\r\n",
    ] {
        assert_eq!(status(with(fields)), "400", "{fields:?}");
    }
}

#[test]
fn exactly_one_host_is_wanted_of_http_1_1() {
    assert_eq!(status(parse("GET / HTTP/1.1\r\n\r\n")), "400");
    assert_eq!(status(with("Host: b\r\n")), "400");
    assert_eq!(status(parse("GET / HTTP/1.1\r\nHost: a b\r\n\r\n")), "400");
    assert_eq!(status(parse("GET / HTTP/1.0\r\n\r\n")), "accepted");
}

#[test]
fn other_versions_are_told_so() {
    assert_eq!(status(parse("GET / HTTP/2.0\r\nHost: a\r\n\r\n")), "505");
    assert_eq!(status(parse("GET / HTTP/1.2\r\nHost: a\r\n\r\n")), "505");
    assert_eq!(status(parse("GET / HTP/1.1\r\nHost: a\r\n\r\n")), "400");
    assert_eq!(status(parse("GET /\r\nHost: a\r\n\r\n")), "400");
    assert_eq!(status(parse("GET / x HTTP/1.1\r\nHost: a\r\n\r\n")), "400");
    assert_eq!(status(parse("GET / HTTP/1.1 \r\nHost: a\r\n\r\n")), "400");
}

#[test]
fn heads_at_the_limits_are_read_and_past_them_refused() {
    assert_eq!(status(with(&"X: a\r\n".repeat(63))), "accepted");
    assert_eq!(status(with(&"X: a\r\n".repeat(64))), "431");
    let long = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n));
    let frame = long(0).len();
    assert_eq!(head_length(long(HEAD_MAX - frame).as_bytes(), 0), Ok(Some(HEAD_MAX)));
    let refusal = head_length(long(HEAD_MAX - frame + 1).as_bytes(), 0).unwrap_err();
    assert_eq!(refusal.status, Status::HeadTooLarge);
}

#[test]
fn a_head_that_trickles_in_ends_at_the_same_byte() {
    let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
    let mut seen = 0;
    for end in 0..text.len() {
        match head_length(text.get(..end).unwrap(), seen).unwrap() {
            Some(length) => {
                assert_eq!((length, end), (27, 27));
                return;
            }
            None => seen = end,
        }
    }
    panic!("never complete");
}

#[test]
fn absolute_form_targets_lose_their_authority_and_queries_are_ignored() {
    for (target, path) in [
        ("https://a.b/log-request?timeout=1s", "/log-request"),
        ("HTTP://a.b", "/"),
        ("http://a.b?x", "/"),
        ("/a?b?c", "/a"),
        ("/a/../b", "/a/../b"),
        ("/?x", "/"),
        ("/a://b", "/a://b"),
    ] {
        assert_eq!(path_of(target), Some(path));
    }
}

#[test]
fn targets_that_are_no_path_here_are_refused() {
    for target in ["*", "a.b:443", "?", "#", "x", "ftp://a/b", "://a/b", "/\u{e9}", "http://a/\u{e9}", "/a?\u{e9}"] {
        for method in ["POST", "OPTIONS", "CONNECT", "GET"] {
            assert_eq!(status(parse(&format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"))), "400", "{target}");
        }
    }
    let bytes = b"POST /\xff HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(status(parse_head(bytes)), "400");
}

#[test]
fn content_types_are_compared_without_case_and_parameters() {
    for (value, content) in [
        ("application/json", Content::Json),
        ("Application/JSON ; charset=utf-8", Content::Json),
        ("application/json, text/plain", Content::Other),
        ("text/json", Content::Other),
        ("", Content::Other),
    ] {
        assert_eq!(with(&format!("Content-Type: {value}\r\n")).unwrap().content, content, "{value}");
    }
    let twice = with("Content-Type: application/json\r\nContent-Type: application/json\r\n");
    assert_eq!(twice.unwrap().content, Content::Other);
}

#[test]
fn a_content_encoding_other_than_identity_is_seen_wherever_it_stands() {
    let json = "Content-Type: application/json\r\n";
    for value in ["gzip", "x-gzip", "br", "identity, gzip", "GZIP , identity", "identityx", "deflate"] {
        for fields in [format!("{json}Content-Encoding: {value}\r\n"), format!("content-encoding: {value}\r\n{json}")] {
            assert_eq!(with(&fields).unwrap().content, Content::Encoded, "{value}");
        }
    }
    let two = with(&format!("{json}Content-Encoding: gzip\r\nContent-Encoding: identity\r\n"));
    assert_eq!(two.unwrap().content, Content::Encoded);
    for value in ["identity", "Identity", "", "identity, identity"] {
        let fields = format!("{json}Content-Encoding: {value}\r\n");
        assert_eq!(with(&fields).unwrap().content, Content::Json, "{value}");
    }
}

#[test]
fn connection_options_decide_whether_the_connection_stays() {
    assert!(!with("Connection: foo, Close\r\n").unwrap().keep_alive);
    assert!(!parse("GET / HTTP/1.0\r\n\r\n").unwrap().keep_alive);
    assert!(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().keep_alive);
}

#[test]
fn a_bearer_token_is_found() {
    assert_eq!(with("Authorization: bearer  abc \r\n").unwrap().bearer, Some(&b"abc"[..]));
    assert_eq!(with("Authorization: Basic abc\r\n").unwrap().bearer, None);
}
