//! For any JSON and any level the line is the input with the members left out that the level leaves out.
//!
//! The oracle parses with serde_json into a tree that keeps the order of members and equal names, takes members out of
//! it in the plainest way, and writes it again.

use std::fmt;

use proptest::prelude::*;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::common::corpus;
use crate::{STAMP, line, lines, list_of, policy};

/// JSON as serde_json reads it. Names and scalars are kept as they were written.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    Scalar(String),
}

impl Tree {
    fn parse(json: &str) -> Self {
        let json = json.trim();
        match json.as_bytes()[0] {
            b'{' => {
                let Members(members) = serde_json::from_str(json).unwrap();
                Self::Object(members.iter().map(|(name, value)| (name.clone(), Self::parse(value.get()))).collect())
            }
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(json).unwrap();
                Self::Array(items.iter().map(|item| Self::parse(item.get())).collect())
            }
            _ => Self::Scalar(json.to_owned()),
        }
    }

    fn without(&mut self, out: &dyn Fn(&str) -> bool) {
        if let Self::Object(members) = self {
            members.retain(|(name, _)| !out(&plain(name)));
        }
    }

    /// Each member of that name.
    fn each(&mut self, wanted: &str, change: &mut dyn FnMut(&mut Tree)) {
        if let Self::Object(members) = self {
            members.iter_mut().filter(|(name, _)| plain(name) == wanted).for_each(|(_, value)| change(value));
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(text) => f.write_str(text),
            Self::Object(members) => {
                let members: Vec<_> = members.iter().map(|(name, value)| format!("{name}:{value}")).collect();
                write!(f, "{{{}}}", members.join(","))
            }
            Self::Array(items) => {
                let items: Vec<_> = items.iter().map(Tree::to_string).collect();
                write!(f, "[{}]", items.join(","))
            }
        }
    }
}

/// What a name stands for, whatever its escapes.
fn plain(quoted: &str) -> String {
    serde_json::from_str(quoted).unwrap_or_default()
}

/// An object's members, names with their quotes and escapes.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<&RawValue>()? {
                    members.push((name.get().to_owned(), map.next_value()?));
                }
                Ok(Members(members))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
                unreachable!()
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// Leaves of an object only which one it is.
fn identity_only(object: &mut Tree) {
    object.without(&|name| !["kind", "apiVersion", "metadata"].contains(&name));
    object.each("metadata", &mut |metadata| {
        metadata.without(&|name| !["name", "generateName", "namespace", "uid", "resourceVersion"].contains(&name));
    });
}

fn without_managed_fields(object: &mut Tree) {
    let of_one = |object: &mut Tree| {
        object.each("metadata", &mut |metadata| metadata.without(&|name| name == "managedFields"));
    };
    of_one(object);
    object.each("items", &mut |items| {
        if let Tree::Array(items) = items {
            items.iter_mut().for_each(of_one);
        }
    });
}

/// The same, and of the rows of a Table, which only an Event holds.
fn without_managed_fields_in_event(object: &mut Tree) {
    without_managed_fields(object);
    object.each("rows", &mut |rows| {
        if let Tree::Array(rows) = rows {
            rows.iter_mut().for_each(|row| {
                row.each("object", &mut |object| {
                    object.each("metadata", &mut |metadata| metadata.without(&|name| name == "managedFields"));
                });
            });
        }
    });
}

/// What a rule for everything says.
#[derive(Clone, Copy, Debug)]
struct Rule {
    level: &'static str,
    omit: bool,
}

impl Rule {
    fn policy(self) -> kube_audit_rest::record::policy::Policy {
        policy(&format!("- level: {}\n  omitManagedFields: {}\n", self.level, self.omit))
    }
}

fn rules() -> Vec<Rule> {
    let levels = ["Metadata", "Request", "RequestResponse"];
    levels.into_iter().flat_map(|level| [Rule { level, omit: false }, Rule { level, omit: true }]).collect()
}

fn expected_line(body: &str, rule: Rule) -> String {
    let mut review = Tree::parse(body);
    review.without(&|name| name == "level" || name == "requestReceivedTimestamp");
    review.each("request", &mut |request| {
        let connect = match &request {
            Tree::Object(members) => {
                members.iter().any(|(name, value)| plain(name) == "operation" && plain(&value.to_string()) == "CONNECT")
            }
            _ => false,
        };
        request.each("object", &mut |object| {
            if rule.omit && rule.level != "Metadata" {
                without_managed_fields(object);
            }
            if rule.level == "Metadata" && !connect {
                identity_only(object);
            }
        });
        request.each("oldObject", &mut |object| {
            if rule.omit {
                without_managed_fields(object);
            }
            if rule.level != "RequestResponse" {
                identity_only(object);
            }
        });
    });
    let line = review.to_string();
    format!("{},\"level\":\"{}\"{STAMP}", line.strip_suffix('}').unwrap(), rule.level)
}

fn rank(level: &str) -> Option<usize> {
    ["None", "Metadata", "Request", "RequestResponse"].iter().position(|name| *name == level)
}

fn expected_event(item: &str, rule: Rule) -> String {
    let mut event = Tree::parse(item);
    let mut level = rule.level;
    event.each("level", &mut |recorded| {
        let text = plain(&recorded.to_string());
        // None is no level of a recorded Event.
        match rank(&text).filter(|rank| *rank > 0) {
            Some(recorded) if recorded < rank(rule.level).unwrap() => {
                level = ["None", "Metadata", "Request"][recorded];
            }
            Some(_) if text != rule.level => *recorded = Tree::Scalar(format!("{:?}", rule.level)),
            _ => {}
        }
    });
    if level == "None" {
        return String::new();
    }
    if rule.omit {
        event.each("requestObject", &mut without_managed_fields_in_event);
        event.each("responseObject", &mut without_managed_fields_in_event);
    }
    event.without(&|name| {
        name == "responseObject" && level != "RequestResponse" || name == "requestObject" && level == "Metadata"
    });
    let Tree::Object(members) = &event else { panic!() };
    let has = |wanted: &str| members.iter().any(|(name, _)| plain(name) == wanted);
    let text = event.to_string();
    let mut line = "{".to_owned();
    if !has("kind") {
        line += "\"kind\":\"Event\",";
    }
    if !has("apiVersion") {
        line += "\"apiVersion\":\"audit.k8s.io/v1\",";
    }
    line += text.strip_prefix('{').unwrap();
    line.replace(",}", "}")
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn check_review(body: &str) {
    for rule in rules() {
        let made = line(body.as_bytes(), None, &rule.policy()).map(text);
        assert_eq!(made.as_deref(), Some(expected_line(body, rule).as_str()), "{rule:?} of {body}");
    }
}

fn check_event(item: &str) {
    for rule in rules() {
        let made = lines(list_of(item).as_bytes(), None, &rule.policy());
        let expected = expected_event(item, rule);
        let made = made.into_iter().map(text).collect::<Vec<_>>().join("\n");
        assert_eq!(made, expected, "{rule:?} of {item}");
    }
}

#[test]
fn recorded_reviews_and_events_are_their_bodies_without_what_each_level_leaves_out() {
    for body in corpus::reviews() {
        check_review(&text(body));
    }
    for list in corpus::event_lists() {
        for item in crate::common::json::items(&list) {
            check_event(&text(item));
        }
    }
}

/// Names that mean something somewhere, some of them escaped, among names that mean nothing.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "kind",
        "apiVersion",
        "metadata",
        "items",
        "rows",
        "spec",
        "status",
        "data",
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "managedFields",
        "labels",
        "object",
        "oldObject",
        "level",
        "a",
        "b",
        "",
        "m\\u0065tadata",
        "managed\\u0046ields",
        "n\\u0061me",
        "\\\"",
        "metadata ",
    ])
    .prop_map(|name| format!("\"{name}\""))
}

fn scalar() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "null",
        "true",
        "0",
        "-0",
        "1e+300",
        "0.10",
        "\"\"",
        "\"x\"",
        "\"\\u003c\\ud83d\\ude00\"",
        "\"},{\\\\\"",
        "\"Metadata\"",
        "\"é😀\"",
        "[]",
        "{}",
    ])
    .prop_map(str::to_owned)
}

fn members(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec((name(), value), 0..7).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        members.join(",")
    })
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 60, 7, |inner| {
        prop_oneof![
            members(inner.clone()).prop_map(|members| format!("{{{members}}}")),
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
        ]
    })
}

/// Names and values in some order, with other members among them, and some missing.
fn object_with(known: Vec<(&'static str, BoxedStrategy<String>)>) -> impl Strategy<Value = String> {
    let known: Vec<_> = known
        .into_iter()
        .map(|(name, value)| prop::option::weighted(0.8, value).prop_map(move |value| value.map(|value| (name, value))))
        .collect();
    let others = prop::collection::vec((prop::sample::select(vec!["x", "y", "source", "\\u0078"]), value()), 0..3);
    (known, others)
        .prop_map(|(known, others)| known.into_iter().flatten().chain(others).collect::<Vec<_>>())
        .prop_shuffle()
        .prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            members.join(",")
        })
}

fn fixed(texts: &[&'static str]) -> BoxedStrategy<String> {
    prop::sample::select(texts.to_vec()).prop_map(str::to_owned).boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_review_is_its_body_without_what_the_level_leaves_out(
        request in object_with(vec![
            ("object", value().boxed()),
            ("oldObject", value().boxed()),
            ("options", value().boxed()),
            ("operation", fixed(&["\"CREATE\"", "\"UPDATE\"", "\"DELETE\"", "\"CONNECT\"", "\"C\\u004fNNECT\"", "1", "\"\""])),
            ("userInfo", fixed(&["{}", "null", "{\"username\":\"u\",\"groups\":[\"g\",\"h\"]}", "[]"])),
            ("name", scalar().boxed()),
            ("namespace", scalar().boxed()),
            ("requestResource", fixed(&["{\"group\":\"\",\"version\":\"v1\",\"resource\":\"pods\"}", "null", "{}"])),
        ]),
        rest in object_with(vec![("level", value().boxed()), ("requestReceivedTimestamp", scalar().boxed())]),
        at_front in any::<bool>(),
    ) {
        let uid = "\"uid\":\"u\"";
        let request = if request.is_empty() { uid.to_owned() } else { format!("{request},{uid}") };
        let request = format!("\"request\":{{{request}}}");
        let members = match (rest.as_str(), at_front) {
            ("", _) => request,
            (rest, true) => format!("{rest},{request}"),
            (rest, false) => format!("{request},{rest}"),
        };
        check_review(&format!("{{{members},\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\"}}"));
    }

    #[test]
    fn any_event_is_itself_without_what_the_level_leaves_out(
        event in object_with(vec![
            ("kind", fixed(&["\"Event\""])),
            ("apiVersion", fixed(&["\"audit.k8s.io/v1\""])),
            ("level", fixed(&["\"None\"", "\"Metadata\"", "\"Request\"", "\"R\\u0065quest\"", "\"RequestResponse\"", "\"Else\"", "1"])),
            ("requestObject", value().boxed()),
            ("responseObject", value().boxed()),
            ("verb", fixed(&["\"get\"", "\"create\""])),
            ("objectRef", fixed(&["{\"resource\":\"pods\"}", "null"])),
            ("requestURI", fixed(&["\"/api%2\"", "\"/a?b\"", "\"\""])),
            ("user", fixed(&["{\"username\":\"u\",\"groups\":[]}", "1"])),
        ]),
    ) {
        check_event(&format!("{{{event}}}"));
    }
}

#[test]
fn more_members_than_are_noted_are_left_out_all_the_same() {
    // Kept and left out in turn, so that no two make one gap.
    let turns: Vec<_> = (0..200).map(|n| format!("\"kind\":{n},\"data\":{n}")).collect();
    let metadata: Vec<_> = (0..200).map(|n| format!("\"uid\":{n},\"managedFields\":{n}")).collect();
    let items: Vec<_> = (0..200).map(|n| format!("{{\"metadata\":{{\"managedFields\":[{n}],\"a\":1}}}}")).collect();
    let object =
        format!("{{{},\"metadata\":{{{}}},\"items\":[{}]}}", turns.join(","), metadata.join(","), items.join(","));
    check_review(&format!(
        "{{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\",\"level\":1,\"request\":{{\"uid\":\"u\",\
         \"object\":{object},\"operation\":\"UPDATE\",\"oldObject\":{object}}},\"level\":2}}"
    ));
    check_event(&format!(
        "{{\"requestObject\":{object},\"level\":\"RequestResponse\",\"responseObject\":{object},\"verb\":\"get\"}}"
    ));
}
