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
    let monitors = parse("m.yaml", &text, &policy()).unwrap();
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
    let monitors = parse("m.yaml", &text, &policy()).unwrap();
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
            "m.yaml:10: url http://127.0.0.1:8080/metrics must be http:// or https:// with a host and, if need be, a port, and nothing else, for example http://127.0.0.1:8000: put the path into spec.metricsPath; credentials do not belong here",
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
            "m.yaml:1: this is inferencemonitor.io/v1alpha1 Service: give apiVersion: inferencemonitor.io/v1alpha1 and kind: InferenceMonitor",
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
            "m.yaml:1: this is no apiVersion, no kind: give apiVersion: inferencemonitor.io/v1alpha1 and kind: InferenceMonitor",
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
    let missing = MonitorFile::new(&path, Vec::new()).read().unwrap_err().to_string();
    assert!(missing.contains("m.yaml: cannot be read: No such file"), "{missing}");
    std::fs::write(&path, GOOD).unwrap();
    let mut file = MonitorFile::new(&path, Vec::new());
    file.read().unwrap();
    assert!(!file.has_changed());
    std::fs::write(&path, GOOD.replace("perEndpoint: 3", "perEndpoint: 40")).unwrap();
    assert!(file.has_changed());
    assert_eq!(file.read().unwrap()[0].spec.thresholds.queue_depth.per_endpoint, 40);
    std::fs::remove_file(&path).unwrap();
    assert!(!file.has_changed());
}
