//! What the API server makes of an `InferenceMonitor`: bounds, CEL rules, defaults, printed columns, `kubectl explain`.
//!
//! The table of cases is checked against the CustomResourceDefinition: a bound or a rule that no rejected case meets fails
//! the test, so nothing can be added to the schema without a case here.

mod cases;
mod columns;
mod coverage;
mod credentials;
mod custom;
mod monitors;
mod thresholds;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use cases::{Case, cases};
use infmon_control_plane::ControlPlane;
use monitors::{endpoint, monitor, pods, threshold};
use serde_json::{Value, json};

/// The plane that the tests of this file share, with the CRD applied as a user would: `kubectl apply -f crds/`.
fn plane() -> anyhow::Result<Arc<ControlPlane>> {
    // Which plane is prepared. Not the plane itself: a static is never dropped, and its folder would stay.
    static PREPARED: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut prepared = PREPARED.lock().unwrap_or_else(PoisonError::into_inner);
    let plane = ControlPlane::shared()?;
    if prepared.as_deref() == Some(plane.data_dir()) {
        return Ok(plane);
    }
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    plane.kubectl(&["apply", "--filename", &crds.display().to_string()])?;
    let crd = format!("crd/{}", infmon_crds::CRD_NAME);
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=20s", &crd])?;
    // The OpenAPI document comes a moment later, and without it kubectl validates by itself, in other words.
    for command in [["explain", "infmon.spec"], ["get", "infmon"]] {
        eventually("the new resource is served", || plane.kubectl(&command))?;
    }
    *prepared = Some(plane.data_dir().to_owned());
    Ok(plane)
}

/// Tries until it works: what an API server serves lags a moment behind what it accepted.
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match attempt() {
            Err(error) if Instant::now() > deadline => return Err(error.context(format!("not within 20 s: {what}"))),
            Err(_) => thread::sleep(Duration::from_millis(100)),
            done => return done,
        }
    }
}

/// Sends monitors to the API server in one kubectl call, without keeping them. Gives what kubectl says when one is refused.
fn try_all(plane: &ControlPlane, file: &str, monitors: &[Value]) -> anyhow::Result<String> {
    // Documents and not a v1 List: kubectl would validate that by itself, in other words than the API server's.
    let documents: Vec<String> = monitors.iter().map(Value::to_string).collect();
    let path = write(plane, file, &documents.join("\n---\n"))?;
    plane.kubectl(&[
        "create",
        "--dry-run=server",
        "--output=name",
        "--filename",
        &path.display().to_string(),
    ])
}

fn write(plane: &ControlPlane, file: &str, content: &str) -> anyhow::Result<PathBuf> {
    let path = plane.data_dir().join(file);
    fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}

/// What kubectl said about each monitor that was refused.
fn refusals(said: &str) -> BTreeMap<&str, &str> {
    said.split("InferenceMonitor.inferencemonitor.io \"")
        .skip(1)
        .filter_map(|part| part.split_once('"'))
        .collect()
}

#[test]
fn each_rule_accepts_and_rejects() -> anyhow::Result<()> {
    let plane = plane()?;
    let cases = cases();

    let accepted: Vec<Value> = cases
        .iter()
        .enumerate()
        .flat_map(|(n, case)| {
            case.accepted
                .iter()
                .enumerate()
                .map(move |(m, patch)| monitor(&format!("good-{n}-{m}"), patch))
        })
        .collect();
    try_all(&plane, "accepted.json", &accepted).context("a spec that should be accepted was refused")?;

    let rejected: Vec<(String, &Case, Value)> = cases
        .iter()
        .enumerate()
        .flat_map(|(n, case)| {
            case.rejected.iter().enumerate().map(move |(m, patch)| {
                let name = format!("bad-{n}-{m}");
                let monitor = monitor(&name, patch);
                (name, case, monitor)
            })
        })
        .collect();
    let monitors: Vec<Value> = rejected.iter().map(|(_, _, monitor)| monitor.clone()).collect();
    let said = try_all(&plane, "rejected.json", &monitors)
        .err()
        .context("no spec was refused")?;
    let said = format!("{said:#}");
    let refusals = refusals(&said);
    let mut wrong = Vec::new();
    for (name, case, monitor) in &rejected {
        match refusals.get(name.as_str()) {
            None => wrong.push(format!("{}: accepted: {}", case.name, monitor["spec"])),
            Some(answer) => {
                for words in case.says.iter().filter(|words| !answer.contains(**words)) {
                    wrong.push(format!("{}: no {words:?} in: {answer}", case.name));
                }
            }
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {} answers are wrong:\n{}",
        wrong.len(),
        rejected.len(),
        wrong.join("\n")
    );

    let unmet = coverage::unmet_rules(&said)?;
    ensure!(
        unmet.is_empty(),
        "no rejected case meets these rules of the CRD:\n{}",
        unmet.join("\n")
    );
    Ok(())
}

#[test]
fn what_is_not_in_the_schema_is_refused() -> anyhow::Result<()> {
    let plane = plane()?;
    for (patch, says) in [
        (json!({ "treshholds": {} }), "unknown field \"spec.treshholds\""),
        (
            json!({ "thresholds": { "queueDepth": { "perEndpiont": 3 } } }),
            "unknown field \"spec.thresholds.queueDepth.perEndpiont\"",
        ),
        (
            endpoint(&json!({ "path": "/metrics" })),
            "unknown field \"spec.endpoints[0].path\"",
        ),
    ] {
        let error = try_all(&plane, "unknown-field.json", &[monitor("typo", &patch)])
            .err()
            .context("accepted")?;
        let error = format!("{error:#}");
        ensure!(error.contains(says), "no {says:?} in: {error}");
    }
    Ok(())
}

#[test]
fn what_has_to_be_there_is_asked_for() -> anyhow::Result<()> {
    let plane = plane()?;
    let without = |pointer: &str, field: &str| {
        let mut monitor = monitor("incomplete", &json!({}));
        monitor
            .pointer_mut(pointer)
            .and_then(Value::as_object_mut)
            .map(|object| object.remove(field));
        monitor
    };
    for (pointer, field, says) in [
        ("", "spec", "spec: Required value"),
        ("/spec", "endpoints", "spec.endpoints: Required value"),
        ("/spec/endpoints/0", "name", "spec.endpoints[0].name: Required value"),
        (
            "/spec/endpoints/0/pods",
            "port",
            "spec.endpoints[0].pods.port: Required value",
        ),
        (
            "/spec/endpoints/0/pods",
            "selector",
            "spec.endpoints[0].pods.selector: Required value",
        ),
    ] {
        let error = try_all(&plane, "incomplete.json", &[without(pointer, field)])
            .err()
            .context("accepted")?;
        let error = format!("{error:#}");
        ensure!(error.contains(says), "no {says:?} in: {error}");
    }
    Ok(())
}

#[test]
fn a_minimal_monitor_reads_back_with_all_defaults() -> anyhow::Result<()> {
    let plane = plane()?;
    plane.kubectl_apply(&monitor("defaults", &json!({})).to_string())?;
    let read: Value = serde_json::from_str(&plane.kubectl(&["get", "infmon", "defaults", "--output=json"])?)?;
    let queue = json!({ "perEndpoint": 5, "forSeconds": 10 });
    let expected = json!({
        "engine": "Auto",
        "scheme": "HTTP",
        "endpoints": [pods("servers")],
        "samplePeriodMilliseconds": 1000,
        "staleAfterSeconds": 10,
        "thresholds": {
            "queueDepth": queue,
            "kvCacheUsagePercent": { "above": 90, "forSeconds": 30 },
            "throttledPercent": { "above": 1, "forSeconds": 60 },
            "gpuTemperatureMarginCelsius": { "below": 6, "forSeconds": 120 },
            "gpuMemoryHeadroomMiB": { "below": 512, "forSeconds": 30 },
            "gpuUtilizationPercent": { "below": 50, "forSeconds": 600 },
            "timeToFirstTokenMilliseconds": { "quantile": "P95", "above": 2000, "forSeconds": 60 },
        },
    });
    assert_eq!(read["spec"], expected);
    // The type that the operator uses reads the same.
    let typed: infmon_crds::v1alpha1::InferenceMonitor = serde_json::from_value(read.clone())?;
    assert_eq!(serde_json::to_value(&typed.spec)?, expected);
    assert!(read.get("status").is_none(), "{read:#}");

    // A threshold that is given in part keeps the other default.
    let part = threshold("queueDepth", &json!({ "perEndpoint": 2 }));
    plane.kubectl_apply(&monitor("defaults", &part).to_string())?;
    let read = plane.kubectl(&[
        "get",
        "infmon",
        "defaults",
        "--output=jsonpath={.spec.thresholds.queueDepth}",
    ])?;
    assert_eq!(
        serde_json::from_str::<Value>(&read)?,
        json!({ "perEndpoint": 2, "forSeconds": 10 })
    );
    Ok(())
}

#[test]
fn a_null_is_as_good_as_nothing() -> anyhow::Result<()> {
    // Rendered by templates for a value that is not set.
    let plane = plane()?;
    let nulls = json!({
        "metricsPath": null,
        "custom": null,
        "endpoints": [{ "name": "servers", "pods": null, "service": null, "url": "http://10.1.2.3:8000" }],
        "samplePeriodMilliseconds": null,
        "thresholds": null,
    });
    try_all(&plane, "nulls.json", &[monitor("nulls", &nulls)])?;
    plane.kubectl_apply(&monitor("nulls", &nulls).to_string())?;
    Ok(())
}

#[test]
fn a_status_that_breaks_the_schema_is_refused() -> anyhow::Result<()> {
    let plane = plane()?;
    plane.kubectl_apply(&monitor("status", &json!({})).to_string())?;
    for (status, says) in [
        (json!({ "load": "Busy" }), "status.load: Unsupported value"),
        (
            json!({ "summary": { "endpoints": "1/1", "oomRisk": "Low", "gpus": "many" } }),
            "must be of type integer",
        ),
    ] {
        let path = write(&plane, "bad-status.json", &json!({ "status": status }).to_string())?;
        let path = path.display().to_string();
        let error = plane
            .kubectl(&[
                "patch",
                "infmon",
                "status",
                "--subresource=status",
                "--type=merge",
                "--patch-file",
                &path,
            ])
            .err()
            .context("accepted")?;
        let error = format!("{error:#}");
        ensure!(error.contains(says), "no {says:?} in: {error}");
    }
    // A status sent with the spec is not taken: only the subresource writes it.
    let mut whole = monitor("status", &json!({}));
    whole["status"] = json!({ "load": "Idle" });
    let path = write(&plane, "whole.json", &whole.to_string())?;
    plane.kubectl(&["replace", "--filename", &path.display().to_string()])?;
    assert_eq!(
        plane.kubectl(&["get", "infmon", "status", "--output=jsonpath={.status.load}"])?,
        ""
    );
    Ok(())
}

#[test]
fn kubectl_explain_speaks_to_the_user() -> anyhow::Result<()> {
    let plane = plane()?;
    for (path, says) in [
        ("infmon.spec.thresholds", "Every threshold has a"),
        (
            "infmon.spec.thresholds.queueDepth.perEndpoint",
            "Requests that may wait per endpoint",
        ),
        ("infmon.spec.endpoints.pods.port", "Name or number of a container port"),
        ("infmon.status.summary", "A number nobody knows is"),
    ] {
        // The OpenAPI document follows the definition by a moment.
        eventually(path, || {
            let printed = plane.kubectl(&["explain", path])?;
            ensure!(printed.contains(says), "no {says:?} in: {printed}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn monitors_are_selected_by_engine() -> anyhow::Result<()> {
    let plane = plane()?;
    plane.kubectl(&["create", "namespace", "engines"])?;
    for (name, engine) in [("one", "VLLM"), ("two", "LlamaCpp"), ("three", "VLLM")] {
        let mut monitor = monitor(name, &json!({ "engine": engine }));
        monitor["metadata"]["namespace"] = json!("engines");
        plane.kubectl_apply(&monitor.to_string())?;
    }
    let names = plane.kubectl(&[
        "get",
        "infmon",
        "-n=engines",
        "--field-selector=spec.engine=VLLM",
        "--output=name",
    ])?;
    assert_eq!(
        names.lines().collect::<Vec<_>>(),
        [
            "inferencemonitor.inferencemonitor.io/one",
            "inferencemonitor.inferencemonitor.io/three"
        ]
    );
    Ok(())
}
