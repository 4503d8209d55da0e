use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::record::entry::{self, Entry};

/// The Event of a line.
fn event(line: &Value, detail: Detail) -> Value {
    let text = line.to_string();
    let Ok(Entry::Review(review)) = entry::read(text.as_bytes()) else { panic!("no review: {text}") };
    let mut out = Vec::new();
    write(&review, detail, &mut out).unwrap();
    assert_eq!(out.len(), length(&review, detail));
    let text = str::from_utf8(&out).unwrap().strip_suffix('\n').unwrap();
    assert!(!text.contains('\n'));
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn line(request: Value) -> Value {
    json!({"kind": "AdmissionReview", "request": request, "requestReceivedTimestamp": "2026-11-20T21:34:38.123456789Z"})
}

fn uri(request: Value) -> String {
    event(&line(request), Detail::Whole)["requestURI"].as_str().unwrap().to_owned()
}

#[test]
fn the_path_is_that_of_the_kubernetes_api() {
    let pods = json!({"group": "", "version": "v1", "resource": "pods"});
    let roles = json!({"group": "rbac.authorization.k8s.io", "version": "v1", "resource": "clusterroles"});
    let namespaces = json!({"group": "", "version": "v1", "resource": "namespaces"});
    for (request, wanted) in [
        (json!({"operation": "CREATE", "resource": pods, "namespace": "n", "name": "p"}), "/api/v1/namespaces/n/pods"),
        (
            json!({"operation": "UPDATE", "resource": pods, "namespace": "n", "name": "p"}),
            "/api/v1/namespaces/n/pods/p",
        ),
        (json!({"operation": "DELETE", "resource": pods, "namespace": "n"}), "/api/v1/namespaces/n/pods"),
        (
            json!({"operation": "CREATE", "resource": pods, "subResource": "eviction", "namespace": "n", "name": "p"}),
            "/api/v1/namespaces/n/pods/p/eviction",
        ),
        (
            json!({"operation": "UPDATE", "resource": roles, "name": "system:x y/ü", "dryRun": true}),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:x%20y%2F%C3%BC?dryRun=All",
        ),
        (json!({"operation": "CREATE", "resource": namespaces, "namespace": "n", "name": "n"}), "/api/v1/namespaces"),
        (json!({"operation": "DELETE", "resource": namespaces, "namespace": "n", "name": "n"}), "/api/v1/namespaces/n"),
    ] {
        assert_eq!(uri(request), wanted);
    }
}

#[test]
fn options_of_a_connect_are_the_query_and_a_proxys_path_is_the_rest_of_the_path() {
    let pods = json!({"group": "", "version": "v1", "resource": "pods"});
    let connect = |subresource: &str, object: Value| {
        uri(
            json!({"operation": "CONNECT", "resource": pods, "subResource": subresource, "namespace": "n", "name": "p", "object": object}),
        )
    };
    assert_eq!(
        connect("exec", json!({"kind": "PodExecOptions", "command": ["sh", "a b&c"], "stdin": true, "container": "c"})),
        "/api/v1/namespaces/n/pods/p/exec?command=sh&command=a%20b%26c&container=c&stdin=true"
    );
    assert_eq!(
        connect("proxy", json!({"kind": "PodProxyOptions", "path": "/a b/c?d"})),
        "/api/v1/namespaces/n/pods/p/proxy/a%20b/c%3Fd"
    );
}

#[test]
fn a_namespace_is_in_itself_once_it_is_there() {
    let namespaces = json!({"group": "", "version": "v1", "resource": "namespaces"});
    let object = |operation: &str| {
        let request = json!({"operation": operation, "resource": namespaces, "namespace": "n", "name": "n"});
        event(&line(request), Detail::Whole)["objectRef"].clone()
    };
    assert_eq!(object("CREATE"), json!({"resource": "namespaces", "name": "n", "apiVersion": "v1"}));
    assert_eq!(object("UPDATE"), json!({"resource": "namespaces", "namespace": "n", "name": "n", "apiVersion": "v1"}));
}

#[test]
fn what_a_policy_recorded_at_metadata_has_no_object_and_says_so() {
    let mut line = line(json!({"operation": "CREATE", "object": {"kind": "Secret"}}));
    assert_eq!(event(&line, Detail::Whole)["requestObject"], json!({"kind": "Secret"}));
    line["level"] = json!("Metadata");
    line["source"] = json!("east");
    line["chain"] = json!("0123456789abcdef/1/hash");
    let event = event(&line, Detail::Whole);
    assert_eq!((event.get("requestObject"), &event["level"]), (None, &json!("Metadata")));
    assert_eq!((&event["source"], event.get("chain")), (&json!("east"), None));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec!["CREATE", "UPDATE", "DELETE", "CONNECT", "exec", "", "Metadata"])
            .prop_map(Value::from),
    ];
    let name = prop_oneof![
        any::<String>(),
        prop::sample::select(vec!["name", "metadata", "resource", "username", "managedFields", "path", "kind"])
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..4)
                .prop_map(|map| Value::from(serde_json::Map::from_iter(map))),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_the_members_are_the_event_is_json_on_one_line(
        values in prop::collection::vec(any_json(), 12),
        operation in prop::sample::select(vec!["CREATE", "UPDATE", "DELETE", "CONNECT", "OTHER"]),
        subresource in prop::sample::select(vec!["", "exec", "proxy", "status"]),
    ) {
        let names = [
            "uid", "resource", "requestResource", "requestSubResource", "name", "namespace", "userInfo", "object",
            "oldObject", "dryRun", "options", "subResource",
        ];
        let mut request: serde_json::Map<String, Value> = names.map(str::to_owned).into_iter().zip(values).collect();
        request.insert("operation".to_owned(), operation.into());
        if !subresource.is_empty() {
            request.insert("subResource".to_owned(), subresource.into());
        }
        let line = line(Value::from(request));
        event(&line, Detail::Whole);
        let short = event(&line, Detail::Truncated);
        prop_assert_eq!(&short["annotations"]["audit.k8s.io/truncated"], "true");
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = [br#"{"kind":"AdmissionReview","request":{"#.as_slice(), &bytes].concat();
        for text in [&bytes, &text] {
            if let Ok(Entry::Review(review)) = entry::read(text) {
                write(&review, Detail::Whole, &mut Vec::new()).unwrap();
            }
        }
    }
}
