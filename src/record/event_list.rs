//! An EventList of the audit webhook -> one audit line for each of its events.
//!
//! Read are the list's `kind`, `apiVersion` and `items`; of an event only whether it says what it is.

use crate::record::invalid::{Invalid, once};
use crate::record::json::{self, Compactor, Fate};

/// Lets short lists grow, see [`audit_lines`].
const SLACK: usize = 64 * 1024;

/// Bytes that the lines of a list of `size` bytes take at most, unless it is refused.
pub const fn most_lines(size: usize) -> usize {
    size.saturating_mul(2).saturating_add(SLACK)
}

/// What a line has more than its item, at most, the name of the source left out.
const ADDED: usize = 64;

const KIND: &str = "kind";
const API_VERSION: &str = "apiVersion";
const ITEMS: &str = "items";
const SOURCE: &str = "source";

/// What became of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// Lines made, one for each event.
    pub count: usize,
    /// Bytes of the longest of them, with its newline.
    pub longest: usize,
}

/// Appends the audit lines of the EventList in `body` to `lines` and says how many they are.
///
/// A line is an item without the white space between its tokens. `"kind":"Event"` and `"apiVersion":"audit.k8s.io/v1"`
/// come first where the item does not have them, as the API server's own log backend writes it; `source`, if one is
/// given, comes last, and an item's own top-level member of that name is dropped. Each line ends with `\n`.
///
/// No more than [`most_lines`] allows is appended: in a list of millions of `{}`, what is added to each would
/// be many times what came. After an error `lines` is as it was. `body` is of no use any more in either case.
pub fn audit_lines(body: &mut [u8], source: Option<&str>, lines: &mut Vec<u8>) -> Result<Events, Invalid> {
    if body.trim_ascii().is_empty() {
        return Err(Invalid::Empty);
    }
    let before = lines.len();
    let result = read(body, source, lines);
    if result.is_err() {
        lines.truncate(before);
    }
    result
}

fn read(body: &mut [u8], source: Option<&str>, lines: &mut Vec<u8>) -> Result<Events, Invalid> {
    let most = lines.len().saturating_add(most_lines(body.len()));
    lines.reserve(body.len() + body.len() / 8);
    let mut kind = None;
    let mut version = None;
    let mut items = None;
    let mut json = Compactor::new(body);
    if !json.next_is(b'{')? {
        json.skip()?;
        json.finish()?;
        return Err(Invalid::NotAnEventList);
    }
    json.members(&[KIND, API_VERSION, ITEMS], |json, name| -> Result<Fate, Invalid> {
        match name {
            Some(KIND) => once(KIND, &mut kind, read_kind(json)?)?,
            Some(API_VERSION) => once(API_VERSION, &mut version, read_version(json)?)?,
            Some(ITEMS) => once(ITEMS, &mut items, read_items(json, source, lines, most)?)?,
            _ => json.skip()?,
        }
        Ok(Fate::Keep)
    })?;
    json.finish()?;
    let () = kind.ok_or(Invalid::NotAnEventList)?;
    let () = version.ok_or(Invalid::EventListVersion)?;
    items.ok_or(Invalid::Items)
}

fn read_kind(json: &mut Compactor<'_>) -> Result<(), Invalid> {
    match json.one_of(&["EventList", "AdmissionReview"])? {
        Some("EventList") => Ok(()),
        Some(_) => Err(Invalid::ReviewForEventList),
        None => Err(Invalid::NotAnEventList),
    }
}

fn read_version(json: &mut Compactor<'_>) -> Result<(), Invalid> {
    match json.one_of(&["audit.k8s.io/v1"])? {
        Some(_) => Ok(()),
        None => Err(Invalid::EventListVersion),
    }
}

fn read_items(
    json: &mut Compactor<'_>,
    source: Option<&str>,
    lines: &mut Vec<u8>,
    most: usize,
) -> Result<Events, Invalid> {
    if !json.next_is(b'[')? {
        return Err(Invalid::Items);
    }
    let mut events = Events::default();
    json.elements(|json| -> Result<(), Invalid> {
        let before = lines.len();
        push_line(json, source, lines, most)?;
        events.count += 1;
        events.longest = events.longest.max(lines.len() - before);
        Ok(())
    })?;
    Ok(events)
}

/// Reads one item and appends its line, if `lines` then holds no more than `most`.
fn push_line(json: &mut Compactor<'_>, source: Option<&str>, lines: &mut Vec<u8>, most: usize) -> Result<(), Invalid> {
    if !json.next_is(b'{')? {
        return Err(Invalid::Item);
    }
    let start = json.position();
    let (mut has_kind, mut has_version) = (false, false);
    json.members(&[KIND, API_VERSION, SOURCE], |json, name| -> Result<Fate, Invalid> {
        json.skip()?;
        has_kind |= name == Some(KIND);
        has_version |= name == Some(API_VERSION);
        Ok(match name {
            Some(SOURCE) if source.is_some() => Fate::Drop,
            _ => Fate::Keep,
        })
    })?;
    let item = json.since(start);
    let members = item.get(1..item.len() - 1).unwrap_or_default();
    // An escaped character has six bytes at most.
    if lines.len() + item.len() + ADDED + 6 * source.map_or(0, str::len) > most {
        return Err(Invalid::ManySmallItems);
    }

    lines.push(b'{');
    if !has_kind {
        lines.extend_from_slice(b"\"kind\":\"Event\",");
    }
    if !has_version {
        lines.extend_from_slice(b"\"apiVersion\":\"audit.k8s.io/v1\",");
    }
    lines.extend_from_slice(members);
    if members.is_empty() {
        // The comma behind what was put first.
        lines.pop();
    }
    if let Some(source) = source {
        lines.extend_from_slice(b",\"source\":");
        json::push_string(lines, source);
    }
    lines.extend_from_slice(b"}\n");
    Ok(())
}

#[cfg(test)]
mod tests {
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
            lines(&list(r#"[{"a":1,"\u006bind":"Event"},{"apiVersion":"audit.k8s.io/v1","b":{"kind":2}}]"#), None)
                .unwrap(),
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
}
