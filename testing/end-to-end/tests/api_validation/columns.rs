//! What `kubectl get` prints.

use infmon_control_plane::ControlPlane;
use serde_json::{Value, json};

use crate::{monitors::monitor, plane, write};

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    })
}

fn write_status(plane: &ControlPlane, name: &str, status: &Value) -> anyhow::Result<()> {
    let path = write(
        plane,
        &format!("status-{name}.json"),
        &json!({ "status": status }).to_string(),
    )?;
    plane.kubectl(&[
        "patch",
        "infmon",
        name,
        "--namespace=columns",
        "--subresource=status",
        "--type=merge",
        "--patch-file",
        &path.display().to_string(),
    ])?;
    Ok(())
}

/// A printed table: cells are cut where the header's words begin, so that a blank cell is seen as one.
fn table(printed: &str) -> Vec<Vec<&str>> {
    let header = printed.lines().next().unwrap_or_default();
    let mut starts: Vec<usize> = header
        .char_indices()
        .filter(|(n, character)| *character != ' ' && (*n == 0 || header[..*n].ends_with("  ")))
        .map(|(n, _)| n)
        .collect();
    starts.push(usize::MAX);
    printed
        .lines()
        .map(|line| {
            starts
                .windows(2)
                .map(|range| {
                    line.get(range[0]..range[1].min(line.len()))
                        .unwrap_or_default()
                        .trim_end()
                })
                .collect()
        })
        .collect()
}

#[test]
fn kubectl_get_prints_the_answer() -> anyhow::Result<()> {
    let plane = plane()?;
    plane.kubectl(&["create", "namespace", "columns"])?;
    for name in ["llama-70b", "new", "qwen-gguf"] {
        let mut monitor = monitor(name, &json!({}));
        monitor["metadata"]["namespace"] = json!("columns");
        plane.kubectl_apply(&monitor.to_string())?;
    }
    write_status(
        &plane,
        "llama-70b",
        &json!({
            "observedGeneration": 1,
            "load": "Degraded",
            "engine": "VLLM",
            "engineGeneration": "v1-0.12+",
            "summary": {
                "endpoints": "3/3", "waiting": 12, "running": 96, "kvCacheUsage": "87%", "gpus": 24, "throttledGPUs": 1,
                "throttled": "1/24", "oomRisk": "Medium",
            },
            "conditions": [
                condition("Throttled", "True", "HardwareThermal", "GPU 3 lost clocks to heat."),
                condition("Ready", "True", "Monitoring", "Data is fresh from 3 of 3 endpoints."),
            ],
        }),
    )?;
    write_status(
        &plane,
        "qwen-gguf",
        &json!({
            "load": "Unknown",
            "engine": "LlamaCpp",
            "summary": { "endpoints": "0/1", "throttled": "0/1", "oomRisk": "Unknown" },
            "conditions": [condition("Ready", "False", "StaleData", "No sample.")],
        }),
    )?;

    let printed = plane.kubectl(&["get", "infmon", "--namespace=columns"])?;
    let age = |rows: &[Vec<&str>]| {
        rows.get(1)
            .and_then(|row| row.get(10))
            .is_some_and(|age| age.ends_with('s'))
    };
    let rows = table(&printed);
    assert!(age(&rows), "{printed}");
    let columns = [
        "NAME",
        "READY",
        "ENGINE",
        "ENDPOINTS",
        "WAITING",
        "RUNNING",
        "KV",
        "LOAD",
        "THROTTLED",
        "OOMRISK",
        "AGE",
    ];
    let loaded = [
        "llama-70b",
        "True",
        "VLLM",
        "3/3",
        "12",
        "96",
        "87%",
        "Degraded",
        "1/24",
        "Medium",
    ];
    assert_eq!(rows[0], columns, "{printed}");
    assert_eq!(rows[1][..10], loaded, "{printed}");
    assert_eq!(rows[2][..10], ["new", "", "", "", "", "", "", "", "", ""], "{printed}");
    assert_eq!(
        rows[3][..10],
        [
            "qwen-gguf",
            "False",
            "LlamaCpp",
            "0/1",
            "",
            "",
            "",
            "Unknown",
            "0/1",
            "Unknown"
        ],
        "{printed}"
    );

    let printed = plane.kubectl(&["get", "infmon", "--namespace=columns", "--output=wide"])?;
    let rows = table(&printed);
    assert_eq!(rows[0][..11], columns, "{printed}");
    assert_eq!(rows[0][11..], ["REASON", "GENERATION", "MESSAGE"], "{printed}");
    assert_eq!(rows[1][..10], loaded, "{printed}");
    assert_eq!(
        rows[1][11..],
        ["Monitoring", "v1-0.12+", "Data is fresh from 3 of 3 endpoints."],
        "{printed}"
    );

    // By category, too, as kubectl get all is.
    let names = plane.kubectl(&["get", "inference", "--namespace=columns", "--output=name"])?;
    assert_eq!(names.lines().count(), 3, "{names}");
    Ok(())
}
