//! GPUs of a node.

use super::faults::{
    decode_health, decode_incident, decode_outage, decode_switch_incident, encode_health, encode_incident,
    encode_outage, encode_switch_incident,
};
use super::microseconds;
use super::mig::{decode_instances, encode_instances};
use super::owners::{decode_owners, encode_owners};
use super::processes::{decode_lookup, decode_processes, encode_lookup, encode_processes};
use crate::wire;
use infmon_gpu::{DriverProblem, DriverState, GpuSample, ThrottleCause, ThrottleCounter};
use infmon_samples::GpuReport;
use std::time::Duration;

/// Every problem, to find one by its name.
const PROBLEMS: [DriverProblem; 7] = [
    DriverProblem::LibraryNotFound,
    DriverProblem::DriverNotLoaded,
    DriverProblem::NoPermission,
    DriverProblem::DriverVersionMismatch,
    DriverProblem::NoDevices,
    DriverProblem::DriverUpgrade,
    DriverProblem::Unknown,
];

pub(super) fn encode_gpus(gpus: &GpuReport) -> wire::GpuReport {
    let GpuReport {
        driver,
        age,
        samples,
        outages,
        incidents,
        switch_incidents,
        owners,
        process_lookup,
    } = gpus;
    wire::GpuReport {
        driver: Some(encode_driver(driver)),
        age_microseconds: age.map(microseconds),
        samples: samples.iter().map(encode_sample).collect(),
        owners: owners.as_ref().map(encode_owners),
        outages: outages.iter().map(encode_outage).collect(),
        incidents: incidents.iter().map(encode_incident).collect(),
        switch_incidents: switch_incidents.iter().map(encode_switch_incident).collect(),
        process_lookup: process_lookup.as_ref().map(encode_lookup),
    }
}

pub(super) fn decode_gpus(gpus: wire::GpuReport) -> GpuReport {
    GpuReport {
        driver: decode_driver(gpus.driver.unwrap_or_default()),
        age: gpus.age_microseconds.map(Duration::from_micros),
        samples: gpus.samples.into_iter().map(decode_sample).collect(),
        outages: gpus.outages.into_iter().map(decode_outage).collect(),
        incidents: gpus.incidents.into_iter().filter_map(decode_incident).collect(),
        switch_incidents: gpus.switch_incidents.into_iter().map(decode_switch_incident).collect(),
        owners: gpus.owners.map(decode_owners),
        process_lookup: gpus.process_lookup.map(decode_lookup),
    }
}

fn encode_driver(driver: &DriverState) -> wire::Driver {
    use wire::driver::{Ready, Starting, State, Unavailable, Unresponsive};
    let state = match driver {
        DriverState::Starting => State::Starting(Starting {}),
        DriverState::Ready { driver_version } => State::Ready(Ready {
            driver_version: driver_version.clone(),
        }),
        DriverState::Unavailable { category, message } => State::Unavailable(Unavailable {
            category: category.as_str().to_owned(),
            message: message.clone(),
        }),
        DriverState::Unresponsive { for_seconds } => State::Unresponsive(Unresponsive {
            for_seconds: *for_seconds,
        }),
    };
    wire::Driver { state: Some(state) }
}

fn decode_driver(driver: wire::Driver) -> DriverState {
    use wire::driver::State;
    match driver.state {
        Some(State::Starting(_)) => DriverState::Starting,
        Some(State::Ready(ready)) => DriverState::Ready {
            driver_version: ready.driver_version,
        },
        Some(State::Unavailable(unavailable)) => DriverState::Unavailable {
            category: PROBLEMS
                .into_iter()
                .find(|problem| problem.as_str() == unavailable.category)
                .unwrap_or(DriverProblem::Unknown),
            message: unavailable.message,
        },
        Some(State::Unresponsive(unresponsive)) => DriverState::Unresponsive {
            for_seconds: unresponsive.for_seconds,
        },
        None => DriverState::Unavailable {
            category: DriverProblem::Unknown,
            message:
                "the node daemon is newer than the operator and sent a driver state that the operator does not know"
                    .to_owned(),
        },
    }
}

fn encode_cause(cause: ThrottleCause) -> wire::ThrottleCause {
    match cause {
        ThrottleCause::HardwareThermal => wire::ThrottleCause::HardwareThermal,
        ThrottleCause::HardwarePowerBrake => wire::ThrottleCause::HardwarePowerBrake,
        ThrottleCause::SoftwareThermal => wire::ThrottleCause::SoftwareThermal,
        ThrottleCause::PowerCap => wire::ThrottleCause::PowerCap,
        ThrottleCause::BoardLimit => wire::ThrottleCause::BoardLimit,
        ThrottleCause::Reliability => wire::ThrottleCause::Reliability,
        ThrottleCause::SyncBoost => wire::ThrottleCause::SyncBoost,
        ThrottleCause::BelowBaseClock => wire::ThrottleCause::BelowBaseClock,
    }
}

/// `None` for a cause that only the sender knows: the counter is left out, as for a driver that does not count it.
fn decode_cause(cause: wire::ThrottleCause) -> Option<ThrottleCause> {
    Some(match cause {
        wire::ThrottleCause::Unspecified => return None,
        wire::ThrottleCause::HardwareThermal => ThrottleCause::HardwareThermal,
        wire::ThrottleCause::HardwarePowerBrake => ThrottleCause::HardwarePowerBrake,
        wire::ThrottleCause::SoftwareThermal => ThrottleCause::SoftwareThermal,
        wire::ThrottleCause::PowerCap => ThrottleCause::PowerCap,
        wire::ThrottleCause::BoardLimit => ThrottleCause::BoardLimit,
        wire::ThrottleCause::Reliability => ThrottleCause::Reliability,
        wire::ThrottleCause::SyncBoost => ThrottleCause::SyncBoost,
        wire::ThrottleCause::BelowBaseClock => ThrottleCause::BelowBaseClock,
    })
}

fn encode_throttle(counter: &ThrottleCounter) -> wire::ThrottleCounter {
    wire::ThrottleCounter {
        cause: encode_cause(counter.cause).into(),
        nanoseconds: counter.nanoseconds,
    }
}

fn decode_throttle(counter: &wire::ThrottleCounter) -> Option<ThrottleCounter> {
    Some(ThrottleCounter {
        cause: decode_cause(counter.cause())?,
        nanoseconds: counter.nanoseconds,
    })
}

fn encode_sample(sample: &GpuSample) -> wire::GpuSample {
    let GpuSample {
        index,
        uuid,
        minor_number,
        name,
        memory_total_bytes,
        memory_free_bytes,
        memory_used_bytes,
        utilization_percent,
        memory_utilization_percent,
        sm_clock_mhz,
        sm_clock_max_mhz,
        memory_clock_mhz,
        power_milliwatts,
        power_limit_milliwatts,
        power_limit_default_milliwatts,
        energy_millijoules,
        temperature_celsius,
        temperature_margin_celsius,
        memory_temperature_celsius,
        throttle,
        clocks_event_reasons,
        processes,
        health,
        mig_instances,
    } = sample;
    wire::GpuSample {
        index: *index,
        uuid: uuid.clone(),
        name: name.clone(),
        memory_total_bytes: *memory_total_bytes,
        memory_free_bytes: *memory_free_bytes,
        utilization_percent: *utilization_percent,
        memory_utilization_percent: *memory_utilization_percent,
        sm_clock_mhz: *sm_clock_mhz,
        sm_clock_max_mhz: *sm_clock_max_mhz,
        memory_clock_mhz: *memory_clock_mhz,
        power_milliwatts: *power_milliwatts,
        power_limit_milliwatts: *power_limit_milliwatts,
        power_limit_default_milliwatts: *power_limit_default_milliwatts,
        energy_millijoules: *energy_millijoules,
        temperature_celsius: *temperature_celsius,
        temperature_margin_celsius: *temperature_margin_celsius,
        memory_temperature_celsius: *memory_temperature_celsius,
        throttle: throttle.iter().map(encode_throttle).collect(),
        clocks_event_reasons: *clocks_event_reasons,
        processes: processes.as_deref().map(encode_processes),
        minor_number: *minor_number,
        memory_used_bytes: *memory_used_bytes,
        health: Some(encode_health(health)),
        mig_instances: mig_instances.as_deref().map(encode_instances),
    }
}

fn decode_sample(sample: wire::GpuSample) -> GpuSample {
    GpuSample {
        index: sample.index,
        uuid: sample.uuid,
        minor_number: sample.minor_number,
        name: sample.name,
        memory_total_bytes: sample.memory_total_bytes,
        memory_free_bytes: sample.memory_free_bytes,
        memory_used_bytes: sample.memory_used_bytes,
        utilization_percent: sample.utilization_percent,
        memory_utilization_percent: sample.memory_utilization_percent,
        sm_clock_mhz: sample.sm_clock_mhz,
        sm_clock_max_mhz: sample.sm_clock_max_mhz,
        memory_clock_mhz: sample.memory_clock_mhz,
        power_milliwatts: sample.power_milliwatts,
        power_limit_milliwatts: sample.power_limit_milliwatts,
        power_limit_default_milliwatts: sample.power_limit_default_milliwatts,
        energy_millijoules: sample.energy_millijoules,
        temperature_celsius: sample.temperature_celsius,
        temperature_margin_celsius: sample.temperature_margin_celsius,
        memory_temperature_celsius: sample.memory_temperature_celsius,
        throttle: sample.throttle.iter().filter_map(decode_throttle).collect(),
        clocks_event_reasons: sample.clocks_event_reasons,
        processes: sample.processes.map(decode_processes),
        health: decode_health(sample.health),
        mig_instances: sample.mig_instances.map(decode_instances),
    }
}
