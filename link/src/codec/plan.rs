//! Plans.

use super::credentials::{decode_access, encode_access};
use super::mapping::{decode_mapping, encode_mapping};
use super::microseconds;
use crate::wire;
use infmon_engines::{Engine, Mapping};
use infmon_samples::{Plan, Scheme, Target, TargetId};
use std::time::Duration;

pub(crate) fn encode_plan(plan: &Plan) -> wire::Plan {
    let Plan {
        revision,
        period,
        targets,
        release_gpus,
    } = plan;
    wire::Plan {
        revision: *revision,
        period_microseconds: microseconds(*period),
        targets: targets.iter().map(encode_target).collect(),
        release_gpus: *release_gpus,
    }
}

pub(crate) fn decode_plan(plan: wire::Plan) -> Plan {
    Plan {
        revision: plan.revision,
        period: Duration::from_micros(plan.period_microseconds),
        targets: plan.targets.into_iter().map(decode_target).collect(),
        release_gpus: plan.release_gpus,
    }
}

fn encode_target(target: &Target) -> wire::Target {
    let Target {
        id,
        scheme,
        address,
        metrics_path,
        engine,
        mapping,
        period,
        deadline,
        body_limit_bytes,
        access,
        pod_uid,
    } = target;
    wire::Target {
        id: id.0.clone(),
        scheme: match scheme {
            Scheme::Http => wire::Scheme::Http,
            Scheme::Https => wire::Scheme::Https,
        }
        .into(),
        address: address.clone(),
        metrics_path: metrics_path.clone(),
        engine: engine.map_or_else(String::new, |engine| engine.as_str().to_owned()),
        period_microseconds: microseconds(*period),
        deadline_microseconds: microseconds(*deadline),
        body_limit_bytes: *body_limit_bytes,
        mapping: encode_mapping(mapping),
        access: encode_access(access),
        pod_uid: pod_uid.clone().unwrap_or_default(),
    }
}

fn decode_target(target: wire::Target) -> Target {
    Target {
        scheme: match target.scheme() {
            wire::Scheme::Https => Scheme::Https,
            wire::Scheme::Http | wire::Scheme::Unspecified => Scheme::Http,
        },
        // An engine that only the operator knows: the body is then looked at, which names what it is or fails with words. The operator
        // does not use a sample of another engine than it asked for.
        engine: Engine::from_name(&target.engine),
        mapping: target.mapping.map_or_else(Mapping::default, decode_mapping),
        id: TargetId(target.id),
        address: target.address,
        metrics_path: target.metrics_path,
        period: Duration::from_micros(target.period_microseconds),
        deadline: Duration::from_micros(target.deadline_microseconds),
        body_limit_bytes: target.body_limit_bytes,
        access: decode_access(target.access),
        pod_uid: Some(target.pod_uid).filter(|uid| !uid.is_empty()),
    }
}
