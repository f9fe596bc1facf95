use super::*;
use infmon_crds::v1alpha1::Summary;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

const PLAIN: Table = Table {
    name_width: 9,
    width: 100,
    colour: false,
    simulated: false,
};

fn status(ready: &str, load: Load, summary: Summary) -> InferenceMonitorStatus {
    InferenceMonitorStatus {
        load: Some(load),
        engine: (ready == "True").then(|| "VLLM".into()),
        summary: Some(summary),
        conditions: vec![Condition {
            type_: "Ready".into(),
            status: ready.into(),
            reason: String::new(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        }],
        ..InferenceMonitorStatus::default()
    }
}

fn busy() -> InferenceMonitorStatus {
    let summary = Summary {
        endpoints: "2/2".into(),
        waiting: Some(31),
        running: Some(16),
        kv_cache_usage: Some("91%".into()),
        gpus: Some(2),
        throttled_gpus: Some(1),
        throttled: Some("1/2".into()),
        oom_risk: OomRisk::High,
    };
    status("True", Load::Overloaded, summary)
}

#[test]
fn rows_stand_below_their_headers() {
    let dark = status(
        "False",
        Load::Unknown,
        Summary {
            endpoints: "0/1".into(),
            ..Summary::default()
        },
    );
    let text = [
        PLAIN.header(),
        PLAIN.row("18:02:19", "chat", &busy()),
        PLAIN.row("18:02:20", "assistant", &dark),
        PLAIN.row("18:02:20", "new", &InferenceMonitorStatus::default()),
    ];
    let expected = "\
TIME      NAME       READY    ENGINE    ENDPOINTS  WAITING  RUNNING  KV    LOAD        THROTTLED  OOMRISK
18:02:19  chat       True     VLLM      2/2        31       16       91%   Overloaded  1/2        High
18:02:20  assistant  False              0/1                                Unknown                Unknown
18:02:20  new        Unknown                                               Unknown                Unknown";
    assert_eq!(text.join("\n"), expected);
}

#[test]
fn a_simulation_is_named_in_every_header() {
    let table = Table {
        simulated: true,
        ..PLAIN
    };
    assert!(table.header().ends_with("OOMRISK  SIMULATED"));
}

#[test]
fn findings_are_told_below_the_row() {
    let raised = Turn {
        finding: "QueueDepthHigh".into(),
        event: Event::Raised {
            evidence: "31 requests wait, 15.5 per endpoint (threshold 5 for 2 s), worst 127.0.0.1:8000 with 20".into(),
            next: Some("add replicas".into()),
        },
    };
    let cleared = Turn {
        finding: "EndpointsReachable=False".into(),
        event: Event::Cleared {
            after: Duration::from_millis(65_200),
        },
    };
    let mut lines = PLAIN.turn(&raised);
    lines.extend(PLAIN.turn(&cleared));
    let expected = "          + QueueDepthHigh    31 requests wait, 15.5 per endpoint (threshold 5 for 2 s), worst
                              127.0.0.1:8000 with 20
                              Next: add replicas
          - EndpointsReachable=False  cleared after 1 min 5 s";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn colours_do_not_move_columns() {
    let coloured = Table { colour: true, ..PLAIN }.row("18:02:19", "chat", &busy());
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    assert_eq!(plain.trim_end(), PLAIN.row("18:02:19", "chat", &busy()));
    assert!(coloured.contains("\u{1b}[31mOverloaded"));
}

#[test]
fn spans_read_well() {
    for (millis, text) in [
        (0, "0.0 s"),
        (400, "0.4 s"),
        (1_600, "2 s"),
        (59_700, "1 min"),
        (65_000, "1 min 5 s"),
        (3_720_000, "1 h 2 min"),
    ] {
        assert_eq!(span(Duration::from_millis(millis)), text);
    }
}
