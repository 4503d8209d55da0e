//! A second opinion on JSON, as plain as can be and sharing no code with the program: a loop that knows strings and
//! nothing else. Its input must be valid JSON.

/// Without white space between tokens.
pub fn compact(json: &[u8]) -> Vec<u8> {
    let mut compact = Vec::new();
    walk(json, |byte, in_string| {
        if in_string || !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            compact.push(byte);
        }
    });
    compact
}

/// With white space of every kind between tokens, and around the whole.
pub fn spread(json: &[u8]) -> Vec<u8> {
    let mut spread = b"\r\n ".to_vec();
    let mut depth = 0_usize;
    walk(json, |byte, in_string| {
        if in_string {
            spread.push(byte);
            return;
        }
        match byte {
            b'{' | b'[' => {
                depth += 1;
                spread.push(byte);
                spread.extend_from_slice(b"\r\n");
                spread.extend(std::iter::repeat_n(b'\t', depth.min(8)));
            }
            b'}' | b']' => {
                depth -= 1;
                spread.push(b'\n');
                spread.extend(std::iter::repeat_n(b' ', depth.min(8)));
                spread.push(byte);
            }
            b',' => {
                spread.extend_from_slice(b" ,\n");
                spread.extend(std::iter::repeat_n(b' ', depth.min(8)));
            }
            b':' => spread.extend_from_slice(b"\t: "),
            _ => spread.push(byte),
        }
    });
    spread.extend_from_slice(b"\n\n");
    spread
}

/// The items of an EventList, in order, as they stand.
pub fn items(list: &[u8]) -> Vec<Vec<u8>> {
    let list = compact(list);
    let mut depth = 0_usize;
    let mut key = Vec::new();
    let mut item = Vec::new();
    let mut items = Vec::new();
    let mut within = false;
    walk(&list, |byte, in_string| {
        let structural = !in_string;
        if structural && matches!(byte, b'}' | b']') {
            depth -= 1;
        }
        let ends = structural && depth == 1 && byte == b']';
        let parts = structural && depth == 2 && byte == b',';
        if within && (ends || parts) {
            if !item.is_empty() {
                items.push(std::mem::take(&mut item));
            }
            within = !ends;
        } else if within {
            item.push(byte);
        } else if depth == 1 && structural {
            match byte {
                b',' | b'{' => key.clear(),
                b'[' => within = key == br#""items""#,
                b':' => {}
                _ => key.push(byte),
            }
        } else if depth == 1 {
            key.push(byte);
        }
        if structural && matches!(byte, b'{' | b'[') {
            depth += 1;
        }
    });
    items
}

/// Gives each byte to `visit`, with whether it belongs to a string (its quotes included).
fn walk(json: &[u8], mut visit: impl FnMut(u8, bool)) {
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        let quote = *byte == b'"' && !escaped;
        visit(*byte, in_string || quote);
        if quote {
            in_string = !in_string;
        }
        escaped = in_string && *byte == b'\\' && !escaped;
    }
}

const TIMESTAMP: &str = r#","requestReceivedTimestamp":""#;

/// Asserts that `line` is the audit line of `review`: its compact bytes with one last member, the timestamp, which is
/// returned.
pub fn assert_line_of(line: &[u8], review: &[u8]) -> String {
    assert_line_with_source(line, review, None)
}

/// The same where requests carry a source's token.
pub fn assert_line_with_source(line: &[u8], review: &[u8], source: Option<&str>) -> String {
    let mut expected = compact(review);
    assert_eq!(expected.pop(), Some(b'}'));
    if let Some(source) = source {
        expected.extend_from_slice(format!(r#","source":"{source}""#).as_bytes());
    }
    expected.extend_from_slice(TIMESTAMP.as_bytes());
    let timestamp =
        line.strip_prefix(expected.as_slice()).and_then(|rest| rest.strip_suffix(b"\"}")).unwrap_or_else(|| {
            let (line, expected) = (excerpt(line), excerpt(&expected));
            panic!("the line\n  {line}\ndoes not begin as it should:\n  {expected}")
        });
    let timestamp = String::from_utf8(timestamp.to_vec()).expect("a timestamp in ASCII");
    assert_timestamp(&timestamp);
    timestamp
}

/// The line of an event of a list: `kind` and `apiVersion` first, which items lack.
pub fn line_of_event(item: &[u8], source: Option<&str>) -> Vec<u8> {
    let mut line = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","#.to_vec();
    line.extend_from_slice(&compact(item)[1..]);
    if let Some(source) = source {
        assert_eq!(line.pop(), Some(b'}'));
        line.extend_from_slice(format!(r#","source":"{source}"}}"#).as_bytes());
    }
    line
}

/// Asserts the form `2026-11-20T21:34:38.123456789Z`.
pub fn assert_timestamp(timestamp: &str) {
    let form: String = timestamp.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(form, "9999-99-99T99:99:99.999999999Z", "{timestamp}");
}

fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(2000) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], bytes.len()),
        None => text.into_owned(),
    }
}
