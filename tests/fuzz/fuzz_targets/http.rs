//! Any bytes as a request: its head, then its chunks. What is taken must be as unambiguous as RFC 9112 lets it be, by a
//! second, naive reading; and it must not matter in what pieces it came.
#![no_main]

use kube_audit_rest::http::{self, Framing, Head};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let whole = http::head_length(data, 0);
    let pieces = in_pieces(data);
    match (&whole, &pieces) {
        // Which of two things wrong is said may depend on how much of them is there.
        (Err(_), Err(_)) => {}
        _ => assert_eq!(whole, pieces),
    }
    if let Ok(Some(length)) = whole {
        let (head, body) = data.split_at(length);
        assert!(length <= http::HEAD_MAX);
        if let Ok(parsed) = http::parse_head(head) {
            is_unambiguous(head, &parsed);
            if parsed.framing == Framing::Chunked {
                chunks_agree(body);
            }
        }
    }
    chunks_agree(data);
});

/// Byte after byte, as the slowest sender would send it.
fn in_pieces(data: &[u8]) -> Result<Option<usize>, http::Refusal> {
    for length in 0..data.len() {
        let found = http::head_length(&data[..length], length.saturating_sub(1))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    http::head_length(data, data.len().saturating_sub(1))
}

fn is_unambiguous(head: &[u8], parsed: &Head) {
    assert!(!head.contains(&0));
    let text = head.strip_suffix(b"\r\n\r\n").expect("the empty line");
    let mut lines = split(text);
    if lines.first().is_some_and(|line| line.is_empty()) {
        // One empty line before the request (RFC 9112, section 2.2).
        lines.remove(0);
    }
    let request = lines.remove(0);
    let words: Vec<_> = request.split(|byte| *byte == b' ').collect();
    assert_eq!(words.len(), 3);
    assert_eq!(parsed.http10, words[2] == b"HTTP/1.0");
    assert!(parsed.http10 || words[2] == b"HTTP/1.1");
    assert!(words[1].is_ascii() && parsed.path.starts_with('/'));
    assert!(!parsed.path.contains('?') && parsed.path.len() <= words[1].len().max(1));
    let mut hosts = 0;
    let mut lengths = Vec::new();
    let mut codings = Vec::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').expect("a name");
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        assert!(!name.is_empty() && name.iter().all(|b| b.is_ascii_graphic()));
        assert!(value.iter().all(|b| !b.is_ascii_control() || *b == b'\t'));
        match name.to_ascii_lowercase().as_slice() {
            b"host" => hosts += 1,
            b"content-length" => lengths.push(value.to_vec()),
            b"transfer-encoding" => codings.push(value.to_ascii_lowercase()),
            _ => {}
        }
    }
    assert!(hosts == 1 || (hosts == 0 && parsed.http10));
    match parsed.framing {
        Framing::Chunked => {
            assert!(codings == [b"chunked"] && lengths.is_empty() && !parsed.http10);
        }
        Framing::Length(wanted) => {
            assert!(codings.is_empty());
            assert!(wanted == 0 || !lengths.is_empty());
            for length in lengths {
                assert!(length.iter().all(u8::is_ascii_digit));
                assert_eq!(String::from_utf8(length).unwrap().parse(), Ok(wanted));
            }
        }
    }
}

/// At each CRLF; a bare one of the two bytes is a mistake that [`http::head_length`] let through.
fn split(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    assert!(
        lines
            .iter()
            .all(|line| !line.contains(&b'\n') && !line.contains(&b'\r'))
    );
    lines
}

fn chunks_agree(body: &[u8]) {
    if let Some((content, length)) = by_our_parsers(body) {
        assert_eq!(naively(&body[..length]), Some(content));
    }
}

/// The content and the length on the wire, or `None` where it is refused or not complete.
fn by_our_parsers(body: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut content = Vec::new();
    let mut at = 0;
    loop {
        let (length, size) = http::chunk_line(&body[at..]).ok()??;
        for shorter in 0..length {
            assert_eq!(http::chunk_line(&body[at..at + shorter]), Ok(None));
        }
        at += length;
        if size == 0 {
            let length = http::trailer_length(&body[at..]).ok()??;
            return Some((content, at + length));
        }
        let end = at.checked_add(usize::try_from(size).ok()?)?;
        content.extend_from_slice(body.get(at..end)?);
        at = end + body.get(end..)?.strip_prefix(b"\r\n").map(|_| 2)?;
    }
}

/// The same of a complete body, in other words: text is split, numbers are summed up by hand.
fn naively(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let at = body.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&body[..at])
            .map_or_else(|error| &body[..error.valid_up_to()], str::as_bytes);
        body = &body[at + 2..];
        let extensions = line.iter().position(|byte| *byte == b';');
        // Outside of quotes there is nothing but tokens and what joins them.
        let extensions = extensions.map_or(&b""[..], |at| &line[at..]);
        let plain = extensions.iter().all(|byte| byte.is_ascii_graphic());
        assert!(plain || extensions.contains(&b'"'), "{extensions:?}");
        let mut size = 0_usize;
        for digit in line.iter().take_while(|byte| **byte != b';') {
            let value = char::from(*digit).to_digit(16)?;
            size = size.checked_mul(16)?.checked_add(value as usize)?;
        }
        if size == 0 {
            break;
        }
        content.extend_from_slice(body.get(..size)?);
        body = body.get(size..)?.strip_prefix(b"\r\n")?;
    }
    let ends = body == b"\r\n" || body.ends_with(b"\r\n\r\n");
    (ends && body.windows(4).filter(|four| four == b"\r\n\r\n").count() <= 1).then_some(content)
}
