use super::*;

fn policy() -> AddressPolicy {
    AddressPolicy {
        allow_loopback: true,
        ..AddressPolicy::default()
    }
}

const GOOD: &str = "\
apiVersion: inferencemonitor.io/v1alpha1
kind: InferenceMonitor
metadata:
  name: llama
  labels: {app: llama}
spec:
  engine: LlamaCpp
  endpoints:
  - name: server
    url: http://127.0.0.1:8080
  thresholds:
    queueDepth: {perEndpoint: 3}
";

#[test]
fn a_file_holds_one_or_more_monitors() {
    let second = GOOD.replace("name: llama\n", "name: other\n  namespace: prod\n");
    let text = format!("---\n{GOOD}---\n{second}---\n# nothing more\n");
    let monitors = parse("m.yaml", &text, &policy()).unwrap().monitors;
    let names: Vec<_> = monitors.iter().map(MonitorName::of).collect();
    assert_eq!(names, [MonitorName("default", "llama"), MonitorName("prod", "other")]);
    let spec = &monitors[0].spec;
    assert_eq!(
        (
            spec.thresholds.queue_depth.per_endpoint,
            spec.thresholds.queue_depth.for_seconds
        ),
        (3, 10)
    );
    assert_eq!(
        (spec.stale_after_seconds, monitors[0].metadata.generation),
        (10, Some(1))
    );
}

#[derive(Debug, PartialEq)]
struct MonitorName<'a>(&'a str, &'a str);

impl<'a> MonitorName<'a> {
    fn of(monitor: &'a InferenceMonitor) -> Self {
        let text = |value: &'a Option<String>| value.as_deref().unwrap_or_default();
        Self(text(&monitor.metadata.namespace), text(&monitor.metadata.name))
    }
}

#[test]
fn what_kubectl_get_prints_is_read() {
    let text = GOOD.replace(
        "  labels:",
        "  uid: 1-2\n  resourceVersion: \"7\"\n  generation: 4\n  labels:",
    ) + "status:\n  load: Healthy\n";
    let monitors = parse("m.yaml", &text, &policy()).unwrap().monitors;
    assert!(monitors[0].status.is_none() && monitors[0].metadata.uid.is_none());
}

#[test]
fn faults_are_told_with_file_line_and_what_to_change() {
    let url = "    url: http://127.0.0.1:8080\n";
    for (from, to, error) in [
        (
            "perEndpoint: 3",
            "perEndpoints: 3",
            "m.yaml:12: spec.thresholds.queueDepth.perEndpoints is not a field: did you mean perEndpoint?",
        ),
        (
            "perEndpoint: 3",
            "perEndpoint: 0",
            "m.yaml:12: spec.thresholds.queueDepth.perEndpoint is 0: give 1 to 100000",
        ),
        (
            "perEndpoint: 3",
            "perEndpoint: \"3\"",
            "m.yaml:12: spec.thresholds.queueDepth.perEndpoint is the text \"3\": give a whole number, without quotes",
        ),
        (
            "perEndpoint: 3",
            "perEndpoint: 1.5",
            "m.yaml:12: spec.thresholds.queueDepth.perEndpoint is 1.5: give a whole number, without quotes",
        ),
        (
            "LlamaCpp",
            "llama.cpp",
            "m.yaml:7: spec.engine is \"llama.cpp\": did you mean LlamaCpp?",
        ),
        (
            "LlamaCpp",
            "Turbine",
            "m.yaml:7: spec.engine is \"Turbine\": use one of Auto, VLLM, LlamaCpp, SGLang, Triton, TensorRTLLM, TGI, LMDeploy, NIM, Ollama, Custom",
        ),
        (
            "LlamaCpp",
            "Custom",
            "m.yaml:7: spec.engine is Custom: say in spec.custom which series feed which field",
        ),
        (
            "engine: LlamaCpp",
            "custom: {fields: [{field: Waiting, series: a}]}",
            "m.yaml:7: spec.custom is for spec.engine Custom: set that, or leave spec.custom out",
        ),
        (
            "engine: LlamaCpp",
            "engine: Custom\n  custom: {fields: [{field: Waiting, series: a, unit: Percent}]}",
            "m.yaml:8: spec.custom: unit Percent does not fit Waiting: a count has no unit: leave it out",
        ),
        (
            "name: server",
            "name: My Server",
            "m.yaml:9: spec.endpoints[0].name is \"My Server\": it must match ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        ),
        (
            url,
            "",
            "m.yaml:9: endpoint server has no address: give it one, for example url: http://127.0.0.1:8000",
        ),
        (
            url,
            "    pods: {selector: {matchLabels: {app: a}}, port: http}\n",
            "m.yaml:9: endpoint server selects pods, which needs a cluster (there: kubectl apply -f): without one give the address of the server, for example url: http://127.0.0.1:8000",
        ),
        (
            url,
            "    service: {name: a, port: 80}\n    url: http://127.0.0.1:1\n",
            "m.yaml:9: endpoint server has service and url: give exactly one of pods, service and url (url, without a cluster)",
        ),
        (
            url,
            "    url: http://gpu-box:8000\n",
            "m.yaml:10: url http://gpu-box:8000 leads to another machine: allow it with --allow-host gpu-box",
        ),
        (
            "8080\n",
            "8080/metrics\n",
            "m.yaml:10: url http://127.0.0.1:8080/metrics must be http:// or https:// with a host and, if need be, a port, and nothing else, for example http://127.0.0.1:8000: put the path into spec.metricsPath; credentials belong into credentialsSecretRef",
        ),
        (
            url,
            "    url: http://127.0.0.1:1\n  - name: server\n    url: http://127.0.0.1:2\n",
            "m.yaml:11: a second endpoint server: names of endpoints must differ",
        ),
        (
            "  thresholds:\n",
            "  samplePeriodMilliseconds: 2000\n  staleAfterSeconds: 3\n  thresholds:\n",
            "m.yaml:12: spec.staleAfterSeconds must be at least twice samplePeriodMilliseconds, or every sample would be stale before the next one comes: raise staleAfterSeconds or lower samplePeriodMilliseconds",
        ),
        (
            "  name: llama\n",
            "",
            "m.yaml:1: metadata.name is missing: give the monitor a name",
        ),
        (
            "  name: llama\n",
            "  name: Llama\n",
            "m.yaml:4: metadata.name must be lower-case letters, digits, '-' and '.', 253 at most",
        ),
        (
            "  labels:",
            "  label:",
            "m.yaml:5: metadata.label is not a field: use name, namespace, labels, annotations",
        ),
        (
            "kind: InferenceMonitor",
            "kind: Service",
            "m.yaml:1: this is inferencemonitor.io/v1alpha1 Service: give apiVersion: inferencemonitor.io/v1alpha1 and kind: InferenceMonitor, or v1 and Secret",
        ),
        (
            "spec:",
            "specs:",
            "m.yaml:6: specs is not a field: the settings of a monitor stand under spec\nm.yaml:1: spec is missing: give spec.endpoints",
        ),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let told = parse("m.yaml", &GOOD.replace(from, to), &policy())
            .unwrap_err()
            .to_string();
        assert_eq!(told, error, "{to}");
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let text = GOOD
        .replace("LlamaCpp", "Turbine")
        .replace("perEndpoint: 3", "perEndpoint: -1");
    assert_eq!(parse("m.yaml", &text, &policy()).unwrap_err().lines.len(), 2);
}

#[test]
fn what_is_no_monitor_is_refused() {
    for (text, error) in [
        ("", "m.yaml: there is no InferenceMonitor in it"),
        (
            "- a\n",
            "m.yaml:1: this is no InferenceMonitor: it must begin with apiVersion, kind, metadata and spec",
        ),
        (
            "a: b\n",
            "m.yaml:1: this is no apiVersion, no kind: give apiVersion: inferencemonitor.io/v1alpha1 and kind: InferenceMonitor, or v1 and Secret",
        ),
    ] {
        assert_eq!(
            parse("m.yaml", text, &policy()).unwrap_err().to_string(),
            error,
            "{text}"
        );
    }
    for text in ["a: [\n", "a:\n\t- b\n", "a: b: c\n"] {
        let told = parse("m.yaml", text, &policy()).unwrap_err().to_string();
        assert!(
            told.starts_with("m.yaml:") && told.contains("this is not YAML: "),
            "{told}"
        );
    }
    let twice = format!("{GOOD}---\n{GOOD}");
    assert_eq!(
        parse("m.yaml", &twice, &policy()).unwrap_err().to_string(),
        "m.yaml:14: a second monitor llama: rename one of them"
    );
}

#[test]
fn listed_hosts_are_allowed() {
    let text = GOOD.replace("127.0.0.1", "gpu-box");
    let policy = AddressPolicy {
        allowed_hosts: vec!["GPU-box".into()],
        ..policy()
    };
    assert!(parse("m.yaml", &text, &policy).is_ok());
}

#[test]
fn a_changed_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.yaml");
    let missing = MonitorFile::new(&path, Vec::new(), None)
        .read()
        .unwrap_err()
        .to_string();
    assert!(missing.contains("m.yaml: cannot be read: No such file"), "{missing}");
    std::fs::write(&path, GOOD).unwrap();
    let mut file = MonitorFile::new(&path, Vec::new(), None);
    file.read().unwrap();
    assert!(!file.has_changed());
    std::fs::write(&path, GOOD.replace("perEndpoint: 3", "perEndpoint: 40")).unwrap();
    assert!(file.has_changed());
    assert_eq!(
        file.read().unwrap().monitors[0]
            .spec
            .thresholds
            .queue_depth
            .per_endpoint,
        40
    );
    std::fs::remove_file(&path).unwrap();
    assert!(!file.has_changed());
}

const CANARY: &str = "canary-5d41402a";

/// A monitor of a server outside, and its Secret.
const GUARDED: &str = "\
apiVersion: inferencemonitor.io/v1alpha1
kind: InferenceMonitor
metadata: {name: llm}
spec:
  endpoints:
  - name: out
    url: https://llm.example.com
    credentialsSecretRef: {name: access}
    labels: {site: fra}
---
apiVersion: v1
kind: Secret
metadata:
  name: access
  labels: {inferencemonitor.io/credentials: \"true\"}
  annotations: {inferencemonitor.io/hosts: llm.example.com}
type: Opaque
stringData:
  token: canary-5d41402a
";

fn guarded_policy() -> AddressPolicy {
    AddressPolicy {
        allowed_hosts: vec!["llm.example.com".into()],
        ..policy()
    }
}

#[test]
fn a_secret_stands_beside_the_monitor_that_names_it() {
    let packed = GUARDED.replace(
        "stringData:\n  token: canary-5d41402a",
        "data:\n  token: Y2FuYXJ5LTVkNDE0MDJh",
    );
    for text in [GUARDED, &packed] {
        let declared = parse("m.yaml", text, &guarded_policy()).unwrap();
        let found = resolve(
            &declared.monitors[0].spec,
            &declared.secrets.of(monitors::NAMESPACE),
            &guarded_policy(),
        );
        let endpoint = &found.endpoints[0];
        assert_eq!(endpoint.labels["site"], "fra");
        let access = &endpoint.target.as_ref().unwrap().access;
        let authorization = access.credentials.as_ref().unwrap().authorization.as_ref().unwrap();
        assert_eq!(authorization.reveal(), format!("Bearer {CANARY}"));
        assert!(access.verify_certificate && !format!("{declared:?}").contains(CANARY));
    }
}

#[test]
fn faults_of_secrets_are_told_without_their_values() {
    for (from, to, words) in [
        (
            "name: access\n  labels",
            "name: other\n  labels",
            "m.yaml:8: endpoint out: there is no Secret access in the file",
        ),
        (
            "credentials: \"true\"",
            "credentials: \"no\"",
            "m.yaml:11: Secret access lacks the label",
        ),
        (
            "hosts: llm.example.com",
            "hosts: other.example.com",
            "m.yaml:8: endpoint out: Secret access may be sent to other.example.com",
        ),
        (
            "https://llm",
            "http://llm",
            "m.yaml:8: credentialsSecretRef goes with an https:// url",
        ),
        (
            "site: fra",
            "1site: fra",
            "m.yaml:9: label 1site must begin with a letter",
        ),
        (
            "  token: canary-5d41402a",
            "  token: 12345",
            "m.yaml:19: stringData.token must be a text",
        ),
        (
            "  token: canary-5d41402a",
            "  token: canary-5d41402a x",
            "m.yaml:11: key token of Secret access has blanks",
        ),
        ("stringData:", "data:", "m.yaml:19: data.token is not base64"),
        ("stringData:", "values:", "m.yaml:18: values is not a field of a Secret"),
        (
            "labels: {site: fra}",
            "labels: {a: x, b: x, c: x, d: x, e: x, f: x, g: x, h: x, i: x}",
            "has 9 entries: give at most 8",
        ),
    ] {
        let told = parse("m.yaml", &GUARDED.replace(from, to), &guarded_policy());
        let told = told.unwrap_err().to_string();
        assert!(told.contains(words) && !told.contains(CANARY), "{to}: {told}");
    }
    let twice = format!("{GUARDED}---\n{}", GUARDED.split("---\n").nth(1).unwrap());
    let told = parse("m.yaml", &twice, &guarded_policy()).unwrap_err().to_string();
    assert!(told.contains("a second Secret access"), "{told}");
}

#[test]
fn credentials_of_the_command_line_go_by_https_or_to_this_machine() {
    let policy = AddressPolicy {
        credentials: Some(Arc::new(Credentials {
            authorization: Some(infmon_samples::Hidden::new(format!("Bearer {CANARY}"))),
            ..Credentials::default()
        })),
        ..guarded_policy()
    };
    for (url, shown) in [
        ("https://llm.example.com", true),
        ("http://llm.example.com", false),
        ("http://127.0.0.1:8080", true),
        ("https://localhost", true),
    ] {
        let text = GOOD.replace("http://127.0.0.1:8080", url);
        let declared = parse("m.yaml", &text, &policy).unwrap();
        let found = resolve(&declared.monitors[0].spec, &NamespaceView::default(), &policy);
        let access = &found.endpoints[0].target.as_ref().unwrap().access;
        assert_eq!(access.credentials.is_some(), shown, "{url}");
    }
}

#[test]
fn a_file_with_secrets_that_others_can_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.yaml");
    std::fs::write(&path, GUARDED).unwrap();
    for (mode, warnings) in [(0o644, 1), (0o600, 0)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let read = MonitorFile::new(&path, vec!["llm.example.com".into()], None).read();
        assert_eq!(read.unwrap().warnings.len(), warnings, "{mode:o}");
    }
}
