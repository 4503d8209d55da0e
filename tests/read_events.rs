//! `kube-audit-rest read --format=event`: reviews as audit Events, held to what an API server's own log says of the same
//! requests, and to what Falco's k8saudit rules read.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use common::{corpus, program};
use serde_json::{Value, json};

/// The Events that the program makes of these reviews.
fn events(words: &[&str], reviews: &[Value]) -> Vec<Value> {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.log");
    let lines: String = reviews
        .iter()
        .map(|review| {
            let mut line = review.clone();
            line["requestReceivedTimestamp"] = json!("2026-11-20T21:34:38.123456789Z");
            format!("{line}\n")
        })
        .collect();
    fs::write(&log, lines).unwrap();
    let output = Command::new(program()).args(["read", "--format=event"]).args(words).arg(&log).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn recorded_reviews() -> Vec<Value> {
    corpus::reviews().iter().map(|body| serde_json::from_slice(body).unwrap()).collect()
}

fn recorded_events() -> Vec<Value> {
    let lists = corpus::event_lists();
    lists
        .iter()
        .flat_map(|list| serde_json::from_slice::<Value>(list).unwrap()["items"].as_array().unwrap().clone())
        .collect()
}

fn path(uri: &Value) -> String {
    uri.as_str().unwrap().split('?').next().unwrap().to_owned()
}

/// Without what no review tells.
fn object_ref(event: &Value) -> Value {
    let mut object = event["objectRef"].clone();
    for absent in ["uid", "resourceVersion"] {
        object.as_object_mut().unwrap().remove(absent);
    }
    object
}

#[test]
fn events_of_recorded_reviews_say_what_the_api_servers_own_log_says_of_the_same_requests() {
    let reviews = recorded_reviews();
    let made = events(&["--dry-run"], &reviews);
    let own = recorded_events();
    let mut pairs = 0;
    for (review, made) in reviews.iter().zip(&made) {
        let request = &review["request"];
        let uid = &request["object"]["metadata"]["uid"];
        let verbs: &[&str] = if request["operation"] == "CREATE" { &["create"] } else { &["update", "patch"] };
        let of_the_same_object = own.iter().filter(|event| {
            let answered = &event["responseObject"]["metadata"]["uid"];
            uid.is_string()
                && uid == answered
                && verbs.iter().any(|verb| event["verb"] == *verb)
                && event["objectRef"]["subresource"] == *request.get("subResource").unwrap_or(&Value::Null)
        });
        for own in of_the_same_object {
            pairs += 1;
            assert_eq!(object_ref(made), object_ref(own));
            assert_eq!(path(&made["requestURI"]), path(&own["requestURI"]));
            assert_eq!(made["verb"], own["verb"]);
            assert_eq!(made["stage"], own["stage"]);
            assert_eq!(made["responseStatus"]["code"], own["responseStatus"]["code"]);
            let user = own.get("impersonatedUser").unwrap_or(&own["user"]);
            assert_eq!(made["user"]["username"], user["username"]);
            let decision = "authorization.k8s.io/decision";
            assert_eq!(made["annotations"][decision], own["annotations"][decision]);
            assert_eq!(made["requestObject"]["kind"], own["requestObject"]["kind"]);
        }
    }
    assert!(pairs >= 10, "{pairs} pairs");
}

#[test]
fn every_member_of_an_event_is_one_that_the_api_server_writes_too_and_what_is_inferred_is_marked() {
    let names = |event: &Value| event.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let mut known: BTreeSet<String> = recorded_events().iter().flat_map(names).collect();
    known.extend(["kind", "apiVersion"].map(str::to_owned));
    let reviews = recorded_reviews();
    let events = events(&["--dry-run"], &reviews);
    assert_eq!(events.len(), reviews.len());
    for (event, review) in events.iter().zip(&reviews) {
        let request = &review["request"];
        assert!(names(event).is_subset(&known), "{event}");
        assert_eq!(event["auditID"], request["uid"]);
        assert_eq!(event["user"], request["userInfo"]);
        assert_eq!(event["requestReceivedTimestamp"], "2026-11-20T21:34:38.123456Z");
        assert_eq!(event["stageTimestamp"], "2026-11-20T21:34:38.123456Z");
        assert_eq!(event["responseStatus"]["message"], "inferred from an AdmissionReview");
        let marked: Vec<&str> = event["annotations"]["kube-audit-rest/inferred"].as_str().unwrap().split(',').collect();
        for inferred in ["auditID", "stage", "requestURI", "responseStatus", "stageTimestamp"] {
            assert!(marked.contains(&inferred) && event.get(inferred).is_some(), "{inferred}");
        }
        let is_write = request["operation"] != "CONNECT" && request["object"].is_object();
        assert_eq!(marked.contains(&"requestObject"), is_write);
        assert_eq!(event.get("requestObject"), is_write.then_some(&request["object"]));
        let verb = &event["annotations"]["kube-audit-rest/verb"];
        match request["operation"].as_str().unwrap() {
            "CREATE" => assert!(event["verb"] == "create" || event["verb"] == "patch" && verb == "create|patch"),
            "UPDATE" => assert_eq!(verb, "update|patch"),
            "CONNECT" => assert!(verb.as_str().unwrap().contains("create") && verb.as_str().unwrap().contains("get")),
            _ => assert!(verb.is_null() && (event["verb"] == "delete") == request["name"].is_string()),
        }
    }
}

#[test]
fn an_apply_is_told_by_its_manager() {
    let reviews: Vec<Value> = recorded_reviews();
    let of_manager = |review: &&Value| review["request"]["options"]["fieldManager"] == "gitops";
    let applied: Vec<Value> = reviews.iter().filter(of_manager).cloned().collect();
    assert!(applied.len() > 5);
    for event in events(&[], &applied) {
        assert_eq!(event["verb"], "patch", "{}", event["requestURI"]);
    }
    let annotated = |review: &&Value| review["request"]["options"]["fieldManager"] == "kubectl-annotate";
    let annotated: Vec<Value> = reviews.iter().filter(annotated).cloned().collect();
    // A PATCH that leaves no trace of being one.
    assert_eq!(events(&[], &annotated)[0]["verb"], "update");
}

#[test]
fn dry_runs_are_left_out_unless_they_are_asked_for() {
    let dry: Vec<Value> = recorded_reviews().into_iter().filter(|review| review["request"]["dryRun"] == true).collect();
    assert!(!dry.is_empty());
    assert!(events(&[], &dry).is_empty());
    for event in events(&["--dry-run"], &dry) {
        assert!(event["requestURI"].as_str().unwrap().ends_with("?dryRun=All"));
    }
}

#[test]
fn events_pass_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.log");
    let line = r#"{"kind":"Event", "apiVersion":"audit.k8s.io\/v1","verb":"get","x":1e+400,"source":"east"}"#;
    fs::write(&log, format!("{line}\n")).unwrap();
    let output = Command::new(program()).args(["read", "--format=event"]).arg(&log).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{line}\n"));
}

/// What is longer ends the reading in some tools.
#[test]
fn an_event_that_is_too_large_is_truncated_as_an_api_server_does_it_or_left_out() {
    let long = "x".repeat(5000);
    let huge_user = json!({"username": long});
    let mut impossible = review("DELETE", "/pods", json!({}));
    impossible["request"]["userInfo"] = huge_user;
    let reviews = [
        review("CREATE", "/configmaps", json!({"data": {"x": long}})),
        review("CONNECT", "/pods/exec", json!({"command": ["sh", long]})),
        review("CREATE", "/configmaps", json!({"data": {"x": "short"}})),
        impossible,
    ];
    assert_eq!(events(&[], &reviews).len(), 4);
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.log");
    fs::write(&log, reviews.iter().map(|review| format!("{review}\n")).collect::<String>()).unwrap();
    let words = ["read", "--format=event", "--max-event-size=4096"];
    let output = Command::new(program()).args(words).arg(&log).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.len() < 4096));
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let truncated = |event: &Value| event["annotations"]["audit.k8s.io/truncated"] == "true";
    assert_eq!(events.iter().map(truncated).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(events[0].get("requestObject"), None);
    assert_eq!(events[1]["requestURI"], "/api/v1/namespaces/kube-system/pods/system:it/exec");
    assert_eq!(events[2]["requestObject"]["data"]["x"], "short");
    assert!(String::from_utf8(output.stderr).unwrap().contains("1 Events larger than --max-event-size were left out"));
}

/// The request of a review.
fn review(operation: &str, resource: &str, object: Value) -> Value {
    let (group, name) = resource.split_once('/').unwrap();
    let (name, subresource) = name.split_once('/').unwrap_or((name, ""));
    let resource = json!({"group": group, "version": "v1", "resource": name});
    let (namespace, name) = match name {
        "namespaces" => ("shop", "shop"),
        "clusterroles" | "clusterrolebindings" | "nodes" => ("", "system:it"),
        _ => ("kube-system", "system:it"),
    };
    let (object, old) = if operation == "DELETE" { (Value::Null, object) } else { (object, Value::Null) };
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u", "operation": operation, "resource": resource, "requestResource": resource,
        "subResource": subresource, "requestSubResource": subresource, "namespace": namespace, "name": name,
        "userInfo": {"username": "mallory", "groups": ["g"]}, "object": object, "oldObject": old,
    }})
}

/// A rule of Falco's, a request that it is there to find, and the fields that its condition reads, as JSON pointers into
/// the Event, with the values on which it finds it; `null` for a field that must not be there.
struct Rule {
    name: &'static str,
    review: Value,
    reads: Vec<(&'static str, Value)>,
}

fn rule(name: &'static str, review: Value, reads: &[(&'static str, Value)]) -> Rule {
    Rule { name, review, reads: reads.to_vec() }
}

/// All rules of `k8s_audit_rules.yaml` (k8saudit 0.16) but [`BLIND`]. What all read, the stage, is checked for each.
fn rules() -> Vec<Rule> {
    let user = ("/user/username", json!("mallory"));
    let create = ("/verb", json!("create"));
    let pods = ("/objectRef/resource", json!("pods"));
    let no_subresource = ("/objectRef/subresource", Value::Null);
    let pod = |spec: Value| review("CREATE", "/pods", json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": spec}));
    let container = json!([{"image": "evil:1", "securityContext": {"privileged": true}}]);
    let image = ("/requestObject/spec/containers/0/image", json!("evil:1"));
    let new_pod = |name, spec: Value, more: &[(&'static str, Value)]| {
        let reads = [&[create.clone(), pods.clone(), no_subresource.clone(), image.clone()][..], more].concat();
        rule(name, pod(spec), &reads)
    };
    let with_containers = |member: &str, value: Value| {
        let mut spec = json!({"containers": container});
        spec[member] = value;
        spec
    };
    let role = |name, rules: Value, reads: &'static str, value: Value| {
        let object = json!({"kind": "ClusterRole", "rules": [rules]});
        let resource = ("/objectRef/resource", json!("clusterroles"));
        rule(
            name,
            review("CREATE", "rbac.authorization.k8s.io/clusterroles", object),
            &[create.clone(), resource, (reads, value)],
        )
    };
    let mut anonymous = review("CREATE", "/configmaps", json!({}));
    anonymous["request"]["userInfo"]["username"] = json!("system:anonymous");
    let exec = review("CONNECT", "/pods/exec", json!({"kind": "PodExecOptions", "command": ["sh", "-c", "id"]}));
    let forward = review("CONNECT", "/pods/portforward", json!({"kind": "PodPortForwardOptions", "ports": [80]}));
    let ephemeral = json!({"kind": "Pod", "spec": {"ephemeralContainers": [{"name": "d", "image": "evil:1"}]}});
    let mut admin = review("CREATE", "/configmaps", json!({}));
    admin["request"]["userInfo"]["username"] = json!("kubernetes-admin");
    let binding = json!({"roleRef": {"name": "cluster-admin"}, "subjects": [{"name": "mallory"}]});

    let mut rules = vec![
        rule("Disallowed K8s User", review("CREATE", "/pods", json!({})), std::slice::from_ref(&user)),
        new_pod("Create Disallowed Pod", with_containers("x", json!(1)), &[]),
        new_pod(
            "Create Privileged Pod",
            with_containers("x", json!(1)),
            &[("/requestObject/spec/containers/0/securityContext/privileged", json!(true))],
        ),
        new_pod(
            "Create Sensitive Mount Pod",
            with_containers("volumes", json!([{"hostPath": {"path": "/etc"}}])),
            &[("/requestObject/spec/volumes/0/hostPath/path", json!("/etc"))],
        ),
        new_pod(
            "Create HostNetwork Pod",
            with_containers("hostNetwork", json!(true)),
            &[("/requestObject/spec/hostNetwork", json!(true))],
        ),
        new_pod(
            "Create HostPid Pod",
            with_containers("hostPID", json!(true)),
            &[("/requestObject/spec/hostPID", json!(true))],
        ),
        new_pod(
            "Create HostIPC Pod",
            with_containers("hostIPC", json!(true)),
            &[("/requestObject/spec/hostIPC", json!(true))],
        ),
        rule(
            "Create NodePort Service",
            review("CREATE", "/services", json!({"spec": {"type": "NodePort"}})),
            &[
                create.clone(),
                ("/objectRef/resource", json!("services")),
                ("/requestObject/spec/type", json!("NodePort")),
            ],
        ),
        rule(
            "Create/Modify Configmap With Private Credentials",
            review("UPDATE", "/configmaps", json!({"data": {"password": "x"}})),
            &[
                ("/verb", json!("update")),
                ("/objectRef/resource", json!("configmaps")),
                ("/requestObject/data/password", json!("x")),
            ],
        ),
        rule(
            "Anonymous Request Allowed",
            anonymous,
            &[
                ("/user/username", json!("system:anonymous")),
                ("/annotations/authorization.k8s.io~1decision", json!("allow")),
                ("/requestURI", json!("/api/v1/namespaces/kube-system/configmaps")),
            ],
        ),
        rule(
            "Attach/Exec Pod",
            exec,
            &[
                create.clone(),
                pods.clone(),
                ("/objectRef/subresource", json!("exec")),
                // The rule's output shows it.
                (
                    "/requestURI",
                    json!("/api/v1/namespaces/kube-system/pods/system:it/exec?command=sh&command=-c&command=id"),
                ),
            ],
        ),
        rule("port-forward", forward, &[("/objectRef/subresource", json!("portforward"))]),
        rule(
            "EphemeralContainers Created",
            review("UPDATE", "/pods/ephemeralcontainers", ephemeral),
            &[("/verb", json!("update")), pods.clone(), ("/objectRef/subresource", json!("ephemeralcontainers"))],
        ),
        rule(
            "Create Disallowed Namespace",
            review("CREATE", "/namespaces", json!({})),
            &[create.clone(), ("/objectRef/resource", json!("namespaces")), ("/objectRef/name", json!("shop"))],
        ),
        new_pod(
            "Pod Created in Kube Namespace",
            with_containers("x", json!(1)),
            &[("/objectRef/namespace", json!("kube-system"))],
        ),
        rule(
            "Service Account Created in Kube Namespace",
            review("CREATE", "/serviceaccounts", json!({})),
            &[
                create.clone(),
                ("/objectRef/resource", json!("serviceaccounts")),
                ("/objectRef/namespace", json!("kube-system")),
                ("/objectRef/name", json!("system:it")),
                ("/responseStatus/code", json!(201)),
            ],
        ),
        rule(
            "System ClusterRole Modified/Deleted",
            review("DELETE", "rbac.authorization.k8s.io/clusterroles", json!({})),
            &[
                ("/verb", json!("delete")),
                ("/objectRef/resource", json!("clusterroles")),
                ("/objectRef/name", json!("system:it")),
            ],
        ),
        rule(
            "Attach to cluster-admin Role",
            review("CREATE", "rbac.authorization.k8s.io/clusterrolebindings", binding),
            &[
                create.clone(),
                ("/objectRef/resource", json!("clusterrolebindings")),
                ("/requestObject/roleRef/name", json!("cluster-admin")),
            ],
        ),
        role(
            "ClusterRole With Wildcard Created",
            json!({"resources": ["*"], "verbs": ["*"]}),
            "/requestObject/rules/0/resources/0",
            json!("*"),
        ),
        role(
            "ClusterRole With Write Privileges Created",
            json!({"verbs": ["patch"]}),
            "/requestObject/rules/0/verbs/0",
            json!("patch"),
        ),
        role(
            "ClusterRole With Pod Exec Created",
            json!({"resources": ["pods/exec"]}),
            "/requestObject/rules/0/resources/0",
            json!("pods/exec"),
        ),
        rule("All K8s Audit Events", review("DELETE", "/pods", json!({})), &[]),
        rule("Full K8s Administrative Access", admin, &[("/user/username", json!("kubernetes-admin"))]),
        rule(
            "Ingress Object without TLS Certificate Created",
            review("CREATE", "networking.k8s.io/ingresses", json!({"spec": {"rules": []}})),
            &[
                create.clone(),
                ("/objectRef/resource", json!("ingresses")),
                ("/responseStatus/code", json!(201)),
                ("/requestObject/spec/tls", Value::Null),
            ],
        ),
        rule(
            "Untrusted Node Successfully Joined the Cluster",
            review("CREATE", "/nodes", json!({})),
            &[
                create.clone(),
                ("/objectRef/resource", json!("nodes")),
                ("/responseStatus/code", json!(201)),
                ("/objectRef/name", json!("system:it")),
            ],
        ),
    ];
    for (created, deleted, resource) in [
        ("K8s Deployment Created", "K8s Deployment Deleted", "apps/deployments"),
        ("K8s Service Created", "K8s Service Deleted", "/services"),
        ("K8s ConfigMap Created", "K8s ConfigMap Deleted", "/configmaps"),
        ("K8s Namespace Created", "K8s Namespace Deleted", "/namespaces"),
        ("K8s Serviceaccount Created", "K8s Serviceaccount Deleted", "/serviceaccounts"),
        ("K8s Role Created", "K8s Role Deleted", "rbac.authorization.k8s.io/roles"),
        ("K8s ClusterRole Created", "K8s ClusterRole Deleted", "rbac.authorization.k8s.io/clusterroles"),
        ("K8s RoleBinding Created", "K8s RoleBinding Deleted", "rbac.authorization.k8s.io/rolebindings"),
        (
            "K8s ClusterRoleBinding Created",
            "K8s ClusterRoleBinding Deleted",
            "rbac.authorization.k8s.io/clusterrolebindings",
        ),
        ("K8s Secret Created", "K8s Secret Deleted", "/secrets"),
    ] {
        let (_, plural) = resource.split_once('/').unwrap();
        let resource_read = ("/objectRef/resource", json!(plural));
        let (name, operations) = ((created, deleted), [("CREATE", "create", 201), ("DELETE", "delete", 200)]);
        for (name, (operation, verb, code)) in [name.0, name.1].into_iter().zip(operations) {
            let mut reads = vec![("/verb", json!(verb)), resource_read.clone(), ("/responseStatus/code", json!(code))];
            reads.push(user.clone());
            let mut review = review(operation, resource, json!({}));
            if plural == "secrets" {
                review["request"]["namespace"] = json!("shop");
                reads.push(("/objectRef/namespace", json!("shop")));
            }
            rules.push(rule(name, review, &reads));
        }
    }
    rules
}

/// Rules on what no webhook is asked about: reads, and what was refused.
const BLIND: [&str; 3] = [
    "K8s Secret Get Successfully",
    "K8s Secret Get Unsuccessfully Tried",
    "Untrusted Node Unsuccessfully Tried to Join the Cluster",
];

/// Rules that read what a policy leaves out that records ConfigMaps at Metadata, as the one in k8s/ does.
const BLINDED: [&str; 1] = ["Create/Modify Configmap With Private Credentials"];

#[test]
fn each_field_that_a_falco_rule_reads_is_there_with_the_value_on_which_it_fires() {
    let rules = rules();
    let names: BTreeSet<&str> = rules.iter().map(|rule| rule.name).chain(BLIND).collect();
    assert_eq!((rules.len(), names.len()), (45, 48));
    let reviews: Vec<Value> = rules.iter().map(|rule| rule.review.clone()).collect();
    for (rule, event) in rules.iter().zip(events(&[], &reviews)) {
        let stage = if event["objectRef"]["subresource"] == "exec" || event["objectRef"]["subresource"] == "portforward"
        {
            "ResponseStarted"
        } else {
            "ResponseComplete"
        };
        assert_eq!(event["stage"], stage, "{}", rule.name);
        for (pointer, wanted) in &rule.reads {
            assert_eq!(event.pointer(pointer).unwrap_or(&Value::Null), wanted, "{}: {pointer}", rule.name);
        }
    }
}

#[test]
fn a_policy_that_keeps_configmaps_and_secrets_at_metadata_blinds_one_rule() {
    let rules = rules();
    let reviews: Vec<Value> = rules
        .iter()
        .map(|rule| {
            let mut review = rule.review.clone();
            let resource = review["request"]["resource"]["resource"].as_str().unwrap();
            if ["configmaps", "secrets"].contains(&resource) {
                review["level"] = json!("Metadata");
                for member in ["object", "oldObject"] {
                    let kept = review["request"][member].as_object().map(|object| {
                        object
                            .iter()
                            .filter(|(name, _)| ["kind", "apiVersion", "metadata"].contains(&name.as_str()))
                            .map(|(name, value)| (name.clone(), value.clone()))
                            .collect()
                    });
                    review["request"][member] = kept.map_or(Value::Null, Value::Object);
                }
            }
            review
        })
        .collect();
    let blinded: Vec<&str> = rules
        .iter()
        .zip(events(&[], &reviews))
        .filter(|(rule, event)| {
            rule.reads.iter().any(|(pointer, wanted)| event.pointer(pointer).unwrap_or(&Value::Null) != wanted)
        })
        .map(|(rule, _)| rule.name)
        .collect();
    assert_eq!(blinded, BLINDED);
}

/// The page on Falco lists every rule, and says so of those that find nothing.
#[test]
fn the_page_on_falco_names_every_rule_and_what_it_reads() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/k8s/shippers/falco/README.md");
    let page = fs::read_to_string(page).unwrap();
    let row = |name: &str| {
        page.lines()
            .find(|line| line.starts_with(&format!("| {name} |")))
            .unwrap_or_else(|| panic!("{name} is missing"))
            .to_owned()
    };
    for rule in rules() {
        let row = row(rule.name);
        for (pointer, _) in &rule.reads {
            let field = pointer
                .trim_start_matches('/')
                .split('/')
                .filter(|part| part.parse::<u8>().is_err())
                .collect::<Vec<_>>()
                .join(".");
            let field = field.replace("~1", "/");
            assert!(row.contains(&format!("`{field}`")), "{}: {field} is missing in {row}", rule.name);
        }
        assert_eq!(row.contains("blind"), BLINDED.contains(&rule.name), "{row}");
    }
    for name in BLIND {
        assert!(row(name).contains("never"), "{name}");
    }
}
