//! Plans there and back.

use super::through_bytes;
use crate::codec::{decode_plan, encode_plan};
use crate::wire;
use infmon_engines::{Aggregation, Engine, Field, MappedSeries, Mapping, Quantity, Unit};
use infmon_samples::{Access, Plan, Scheme, Target, TargetId};
use prost::Message;
use std::time::Duration;

fn target(scheme: Scheme, engine: Option<Engine>) -> Target {
    Target {
        id: TargetId("prod/vllm-0:8000".to_owned()),
        scheme,
        address: "[fd00::7]:8000".to_owned(),
        metrics_path: "/metrics?all=1".to_owned(),
        engine,
        mapping: if engine == Some(Engine::Custom) {
            full_mapping()
        } else {
            Mapping::default()
        },
        period: Duration::from_millis(1000),
        deadline: Duration::from_micros(800_001),
        body_limit_bytes: 16 << 20,
        access: Access::default(),
        pod_uid: (scheme == Scheme::Http).then(|| "6f1c2d3e-0000-4000-8000-00000000000a".to_owned()),
    }
}

/// Every field, with every unit and aggregation that it may have.
fn full_mapping() -> Mapping {
    let series = |(number, field): (usize, Field)| {
        let (unit, aggregation) = match field.quantity() {
            Quantity::Latency => (
                Some([Unit::Seconds, Unit::Milliseconds, Unit::Microseconds][number % 3]),
                None,
            ),
            Quantity::Ratio => (Some([Unit::Ratio, Unit::Percent][number % 2]), Some(Aggregation::Sum)),
            Quantity::Gauge | Quantity::Counter => (None, Some(Aggregation::ALL[number % 2])),
        };
        MappedSeries {
            field,
            name: format!("my:server_{number}"),
            labels: [
                ("state".to_owned(), "ünïcode \"".to_owned()),
                ("b".to_owned(), String::new()),
            ]
            .into(),
            unit,
            aggregation,
        }
    };
    let all = Field::MAPPABLE.into_iter().enumerate().map(series).collect();
    Mapping::new(all, Some("model".to_owned())).unwrap()
}

#[test]
fn a_mapping_that_is_not_understood_in_full_is_none() {
    let decode = |change: fn(&mut wire::Mapping)| {
        let mut message = encode_plan(&Plan {
            targets: vec![target(Scheme::Http, Some(Engine::Custom))],
            ..Plan::default()
        });
        change(message.targets[0].mapping.as_mut().unwrap());
        let target = decode_plan(through_bytes(&message)).targets.remove(0);
        (target.engine, target.mapping)
    };
    assert_eq!(decode(|_| {}), (Some(Engine::Custom), full_mapping()));
    let changes: [fn(&mut wire::Mapping); 5] = [
        |mapping| mapping.series[1].field = "SpeculativeTokensTotal".to_owned(),
        |mapping| mapping.series[1].unit = "Minutes".to_owned(),
        |mapping| mapping.series[1].aggregation = "Average".to_owned(),
        |mapping| mapping.series[1].name = String::new(),
        |mapping| mapping.series.clear(),
    ];
    for change in changes {
        // The engine stays: a reader without a mapping says so, and guesses nothing.
        assert_eq!(decode(change), (Some(Engine::Custom), Mapping::default()));
    }
}

#[test]
fn a_plan_of_the_largest_targets_fits_into_a_message() {
    let series = |field: Field| MappedSeries {
        field,
        name: "n".repeat(120),
        labels: (0..4).map(|n| (format!("{n:060}"), "v".repeat(60))).collect(),
        unit: None,
        aggregation: None,
    };
    let mapping = Mapping::new(Field::MAPPABLE.map(series).to_vec(), Some("m".repeat(63))).unwrap();
    let largest = Target {
        id: TargetId("i".repeat(1000)),
        address: "a".repeat(270),
        metrics_path: "p".repeat(256),
        mapping,
        ..target(Scheme::Https, Some(Engine::Custom))
    };
    // As many targets as a node gets.
    let plan = Plan {
        targets: vec![largest; 256],
        ..Plan::default()
    };
    let bytes = encode_plan(&plan).encoded_len();
    assert!(bytes < crate::MESSAGE_LIMIT_BYTES, "{bytes}");
}

#[test]
fn a_full_plan_comes_back_as_it_was() {
    let plan = Plan {
        revision: 42,
        period: Duration::from_millis(250),
        targets: [target(Scheme::Http, None), target(Scheme::Https, Some(Engine::Vllm))]
            .into_iter()
            .chain(Engine::ALL.map(|engine| target(Scheme::Http, Some(engine))))
            .collect(),
        release_gpus: true,
    };
    assert_eq!(decode_plan(through_bytes(&encode_plan(&plan))), plan);
    assert_eq!(
        decode_plan(through_bytes(&encode_plan(&Plan::default()))),
        Plan::default()
    );
}
