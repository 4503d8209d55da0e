//! Any bytes as the body of `POST /log-request`.
#![no_main]

mod oracle;

use std::time::SystemTime;

use kube_audit_rest::record::review;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const TIME: &str = "1970-01-01T00:00:00.000000000Z";

fuzz_target!(|body: &[u8]| {
    oracle::agrees(body);
    for source in [None, Some("source")] {
        let mut line = body.to_vec();
        let mut reply = Vec::new();
        if review::audit_line(&mut line, SystemTime::UNIX_EPOCH, source, None, kube_audit_rest::record::Chained::No, &mut reply).is_err() {
            assert!(reply.is_empty());
            continue;
        }
        assert!(oracle::takes(body) && oracle::are_lines(&line) && oracle::takes(&reply));
        assert!(line.len() <= body.len() + review::ROOM);
        // Where a Value can hold it (no lone surrogates, no 1e400), the line is the body as data.
        if let (Ok(mut asked), Ok(line)) = (
            serde_json::from_slice::<Value>(body),
            serde_json::from_slice::<Value>(&line),
        ) {
            let uid = &asked["request"]["uid"];
            let reply: Value = serde_json::from_slice(&reply).expect("a uid that Value held");
            assert_eq!(&reply["response"]["uid"], uid);
            asked["requestReceivedTimestamp"] = TIME.into();
            if let Some(source) = source {
                asked["source"] = source.into();
            }
            assert_eq!(line, asked);
        }
    }
});
