//! Any bytes as the body of `POST /audit-events`.
#![no_main]

mod oracle;

use kube_audit_rest::record::event_list::{self, Events};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    oracle::agrees(body);
    for source in [None, Some("source")] {
        let mut lines = Vec::new();
        let Ok(events) = event_list::audit_lines(&mut body.to_vec(), source, None, kube_audit_rest::record::Chained::No, &mut lines) else {
            assert!(lines.is_empty());
            continue;
        };
        // What is not UTF-8 within an event is replaced, and nothing else is forgiven.
        let mended = oracle::replaced(body);
        assert!(oracle::takes(&mended) && oracle::are_lines(&lines));
        let Events { count, longest, mended: mended_events, .. } = events;
        // A source that the client gave is dropped, with whatever stands in it.
        assert!(mended_events == 0 || mended != body);
        assert!(mended_events > 0 || mended == body || source.is_some());
        assert!(mended_events <= count);
        assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), count);
        assert!(lines.len() <= event_list::most_lines(body.len()));
        let lengths = lines
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::len);
        assert_eq!(lengths.max().unwrap_or(0), longest);
        // Where a Value can hold it (no lone surrogates, no 1e400), the lines are the events as data.
        if let Ok(list) = serde_json::from_slice::<Value>(&mended) {
            let items = match (&list["kind"], &list["items"]) {
                (Value::String(kind), _) if kind == "Event" => vec![list.clone()],
                (_, Value::Null) => Vec::new(),
                (_, items) => items.as_array().expect("items were taken").clone(),
            };
            assert_eq!(items.len(), count);
            for (item, line) in items.iter().zip(lines.split(|byte| *byte == b'\n')) {
                let mut wanted = item.as_object().expect("an item was taken").clone();
                wanted.entry("kind").or_insert("Event".into());
                wanted
                    .entry("apiVersion")
                    .or_insert("audit.k8s.io/v1".into());
                if let Some(source) = source {
                    wanted.insert("source".to_owned(), source.into());
                }
                let line: Value = serde_json::from_slice(line).expect("a line is JSON");
                assert_eq!(line, Value::Object(wanted));
            }
        }
    }
});
