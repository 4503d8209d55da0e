//! What becomes of single reviews and Events.

use kube_audit_rest::files::policy_file;
use kube_audit_rest::record::policy::Level;
use kube_audit_rest::record::{event_list, review};
use serde_json::Value;

use crate::{STAMP, line, lines, list_of, policy};

/// A review of an UPDATE by alice, its members in the API server's order.
fn review_of(request: &str) -> String {
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u","resource":{{"group":"","version":"v1","resource":"pods"}},{request}}}}}"#
    )
}

fn level_of(body: &str, rules: &str) -> String {
    let Some(line) = line(body.as_bytes(), None, &policy(rules)) else { return "None".to_owned() };
    let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
    line["level"].as_str().unwrap().to_owned()
}

#[test]
fn a_reviews_line_says_its_level_before_the_source_and_drops_a_clients_own() {
    let body = r#"{"level":"x","kind":"AdmissionReview","\u006cevel":1,"apiVersion":"admission.k8s.io/v1","request":{"uid":"u","level":3},"source":"y"}"#;
    let made = line(body.as_bytes(), Some("prod"), &policy("- level: Request")).unwrap();
    let wanted = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","level":3},"level":"Request","source":"prod""#;
    assert_eq!(String::from_utf8(made).unwrap(), format!("{wanted}{STAMP}"));
}

#[test]
fn without_a_policy_a_level_stays_and_none_is_added() {
    let body = r#"{"level":"x","kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u"}}"#;
    let mut made = body.as_bytes().to_vec();
    let time = std::time::SystemTime::UNIX_EPOCH;
    assert_eq!(
        review::audit_line(&mut made, time, None, None, kube_audit_rest::record::Chained::No, &mut Vec::new()),
        Ok(None)
    );
    let made = String::from_utf8(made).unwrap();
    assert_eq!(
        made,
        format!(
            "{},\"requestReceivedTimestamp\":\"1970-01-01T00:00:00.000000000Z\"}}\n",
            body.strip_suffix('}').unwrap()
        )
    );
    let item = r#"{"level":"RequestResponse","requestObject":{"a":1}}"#;
    let mut made = Vec::new();
    let events = event_list::audit_lines(
        &mut list_of(item).into_bytes(),
        None,
        None,
        kube_audit_rest::record::Chained::No,
        &mut made,
    )
    .unwrap();
    assert_eq!((events.count, events.lines, events.last), (1, 1, None));
    assert!(made.ends_with(b",\"level\":\"RequestResponse\",\"requestObject\":{\"a\":1}}\n"));
}

#[test]
fn each_level_leaves_out_what_the_table_says() {
    let object = |data: &str| {
        format!(
            r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"n","generateName":"g","namespace":"s","uid":"i","resourceVersion":"7","labels":{{}},"managedFields":[1],"annotations":{{"x":"{data}"}}}},"spec":{{"a":"{data}"}},"status":{{}}}}"#
        )
    };
    let left = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"n","generateName":"g","namespace":"s","uid":"i","resourceVersion":"7"}}"#;
    let bare = |data: &str| object(data).replace(r#","managedFields":[1]"#, "");
    let request = |new: &str, old: &str| {
        review_of(&format!(
            r#""operation":"UPDATE","object":{new},"oldObject":{old},"options":{{"kind":"UpdateOptions"}}"#
        ))
    };
    for (rule, new, old) in [
        ("Metadata", left.to_owned(), left.to_owned()),
        ("Metadata\n  omitManagedFields: true", left.to_owned(), left.to_owned()),
        ("Request", object("new"), left.to_owned()),
        ("Request\n  omitManagedFields: true", bare("new"), left.to_owned()),
        ("RequestResponse", object("new"), object("old")),
        ("RequestResponse\n  omitManagedFields: true", bare("new"), bare("old")),
    ] {
        let body = request(&object("new"), &object("old"));
        let made = line(body.as_bytes(), None, &policy(&format!("- level: {rule}"))).unwrap();
        let wanted = request(&new, &old);
        let level = rule.split('\n').next().unwrap();
        let wanted = format!("{},\"level\":\"{level}\"{STAMP}", wanted.strip_suffix('}').unwrap());
        assert_eq!(String::from_utf8(made).unwrap(), wanted, "{rule}");
    }
    assert_eq!(line(request("{}", "null").as_bytes(), None, &policy("- level: None")), None);
}

#[test]
fn the_command_of_an_exec_stays_at_level_metadata() {
    let object = r#"{"kind":"PodExecOptions","apiVersion":"v1","stdin":true,"command":["sh"]}"#;
    let body = review_of(&format!(r#""subResource":"exec","operation":"CONNECT","object":{object},"oldObject":null"#));
    let made = line(body.as_bytes(), None, &policy("- level: Metadata")).unwrap();
    assert!(String::from_utf8(made).unwrap().contains(object));
}

#[test]
fn rules_read_a_review_as_the_design_says() {
    let by = |condition: &str| format!("- level: Request\n  {condition}\n- level: Metadata");
    let pod = review_of(
        r#""requestResource":{"group":"apps","version":"v1","resource":"replicasets"},"requestSubResource":"scale","name":"n","namespace":"s","operation":"UPDATE","userInfo":{"username":"al\u0069ce","groups":["a\"b","system:authenticated"]}"#,
    );
    for (condition, wanted) in [
        ("users: [alice]", "Request"),
        ("users: [Alice]", "Metadata"),
        ("userGroups: ['a\"b']", "Request"),
        ("userGroups: [system]", "Metadata"),
        ("verbs: [patch]", "Request"),
        ("verbs: [update]", "Request"),
        ("verbs: [create]", "Metadata"),
        ("namespaces: [s]", "Request"),
        ("namespaces: ['']", "Metadata"),
        ("nonResourceURLs: ['*']", "Metadata"),
        ("resources: [{group: apps, resources: [replicasets/scale], resourceNames: ['n']}]", "Request"),
        ("resources: [{group: apps, resources: [replicasets/scale], resourceNames: ['m']}]", "Metadata"),
        ("resources: [{group: apps, resources: [replicasets]}]", "Metadata"),
        ("resources: [{group: '', resources: [pods]}]", "Metadata"),
    ] {
        assert_eq!(level_of(&pod, &by(condition)), wanted, "{condition}");
    }
    // Without requestResource, as before Kubernetes 1.15.
    let old = review_of(r#""subResource":"status","operation":"UPDATE""#);
    assert_eq!(level_of(&old, &by("resources: [{resources: [pods/status]}]")), "Request");
    // Whatever the order of members.
    let behind = r#"{"request":{"object":{"data":{"a":"b"}},"operation":"DELETE","uid":"u","userInfo":{"groups":[],"username":"bob"},"resource":{"resource":"secrets"}},"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#;
    let made = line(behind.as_bytes(), None, &policy("- level: Metadata\n  users: [bob]\n  verbs: [deletecollection]"))
        .unwrap();
    assert!(String::from_utf8(made).unwrap().starts_with(r#"{"request":{"object":{},"operation":"DELETE","#));
}

#[test]
fn what_can_be_read_in_two_ways_is_recorded_completely() {
    let object = r#""object":{"data":{"a":"b"}}"#;
    for members in [
        format!(r#""operation":"CREATE",{object},"operation":"DELETE""#),
        format!(r#""userInfo":{{"username":"a","username":"b"}},{object}"#),
        format!(r#""userInfo":{{"username":"a","groups":["a",{{"b":"c"}}]}},{object}"#),
        format!(r#""resource":{{"resource":"secrets"}},{object}"#),
    ] {
        assert_eq!(level_of(&review_of(&members), "- level: None"), "RequestResponse", "{members}");
    }
    let item = r#"{"level":"Metadata","stage":"ResponseComplete","level":"RequestResponse","requestObject":{"a":1}}"#;
    let made = lines(list_of(item).as_bytes(), None, &policy("- level: None"));
    assert!(made[0].ends_with(&item.as_bytes()[1..]));
}

#[test]
fn an_events_level_is_the_lower_of_the_two_and_changes_where_it_stands() {
    let rest = r#""requestObject":{"kind":"Pod","metadata":{"name":"a","managedFields":[]}},"stage":"ResponseComplete","responseObject":{"b":1},"auditID":"i""#;
    for (recorded, rule, wanted) in [
        ("RequestResponse", "Metadata", Some(("Metadata", r#""stage":"ResponseComplete","auditID":"i""#))),
        (
            "RequestResponse",
            "Request",
            Some((
                "Request",
                r#""requestObject":{"kind":"Pod","metadata":{"name":"a","managedFields":[]}},"stage":"ResponseComplete","auditID":"i""#,
            )),
        ),
        ("RequestResponse", "RequestResponse", Some(("RequestResponse", rest))),
        ("Request", "Metadata", Some(("Metadata", r#""stage":"ResponseComplete","auditID":"i""#))),
        ("Metadata", "RequestResponse", Some(("Metadata", r#""stage":"ResponseComplete","auditID":"i""#))),
        ("RequestResponse", "None", None),
    ] {
        for (before, behind) in [("", ",\"z\":1"), ("\"z\":1,", "")] {
            let item = |level: &str, rest: &str| format!(r#"{{{before}"level":"{level}",{rest}{behind}}}"#);
            let swapped = |level: &str, rest: &str| format!(r#"{{{before}{rest},"level":"{level}"{behind}}}"#);
            for shape in [&item as &dyn Fn(&str, &str) -> String, &swapped] {
                let made =
                    lines(list_of(&shape(recorded, rest)).as_bytes(), Some("s"), &policy(&format!("- level: {rule}")));
                let wanted = wanted.map(|(level, rest)| {
                    let line = shape(level, rest);
                    let members = line.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
                    format!(r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1",{members},"source":"s"}}"#)
                });
                let made: Vec<_> = made.into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
                assert_eq!(made, Vec::from_iter(wanted), "{recorded} by {rule}");
            }
        }
    }
}

#[test]
fn an_event_is_never_left_out_or_shortened_because_of_a_level_that_no_event_has() {
    let rest = r#""auditID":"i","requestObject":{"a":1}"#;
    for said in [r#""level":"None","#, r#""level":"none","#, r#""level":7,"#, ""] {
        let item = format!("{{{said}{rest}}}");
        let by = |rule: &str| lines(list_of(&item).as_bytes(), None, &policy(&format!("- level: {rule}")));
        assert!(by("RequestResponse")[0].ends_with(&item.as_bytes()[1..]), "{said}");
        assert!(by("Metadata")[0].ends_with(format!("{said}\"auditID\":\"i\"}}").as_bytes()), "{said}");
        assert_eq!(by("None"), Vec::<Vec<u8>>::new(), "{said}");
    }
}

#[test]
fn rules_read_an_event_as_the_api_server_did() {
    let by = |condition: &str| policy(&format!("- level: Request\n  {condition}\n- level: Metadata"));
    let level = |event: &str, condition: &str| {
        let item = format!(r#"{{"level":"RequestResponse",{event}}}"#);
        let made = lines(list_of(&item).as_bytes(), None, &by(condition)).remove(0);
        serde_json::from_slice::<serde_json::Value>(&made).unwrap()["level"].as_str().unwrap().to_owned()
    };
    let created = r#""verb":"create","user":{"username":"bob","groups":["g"]},"impersonatedUser":{"username":"eve"},"objectRef":{"resource":"pods","namespace":"s","name":"n","apiVersion":"v1"}"#;
    let updated = r#""verb":"update","requestURI":"/healthz","objectRef":{"resource":"pods","namespace":"s","name":"n","apiGroup":"apps","subresource":"status"}"#;
    let path = r#""verb":"get","requestURI":"/a%2Fb/%zz%C3%A9?x=/y""#;
    for (event, condition, wanted) in [
        (created, "users: [bob]", "Request"),
        (created, "users: [eve]", "Metadata"),
        (created, "userGroups: [g]", "Request"),
        (created, "verbs: [create]", "Request"),
        (created, "resources: [{resources: [pods]}]", "Request"),
        (created, "resources: [{resources: [pods], resourceNames: ['n']}]", "Metadata"),
        (created, "resources: [{resources: [pods], resourceNames: ['']}]", "Request"),
        (updated, "resources: [{group: apps, resources: [pods/status], resourceNames: ['n']}]", "Request"),
        (updated, "resources: [{group: apps, resources: [pods]}]", "Metadata"),
        (updated, "namespaces: [s]", "Request"),
        (updated, "nonResourceURLs: [/healthz]", "Metadata"),
        (path, "nonResourceURLs: [/a/b/%zzé]", "Request"),
        (path, "nonResourceURLs: ['/a/*']", "Request"),
        (path, "namespaces: ['']", "Metadata"),
    ] {
        assert_eq!(level(event, condition), wanted, "{event} {condition}");
    }
}

#[test]
fn stages_that_the_policy_or_the_rule_omits_are_left_out_of_events_and_never_of_reviews() {
    let policy = policy(
        "- level: Metadata\n  verbs: [watch]\n  omitStages: [ResponseStarted]\n- level: Metadata\nomitStages: [RequestReceived]\n",
    );
    let item = |verb: &str, stage: &str| format!(r#"{{"level":"Metadata","stage":"{stage}","verb":"{verb}"}}"#);
    let body = list_of(
        &[
            item("watch", "RequestReceived"),
            item("watch", "ResponseStarted"),
            item("watch", "ResponseComplete"),
            item("get", "RequestReceived"),
            item("get", "ResponseStarted"),
            item("get", "Panic"),
        ]
        .join(","),
    );
    let made: Vec<_> =
        lines(body.as_bytes(), None, &policy).into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
    assert_eq!(made.len(), 3);
    for (line, end) in
        made.iter().zip([item("watch", "ResponseComplete"), item("get", "ResponseStarted"), item("get", "Panic")])
    {
        assert!(line.ends_with(&end[1..]), "{line}");
    }
    let review = review_of(r#""operation":"UPDATE","stage":"RequestReceived""#);
    assert!(line(review.as_bytes(), None, &policy).is_some());
}

#[test]
fn an_event_by_itself_and_one_with_bytes_that_are_not_utf8_are_reduced_like_the_others() {
    let event = r#"{ "kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","requestObject":{"a":1},"auditID":"x" }"#;
    let made = lines(event.as_bytes(), None, &policy("- level: Metadata"));
    let wanted = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"x"}"#;
    assert_eq!(made, [wanted.as_bytes()]);

    let bad = |rule: &str| {
        let mut body = list_of(r#"{"level":"RequestResponse","requestObject":"a?","auditID":"x"}"#).into_bytes();
        let at = body.iter().position(|byte| *byte == b'?').unwrap();
        body[at] = 0xff;
        let mut lines = Vec::new();
        let events = event_list::audit_lines(
            &mut body,
            None,
            Some(&policy(rule)),
            kube_audit_rest::record::Chained::No,
            &mut lines,
        )
        .unwrap();
        (events.mended, String::from_utf8(lines).unwrap())
    };
    let begin = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"#;
    assert_eq!(bad("- level: Metadata"), (0, format!("{begin}\"Metadata\",\"auditID\":\"x\"}}\n")));
    assert_eq!(
        bad("- level: Request"),
        (1, format!("{begin}\"Request\",\"requestObject\":\"a\u{fffd}\",\"auditID\":\"x\"}}\n"))
    );
}

#[test]
fn of_a_table_in_a_response_the_rows_objects_lose_their_managed_fields_as_in_the_api_servers_own_log() {
    let table = |metadata: &str| {
        let row = format!(r#"{{"cells":["a",1],"object":{{"kind":"PartialObjectMetadata","metadata":{metadata}}}}}"#);
        let rows = format!(r#"{row},{{"cells":[],"object":null}},{{"cells":[]}},{row}"#);
        format!(r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[{rows}],"columnDefinitions":[]}}"#)
    };
    let event = |table: &str| {
        format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"x","responseObject":{table}}}"#
        )
    };
    let body = list_of(&event(&table(r#"{"name":"a","managedFields":[{"manager":"b"}],"labels":{}}"#)));
    let made = lines(body.as_bytes(), None, &policy("- level: RequestResponse\n  omitManagedFields: true\n"));
    assert_eq!(made, [event(&table(r#"{"name":"a","labels":{}}"#)).as_bytes()]);
}

/// A PATCH is copied into its Event as it came: whoever sends one with bytes that are not UTF-8 and more managed fields than
/// are noted in the first reading must not get the whole list refused.
#[test]
fn an_event_with_bytes_that_are_not_utf8_is_mended_however_much_of_it_is_left_out() {
    let items = vec![r#"{"metadata":{"managedFields":[],"name":"a"}}"#; 100].join(",");
    let item = format!(r#"{{"level":"Request","auditID":"x","requestObject":{{"a":"?","items":[{items}]}}}}"#);
    let mut body = list_of(&format!(r#"{item},{{"auditID":"y"}}"#)).into_bytes();
    let at = body.iter().position(|byte| *byte == b'?').unwrap();
    body[at] = 0xff;
    for (rule, mended) in [("- level: Metadata", 0), ("- level: Request\n  omitManagedFields: true", 1)] {
        let mut lines = Vec::new();
        let no_chain = kube_audit_rest::record::Chained::No;
        let events =
            event_list::audit_lines(&mut body.clone(), None, Some(&policy(rule)), no_chain, &mut lines).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        assert_eq!((events.lines, events.mended), (2, mended), "{lines}");
        assert_eq!(lines.contains("\"a\":\"\u{fffd}\""), mended == 1, "{lines}");
        assert!(!lines.contains("managedFields"), "{lines}");
    }
}

/// Requests of a real API server, and what its own checker said of each of them under 40 policies.
#[test]
fn the_level_is_that_of_the_api_servers_own_checker() {
    let recorded = include_str!("../data/policy-levels.jsonl").lines();
    let (requests, policies): (Vec<Value>, Vec<Value>) =
        recorded.map(|line| serde_json::from_str(line).unwrap()).partition(|line: &Value| line["policy"].is_null());
    let mut checked = [0; 2];
    for line in &policies {
        let policy = policy_file::parse(line["policy"].to_string().as_bytes()).unwrap();
        let levels = line["levels"].as_str().unwrap();
        assert_eq!(levels.len(), requests.len());
        for (letter, request) in levels.chars().zip(&requests) {
            let level = match letter {
                'N' => Level::None,
                'M' => Level::Metadata,
                'R' => Level::Request,
                _ => Level::RequestResponse,
            };
            let level_of = |line: &[u8]| {
                let line: Value = serde_json::from_slice(line).unwrap();
                Level::from_name(line["level"].as_str().unwrap()).unwrap()
            };
            let lines = lines(request["event"].to_string().as_bytes(), None, &policy);
            let of_event = lines.first().map_or(Level::None, |line| level_of(line));
            assert_eq!(of_event, level, "{} under {}", request["event"], line["policy"]);
            checked[0] += 1;
            // A review shows neither the verb nor who impersonated, so its level may be higher; for the latter, lower.
            let review = &request["review"];
            if review.is_null() || !request["event"]["impersonatedUser"].is_null() {
                continue;
            }
            let of_review =
                self::line(review.to_string().as_bytes(), None, &policy).map_or(Level::None, |line| level_of(&line));
            assert!(of_review >= level, "{review} under {}", line["policy"]);
            checked[1] += 1;
        }
    }
    assert!(policies.len() == 40 && checked[0] == 40 * requests.len() && checked[1] > 2000, "{checked:?}");
}
