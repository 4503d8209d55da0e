//! Any bytes for a sources file: every token in it gives the name beside it, or the file is refused, never a panic.
#![no_main]

use kube_audit_rest::files::sources::Sources;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(sources) = Sources::parse(data) else {
        return;
    };
    let mut tokens = 0;
    for line in data.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let end = line.iter().position(|byte| b" \t".contains(byte)).unwrap();
        let (name, token) = (&line[..end], line[end..].trim_ascii_start());
        assert_eq!(sources.name_of(token).map(str::as_bytes), Some(name));
        let _ = sources.name_of(&token[1..]);
        tokens += 1;
    }
    assert_eq!(sources.tokens(), tokens);
    assert_eq!(sources.name_of(data), None);
});
