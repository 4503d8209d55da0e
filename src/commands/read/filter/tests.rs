use proptest::prelude::*;

use super::*;

const REVIEW: &str = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","resource":{"group":"","version":"v1","resource":"pods"},"subResource":"exec","requestResource":{"group":"","version":"v1","resource":"pods"},"requestSubResource":"exec","name":"web-0","namespace":"shop","operation":"CONNECT","userInfo":{"username":"arn:aws:sts::1:assumed-role/Admin/alice"},"object":{"note":"bob"}},"source":"east","requestReceivedTimestamp":"2026-11-20T21:34:38.123456789Z"}"#;

const EVENT: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"a","verb":"patch","user":{"username":"root"},"impersonatedUser":{"username":"bob"},"objectRef":{"resource":"secrets","namespace":"shop","name":"key"},"requestReceivedTimestamp":"2026-11-20T21:34:39.000000Z"}"#;

fn judge(set: impl FnOnce(&mut Filter), line: &str) -> Verdict {
    let mut filter = Filter::default();
    set(&mut filter);
    Judge::new(filter).judge(line.as_bytes())
}

fn takes(set: impl FnOnce(&mut Filter), line: &str) -> bool {
    match judge(set, line) {
        Verdict::Take(_) => true,
        Verdict::Skip => false,
        Verdict::Alien(reason) => panic!("{reason}"),
    }
}

fn pattern(text: &str) -> Option<Pattern> {
    Some(Pattern::new(text))
}

#[test]
fn a_text_is_compared_exactly_or_as_a_prefix() {
    for (text, wanted) in [
        ("arn:aws:sts::1:assumed-role/Admin/alice", true),
        ("arn:aws:sts::1:assumed-role/Admin/alic", false),
        ("arn:aws:sts::1:assumed-role/Admin/*", true),
        ("ARN*", false),
        ("*", true),
        ("bob", false),
        ("web-0", false),
    ] {
        assert_eq!(takes(|filter| filter.user = pattern(text), REVIEW), wanted, "{text}");
    }
}

#[test]
fn the_same_text_is_found_however_it_is_escaped() {
    let user = "arn:aws:sts::1:assumed-role/Admin/alice";
    for escaped in [
        r"arn:aws:sts::1:assumed-role\/Admin\/alice",
        r"\u0061rn:aws:sts::1:assumed-role/Admin/alice",
        r"arn:aws:sts::1:assumed-role/Admin/alic\u0065",
    ] {
        let line = REVIEW.replace(user, escaped);
        assert!(takes(|filter| filter.user = pattern(user), &line), "{escaped}");
        assert!(takes(|filter| filter.user = pattern("arn:aws:sts::1:*"), &line), "{escaped}");
    }
    let line = REVIEW.replace("web-0", r"a \u003c\u00fc\ud83d\ude00\u0022 b");
    assert!(takes(|filter| filter.name = pattern("a <ü😀\" b"), &line));
    assert!(takes(|filter| filter.name = pattern("a <ü*"), &line));
}

#[test]
fn a_text_that_stands_elsewhere_in_the_line_is_no_match() {
    assert!(!takes(|filter| filter.user = pattern("bob"), REVIEW));
    assert!(!takes(|filter| filter.name = pattern("shop"), REVIEW));
    assert!(!takes(|filter| filter.source = pattern("u"), REVIEW));
}

#[test]
fn a_member_whose_name_is_escaped_counts_and_the_last_of_two() {
    let line = REVIEW.replace("\"userInfo\"", "\"user\\u0049nfo\"");
    assert!(takes(|filter| filter.user = pattern("arn:*"), &line));
    let line = REVIEW.replace("\"name\":\"web-0\"", "\"name\":\"other\",\"name\":\"web-0\"");
    assert!(takes(|filter| filter.name = pattern("web-0"), &line));
    assert!(!takes(|filter| filter.name = pattern("other"), &line));
}

#[test]
fn a_resource_is_not_its_subresource() {
    let resource = |resource: &str, subresource: Wanted| {
        let resource = pattern(resource);
        takes(|filter| (filter.resource, filter.subresource) = (resource, subresource), REVIEW)
    };
    assert!(resource("pods", Wanted::This(Pattern::new("exec"))));
    assert!(resource("pods", Wanted::This(Pattern::new("*"))));
    assert!(!resource("pods", Wanted::This(Pattern::new("log"))));
    assert!(!resource("pods", Wanted::None));
    assert!(resource("pod*", Wanted::Any));
}

#[test]
fn times_are_compared_as_times_and_a_line_without_one_lies_in_no_range() {
    let time = |text: &str| timestamp::parse(text.as_bytes());
    let received = time("2026-11-20T21:34:38.123456789Z");
    let later = time("2026-11-20T21:34:38.12345679Z");
    assert!(takes(|filter| (filter.since, filter.until) = (received, received), REVIEW));
    assert!(!takes(|filter| filter.since = later, REVIEW));
    assert!(takes(|filter| filter.until = later, REVIEW));
    let timeless = REVIEW.replace("requestReceivedTimestamp", "x");
    assert!(!takes(|filter| filter.since = received, &timeless));
    assert!(takes(|_| (), &timeless));
}

#[test]
fn verbs_are_a_reviews_operation_or_an_events_verb() {
    assert!(takes(|filter| filter.verb = pattern("connect"), REVIEW));
    assert!(takes(|filter| filter.verb = pattern("con*"), REVIEW));
    assert!(!takes(|filter| filter.verb = pattern("create"), REVIEW));
    assert!(takes(|filter| filter.verb = pattern("patch"), EVENT));
}

#[test]
fn an_event_is_found_by_who_asked_and_by_whom_he_impersonated() {
    for user in ["root", "bob"] {
        assert!(takes(|filter| filter.user = pattern(user), EVENT), "{user}");
    }
    assert!(!takes(|filter| filter.user = pattern("key"), EVENT));
    assert!(takes(|filter| filter.only = Some(Kind::Event), EVENT));
    assert!(!takes(|filter| filter.only = Some(Kind::Review), EVENT));
    assert!(!takes(|filter| filter.only = Some(Kind::Event), REVIEW));
}

#[test]
fn a_line_that_is_torn_is_named_even_where_it_could_not_match() {
    let torn = &REVIEW[..REVIEW.len() - 10];
    assert!(matches!(judge(|filter| filter.user = pattern("nobody"), torn), Verdict::Alien(NoEntry::Json(_))));
    assert!(matches!(judge(|_| (), "{}"), Verdict::Alien(NoEntry::OtherKind)));
    assert!(matches!(judge(|_| (), ""), Verdict::Alien(_)));
    assert!(matches!(judge(|_| (), "\0\0\0\0"), Verdict::Alien(_)));
}

/// A character as JSON may write it.
fn escaped() -> impl Strategy<Value = (char, String)> {
    let plain = prop::sample::select(vec!['a', 'b', '/', ':', '<', 'ü', '"', '\\', ' ']);
    (plain, any::<bool>()).prop_map(|(character, as_escape)| {
        let text = match character {
            '"' | '\\' => format!("\\{character}"),
            '/' if as_escape => "\\/".to_owned(),
            _ if as_escape => format!("\\u{:04x}", u32::from(character)),
            _ => character.to_string(),
        };
        (character, text)
    })
}

proptest! {
    #[test]
    fn the_fast_look_never_loses_a_line(characters in prop::collection::vec(escaped(), 1..12), cut in 1..12_usize) {
        let (user, json): (String, String) = characters.into_iter().unzip();
        let line = REVIEW.replace("arn:aws:sts::1:assumed-role/Admin/alice", &json);
        prop_assert!(takes(|filter| filter.user = pattern(&user), &line));
        let prefix: String = user.chars().take(cut).chain(['*']).collect();
        prop_assert!(takes(|filter| filter.user = pattern(&prefix), &line));
        let other = format!("{user}x");
        prop_assert!(!takes(|filter| filter.user = pattern(&other), &line));
    }
}
