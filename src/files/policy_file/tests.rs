use std::fs;
use std::sync::Arc;

use super::*;
use crate::files::watched::testing::Messages;
use crate::observe::labels::Reload;
use crate::record::policy::{GroupResources, Level, ManagedFields, Rule, Stage};

fn error(text: &str) -> String {
    match parse(text.as_bytes()) {
        Ok(policy) => format!("{policy:?}"),
        Err(error) => error.to_string(),
    }
}

/// A policy with these rules, which begin on line 4.
fn with(rules: &str) -> String {
    format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}")
}

#[test]
fn every_field_of_a_policy_is_read_from_yaml_and_json() {
    let yaml = r#"
apiVersion: audit.k8s.io/v1 # the only version
kind: Policy
metadata:
  name: all-fields
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: Request
  users: &who ["tim", 'tom']
  userGroups: *who
  verbs: [get, "list"]
  namespaces: ["", kube-system]
  resources:
  - group: "" # core
    resources: ["pods", "pods/log"]
    resourceNames:
    - busybox
  - group: apps
  - group: "*"
    resources: ['*/status']
  omitStages:
  - Panic
  omitManagedFields: false
- level: None
  nonResourceURLs: ["*", /healthz*, "/version"]
- level: RequestResponse
"#;
    let json = serde_json::to_string_pretty(&serde_json::json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "metadata": {"name": "all-fields"},
        "omitStages": ["RequestReceived"],
        "omitManagedFields": true,
        "rules": [
            {
                "level": "Request",
                "users": ["tim", "tom"],
                "userGroups": ["tim", "tom"],
                "verbs": ["get", "list"],
                "namespaces": ["", "kube-system"],
                "resources": [
                    {"group": "", "resources": ["pods", "pods/log"], "resourceNames": ["busybox"]},
                    {"group": "apps"},
                    {"group": "*", "resources": ["*/status"]}
                ],
                "omitStages": ["Panic"],
                "omitManagedFields": false
            },
            {"level": "None", "nonResourceURLs": ["*", "/healthz*", "/version"]},
            {"level": "RequestResponse", "users": null, "resources": null}
        ]
    }))
    .unwrap();
    let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    let bare = |level| Rule {
        level,
        users: vec![],
        user_groups: vec![],
        verbs: vec![],
        resources: vec![],
        namespaces: vec![],
        non_resource_urls: vec![],
        omit_stages: vec![Stage::RequestReceived],
        managed_fields: ManagedFields::Omit,
    };
    let wanted = Policy {
        rules: vec![
            Rule {
                users: list(&["tim", "tom"]),
                user_groups: list(&["tim", "tom"]),
                verbs: list(&["get", "list"]),
                namespaces: list(&["", "kube-system"]),
                resources: vec![
                    GroupResources {
                        group: String::new(),
                        resources: list(&["pods", "pods/log"]),
                        resource_names: list(&["busybox"]),
                    },
                    GroupResources { group: "apps".to_owned(), resources: vec![], resource_names: vec![] },
                    GroupResources { group: "*".to_owned(), resources: list(&["*/status"]), resource_names: vec![] },
                ],
                omit_stages: vec![Stage::RequestReceived, Stage::Panic],
                managed_fields: ManagedFields::Keep,
                ..bare(Level::Request)
            },
            Rule { non_resource_urls: list(&["*", "/healthz*", "/version"]), ..bare(Level::None) },
            bare(Level::RequestResponse),
        ],
    };
    assert_eq!(parse(yaml.as_bytes()).unwrap(), wanted);
    assert_eq!(parse(json.as_bytes()).unwrap(), wanted);
    assert_eq!(parse(json.replace("  ", "\t").as_bytes()).unwrap(), wanted);
    assert_eq!(parse(yaml.replace('\n', "\r\n").as_bytes()).unwrap(), wanted);
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_field() {
    let level = "- level: Metadata\n  ";
    for (text, wanted) in [
        ("".to_owned(), "line 1: the file is empty"),
        ("rules: []".to_owned(), "line 1: apiVersion: missing; audit.k8s.io/v1 is expected"),
        ("[]".to_owned(), "line 1: not a map of fields"),
        ("apiVersion: audit.k8s.io/v1beta1\nkind: Policy".to_owned(), "line 1: apiVersion: not audit.k8s.io/v1"),
        ("apiVersion: audit.k8s.io/v1\n".to_owned(), "line 1: kind: missing; Policy is expected"),
        ("apiVersion: audit.k8s.io/v1\nkind: EventList".to_owned(), "line 2: kind: not Policy"),
        (
            "apiVersion: audit.k8s.io/v1\nkind: Policy\n".to_owned(),
            "line 1: rules: there is none, so that nothing would be recorded",
        ),
        (with("  []"), "line 1: rules: there is none, so that nothing would be recorded"),
        (with("  a: b"), "line 4: rules: not a list"),
        (with("- all"), "line 4: rules[0]: not a map of fields"),
        (with("- verbs: [get]"), "line 4: rules[0].level: missing"),
        (with("- level:"), "line 4: rules[0].level: missing"),
        (with("- level: Metadata\n- level: metadata"), "line 5: rules[1].level: \"metadata\" is written Metadata"),
        (
            with("- level: Everything"),
            "line 4: rules[0].level: \"Everything\" is none of None, Metadata, Request, RequestResponse",
        ),
        (with("- level: [None]"), "line 4: rules[0].level: a list or map where a text is expected"),
        (
            with("- level: None\nomitStages: [RequestRecieved]"),
            "line 5: omitStages[0]: \"RequestRecieved\" is none of RequestReceived, ResponseStarted, \
             ResponseComplete, Panic",
        ),
        (with(&format!("{level}omitStages: Panic")), "line 5: rules[0].omitStages: not a list"),
        (
            // The trap: `verbs` belongs to the rule.
            with("- level: None\nverbs: [get]"),
            "line 5: unknown field \"verbs\"; known are apiVersion, kind, metadata, rules, omitStages, omitManagedFields",
        ),
        (
            with(&format!("{level}Verbs: [get]")),
            "line 5: rules[0]: unknown field \"Verbs\"; known are level, users, userGroups, verbs, resources, \
             namespaces, nonResourceURLs, omitStages, omitManagedFields",
        ),
        (
            with(&format!("{level}resources:\n  - group: apps\n    names: [a]")),
            "line 7: rules[0].resources[0]: unknown field \"names\"; known are group, resources, resourceNames",
        ),
        (with(&format!("{level}level: None")), "line 5: \"level\" stands there twice"),
        (
            with(&format!("{level}resources: [{{resources: [a]}}]\n  nonResourceURLs: [/a]")),
            "line 6: rules[0].nonResourceURLs: beside resources or namespaces, which no such request has",
        ),
        (
            with(&format!("{level}nonResourceURLs: [/a]\n  namespaces: [a]")),
            "line 5: rules[0].nonResourceURLs: beside resources or namespaces, which no such request has",
        ),
        (
            with(&format!("{level}nonResourceURLs: [/a, b]")),
            "line 5: rules[0].nonResourceURLs[1]: \"b\" is neither * nor begins with /",
        ),
        (
            with(&format!("{level}nonResourceURLs:\n  - /a*/b")),
            "line 6: rules[0].nonResourceURLs[0]: \"/a*/b\" has a * that is not its end",
        ),
        (
            with(&format!("{level}nonResourceURLs: [\"/a**\"]")),
            "line 5: rules[0].nonResourceURLs[0]: \"/a**\" has a * that is not its end",
        ),
        (
            with(&format!("{level}resources:\n  - group: Apps")),
            "line 6: rules[0].resources[0].group: \"Apps\" is no DNS subdomain, such as apps or batch.example.com",
        ),
        (
            with(&format!("{level}resources:\n  - group: apps/v1")),
            "line 6: rules[0].resources[0].group: \"apps/v1\" is no DNS subdomain, such as apps or batch.example.com",
        ),
        (
            with(&format!("{level}resources:\n  - resourceNames: [a]")),
            "line 6: rules[0].resources[0].resourceNames: without resources that they could be names of",
        ),
        (with(&format!("{level}resources: pods")), "line 5: rules[0].resources: not a list"),
        (with(&format!("{level}users: tim")), "line 5: rules[0].users: not a list"),
        (
            with(&format!("{level}users: [a, 1234]")),
            "line 5: rules[0].users[1]: the number 1234 where a text is expected; put it in quotes",
        ),
        (
            with(&format!("{level}namespaces:\n  -")),
            "line 6: rules[0].namespaces[0]: nothing where a text is expected; the empty text is \"\"",
        ),
        (
            with(&format!("{level}verbs: [on]")),
            "line 5: rules[0].verbs[0]: true or false (or one of YAML's other words for them) where a text is \
             expected; put it in quotes",
        ),
        (with(&format!("{level}omitManagedFields: 1")), "line 5: rules[0].omitManagedFields: neither true nor false"),
        (with("- level: None\nmetadata: x"), "line 5: metadata: not a map"),
        (with("- level: None\n---\n"), "line 5: a second document begins, one is expected"),
        (with("- level: None\n  users: [a"), "line 5: not YAML: while parsing a flow sequence, expected ',' or ']'"),
    ] {
        assert_eq!(error(&text), wanted, "{text}");
    }
    assert_eq!(parse(b"a: b\nc: \xff").unwrap_err().to_string(), "line 2: not UTF-8");
}

#[test]
fn groups_are_dns_subdomains_or_a_star() {
    let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    for group in ["\"\"", "apps", "rbac.authorization.k8s.io", "a-b.c1", "\"*\"", "\"9a\"", &longest] {
        let text = with(&format!("- level: None\n  resources: [{{group: {group}}}]"));
        assert!(parse(text.as_bytes()).is_ok(), "{group}");
    }
    for group in ["a_b", "-a", "a-", "a..b", ".a", "a.", "\"*.k8s.io\"", "ä", &format!("{longest}x")] {
        let text = with(&format!("- level: None\n  resources: [{{group: {group}}}]"));
        assert!(error(&text).contains("is no DNS subdomain"), "{group}");
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    metrics: Arc<Metrics>,
    messages: Messages,
    file: PolicyFile,
}

impl Fixture {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.yaml");
        fs::write(&path, text).unwrap();
        let (metrics, messages) = (Arc::new(Metrics::new()), Messages::default());
        let file = PolicyFile::load(path, Arc::clone(&metrics), messages.diagnostics()).unwrap();
        Self { directory, metrics, messages, file }
    }

    fn write(&self, text: &str) {
        fs::write(self.directory.path().join("policy.yaml"), text).unwrap();
    }

    fn level(&self) -> Level {
        self.file.current().policy.rules[0].level
    }

    fn reloads(&self) -> [u64; 2] {
        [Reload::Success, Reload::Failure].map(|result| self.metrics.policy_reloads.value(result))
    }

    fn said(&self) -> Vec<String> {
        let directory = self.directory.path().to_str().unwrap();
        self.messages.take().iter().map(|message| message.replace(directory, "DIR")).collect()
    }
}

/// SHA-256 of the two files below, as sha256sum(1) prints it.
const DIGESTS: [&str; 2] = [
    "eeee284d2c16432cbe2040c35b37cadcb313527e332c8f0c4cdfd5cd9302efe9",
    "ebb46e92b08bcb48f38377cfa07dee3dac52472d4d7575f84502a1e2e155477c",
];

#[test]
fn each_load_says_the_number_of_rules_and_the_files_sha256() {
    let (one, two) = (with("- level: None\n"), with("- level: Metadata\n- level: None\n"));
    let fixture = Fixture::new(&one);
    assert_eq!(fixture.level(), Level::None);
    let said =
        |what, rules, sha256| vec![format!("info policy {what} path=DIR/policy.yaml rules={rules} sha256={sha256}")];
    assert_eq!(fixture.said(), said("loaded", 1, DIGESTS[0]));
    fixture.file.reload();
    assert_eq!((fixture.said(), fixture.reloads()), (vec![], [1, 0]));
    fixture.write(&two);
    fixture.file.reload();
    assert_eq!((fixture.level(), fixture.reloads()), (Level::Metadata, [2, 0]));
    assert_eq!(fixture.said(), said("reloaded", 2, DIGESTS[1]));
}

#[test]
fn a_broken_update_is_said_and_counted_once_and_the_old_policy_stays() {
    let fixture = Fixture::new(&with("- level: Metadata\n"));
    fixture.said();
    fixture.write(&with("- level: metadata\n"));
    fixture.file.reload();
    fixture.file.reload();
    fixture.file.reload();
    assert_eq!((fixture.level(), fixture.reloads()), (Level::Metadata, [1, 1]));
    assert_eq!(
        fixture.said(),
        ["error policy: reload failed, the old one stays in use error=--policy-filename DIR/policy.yaml: line 4: \
          rules[0].level: \"metadata\" is written Metadata"]
    );
    fs::remove_file(fixture.directory.path().join("policy.yaml")).unwrap();
    fixture.file.reload();
    assert_eq!((fixture.level(), fixture.reloads()), (Level::Metadata, [1, 2]));
}

#[test]
fn a_file_that_cannot_be_used_is_an_error_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.yaml");
    let load = || {
        let loaded = PolicyFile::load(path.clone(), Arc::default(), Messages::default().diagnostics());
        loaded.err().map(|error| error.to_string().replace(directory.path().to_str().unwrap(), "DIR"))
    };
    assert_eq!(load().unwrap(), "--policy-filename DIR/policy.yaml: No such file or directory (os error 2)");
    fs::write(&path, "rules: []\n").unwrap();
    assert_eq!(
        load().unwrap(),
        "--policy-filename DIR/policy.yaml: line 1: apiVersion: missing; audit.k8s.io/v1 is expected"
    );
    fs::write(&path, "x".repeat(1 << 20) + "x").unwrap();
    assert_eq!(load().unwrap(), "--policy-filename DIR/policy.yaml: larger than 1048576 bytes");
}
