//! Where one request ends and the next begins: nobody may be able to make us and anyone before us disagree on it. The
//! known ways to smuggle one request inside another, and every way to cut a request into pieces.

mod common;

use common::stage::{CHUNKED, HOST, JSON, Stage, assert_refusal};
use common::{chunked, post, request};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

#[test]
fn malformed_requests_are_400_and_the_connection_ends() {
    for stage in Stage::both() {
        let path = stage.path;
        let length = stage.valid.len();
        let good = String::from_utf8(stage.valid_request()).unwrap();
        let line = format!("POST {path} HTTP/1.1\r\n");
        let heads = [
            ("bare LF everywhere", good.replace("\r\n", "\n")),
            ("bare LF after the request line", good.replacen("\r\n", "\n", 1)),
            ("bare LF after a header", good.replace("localhost\r\n", "localhost\n")),
            ("bare LF before the body", good.replace("\r\n\r\n", "\r\n\n")),
            ("bare CR as a line end", good.replace("localhost\r\n", "localhost\r")),
            ("CR CR LF", good.replace("localhost\r\n", "localhost\r\r\n")),
            ("obs-fold", good.replace("localhost\r\n", "localhost\r\nX: a\r\n b\r\n")),
            ("obs-fold with a tab", good.replace("localhost\r\n", "localhost\r\nX: a\r\n\tb\r\n")),
            ("obs-fold at once", good.replace(&line, &format!("{line} X: y\r\n"))),
            ("space before a colon", good.replace("Content-Length:", "Content-Length :")),
            ("tab before a colon", good.replace("Content-Length:", "Content-Length\t:")),
            ("space before a harmless colon", good.replace("Host:", "X : y\r\nHost:")),
            ("no colon", good.replace("Host:", "X\r\nHost:")),
            ("an empty name", good.replace("Host:", ": y\r\nHost:")),
            ("no Host", good.replace("Host: localhost\r\n", "")),
            ("two Hosts", good.replace("Host:", "Host: localhost\r\nHost:")),
            ("two different Hosts", good.replace("Host:", "Host: other\r\nhost:")),
            ("NUL in a value", good.replace("localhost", "local\0host")),
            ("NUL in a name", good.replace("Host:", "X\0: y\r\nHost:")),
            ("NUL in the target", good.replace(path, &format!("{path}\0"))),
            ("a control byte in a value", good.replace("localhost", "local\u{1}host")),
            ("DEL in a value", good.replace("localhost", "local\u{7f}host")),
            ("a control byte in the target", good.replace(path, &format!("{path}\u{b}"))),
            ("a space in the target", good.replace(path, &format!("{path} x"))),
            ("a tab for a space", good.replacen(' ', "\t", 1)),
            ("two spaces", good.replacen(' ', "  ", 1)),
            ("a space first", format!(" {good}")),
            ("no version", good.replace(" HTTP/1.1", "")),
            ("no target", good.replace(&format!(" {path}"), "")),
            ("a brace in the method", good.replacen("POST", "PO{ST", 1)),
            ("CL and TE", good.replace("Host:", "Transfer-Encoding: chunked\r\nHost:")),
            ("TE and CL", good.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n")),
            ("differing CLs", good.replace("Host:", "Content-Length: 1\r\nHost:")),
            ("differing CLs in a list", good.replace(&format!("Length: {length}"), &format!("Length: {length}, 1"))),
            ("CL with a plus", good.replace("Length: ", "Length: +")),
            ("CL with a minus", good.replace("Length: ", "Length: -")),
            ("CL in hex", good.replace("Length: ", "Length: 0x")),
            ("CL with a space in it", good.replace(&format!("Length: {length}"), "Length: 1 1")),
            ("CL with a point", good.replace(&format!("Length: {length}"), &format!("Length: {length}.0"))),
            ("CL with a trailing comma", good.replace(&format!("Length: {length}"), &format!("Length: {length},"))),
            ("an empty CL", good.replace(&format!("Length: {length}"), "Length: ")),
            ("CL of 2^64", good.replace(&format!("Length: {length}"), "Length: 18446744073709551616")),
            (
                "CL of 2^64 and the length",
                good.replace(&format!("Length: {length}"), &format!("Length: {}", (1_u128 << 64) + length as u128)),
            ),
            ("CL in other digits", good.replace(&format!("Length: {length}"), "Length: \u{661}")),
        ];
        for (name, head) in heads {
            stage.refuses_and_closes(name, head.as_bytes(), &[400]);
        }
        let mut high = stage.valid_with(&[("X", "?")]);
        let at = high.iter().position(|byte| *byte == b'?').unwrap();
        high[at - 3] = 0xff;
        stage.refuses_and_closes("a high byte in a name", &high, &[400]);
        stage.refuses_and_closes("TLS in plain text", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400]);
        stage.assert_nothing_else_recorded();
    }
}

#[test]
fn the_same_content_length_twice_is_one_length_or_a_refusal_but_never_two_requests() {
    for stage in Stage::both() {
        let length = stage.valid.len().to_string();
        for (name, headers) in [("twice", vec![("Content-Length", length.as_str())]), ("a list", vec![])] {
            let mut bytes = stage.valid_with(&headers);
            if name == "a list" {
                let text = String::from_utf8(bytes).unwrap();
                let list = format!("Length: {length}, {length}");
                bytes = text.replace(&format!("Length: {length}"), &list).into_bytes();
            }
            let mut client = stage.connect();
            client.send(&bytes);
            let response = client.response();
            match response.status {
                200 => {
                    let next = client.exchange(&stage.valid_request());
                    assert_eq!(next.status, 200, "{name}: the next request");
                }
                _ => {
                    assert_refusal(name, &response, &[400]);
                    client.expect_end();
                }
            }
        }
    }
}

#[test]
fn other_versions_are_505_and_other_codings_501_or_400() {
    for stage in Stage::both() {
        let good = String::from_utf8(stage.valid_request()).unwrap();
        for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0"] {
            let request = good.replace("HTTP/1.1", version);
            stage.refuses_and_closes(version, request.as_bytes(), &[400, 505]);
        }
        for version in ["http/1.1", "HTTP/1.1x", "HTTP/01.1", "HTTP/1", "HTP/1.1", "HTTP/1.1 "] {
            let request = good.replace("HTTP/1.1", version);
            stage.refuses_and_closes(version, request.as_bytes(), &[400, 505]);
        }
        stage.refuses_and_closes("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400, 505]);

        let body = chunked(&stage.valid, &[10]);
        for coding in [
            "gzip",
            "gzip, chunked",
            "chunked, gzip",
            "chunked, chunked",
            "identity",
            "chunked, identity",
            "xchunked",
            "chunkedx",
            "\"chunked\"",
            "chunked;q=1",
            "chunked, ",
            ", chunked",
            "",
            "chunked\u{b}",
            "\u{b}chunked",
            "c hunked",
        ] {
            let request = stage.with(&[HOST, JSON, ("Transfer-Encoding", coding)], &body);
            stage.refuses_and_closes(coding, &request, &[400, 501]);
        }
        let twice = [HOST, JSON, CHUNKED, CHUNKED];
        stage.refuses_and_closes("twice", &stage.with(&twice, &body), &[400, 501]);
        let hidden = [HOST, JSON, ("Transfer-Encoding ", "chunked")];
        stage.refuses_and_closes("space before it", &stage.with(&hidden, &body), &[400]);
        let old = stage.with(&[HOST, JSON, CHUNKED], &body);
        let old = String::from_utf8(old).unwrap().replace("HTTP/1.1", "HTTP/1.0");
        stage.refuses_and_closes("chunked in HTTP/1.0", old.as_bytes(), &[400, 501]);

        for coding in ["chunked", "Chunked", "CHUNKED"] {
            let headers = [HOST, JSON, ("transfer-encoding", coding)];
            stage.serves(coding, &stage.with(&headers, &body));
        }
        stage.assert_nothing_else_recorded();
    }
}

#[test]
fn chunk_sizes_are_plain_hexadecimal_and_nothing_else() {
    for stage in Stage::both() {
        let valid = &stage.valid;
        let text = str::from_utf8(valid).unwrap();
        let size = valid.len();
        let bad = [
            ("a plus", format!("+{size:x}\r\n{text}\r\n0\r\n\r\n")),
            ("a minus", format!("-{size:x}\r\n{text}\r\n0\r\n\r\n")),
            ("0x", format!("0x{size:x}\r\n{text}\r\n0\r\n\r\n")),
            ("a leading space", format!(" {size:x}\r\n{text}\r\n0\r\n\r\n")),
            ("an underscore", format!("0_{size:x}\r\n{text}\r\n0\r\n\r\n")),
            ("empty", format!("\r\n{text}\r\n0\r\n\r\n")),
            ("not hex", format!("{size:x}g\r\n{text}\r\n0\r\n\r\n")),
            ("2^64", format!("10000000000000000\r\n{text}\r\n0\r\n\r\n")),
            ("2^64 and the size", format!("1{size:016x}\r\n{text}\r\n0\r\n\r\n")),
            ("17 f", format!("{}\r\n{text}\r\n0\r\n\r\n", "f".repeat(17))),
            ("bare LF after the size", format!("{size:x}\n{text}\r\n0\r\n\r\n")),
            ("bare LF after the chunk", format!("{size:x}\r\n{text}\n0\r\n\r\n")),
            ("bare CR after the size", format!("{size:x}\r{text}\r\n0\r\n\r\n")),
            ("bare LF at the end", format!("{size:x}\r\n{text}\r\n0\n\r\n")),
            ("no end of chunk", format!("{size:x}\r\n{text}0\r\n\r\n")),
            ("a chunk longer than said", format!("{:x}\r\n{text}\r\n0\r\n\r\n", size - 1)),
            ("a comma", format!("{size:x},{size:x}\r\n{text}\r\n0\r\n\r\n")),
            ("NUL", format!("{size:x}\0\r\n{text}\r\n0\r\n\r\n")),
            ("an extension with a bare LF", format!("{size:x};a\nb\r\n{text}\r\n0\r\n\r\n")),
            ("an extension with a bare CR", format!("{size:x};a\rb\r\n{text}\r\n0\r\n\r\n")),
            ("an extension without a name", format!("{size:x};\r\n{text}\r\n0\r\n\r\n")),
            ("a bracket in an extension", format!("{size:x};bad[=x\r\n{text}\r\n0\r\n\r\n")),
            ("an extension without its value", format!("{size:x};a=\r\n{text}\r\n0\r\n\r\n")),
            ("an open quote in an extension", format!("{size:x};a=\"b\r\n{text}\r\n0\r\n\r\n")),
            ("spaces in an extension", format!("{size:x};a = b\r\n{text}\r\n0\r\n\r\n")),
            ("a very long extension", format!("{size:x};{}\r\n{text}\r\n0\r\n\r\n", "e".repeat(100_000))),
            ("a very long trailer", format!("{size:x}\r\n{text}\r\n0\r\nX: {}\r\n\r\n", "e".repeat(100_000))),
            ("a broken trailer", format!("{size:x}\r\n{text}\r\n0\r\nX\r\n\r\n")),
            ("a trailer with a bare LF", format!("{size:x}\r\n{text}\r\n0\r\nX: y\n\r\n")),
        ];
        for (name, body) in bad {
            let request = stage.raw_chunks(body.as_bytes());
            stage.refuses_and_closes(name, &request, &[400, 413, 431]);
        }
        let good = [
            ("upper case", format!("{size:X}\r\n{text}\r\n0\r\n\r\n")),
            ("leading zeros", format!("000{size:x}\r\n{text}\r\n000\r\n\r\n")),
            ("an extension", format!("{size:x};a=b\r\n{text}\r\n0;c\r\n\r\n")),
            ("a quoted extension", format!("{size:x};a=\"b;c\"\r\n{text}\r\n0\r\n\r\n")),
            ("a trailer", format!("{size:x}\r\n{text}\r\n0\r\nX: y\r\nZ: 1\r\n\r\n")),
            ("a trailer that poses as framing", format!("{size:x}\r\n{text}\r\n0\r\nContent-Length: 5\r\n\r\n")),
        ];
        for (name, body) in good {
            stage.serves(name, &stage.raw_chunks(body.as_bytes()));
        }
        let empty = stage.raw_chunks(b"0\r\n\r\n");
        stage.refuses("an empty chunked body", &empty, &[400]);
        stage.assert_nothing_else_recorded();
    }
}

#[test]
fn other_forms_of_target_reach_the_same_path_or_none() {
    for stage in Stage::both() {
        let absolute = format!("http://localhost{}", stage.path);
        for target in [
            absolute.as_str(),
            "http://localhost",
            "ftp://localhost/log-request",
            "*",
            "localhost:9090",
            "audit-events",
            "",
            "?x",
            "#",
            "/\u{e9}",
        ] {
            for method in ["POST", "OPTIONS", "CONNECT", "GET"] {
                let length = stage.valid.len().to_string();
                let headers = [HOST, JSON, ("Content-Length", length.as_str())];
                let mut client = stage.connect();
                client.send(&request(method, target, &headers, &stage.valid));
                let response = client.response();
                let name = format!("{method} {target}");
                // RFC 9112, section 3.2.2: the same as the path alone, and an empty path is "/".
                let root = stage.http && target == "http://localhost";
                if method == "POST" && (target == absolute || root) {
                    assert_eq!(response.status, 200, "{name}: {response:?}");
                    continue;
                }
                let is_path = target.starts_with("http://");
                assert_refusal(&name, &response, if is_path { &[404, 405] } else { &[400] });
                if response.closes() {
                    client.expect_end();
                } else {
                    let next = client.exchange(&stage.valid_request());
                    assert_eq!(next.status, 200, "{name}: the next request");
                }
            }
        }
        stage.assert_nothing_else_recorded();
    }
}

#[test]
fn an_empty_line_before_a_request_is_skipped_or_refused_but_never_upsets_the_framing() {
    for stage in Stage::both() {
        let mut client = stage.connect();
        let mut bytes = b"\r\n".to_vec();
        bytes.extend_from_slice(&stage.valid_request());
        client.send(&bytes);
        let response = client.response();
        match response.status {
            200 => assert_eq!(client.exchange(&stage.valid_request()).status, 200),
            _ => assert_refusal("an empty line", &response, &[400]),
        }
    }
}

#[test]
fn any_cut_of_a_request_into_two_sends_gives_the_same_answers() {
    for stage in Stage::both() {
        let mut requests = stage.valid_request();
        requests.extend_from_slice(&stage.raw_chunks(&chunked(&stage.valid, &[9, 31])));
        requests.extend_from_slice(&post("/nowhere", b"{}"));
        let mut client = stage.connect();
        for cut in 0..requests.len() {
            let (first, second) = requests.split_at(cut);
            client.send(first);
            client.send(second);
            let statuses = [(); 3].map(|()| client.response().status);
            assert_eq!(statuses, [200, 200, 404], "cut at {cut}");
        }
        stage.assert_nothing_else_recorded();
    }
}

#[test]
fn any_cut_of_requests_into_any_number_of_sends_gives_the_same_answers() {
    let stage = Stage::http();
    let cuts = proptest::collection::vec(1_usize..80, 1..200);
    let sizes = proptest::collection::vec(1_usize..40, 1..5);
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let verdict = runner.run(&(cuts, sizes), |(cuts, sizes)| {
        let mut requests = stage.valid_request();
        requests.extend_from_slice(&stage.raw_chunks(&chunked(&stage.valid, &sizes)));
        requests.extend_from_slice(&stage.with(&[HOST, JSON, ("Content-Length", "2")], b"[]"));
        let mut client = stage.connect();
        let mut cuts = cuts.iter().cycle();
        let mut left = requests.as_slice();
        while !left.is_empty() {
            let cut = cuts.next().map_or(1, |cut| (*cut).min(left.len()));
            let (piece, rest) = left.split_at(cut);
            client.send(piece);
            left = rest;
        }
        let statuses = [(); 3].map(|()| client.response().status);
        prop_assert_eq!(statuses, [200, 200, 400]);
        Ok(())
    });
    verdict.unwrap();
}

#[test]
fn every_prefix_of_a_request_and_then_silence_leaves_the_server_well() {
    for stage in Stage::both() {
        let requests = [stage.valid_request(), stage.raw_chunks(&chunked(&stage.valid, &[5, 60]))];
        for request in &requests {
            for end in 0..request.len() {
                let mut client = stage.connect();
                client.send(&request[..end]);
                if end % 2 == 0 {
                    client.finish();
                    // An answer may come (the request is not whole) or none; the end must.
                    if client.try_response().is_ok() {
                        client.expect_end();
                    }
                }
            }
        }
        assert_eq!(stage.connect().exchange(&stage.valid_request()).status, 200);
        assert_eq!(stage.server.lines().len(), 1);
        // All of them are gone again, with nothing held.
        let listener = if stage.http { "http" } else { "https" };
        stage.server.wait_for_metric(&format!("connections{{listener=\"{listener}\"}}"), 0.0);
        stage.server.wait_for_metric("inflight_body_bytes", 0.0);
    }
}
