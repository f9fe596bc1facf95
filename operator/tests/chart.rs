//! What the chart and the operator must say alike.

use infmon_evaluation::metric::Metric;
use std::path::Path;

#[test]
fn the_chart_grants_the_metrics_that_the_operator_serves() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/inference-monitor/templates/_helpers.tpl");
    let text = std::fs::read_to_string(path).expect("the chart's helpers");
    let block = text
        .split("define \"inference-monitor.metricNames\"")
        .nth(1)
        .expect("the list of metric names");
    let list = block.lines().find(|line| line.starts_with('[')).expect("a JSON list");
    let named: Vec<String> = serde_json::from_str(list).expect("a JSON list");
    let served: Vec<&str> = Metric::ALL.into_iter().map(Metric::name).collect();
    assert_eq!(named, served);
}
