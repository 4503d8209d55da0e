//! k8s/ held to the code and to the contract: what the manifests pass to the program it takes, what they ask of it it
//! serves, every metric that a rule or a panel names exists, and what the scripts make is what the server needs.

mod common;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use common::{Client, Setup, corpus, eventually, post};
use kube_audit_rest::cli::{self, Action, Config};
use kube_audit_rest::files::policy_file;
use kube_audit_rest::files::sources::Sources;
use kube_audit_rest::observe::metrics::Metrics;
use kube_audit_rest::record::policy::{Level, Policy};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tempfile::TempDir;

const MIB: u64 = 1024 * 1024;
/// What a connection costs at its busiest, and the program itself: the README's section on memory.
const CONNECTION_BYTES: u64 = 250 * 1024;
const PROGRAM_BYTES: u64 = 16 * MIB;
/// One `kube-audit-rest read` in the pod must not take the receiver with it.
const READER_BYTES: u64 = 64 * MIB;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s")
}

/// Every file under k8s/ whose name ends so, but for the chart's templates, which are YAML only when Helm is done.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![directory()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("chart/templates") {
                    left.push(path);
                }
            } else if path.to_str().unwrap().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} under k8s/");
    found
}

/// The documents of a YAML file.
fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    serde_norway::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap_or_else(|why| panic!("{}: {why}", path.display())))
        .filter(|document| !document.is_null())
        .collect()
}

/// The one object of this kind and name in a file under k8s/.
fn object(file: &str, kind: &str) -> Value {
    let mut found: Vec<Value> =
        documents(&directory().join(file)).into_iter().filter(|document| document["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind} in {file}");
    found.remove(0)
}

fn deployment() -> Value {
    object("base/kube-audit-rest.yaml", "Deployment")
}

fn container() -> Value {
    deployment()["spec"]["template"]["spec"]["containers"][0].clone()
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().expect("a list");
    list.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

fn config(arguments: &[String]) -> Config {
    let program = OsString::from("kube-audit-rest");
    match cli::parse([program].into_iter().chain(arguments.iter().map(OsString::from))) {
        Ok(Action::Run(config)) => config,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

/// Arguments that the JSON patches of a component add.
fn added_arguments(component: &str) -> Vec<String> {
    let kustomization = documents(&directory().join(component).join("kustomization.yaml"));
    let patches = kustomization[0]["patches"].as_array().unwrap();
    let operations = patches.iter().filter_map(|patch| patch["patch"].as_str()).flat_map(|patch| {
        // The others are pieces of objects, and none of them holds arguments.
        let patch: Value = serde_norway::from_str(patch).unwrap();
        patch.as_array().cloned().unwrap_or_default()
    });
    let arguments = operations
        .filter(|operation| operation["op"] != "test" && operation["path"].as_str().unwrap().contains("/args/"))
        .map(|operation| operation["value"].as_str().unwrap().to_owned());
    let arguments: Vec<String> = arguments.collect();
    assert!(!arguments.is_empty(), "{component}");
    arguments
}

/// "160Mi" in bytes.
fn quantity(value: &Value) -> u64 {
    let text = value.as_str().unwrap();
    let (number, unit) = text.split_at(text.find(|c: char| c.is_alphabetic()).unwrap());
    let factor = match unit {
        "Mi" => MIB,
        "Gi" => 1024 * MIB,
        _ => panic!("{text}"),
    };
    number.parse::<u64>().unwrap() * factor
}

/// Everything that is a string somewhere in a document.
fn all_strings(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => into.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|item| all_strings(item, into)),
        Value::Object(members) => members.values().for_each(|item| all_strings(item, into)),
        _ => {}
    }
}

#[test]
fn every_yaml_and_json_file_parses_and_no_object_is_a_secret() {
    for path in files(".yaml") {
        for document in documents(&path) {
            assert_ne!(document["kind"], "Secret", "{}", path.display());
        }
    }
    for path in files(".json") {
        let text = fs::read_to_string(&path).unwrap();
        serde_json::from_str::<Value>(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
}

#[test]
fn kustomizations_name_files_that_exist_and_overlays_miss_no_component() {
    let mut used = BTreeSet::new();
    for path in files("kustomization.yaml") {
        let here = path.parent().unwrap();
        for document in documents(&path) {
            let mut named = Vec::new();
            for list in ["resources", "components"] {
                named.extend(document[list].as_array().into_iter().flatten().cloned());
            }
            for generator in document["configMapGenerator"].as_array().into_iter().flatten() {
                let sources = strings(&generator["files"]);
                let sources = sources.iter().map(|file| file.split_once('=').map_or(file.as_str(), |(_, file)| file));
                named.extend(sources.map(Value::from));
            }
            for patch in document["patches"].as_array().into_iter().flatten() {
                named.extend(patch.get("path").cloned());
            }
            for name in named {
                let target = here.join(name.as_str().unwrap());
                assert!(target.exists(), "{}: {name}", path.display());
                used.insert(target.canonicalize().unwrap());
            }
        }
    }
    for component in fs::read_dir(directory().join("components")).unwrap() {
        let component = component.unwrap().path().canonicalize().unwrap();
        assert!(used.contains(&component), "{}: no overlay", component.display());
    }
}

#[test]
fn the_deployment_s_args_are_taken_and_mean_what_the_manifest_says() {
    let container = container();
    let arguments = strings(&container["args"]);
    let config = config(&arguments);
    assert_eq!(config.warnings(), Vec::<&str>::new());

    // Ports, by the names that probes, Service and PodMonitor use.
    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == name);
        port.unwrap_or_else(|| panic!("no port {name}"))["containerPort"].clone()
    };
    assert_eq!(port("https"), config.server_port);
    assert_eq!(port("metrics"), config.metrics_port);
    let service = object("base/kube-audit-rest.yaml", "Service");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "https");
    assert_eq!(object("monitoring/podmonitor.yaml", "PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"], "metrics");

    // Files stand in volumes, and the log's name differs from pod to pod.
    let mount = |path: &Path| {
        let directory = path.parent().unwrap().to_str().unwrap();
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["mountPath"] == directory);
        mount.unwrap_or_else(|| panic!("{directory} is no volume")).clone()
    };
    let policy = config.policy_filename.as_ref().expect("a policy");
    for path in [&config.cert_filename, &config.cert_key_filename, policy] {
        let mount = mount(path);
        assert_eq!(mount["readOnly"], true);
        assert_eq!(mount.get("subPath"), None, "it would never be updated");
    }
    assert_eq!(mount(&config.logger_filename)["name"], "log");
    let name = config.logger_filename.file_name().unwrap().to_str().unwrap();
    assert_eq!(name, "$(POD_NAME).log");
    assert_eq!(
        container["env"][0],
        json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    );
}

#[test]
fn limits_follow_from_the_flags() {
    let deployment = deployment();
    let pod = &deployment["spec"]["template"]["spec"];
    let container = container();
    let config = config(&strings(&container["args"]));

    let bodies = (config.max_inflight_size.max(config.max_request_size) + 2 * config.max_request_size) as u64;
    let connections = config.max_connections as u64 * CONNECTION_BYTES * 5 / 4;
    let bound = bodies + connections + PROGRAM_BYTES + READER_BYTES;
    let limit = quantity(&container["resources"]["limits"]["memory"]);
    assert!(bound <= limit, "{} MiB", bound / MIB);
    assert!(limit <= bound + 32 * MIB, "{} MiB would do", bound / MIB);
    assert_eq!(container["resources"]["limits"].get("cpu"), None);

    // The file in use, the rolled ones, one about to be deleted.
    let log = config.logger_max_size * (config.logger_max_backups as u64 + 2);
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == "log").unwrap();
    let room = quantity(&volume["emptyDir"]["sizeLimit"]);
    assert!(log < room, "{} MiB", log / MIB);
    assert!(room <= quantity(&container["resources"]["limits"]["ephemeral-storage"]));

    let persistent = &documents(&directory().join("components/persistent-volumes/kustomization.yaml"))[0];
    let patch = persistent["patches"][0]["patch"].as_str().unwrap();
    let operations: Vec<Value> = serde_norway::from_str(patch).unwrap();
    let claim = operations.iter().find(|operation| operation["path"] == "/spec/volumeClaimTemplates").unwrap();
    let backups = self::config(&added_arguments("components/persistent-volumes")).logger_max_backups;
    let log = config.logger_max_size * (backups as u64 + 2);
    assert!(log < quantity(&claim["value"][0]["spec"]["resources"]["requests"]["storage"]));

    // The delay, 25 s for what is in flight, a second for idle connections.
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(config.shutdown_delay >= Duration::from_secs(5));
    assert!(Duration::from_secs(grace) > config.shutdown_delay + Duration::from_secs(26));
}

#[test]
fn the_pod_is_as_restricted_as_can_be() {
    let deployment = deployment();
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    let security = &pod["securityContext"];
    for id in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert_eq!(security[id], 255_999);
    }
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    let container = container();
    let mut containers = vec![container.clone()];
    for shipper in ["vector", "fluent-bit", "falco"] {
        let patch = documents(&directory().join(format!("shippers/{shipper}/sidecar.yaml")));
        containers.extend(patch[0][0]["value"].as_array().unwrap().clone());
    }
    for container in containers {
        assert_eq!(
            container["securityContext"],
            json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            })
        );
        assert!(container["resources"]["limits"]["memory"].is_string());
    }
    let probe = |name: &str| container[name]["httpGet"].clone();
    assert_eq!(probe("livenessProbe"), json!({"path": "/healthz", "port": "metrics"}));
    assert_eq!(probe("readinessProbe"), json!({"path": "/readyz", "port": "metrics"}));
    let namespace = object("base/kube-audit-rest.yaml", "Namespace");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
}

/// What the sidecar passes to `read` it takes, and what comes of it fits the line reader at the other end.
#[test]
fn the_falco_sidecar_turns_the_receivers_log_into_events() {
    let patch = documents(&directory().join("shippers/falco/sidecar.yaml"));
    let containers = patch[0][0]["value"].as_array().unwrap();
    let events = containers.iter().find(|container| container["name"] == "events").unwrap();
    let log = strings(&container()["args"])
        .into_iter()
        .find_map(|it| it.strip_prefix("--logger-filename=").map(str::to_owned));
    let arguments = strings(&events["args"]);
    assert_eq!((arguments[0].as_str(), arguments.last()), ("read", log.as_ref()));
    assert_eq!(events["env"][0], container()["env"][0]);

    let place = TempDir::new().unwrap();
    let (log, output) = (place.path().join("audit.log"), place.path().join("events"));
    let received = std::time::SystemTime::now();
    let mut lines = Vec::new();
    for mut body in corpus::reviews() {
        kube_audit_rest::record::review::audit_line(
            &mut body,
            received,
            None,
            None,
            kube_audit_rest::record::Chained::No,
            &mut Vec::new(),
        )
        .unwrap();
        lines.extend(body);
    }
    fs::write(&log, lines).unwrap();
    fs::write(&output, "").unwrap();
    let status = Command::new(common::program())
        .args(arguments.iter().filter(|it| *it != "--follow" && !it.starts_with("--output=") && !it.ends_with(".log")))
        .arg(format!("--output={}", output.display()))
        .arg(&log)
        .status()
        .unwrap();
    assert!(status.success());
    let events = fs::read_to_string(&output).unwrap();
    let dry = corpus::reviews().iter().filter(|body| body.windows(13).any(|it| it == b"\"dryRun\":true")).count();
    assert_eq!(events.lines().count(), corpus::reviews().len() - dry);
    assert!(events.lines().all(|line| line.len() < 64 * 1024));
}

#[test]
fn arguments_that_components_add_are_taken() {
    let base = strings(&container()["args"]);
    let with = |component: &str| config(&[base.clone(), added_arguments(component)].concat());
    assert_eq!(with("components/audit-webhook").http_port, Some(8080));
    assert!(with("components/fail-closed").logger_sync);
    assert_eq!(with("components/persistent-volumes").logger_max_backups, 15);
    assert_eq!(with("components/host-network").server_port, 8443);
    assert_eq!(with("components/sources").sources_filename, Some("/etc/kube-audit-rest/sources".into()));
    let evidence = with("components/evidence");
    assert!(evidence.chain);
    assert_eq!(evidence.chain_key_filename, Some("/etc/kube-audit-rest-chain/chain.key".into()));
    assert_eq!(evidence.warnings(), Vec::<&str>::new());
}

#[test]
fn webhooks_ask_for_what_the_server_answers_and_cover_every_write() {
    for file in ["base/webhook.yaml", "demos/central-receiver.yaml"] {
        let configuration = object(file, "ValidatingWebhookConfiguration");
        let webhook = &configuration["webhooks"][0];
        assert_eq!(webhook["admissionReviewVersions"], json!(["v1"]));
        assert_eq!(webhook["sideEffects"], "None");
        assert_eq!(webhook["matchPolicy"], "Equivalent");
        assert_eq!(webhook["failurePolicy"], "Ignore");
        assert_eq!(webhook["timeoutSeconds"], 1);
        assert_eq!(webhook["rules"][0]["resources"], json!(["*/*"]), "exec is a subresource");
        assert_eq!(webhook["rules"][0]["operations"], json!(["*"]));
    }
    let base = object("base/webhook.yaml", "ValidatingWebhookConfiguration");
    let service = &base["webhooks"][0]["clientConfig"]["service"];
    assert_eq!(service["path"], "/log-request");
    let ports = object("base/kube-audit-rest.yaml", "Service");
    assert_eq!(service["port"], ports["spec"]["ports"][0]["port"]);
    assert_eq!(service["name"], ports["metadata"]["name"]);
    assert_eq!(service["namespace"], ports["metadata"]["namespace"]);

    let closed = object("components/fail-closed/webhook.yaml", "ValidatingWebhookConfiguration");
    let [refusing, recording] = closed["webhooks"].as_array().unwrap().as_slice() else {
        panic!("two webhooks");
    };
    assert_eq!(refusing["name"], base["webhooks"][0]["name"]);
    assert_eq!(recording["name"], base["webhooks"][1]["name"]);
    assert_eq!(refusing["failurePolicy"], "Fail");
    // The base says Ignore, and nothing here changes it.
    assert_eq!((recording.get("failurePolicy"), &base["webhooks"][1]["failurePolicy"]), (None, &json!("Ignore")));
    // No request is in both, and none in neither.
    let exempt = |webhook: &Value| webhook["matchConditions"][0]["expression"].as_str().unwrap().to_owned();
    assert_eq!(exempt(refusing), format!("!{}", exempt(recording)));
}

/// That it renders what kustomize does is checked with Helm, in .ci/k8s.
#[test]
fn the_chart_reads_nothing_from_the_cluster_and_has_the_very_files_of_the_manifests() {
    let chart = directory().join("chart");
    for entry in fs::read_dir(chart.join("templates")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for word in ["lookup", "randAlphaNum", "genCA", "genSelfSignedCert", "genSignedCert", "now |", "uuidv4"] {
            assert!(!text.contains(word), "{}: GitOps tools would render {word} differently", path.display());
        }
    }
    for (name, source) in [
        ("policy.yaml", "base/policy.yaml"),
        ("policy-everything.yaml", "policies/everything/policy.yaml"),
        ("policy-people-only.yaml", "policies/people-only/policy.yaml"),
        ("rules.yaml", "monitoring/rules.yaml"),
        ("dashboard.json", "monitoring/dashboard.json"),
    ] {
        assert_eq!(fs::read(chart.join("files").join(name)).unwrap(), fs::read(directory().join(source)).unwrap());
    }
    let description = &documents(&chart.join("Chart.yaml"))[0];
    assert_eq!(description["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(description["appVersion"], env!("CARGO_PKG_VERSION"));
}

/// A path that the manifests do not have is no apply's to take away: the token in it belongs to sources.sh.
#[test]
fn with_sources_no_webhook_has_a_path_in_whatever_order_the_components_come() {
    let base = object("base/webhook.yaml", "ValidatingWebhookConfiguration");
    let sources = &documents(&directory().join("components/sources/kustomization.yaml"))[0];
    let patches = sources["patches"].as_array().unwrap();
    let patch = patches.iter().find(|patch| patch["target"]["kind"] == "ValidatingWebhookConfiguration").unwrap();
    let operations: Value = serde_norway::from_str(patch["patch"].as_str().unwrap()).unwrap();
    let removed: Vec<_> = (0..base["webhooks"].as_array().unwrap().len())
        .map(|index| json!({"op": "remove", "path": format!("/webhooks/{index}/clientConfig/service/path")}))
        .collect();
    assert_eq!(operations, json!(removed));
    // No component adds a webhook or a path behind this one's back.
    let names: BTreeSet<_> = base["webhooks"].as_array().unwrap().iter().map(|it| it["name"].to_string()).collect();
    let closed = object("components/fail-closed/webhook.yaml", "ValidatingWebhookConfiguration");
    for webhook in closed["webhooks"].as_array().unwrap() {
        assert!(names.contains(&webhook["name"].to_string()), "{}", webhook["name"]);
        assert_eq!(webhook.get("clientConfig"), None);
    }
}

#[test]
fn no_mesh_puts_a_proxy_before_the_receiver_and_no_selector_has_more_than_the_one_label() {
    let deployment = deployment();
    let template = &deployment["spec"]["template"]["metadata"];
    assert_eq!(template["labels"]["sidecar.istio.io/inject"], "false");
    assert_eq!(template["annotations"]["linkerd.io/inject"], "disabled");
    assert_eq!(template["labels"]["app.kubernetes.io/name"], "kube-audit-rest");
    // A Deployment's selector cannot be changed, so an upgrade would be refused.
    assert_eq!(deployment["spec"]["selector"], json!({"matchLabels": {"app": "kube-audit-rest"}}));
    assert_eq!(object("base/kube-audit-rest.yaml", "Service")["spec"]["selector"], json!({"app": "kube-audit-rest"}));
}

/// The policies that are ready to be used.
const POLICIES: [&str; 3] = ["base/policy.yaml", "policies/everything/policy.yaml", "policies/people-only/policy.yaml"];

fn policy(file: &str) -> Policy {
    let text = fs::read(directory().join(file)).unwrap();
    policy_file::parse(&text).unwrap_or_else(|invalid| panic!("{file}: {invalid}"))
}

#[test]
fn the_policy_s_config_map_has_a_name_that_does_not_change_and_is_mounted_as_a_directory() {
    let volumes = deployment()["spec"]["template"]["spec"]["volumes"].clone();
    let volume = volumes.as_array().unwrap().iter().find(|volume| volume["name"] == "policy").unwrap();
    let config = config(&strings(&container()["args"]));
    let file = config.policy_filename.unwrap();
    assert_eq!(file.file_name().unwrap(), "policy.yaml");
    for (directory, behavior) in
        [("base", Value::Null), ("policies/everything", json!("replace")), ("policies/people-only", json!("replace"))]
    {
        let kustomization = &documents(&self::directory().join(directory).join("kustomization.yaml"))[0];
        let generator = &kustomization["configMapGenerator"][0];
        assert_eq!(generator["name"], volume["configMap"]["name"], "{directory}");
        assert_eq!(generator["namespace"], deployment()["metadata"]["namespace"], "{directory}");
        assert_eq!(generator["files"], json!(["policy.yaml"]), "{directory}");
        assert_eq!(generator["options"]["disableNameSuffixHash"], true, "{directory}");
        assert_eq!(generator["behavior"], behavior, "{directory}");
    }
}

#[test]
fn shipped_policies_are_valid_and_never_leave_out_a_user_or_group_alone() {
    for file in POLICIES {
        let policy = policy(file);
        let last = policy.rules.last().unwrap();
        // What no rule thought of is recorded completely.
        assert_eq!(last.level, Level::RequestResponse, "{file}");
        assert!(last.users.is_empty() && last.user_groups.is_empty() && last.resources.is_empty(), "{file}");
        // kube-apiserver 1.20 refuses the group "*", 1.36 takes it. These are to be taken by both.
        assert!(policy.rules.iter().flat_map(|rule| &rule.resources).all(|entry| entry.group != "*"), "{file}");
        for rule in policy.rules.iter().filter(|rule| rule.level == Level::None) {
            let of_kinds = !rule.verbs.is_empty()
                && !rule.resources.is_empty()
                && rule.resources.iter().all(|entry| !entry.resources.is_empty());
            assert!(of_kinds || !rule.non_resource_urls.is_empty(), "{file}: {rule:?}");
        }
    }
    assert!(POLICIES.iter().all(|file| {
        let head = fs::read_to_string(directory().join(file)).unwrap();
        !file.contains("people-only") || head.contains("stolen a service account's token")
    }));
}

/// Every string in the data of the Secrets that stand somewhere in this JSON.
fn secret_values(json: &Value, into: &mut BTreeSet<String>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| secret_values(item, into)),
        Value::Object(members) => {
            if json["kind"] == "Secret" && json["apiVersion"] == "v1" {
                for data in [&json["data"], &json["stringData"]] {
                    into.extend(
                        data.as_object()
                            .into_iter()
                            .flatten()
                            .filter_map(|(_, value)| value.as_str().map(str::to_owned)),
                    );
                }
            }
            members.values().for_each(|value| secret_values(value, into));
        }
        _ => {}
    }
}

#[test]
fn no_value_of_a_secret_of_the_corpus_reaches_the_log_under_the_base_s_policy() {
    let (reviews, lists) = (corpus::reviews(), corpus::event_lists());
    let mut values = BTreeSet::new();
    for body in reviews.iter().chain(&lists) {
        secret_values(&serde_json::from_slice(body).unwrap(), &mut values);
    }
    // Shorter ones could stand anywhere by chance.
    values.retain(|value| value.len() >= 6);
    assert!(values.len() >= 4, "{values:?}");

    let policy = directory().join("base/policy.yaml");
    let started = |with_policy: bool| {
        let setup = Setup::new();
        if with_policy { setup.flag("policy-filename", policy.to_str().unwrap()).start() } else { setup.start() }
    };
    let leaked = |server: &common::Server| {
        let mut client = server.connect();
        for body in &reviews {
            assert_eq!(client.exchange(&post("/log-request", body)).status, 200);
        }
        for list in &lists {
            assert_eq!(client.exchange(&post("/audit-events", list)).status, 200);
        }
        let log = fs::read(server.log_path()).unwrap();
        let log = String::from_utf8(log).unwrap();
        let leaked: Vec<_> = values.iter().filter(|value| log.contains(value.as_str())).cloned().collect();
        leaked
    };
    assert_eq!(leaked(&started(true)), Vec::<String>::new());
    // Without a policy each of them does: the test can fail.
    assert_eq!(leaked(&started(false)).len(), values.len());
}

#[test]
fn a_second_webhook_records_who_touches_the_policy_without_standing_in_the_way() {
    let base = object("base/webhook.yaml", "ValidatingWebhookConfiguration");
    let [first, own] = base["webhooks"].as_array().unwrap().as_slice() else { panic!("two webhooks") };
    assert_eq!((&own["failurePolicy"], &own["timeoutSeconds"]), (&json!("Ignore"), &json!(1)));
    assert_eq!(own["clientConfig"], first["clientConfig"]);
    assert_eq!(own["sideEffects"], "None");
    let namespaces = |webhook: &Value| webhook["namespaceSelector"]["matchExpressions"][0].clone();
    assert_eq!(namespaces(first)["operator"], "NotIn");
    assert_eq!(namespaces(own)["operator"], "In");
    for webhook in [first, own] {
        assert_eq!(namespaces(webhook)["values"], json!([deployment()["metadata"]["namespace"]]));
    }
    let rules: Vec<_> =
        own["rules"].as_array().unwrap().iter().map(|rule| (&rule["operations"], &rule["resources"])).collect();
    assert_eq!(
        rules,
        [
            (&json!(["CREATE", "UPDATE", "DELETE"]), &json!(["configmaps", "secrets"])),
            (&json!(["CONNECT"]), &json!(["pods/*"])),
        ]
    );
    assert!(own["rules"].as_array().unwrap().iter().all(|rule| rule["scope"] == "Namespaced"));
}

/// The API server alone reads these two, and no schema of them is published: the words of audit.k8s.io/v1 and of a
/// kubeconfig, from their Go types.
#[test]
fn the_example_policy_and_kubeconfig_use_words_that_the_api_server_knows() {
    let known = |object: &Value, words: &[&str]| {
        for name in object.as_object().unwrap().keys() {
            assert!(words.contains(&name.as_str()), "{name} in {object}");
        }
    };
    self::policy("components/audit-webhook/policy.yaml");
    let policy = object("components/audit-webhook/policy.yaml", "Policy");
    assert_eq!(policy["apiVersion"], "audit.k8s.io/v1");
    known(&policy, &["apiVersion", "kind", "omitStages", "omitManagedFields", "rules"]);
    assert_eq!(policy["omitStages"], json!(["RequestReceived"]));
    for rule in policy["rules"].as_array().unwrap() {
        known(rule, &["level", "users", "userGroups", "verbs", "resources", "namespaces", "nonResourceURLs"]);
        let level = rule["level"].as_str().unwrap();
        assert!(["None", "Metadata", "Request", "RequestResponse"].contains(&level), "{level}");
        // Validation refuses a rule that is about both.
        assert!(rule.get("resources").is_none() || rule.get("nonResourceURLs").is_none());
        for group in rule["resources"].as_array().into_iter().flatten() {
            known(group, &["group", "resources", "resourceNames"]);
        }
    }

    let kubeconfig = object("components/audit-webhook/kubeconfig.yaml", "Config");
    let cluster = &kubeconfig["clusters"][0];
    let server = cluster["cluster"]["server"].as_str().unwrap();
    assert!(server.starts_with("https://") && server.ends_with("/audit-events"));
    let context = &kubeconfig["contexts"][0];
    assert_eq!(context["context"]["cluster"], cluster["name"]);
    assert_eq!(context["context"]["user"], kubeconfig["users"][0]["name"]);
    assert_eq!(kubeconfig["current-context"], context["name"]);
}

/// The names of all our metrics.
fn metrics() -> BTreeSet<String> {
    let metrics = Metrics::new();
    metrics.source_requests.set_names(["edge-1"].into_iter());
    let page = metrics.render("1");
    let series = page.lines().filter(|line| !line.starts_with('#'));
    series.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

/// The metrics that an expression names: ours, and those of the process and the API server.
fn named_metrics(expression: &str) -> Vec<String> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
        .filter(|word| ["kube_", "process_", "apiserver_"].iter().any(|prefix| word.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_metric_that_a_rule_or_a_panel_names_exists() {
    let ours = metrics();
    let standard: BTreeSet<&str> = [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
        // Of the API server and of kube-state-metrics.
        "apiserver_admission_webhook_fail_open_count",
        "apiserver_admission_webhook_rejection_count",
        "kube_pod_status_ready",
    ]
    .into();
    let rules = object("monitoring/rules.yaml", "PrometheusRule");
    let mut expressions = Vec::new();
    let rules = rules["spec"]["groups"][0]["rules"].as_array().unwrap();
    expressions.extend(rules.iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()));
    let text = fs::read_to_string(directory().join("monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap();
        expressions.extend(targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned()));
    }
    all_strings(&dashboard["templating"], &mut expressions);
    let mut used = BTreeSet::new();
    for expression in &expressions {
        for name in named_metrics(expression) {
            assert!(ours.contains(&name) || standard.contains(name.as_str()), "{name} does not exist: {expression}");
            used.insert(name);
        }
    }
    // Of the alerts that matter most, none is missing.
    for name in [
        "apiserver_admission_webhook_fail_open_count",
        "kube_audit_rest_append_errors_total",
        "kube_pod_status_ready",
        "kube_audit_rest_certificate_expiry_timestamp_seconds",
        "kube_audit_rest_tls_handshake_failures_total",
        "kube_audit_rest_connections_evicted_total",
        "kube_audit_rest_audit_lines_total",
        "kube_audit_rest_policy_reloads_total",
        "kube_audit_rest_policy_hash",
        "kube_audit_rest_policy_decisions_total",
    ] {
        let alerts: Vec<String> = rules.iter().flat_map(|rule| named_metrics(rule["expr"].as_str().unwrap())).collect();
        assert!(alerts.iter().any(|alert| alert == name), "no alert on {name}");
    }
}

#[test]
fn the_dashboard_shows_in_colours_what_must_not_be_and_no_two_units_on_one_axis() {
    let text = fs::read_to_string(directory().join("monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let panel =
        |title: &str| panels.iter().find(|panel| panel["title"] == title).unwrap_or_else(|| panic!("no panel {title}"));
    for title in ["Replicas ready", "Certificate ends in", "Appends that failed", "Passed unrecorded", "Append errors"]
    {
        let steps = panel(title)["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array().unwrap();
        assert!(steps.len() > 1 && steps.iter().any(|step| step["color"] == "red"), "{title}");
    }
    for title in ["CPU and descriptors", "fdatasync"] {
        let second = &panel(title)["fieldConfig"]["overrides"][0];
        assert_eq!(second["matcher"], json!({"id": "byFrameRefID", "options": "B"}), "{title}");
        let right = json!({"id": "custom.axisPlacement", "value": "right"});
        assert!(second["properties"].as_array().unwrap().contains(&right), "{title}");
    }
    let variables: Vec<_> = dashboard["templating"]["list"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(variables, ["datasource", "namespace", "pod", "source"]);
}

#[test]
fn handshake_failures_that_alert_are_reasons_that_exist() {
    let page = Metrics::new().render("1");
    let rules = object("monitoring/rules.yaml", "PrometheusRule");
    let rules = rules["spec"]["groups"][0]["rules"].as_array().unwrap();
    let rule = rules.iter().find(|rule| rule["alert"] == "KubeAuditRestHandshakeFailures").unwrap();
    let expression = rule["expr"].as_str().unwrap();
    let reasons = expression.split("reason=~\"").nth(1).unwrap();
    for reason in reasons.split('"').next().unwrap().split('|') {
        let series = format!("tls_handshake_failures_total{{reason=\"{}", reason.trim_end_matches(".*"));
        assert!(page.contains(&series), "{reason}");
    }
}

/// OpenSearch's name for what Elasticsearch calls flattened, without its parameters.
#[test]
fn opensearch_s_template_is_elasticsearch_s_but_for_one_type_and_no_user_s_extra_becomes_fields() {
    fn translated(value: &mut Value) {
        if value["type"] == "flattened" {
            *value = json!({"type": "flat_object"});
        } else if let Some(members) = value.as_object_mut() {
            members.values_mut().for_each(translated);
        }
    }
    let read = |name: &str| -> Value {
        let path = directory().join("shippers/elasticsearch").join(name);
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let mut elasticsearch = read("index-template.json");
    let properties = &elasticsearch["template"]["mappings"]["properties"];
    for user in [&properties["request"]["properties"]["userInfo"], &properties["user"], &properties["impersonatedUser"]]
    {
        assert_eq!(user["properties"]["extra"]["type"], "flattened");
    }
    translated(&mut elasticsearch);
    assert_eq!(elasticsearch, read("index-template.opensearch.json"));
}

/// The fields of an index template that searches find whole, by their dotted names.
fn mapped_fields(properties: &Value, prefix: &str, into: &mut BTreeSet<String>) {
    for (name, field) in properties.as_object().unwrap() {
        let name = format!("{prefix}{name}");
        if ["keyword", "boolean", "date_nanos"].iter().any(|it| field["type"] == *it) {
            into.insert(name);
        } else if field.get("properties").is_some() {
            mapped_fields(&field["properties"], &format!("{name}."), into);
        }
    }
}

/// Every field that stands in an object of Kibana's: of a query, a column, an aggregation.
fn browsed_fields(object: &Value, into: &mut BTreeSet<String>) {
    match object {
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("columns", Value::Array(columns)) => {
                        into.extend(columns.iter().map(|it| it.as_str().unwrap().to_owned()))
                    }
                    ("sort", Value::Array(order)) => {
                        into.extend(order.iter().map(|it| it[0].as_str().unwrap().to_owned()))
                    }
                    ("field" | "timeFieldName", Value::String(field)) => drop(into.insert(field.clone())),
                    ("query", Value::String(query)) => {
                        let terms = query.split(" and ").filter(|term| !term.is_empty());
                        into.extend(terms.map(|term| term.split_once(':').unwrap().0.to_owned()));
                    }
                    // JSON within JSON.
                    (_, Value::String(text)) if name.ends_with("JSON") || name == "visState" => {
                        browsed_fields(&serde_json::from_str(text).unwrap(), into);
                    }
                    _ => browsed_fields(value, into),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|item| browsed_fields(item, into)),
        _ => {}
    }
}

#[test]
fn what_kibana_is_given_to_browse_is_mapped_and_written_and_complete() {
    let place = directory().join("shippers/elasticsearch");
    let text = fs::read_to_string(place.join("saved-objects.ndjson")).unwrap();
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let name =
        |object: &Value| (object["type"].as_str().unwrap().to_owned(), object["id"].as_str().unwrap().to_owned());
    let names: BTreeSet<_> = objects.iter().map(name).collect();
    assert_eq!(names.len(), objects.len());
    for kind in ["index-pattern", "search", "dashboard"] {
        assert!(names.iter().any(|(of, _)| of == kind), "no {kind}");
    }
    let mut referred = BTreeSet::new();
    let mut fields = BTreeSet::new();
    for object in &objects {
        for reference in object["references"].as_array().unwrap() {
            assert!(names.contains(&name(reference)), "{reference}");
            referred.insert(name(reference));
        }
        browsed_fields(&object["attributes"], &mut fields);
    }
    // The dashboard shows all of it, each panel by a reference of its own.
    let dashboard = objects.iter().find(|object| object["type"] == "dashboard").unwrap();
    assert_eq!(names.difference(&referred).cloned().collect::<Vec<_>>(), [name(dashboard)]);
    let panels: Value = serde_json::from_str(dashboard["attributes"]["panelsJSON"].as_str().unwrap()).unwrap();
    let shown: Vec<_> = panels.as_array().unwrap().iter().map(|panel| &panel["panelRefName"]).collect();
    let references: Vec<_> = dashboard["references"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(shown, references);
    let readme = fs::read_to_string(place.join("README.md")).unwrap();
    assert!(readme.contains(&format!("#/view/{}", dashboard["id"].as_str().unwrap())));
    assert!(readme.contains(&format!("\"successCount\":{}", objects.len())));

    // Both templates are the same in this (see the test above), and take in the stream that the shippers write to.
    let template: Value = serde_json::from_slice(&fs::read(place.join("index-template.json")).unwrap()).unwrap();
    let mut mapped = BTreeSet::new();
    mapped_fields(&template["template"]["mappings"]["properties"], "", &mut mapped);
    assert!(fields.len() >= 8, "{fields:?}");
    assert_eq!(fields.difference(&mapped).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(template["index_patterns"], json!(["logs-kube_audit_rest-*"]));
    let pattern = objects.iter().find(|object| object["type"] == "index-pattern").unwrap();
    assert_eq!(pattern["attributes"]["title"], template["index_patterns"][0]);
    let stream =
        &documents(&directory().join("shippers/vector/vector.yaml"))[0]["sinks"]["elasticsearch"]["data_stream"];
    assert_eq!((&stream["type"], &stream["dataset"]), (&json!("logs"), &json!("kube_audit_rest")));
    let fluent_bit = &documents(&directory().join("shippers/fluent-bit/fluent-bit.yaml"))[0];
    assert_eq!(fluent_bit["pipeline"]["outputs"][0]["index"], "logs-kube_audit_rest-default");

    // And an API server sends them. The time is what both redactions make of ours.
    let reviews: Vec<Value> = corpus::reviews().iter().map(|body| serde_json::from_slice(body).unwrap()).collect();
    for field in fields.iter().filter(|field| *field != "@timestamp") {
        let pointer = format!("/{}", field.replace('.', "/"));
        assert!(reviews.iter().any(|review| review.pointer(&pointer).is_some_and(Value::is_string)), "{field}");
    }
}

#[test]
fn shippers_take_lines_longer_than_the_largest_request() {
    let largest = config(&strings(&container()["args"])).max_request_size as u64;
    let vector = &documents(&directory().join("shippers/vector/vector.yaml"))[0];
    let limit = vector["sources"]["audit"]["max_line_bytes"].as_u64().unwrap();
    assert!(limit > largest);
    let fluent_bit = &documents(&directory().join("shippers/fluent-bit/fluent-bit.yaml"))[0];
    let tail = &fluent_bit["pipeline"]["inputs"][0];
    assert_eq!(tail["buffer_max_size"], "64M");
    // A shorter one has rolled files read twice, since the path fits them too.
    assert!(tail["rotate_wait"].as_u64().unwrap() >= 10 * 365 * 86_400);
    assert_eq!(tail.get("exclude_path"), None);
    for path in [&vector["sources"]["audit"]["include"][0], &tail["path"]] {
        assert_eq!(path, "/var/log/kube-audit-rest/*.log");
    }
    let directory = directory();
    let rsyslog = fs::read_to_string(directory.join("shippers/rsyslog/rsyslog.conf")).unwrap();
    assert!(rsyslog.contains("maxMessageSize=\"64m\""));
    let syslog_ng = fs::read_to_string(directory.join("shippers/syslog-ng/syslog-ng.conf")).unwrap();
    assert!(syslog_ng.contains("log-msg-size(67108864);"));
}

/// They are put into vector.yaml as they are, so what they read from is there, and a line counts as read only when it has
/// arrived.
#[test]
fn vector_s_other_sinks_stand_in_for_the_one_of_the_sidecar() {
    let sidecar = &documents(&directory().join("shippers/vector/vector.yaml"))[0];
    for (file, kind) in [("vector-s3", "aws_s3"), ("vector-loki", "loki"), ("vector-kafka", "kafka")] {
        let snippet = &documents(&directory().join(format!("shippers/snippets/{file}.yaml")))[0];
        assert_eq!(snippet.as_object().unwrap().len(), 1, "{file}");
        let sinks = snippet["sinks"].as_object().unwrap();
        assert_eq!(sinks.len(), 1, "{file}");
        let sink = sinks.values().next().unwrap();
        assert_eq!(sink["type"], kind);
        assert_eq!(sink["inputs"], sidecar["sinks"]["elasticsearch"]["inputs"], "{file}");
        assert_eq!(sink["encoding"], json!({"codec": "json"}), "{file}");
        assert_eq!(sink["acknowledgements"], json!({"enabled": true}), "{file}");
        // What cannot be sent waits in the log: a buffer on the disk would fill the log's own volume.
        assert_eq!(sink["buffer"], sidecar["sinks"]["elasticsearch"]["buffer"], "{file}");
    }
}

/// A directory with a `kubectl` in it that answers from files and records what it is asked to change.
struct Cluster {
    directory: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let cluster = Self { directory: tempfile::tempdir().unwrap() };
        let stub = "#!/bin/sh\n\
            set -eu\n\
            cd \"$(dirname \"$0\")\"\n\
            echo \"$*\" >>calls\n\
            case \"$*\" in\n\
            *'get namespace'*) echo namespace/kube-audit-rest ;;\n\
            *'get secret'*) if [ -f secret ]; then cat secret; fi ;;\n\
            *'range .webhooks'*) printf 'first\\nsecond\\n' ;;\n\
            *caBundle}*) if [ -f bundle ]; then cat bundle; fi ;;\n\
            patch*) for last; do :; done; echo \"$last\" >patch ;;\n\
            *apply*) cat >applied ;;\n\
            *) exit 1 ;;\n\
            esac\n";
        let path = cluster.path("kubectl");
        fs::write(&path, stub).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn try_run(&self, script: &str, arguments: &[&str]) -> Output {
        let search = std::env::var("PATH").unwrap();
        Command::new(directory().join(script))
            .args(arguments)
            .env("PATH", format!("{}:{search}", self.directory.path().display()))
            .env_remove("KUBECTL")
            .output()
            .unwrap()
    }

    fn run(&self, script: &str, arguments: &[&str]) -> String {
        let output = self.try_run(script, arguments);
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn patch(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path("patch")).unwrap()).unwrap()
    }

    fn applied(&self) -> Value {
        documents(&self.path("applied")).remove(0)
    }
}

/// Base64 undone, by the tool that the scripts use.
fn decoded(cluster: &Cluster, text: &Value) -> String {
    let path = cluster.path("base64");
    fs::write(&path, text.as_str().unwrap()).unwrap();
    openssl(&["base64", "-d", "-A", "-in", path.to_str().unwrap()])
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().expect("openssl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {text} {errors}");
    text
}

const CERTIFICATE: &str = "overlays/openssl/certificate.sh";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

#[test]
fn the_openssl_script_s_certificate_serves_the_name_that_the_api_server_calls() {
    let cluster = Cluster::new();
    cluster.run(CERTIFICATE, &["--san", "IP:10.96.0.42", "--days", "90"]);

    let secret = cluster.applied();
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(secret["metadata"]["namespace"], "kube-audit-rest");
    let volumes = deployment()["spec"]["template"]["spec"]["volumes"].clone();
    assert_eq!(secret["metadata"]["name"], volumes[0]["secret"]["secretName"]);
    let calls = fs::read_to_string(cluster.path("calls")).unwrap();
    let patched = calls.find("patch validatingwebhookconfiguration").unwrap();
    assert!(patched < calls.find("apply --server-side").unwrap(), "the CA is told first");

    // Every webhook trusts the same CA.
    let patch = cluster.patch();
    assert_eq!(patch[0], json!({"op": "test", "path": "/webhooks/0/name", "value": "first"}));
    assert_eq!(patch[3]["path"], "/webhooks/1/clientConfig/caBundle");
    assert_eq!(patch[1]["value"], patch[3]["value"]);
    let bundle = decoded(&cluster, &patch[1]["value"]);
    assert_eq!(bundle, decoded(&cluster, &secret["data"]["ca.crt"]));

    // What the scripts made, as openssl sees it.
    let write = |name: &str, text: &str| {
        let path = cluster.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ca = write("ca.crt", &bundle);
    let certificate = write("tls.crt", &decoded(&cluster, &secret["data"]["tls.crt"]));
    let key = write("tls.key", &decoded(&cluster, &secret["data"]["tls.key"]));
    openssl(&["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", &ca, &certificate]);
    let text = openssl(&["x509", "-in", &certificate, "-noout", "-text"]);
    for expected in [
        "NIST CURVE: P-256",
        "DNS:kube-audit-rest.kube-audit-rest.svc, ",
        "DNS:kube-audit-rest.kube-audit-rest.svc.cluster.local, IP Address:10.96.0.42",
        "CA:FALSE",
        "TLS Web Server Authentication",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }

    // The server takes it, and a client that trusts the bundle, as the API server does, reaches it by the Service's name.
    let server = Setup::new().flag("cert-filename", &certificate).flag("cert-key-filename", &key).start();
    let mut roots = RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut bundle.as_bytes()) {
        let certificate: CertificateDer = certificate.unwrap();
        roots.add(certificate).unwrap();
    }
    let trust = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let body = &corpus::reviews()[0];
    let answer = Client::tls(server.https(), &Arc::new(trust)).exchange(&post("/log-request", body));
    assert_eq!(answer.status, 200);
    eventually("one line", || (server.lines().len() == 1).then_some(()));
}

#[test]
fn renewing_keeps_the_ca_before_in_the_bundle_and_only_that() {
    let cluster = Cluster::new();
    let mut seen = Vec::new();
    for _ in 0..3 {
        cluster.run(CERTIFICATE, &[]);
        let bundle = cluster.patch()[1]["value"].clone();
        fs::write(cluster.path("bundle"), bundle.as_str().unwrap()).unwrap();
        seen.push(decoded(&cluster, &bundle));
    }
    let certificates = |bundle: &str| -> Vec<String> {
        let parts = bundle.split(BEGIN).skip(1);
        parts.map(|part| part.trim().to_owned()).collect()
    };
    let [first, second, third] = [0, 1, 2].map(|index| certificates(&seen[index]));
    assert_eq!((first.len(), second.len(), third.len()), (1, 2, 2));
    assert_eq!(second[1], first[0]);
    assert_eq!(third[1], second[0]);
}

#[test]
fn the_openssl_script_refuses_what_it_does_not_understand_and_changes_nothing() {
    for arguments in [&["--days", "soon"][..], &["--days"], &["--san", "example.com"], &["--frobnicate"], &["now"]] {
        let cluster = Cluster::new();
        let output = cluster.try_run(CERTIFICATE, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!cluster.path("calls").exists(), "{arguments:?}");
    }
    // Without rights, or before the manifests.
    let cluster = Cluster::new();
    fs::write(cluster.path("kubectl"), "#!/bin/sh\nexit 1\n").unwrap();
    let output = cluster.try_run(CERTIFICATE, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("apply the manifests first"));
}

#[test]
fn scripts_tell_a_missing_program_from_a_missing_object_and_pass_on_the_reason() {
    let said = |script: &str, arguments: &[&str], path: &Path| {
        let output = Command::new("/bin/sh")
            .arg(directory().join(script))
            .args(arguments)
            .env("PATH", path)
            .env_remove("KUBECTL")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{script}");
        String::from_utf8(output.stderr).unwrap()
    };
    let (sources, chain_key) = ("components/sources/sources.sh", "components/evidence/chain-key.sh");
    let cluster = Cluster::new();
    let place = cluster.directory.path();
    let public = cluster.path("chain.pub");
    let chain_key = |path| said(chain_key, &[public.to_str().unwrap()], path);
    // A PATH with what the scripts need but for these two.
    for program in ["mktemp", "rm", "cat", "date", "grep", "sed", "sort", "uniq", "cp", "mkdir", "mv", "dirname"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
        let real = String::from_utf8(found.stdout).unwrap();
        std::os::unix::fs::symlink(real.trim(), place.join(program)).unwrap();
    }
    fs::rename(place.join("kubectl"), place.join("elsewhere")).unwrap();
    assert!(said(CERTIFICATE, &[], place).contains("no kubectl in PATH"));
    assert!(said(sources, &["list"], place).contains("no kubectl in PATH"));
    assert!(chain_key(place).contains("no kubectl in PATH"));
    fs::rename(place.join("elsewhere"), place.join("kubectl")).unwrap();
    assert!(said(CERTIFICATE, &[], place).contains("no openssl in PATH"));
    assert!(said(sources, &["list"], place).contains("no openssl in PATH"));
    assert!(chain_key(place).contains("no openssl in PATH"));

    let program = |name: &str, text: &str| {
        fs::write(place.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("openssl", "echo 'no entropy today' >&2; exit 1");
    let words = said(CERTIFICATE, &[], place);
    assert!(words.contains("no entropy today") && words.contains("nothing was changed"), "{words}");
    let words = chain_key(place);
    assert!(words.contains("no entropy today") && words.contains("nothing was changed"), "{words}");
    assert!(!public.exists());
    assert!(!cluster.path("patch").exists() && !cluster.path("applied").exists());
    program("kubectl", "echo 'namespaces \"kube-audit-rest\" is forbidden' >&2; exit 1");
    let words = said(CERTIFICATE, &[], place);
    assert!(words.contains("is forbidden") && words.contains("get namespace kube-audit-rest failed"), "{words}");
    let words = said(sources, &["add", "production"], place);
    assert!(words.contains("is forbidden") && words.contains("cannot read the Secret"), "{words}");
    // A key that is nowhere leaves no public key behind.
    program("openssl", "for file; do :; done; echo made >\"$file\"");
    let words = chain_key(place);
    assert!(words.contains("is forbidden") && words.contains("cannot store the Secret"), "{words}");
    assert!(!public.exists());
}

#[test]
fn tokens_of_the_sources_script_are_taken_by_the_server_and_put_into_the_path() {
    let script = "components/sources/sources.sh";
    let cluster = Cluster::new();
    let keep = || {
        let sources = cluster.applied()["data"]["sources"].clone();
        fs::write(cluster.path("secret"), sources.as_str().unwrap()).unwrap();
        decoded(&cluster, &sources)
    };
    let first = cluster.run(script, &["add", "production"]).trim().to_owned();
    keep();
    let other = cluster.run(script, &["add", "staging-2.eu"]).trim().to_owned();
    keep();
    let second = cluster.run(script, &["add", "production"]).trim().to_owned();
    let text = keep();
    let sources = Sources::parse(text.as_bytes()).unwrap();
    for (token, name) in [(&first, "production"), (&other, "staging-2.eu"), (&second, "production")] {
        assert_eq!(sources.name_of(token.as_bytes()), Some(name));
    }

    cluster.run(script, &["use", "production"]);
    let patch = cluster.patch();
    for index in [1, 3] {
        assert_eq!(patch[index]["value"], format!("/log-request/{second}"));
    }
    assert_eq!(patch[3]["path"], "/webhooks/1/clientConfig/service/path");

    cluster.run(script, &["prune", "production"]);
    let sources = Sources::parse(keep().as_bytes()).unwrap();
    assert_eq!(sources.name_of(first.as_bytes()), None);
    assert_eq!(sources.name_of(second.as_bytes()), Some("production"));
    assert_eq!(sources.name_of(other.as_bytes()), Some("staging-2.eu"));

    cluster.run(script, &["remove", "production"]);
    let sources = Sources::parse(keep().as_bytes()).unwrap();
    assert_eq!(sources.names().collect::<Vec<_>>(), ["staging-2.eu"]);
    // A file without sources would be refused, and the old one stay in use.
    fs::remove_file(cluster.path("applied")).unwrap();
    assert_eq!(cluster.try_run(script, &["remove", "staging-2.eu"]).status.code(), Some(1));
    assert!(!cluster.path("applied").exists());

    // A name that the server does not take would have it refuse the whole file.
    let too_long = "x".repeat(64);
    for name in ["", "two words", "Upper", "-x", "x-", "a\"b", "a..b", "a-.b", "a.-b", &too_long] {
        assert!(Sources::parse(format!("{name} {second}\n").as_bytes()).is_err(), "{name}");
        assert_eq!(cluster.try_run(script, &["add", name]).status.code(), Some(2), "{name}");
    }
    assert_eq!(cluster.try_run(script, &["use", "nobody"]).status.code(), Some(1));
}

#[test]
fn the_key_of_the_chain_key_script_signs_what_its_public_key_proves() {
    let script = "components/evidence/chain-key.sh";
    let cluster = Cluster::new();
    let public = cluster.path("chain.pub");
    cluster.run(script, &[public.to_str().unwrap()]);
    let secret = cluster.applied();
    assert_eq!(secret["metadata"]["name"], "kube-audit-rest-chain");
    let key = decoded(&cluster, &secret["data"]["chain.key"]);
    // An older public key may be all that proves older lines.
    assert_eq!(cluster.try_run(script, &[public.to_str().unwrap()]).status.code(), Some(1));

    let setup = common::Setup::new().switch("chain");
    let path = setup.file("chain.key", &key);
    let mut server = setup.flag("chain-key-filename", &path).start();
    assert_eq!(server.connect().exchange(&common::post("/log-request", &corpus::review("u"))).status, 200);
    server.kill();
    let flag = format!("--key={}", public.display());
    let output = Command::new(common::program()).args(["verify", &flag]).arg(server.log_path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn whoever_reads_the_pod_s_log_reads_the_password_with_audit_to_std_log() {
    let output = Command::new(directory().join("demos/stdout-is-dangerous.sh"))
        .arg("--local")
        .arg(common::program())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text} {errors}");
    assert!(text.contains("DB_PASSWORD=correct-horse-battery-staple"), "{text}");
}

#[test]
fn the_demo_in_a_cluster_takes_the_policy_away_that_would_hide_the_password_and_brings_it_back() {
    let place = tempfile::tempdir().unwrap();
    // Its receiver prints the line only if its arguments say so, and name no policy.
    let stub = "#!/bin/sh\n\
        set -eu\n\
        cd \"$(dirname \"$0\")\"\n\
        case \"$*\" in\n\
        *'get deployment'*) cat arguments ;;\n\
        *patch*) for last; do :; done; echo \"$last\" >>patches; echo \"$last\" >patch ;;\n\
        *logs*) if grep -q audit-to-std-log patch && ! grep -q policy patch; then cat line; fi ;;\n\
        esac\n";
    let kubectl = place.path().join("kubectl");
    fs::write(&kubectl, stub).unwrap();
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = container()["args"].clone();
    fs::write(place.path().join("arguments"), arguments.to_string()).unwrap();
    let line =
        r#"{"request":{"object":{"kind":"Secret","data":{"DB_PASSWORD":"Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ=="}}}}"#;
    fs::write(place.path().join("line"), line).unwrap();
    let output =
        Command::new(directory().join("demos/stdout-is-dangerous.sh")).env("KUBECTL", &kubectl).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("DB_PASSWORD=correct-horse-battery-staple"), "{text}");
    let patches = fs::read_to_string(place.path().join("patches")).unwrap();
    let set: Vec<Value> = patches.lines().map(|patch| serde_json::from_str::<Value>(patch).unwrap()).collect();
    let mut without = strings(&arguments);
    without.retain(|argument| !argument.starts_with("--policy-filename"));
    without.push("--audit-to-std-log".to_owned());
    assert_eq!(set.len(), 2, "{patches}");
    assert_eq!(set[0][0]["value"], json!(without));
    assert_eq!(set[1][0]["value"], arguments);
}
