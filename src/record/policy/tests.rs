//! Upstream's test vectors (`checker_test.go`) as a table, and what a review leaves open.

use std::borrow::Cow;

use super::*;

/// The rules of upstream's test, by the letters of the table below.
fn rule(letters: &str) -> Rule {
    let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    let resources = |group: &str, resources: &[&str], names: &[&str]| {
        vec![GroupResources { group: group.to_owned(), resources: list(resources), resource_names: list(names) }]
    };
    let at = |level| Rule {
        level,
        users: vec![],
        user_groups: vec![],
        verbs: vec![],
        resources: vec![],
        namespaces: vec![],
        non_resource_urls: vec![],
        omit_stages: vec![],
        managed_fields: ManagedFields::Keep,
    };
    let rbac = "rbac.authorization.k8s.io";
    let get = list(&["get"]);
    match letters {
        "D" => at(Level::Metadata),
        "C" => Rule { verbs: list(&["create"]), ..at(Level::Request) },
        "T" => Rule { users: list(&["tim"]), ..at(Level::Metadata) },
        "H" => Rule { user_groups: list(&["humans"]), ..at(Level::Metadata) },
        "S" => Rule { user_groups: list(&["system:serviceaccounts"]), ..at(Level::Request) },
        "P" => Rule { verbs: get, resources: resources("", &["pods"], &[]), ..at(Level::RequestResponse) },
        "PL" => Rule { verbs: get, resources: resources("", &["pods/log"], &[]), ..at(Level::Request) },
        "W" => Rule { verbs: get, resources: resources("", &["*"], &[]), ..at(Level::Request) },
        "WL" => Rule { verbs: get, resources: resources("", &["*/log"], &[]), ..at(Level::Request) },
        "PS" => Rule { verbs: get, resources: resources("", &["pods/*"], &[]), ..at(Level::Request) },
        "CR" => Rule {
            verbs: get,
            resources: resources(rbac, &["clusterroles"], &[]),
            namespaces: list(&[""]),
            ..at(Level::RequestResponse)
        },
        "CE" => Rule { resources: resources(rbac, &["clusterroles"], &["edit"]), ..at(Level::Request) },
        "ST" => Rule {
            verbs: list(&["update"]),
            resources: resources("*", &["*/status"], &[]),
            ..at(Level::RequestResponse)
        },
        "L" => Rule { verbs: get, non_resource_urls: list(&["/logs*"]), ..at(Level::RequestResponse) },
        "X" => Rule { verbs: get, non_resource_urls: list(&["/metrics"]), ..at(Level::Request) },
        _ => panic!("{letters}"),
    }
}

/// The requests of upstream's test.
fn request(name: &str) -> Attributes<'static> {
    let resource = |group, resource, subresource, namespace, name| {
        Target::Resource(Resource {
            group: Cow::Borrowed(group),
            resource: Cow::Borrowed(resource),
            subresource: Cow::Borrowed(subresource),
            namespace: Cow::Borrowed(namespace),
            name: Cow::Borrowed(name),
        })
    };
    let tim = |verb, target| Attributes {
        user: Cow::Borrowed("tim"),
        groups: Groups::new(br#"["humans","developers"]"#),
        verb: Cow::Borrowed(verb),
        target,
    };
    let rbac = "rbac.authorization.k8s.io";
    match name {
        "q1" => tim("get", resource("", "pods", "", "default", "busybox")),
        "q2" => tim("get", resource(rbac, "clusterroles", "", "", "edit")),
        "q3" => tim("get", Target::Path(Cow::Borrowed("/logs/kubelet.log"))),
        "q4" => tim("get", resource("", "pods", "log", "default", "busybox")),
        "q5" => Attributes { user: Cow::Borrowed(""), groups: Groups::default(), ..request("q1") },
        "q6" => tim("update", resource(rbac, "clusterroles", "status", "", "somerole")),
        _ => panic!("{name}"),
    }
}

#[test]
fn upstreams_vectors_come_out_as_upstream_has_them() {
    let table = [
        // One rule alone, in the order D C T H S P CR L X.
        ("q1", "D C T H S P CR L X", "M N M M N RR N N N"),
        ("q2", "D C T H S P CR L X", "M N M M N N RR N N"),
        ("q3", "D C T H S P CR L X", "M N M M N N N RR N"),
        // Several together.
        ("q1", "X,S,D X,P,D PL,P", "M RR RR"),
        ("q2", "CE,CR X,CR,D PL,P", "R RR N"),
        ("q3", "L,CR,D PL,P", "RR N"),
        ("q4", "PL,P W WL PS", "R R R R"),
        ("q5", "T T,D H H,D", "N M N M"),
        ("q6", "ST", "RR"),
    ];
    let mut checked = 0;
    for (asked, policies, wanted) in table {
        for (letters, wanted) in policies.split(' ').zip(wanted.split(' ')) {
            let policy = Policy { rules: letters.split(',').map(rule).collect() };
            let level = match policy.decide(&request(asked)).level {
                Level::None => "N",
                Level::Metadata => "M",
                Level::Request => "R",
                Level::RequestResponse => "RR",
            };
            assert_eq!(level, wanted, "{asked} by {letters}");
            checked += 1;
        }
    }
    assert_eq!(checked, 3 * 9 + 3 + 3 + 2 + 4 + 4 + 1);
}

/// A request for pods, or a subresource of theirs, against one resource pattern.
fn pattern_fits(pattern: &str, subresource: &'static str) -> bool {
    let entry = GroupResources { group: String::new(), resources: vec![pattern.to_owned()], resource_names: vec![] };
    let policy = Policy { rules: vec![Rule { resources: vec![entry], ..rule("D") }] };
    let Target::Resource(resource) = request("q1").target else { panic!() };
    let target = Target::Resource(Resource { subresource: Cow::Borrowed(subresource), ..resource });
    policy.decide(&Attributes { target, ..request("q1") }).rule.is_some()
}

#[test]
fn patterns_of_resources_have_upstreams_traps() {
    for (pattern, subresource, wanted) in [
        ("pods", "", true),
        ("pods", "log", false),
        ("pods/log", "log", true),
        ("pods/log", "", false),
        ("pods/*", "log", true),
        ("pods/*", "", true),
        ("*", "", true),
        ("*", "log", true),
        ("*/log", "log", true),
        ("*/log", "", false),
        ("*/log", "status", false),
        ("*/*", "log", false),
        ("Pods", "", false),
        ("pod*", "", false),
        ("services/log", "log", false),
    ] {
        assert_eq!(pattern_fits(pattern, subresource), wanted, "{pattern} {subresource:?}");
    }
}

#[test]
fn a_star_means_nothing_in_users_groups_verbs_and_namespaces() {
    let star = || vec!["*".to_owned()];
    for rule in [
        Rule { users: star(), ..rule("D") },
        Rule { user_groups: star(), ..rule("D") },
        Rule { verbs: star(), ..rule("D") },
        Rule { namespaces: star(), ..rule("D") },
    ] {
        assert_eq!(Policy { rules: vec![rule] }.decide(&request("q1")).rule, None);
    }
}

#[test]
fn paths_match_exactly_or_by_prefix_and_never_where_resources_are_asked_for() {
    let fits = |pattern: &str, path: &'static str| {
        let rule = Rule { non_resource_urls: vec![pattern.to_owned()], ..rule("D") };
        let target = Target::Path(Cow::Borrowed(path));
        Policy { rules: vec![rule] }.decide(&Attributes { target, ..request("q3") }).rule.is_some()
    };
    assert!(fits("*", "/healthz"));
    assert!(fits("/healthz*", "/healthz"));
    assert!(fits("/healthz*", "/healthz/etcd"));
    assert!(fits("/healthz", "/healthz"));
    assert!(!fits("/healthz", "/healthz/etcd"));
    assert!(!fits("/healthz/*", "/healthz"));
    let rule = Rule { namespaces: vec![String::new()], ..rule("D") };
    assert_eq!(Policy { rules: vec![rule] }.decide(&request("q3")).rule, None);
}

fn review(
    operation: Option<Operation>,
    resource: &'static str,
    subresource: &'static str,
    name: &'static str,
) -> Review<'static> {
    Review {
        user: Cow::Borrowed("tim"),
        groups: Groups::new(br#"["humans"]"#),
        operation,
        resource: Resource {
            group: Cow::Borrowed(""),
            resource: Cow::Borrowed(resource),
            subresource: Cow::Borrowed(subresource),
            namespace: Cow::Borrowed("here"),
            name: Cow::Borrowed(name),
        },
    }
}

/// The verbs, namespaces and names that are asked about.
fn asked(review: &Review<'_>) -> String {
    let asked = review.candidates().map(|attributes| {
        let Target::Resource(resource) = attributes.target else { panic!() };
        format!("{} {}/{}", attributes.verb, resource.namespace, resource.name)
    });
    asked.collect::<Vec<_>>().join(", ")
}

#[test]
fn every_request_that_a_review_may_come_from_is_asked_about() {
    use Operation::{Connect, Create, Delete, Update};
    for (operation, resource, subresource, name, wanted) in [
        (Create, "pods", "", "a", "create here/, update here/a, patch here/a"),
        (Create, "namespaces", "", "here", "create /, update here/here, patch here/here"),
        (Create, "pods", "binding", "a", "create here/a, update here/a, patch here/a"),
        (Update, "pods", "", "a", "update here/a, patch here/a"),
        (Update, "pods", "status", "a", "update here/a, patch here/a"),
        (Delete, "pods", "", "a", "delete here/a"),
        (Delete, "pods", "", "", "deletecollection here/"),
        (Connect, "pods", "exec", "a", "create here/a, get here/a"),
        (Connect, "pods", "attach", "a", "create here/a, get here/a"),
        (Connect, "pods", "portforward", "a", "create here/a, get here/a"),
        (Connect, "services", "proxy", "a", "get here/a, create here/a, update here/a, patch here/a, delete here/a"),
    ] {
        assert_eq!(asked(&review(Some(operation), resource, subresource, name)), wanted);
    }
    assert_eq!(review(None, "pods", "", "a").candidates().count(), 7);
}

#[test]
fn the_highest_level_of_the_possible_requests_counts() {
    let by_verb = |verb: &str, level| Rule { verbs: vec![verb.to_owned()], ..Rule { level, ..rule("D") } };
    let policy = Policy {
        rules: vec![
            by_verb("create", Level::None),
            by_verb("update", Level::Request),
            by_verb("patch", Level::Metadata),
        ],
    };
    let decide = |operation| policy.decide_review(&review(Some(operation), "pods", "", "a"));
    assert_eq!(
        decide(Operation::Create),
        Decision { level: Level::Request, managed_fields: ManagedFields::Keep, rule: Some(1) }
    );
    assert_eq!(decide(Operation::Update).level, Level::Request);
    assert_eq!(decide(Operation::Delete), Decision::NO_RULE);
}

#[test]
fn managed_fields_are_left_out_where_all_at_the_highest_level_want_that() {
    let by_verb =
        |verb: &str, level, managed_fields| Rule { verbs: vec![verb.to_owned()], level, managed_fields, ..rule("D") };
    use ManagedFields::{Keep, Omit};
    let decide = |update, patch| {
        let policy = Policy { rules: vec![update, patch] };
        let decision = policy.decide_review(&review(Some(Operation::Update), "pods", "", "a"));
        (decision.level, decision.managed_fields)
    };
    let full = Level::RequestResponse;
    assert_eq!(decide(by_verb("update", full, Omit), by_verb("patch", full, Omit)), (full, Omit));
    assert_eq!(decide(by_verb("update", full, Keep), by_verb("patch", full, Omit)), (full, Keep));
    assert_eq!(decide(by_verb("update", full, Omit), by_verb("patch", full, Keep)), (full, Keep));
    assert_eq!(decide(by_verb("update", Level::Metadata, Keep), by_verb("patch", full, Omit)), (full, Omit));
    assert_eq!(decide(by_verb("update", full, Omit), by_verb("patch", Level::Metadata, Keep)), (full, Omit));
}

#[test]
fn groups_are_read_with_their_escapes() {
    let groups: Vec<_> = Groups::new(br#"["a","b \"c\" \\","\u0064\u00e9","","\\"]"#).iter().collect();
    assert_eq!(groups, ["a", "b \"c\" \\", "dé", "", "\\"]);
    assert_eq!(Groups::new(b"[]").iter().count(), 0);
    assert_eq!(Groups::default().iter().count(), 0);
}

#[test]
fn levels_and_stages_have_the_names_of_the_kubernetes_api_in_its_case() {
    for level in Level::ALL {
        assert_eq!(Level::from_name(level.name()), Some(level));
        assert_eq!(Level::from_name(&level.name().to_lowercase()), None);
    }
    for stage in Stage::ALL {
        assert_eq!(Stage::from_name(stage.name()), Some(stage));
    }
}
