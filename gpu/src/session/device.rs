//! Reads one GPU.

use std::time::{Duration, Instant};

use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::enums::device::DeviceArchitecture;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::failure::{Failure, optional};
use super::heart::Calls;
use super::mig::MigReader;
use super::raw::{self, FieldBatch, Numbering, ProcessList};
use crate::health::{GpuHealth, RecoveryAction};
use crate::kernel_log::PciAddress;
use crate::process::GpuProcess;
use crate::sample::{GpuSample, ThrottleCause, ThrottleCounter};
use crate::snapshot::CallClass;

/// The batch of each tick: field ids in the numbering of drivers 575 to 580.81. Throttle counters come first, in this order.
const COUNTERS: [(u32, ThrottleCause); 8] = [
    (252, ThrottleCause::HardwareThermal),
    (253, ThrottleCause::HardwarePowerBrake),
    (251, ThrottleCause::SoftwareThermal),
    (74, ThrottleCause::PowerCap),
    (77, ThrottleCause::BoardLimit),
    (79, ThrottleCause::Reliability),
    (76, ThrottleCause::SyncBoost),
    (81, ThrottleCause::BelowBaseClock),
];
const ENERGY: (usize, u32) = (8, 83);
const POWER_LIMIT: (usize, u32) = (9, 190);
const POWER_LIMIT_DEFAULT: (usize, u32) = (10, 189);
const MEMORY_TEMPERATURE: (usize, u32) = (11, 82);
const RECOVERY_ACTION: (usize, u32) = (12, 230);
/// Mean of a second, as the call for the draw gives it on recent GPUs.
const POWER_AVERAGE: (usize, u32) = (13, 185);

/// Heat (driver) by its older id (`NVML_FI_DEV_PERF_POLICY_THERMAL`), which drivers before 575 have alone.
const SOFTWARE_THERMAL_BEFORE: (usize, u32) = (14, 75);

/// The batch of the slow calls, and after each event: ECC counts and what became of faulty memory.
const HEALTH: [u32; 7] = [4, 6, 143, 144, 145, 30, 31];

/// A GPU of the session, with what does not change and what is read more rarely.
pub(super) struct DeviceReader<'nvml> {
    nvml: &'nvml Nvml,
    device: Device<'nvml>,
    facts: GpuSample,
    /// Where it is on the bus: the kernel's log calls it so.
    pci: Option<PciAddress>,
    fields: FieldBatch,
    health_fields: FieldBatch,
    process_list: ProcessList,
    processes: Option<Vec<GpuProcess>>,
    mig: MigReader<'nvml>,
    /// Read with the slow calls, since it changes rarely.
    memory_clock_mhz: Option<u32>,
    /// Read with the slow calls, since nothing is concluded from it.
    clocks_event_reasons: Option<u64>,
    /// When the slow calls are due; they also belong to the first tick.
    slow_due: Instant,
    slow_done: bool,
    /// The faults that stood when the driver told of them last: they stand while it refuses to.
    standing: GpuHealth,
    /// Limits by the older calls, for drivers that do not have them as fields.
    power_limits: (Option<u32>, Option<u32>),
    /// Temperature at which it slows down, of GPUs before Ada, whose drivers do not tell the margin.
    slowdown_celsius: Option<u32>,
}

/// What came of reading a GPU.
pub(super) enum Reading {
    Sample(Box<GpuSample>),
    /// Even memory and counters were refused: there is nothing to show.
    Refused(NvmlError),
}

impl<'nvml> DeviceReader<'nvml> {
    /// Reads the facts. `next_slow` is when the process list is due after the first tick.
    pub(super) fn new(
        nvml: &'nvml Nvml,
        numbering: Numbering,
        index: u32,
        next_slow: Instant,
        calls: &mut Calls<'_>,
    ) -> Result<Self, NvmlError> {
        let device = calls.run(CallClass::Facts, || nvml.device_by_index(index))?;
        let uuid = calls.run(CallClass::Facts, || device.uuid())?;
        let name = optional(calls.run(CallClass::Facts, || device.name()))?.unwrap_or_default();
        let minor_number = optional(calls.run(CallClass::Facts, || device.minor_number()))?;
        let sm_clock_max_mhz = optional(calls.run(CallClass::Facts, || device.max_clock_info(Clock::SM)))?;
        let pci = optional(calls.run(CallClass::Facts, || device.pci_info()))?;
        let pci = pci.and_then(|pci| PciAddress::parse(&pci.bus_id));
        let architecture = optional(calls.run(CallClass::Facts, || device.architecture()))?;
        let slowdown_celsius = if architecture.as_ref().is_some_and(tells_slowdown) {
            optional(calls.run(CallClass::Facts, || {
                device.temperature_threshold(TemperatureThreshold::Slowdown)
            }))?
        } else {
            None
        };
        let facts = GpuSample {
            index,
            uuid,
            minor_number,
            name,
            sm_clock_max_mhz,
            ..GpuSample::default()
        };
        let mut ids: Vec<u32> = COUNTERS.iter().map(|(id, _)| *id).collect();
        ids.extend([ENERGY.1, POWER_LIMIT.1, POWER_LIMIT_DEFAULT.1, MEMORY_TEMPERATURE.1]);
        ids.extend([RECOVERY_ACTION.1, POWER_AVERAGE.1, SOFTWARE_THERMAL_BEFORE.1]);
        Ok(Self {
            nvml,
            device,
            facts,
            pci,
            fields: FieldBatch::new(numbering, &ids),
            health_fields: FieldBatch::new(numbering, &HEALTH),
            process_list: ProcessList::new(),
            processes: None,
            mig: MigReader::new(nvml),
            memory_clock_mhz: None,
            clocks_event_reasons: None,
            slow_due: next_slow,
            slow_done: false,
            standing: GpuHealth::default(),
            power_limits: (None, None),
            slowdown_celsius,
        })
    }

    pub(super) fn index(&self) -> u32 {
        self.facts.index
    }

    pub(super) fn uuid(&self) -> &str {
        &self.facts.uuid
    }

    pub(super) fn pci(&self) -> Option<PciAddress> {
        self.pci
    }

    pub(super) fn minor_number(&self) -> Option<u32> {
        self.facts.minor_number
    }

    pub(super) fn device(&self) -> &Device<'nvml> {
        &self.device
    }

    /// Whether the driver tells of the XIDs of this GPU.
    pub(super) fn set_xid_events(&mut self, told: bool) {
        self.facts.health.xid_events = Some(told);
    }

    /// What was seen of its health by an earlier session.
    pub(super) fn set_last_health(&mut self, health: &GpuHealth) {
        self.standing = health.only_faults();
    }

    /// Reads everything that changes; `closer` also what is read more rarely of its health. An error ends the session.
    pub(super) fn read(
        &mut self,
        process_period: Duration,
        closer: bool,
        calls: &mut Calls<'_>,
    ) -> Result<Reading, NvmlError> {
        let (nvml, device) = (self.nvml, &self.device);
        let mut sample = self.facts.clone();

        let fields = calls.run(CallClass::FieldValues, || self.fields.read(nvml, device));
        calls.reported(CallClass::FieldValues, self.fields.driver_microseconds());
        let memory = calls.run(CallClass::Memory, || device.memory_info());
        let action = fields.is_ok().then(|| self.fields.get(RECOVERY_ACTION.0));
        let action = action.as_ref().and_then(|answer| answer.as_ref().err());
        let errors = [memory.as_ref().err(), fields.as_ref().err(), action];
        // One that wants a reset may go on to answer some calls.
        if errors
            .iter()
            .flatten()
            .any(|error| matches!(error, NvmlError::ResetRequired))
        {
            return Ok(Reading::Refused(NvmlError::ResetRequired));
        }
        let action_refused = fields.as_ref().err().or(action).is_some_and(is_refused);
        let memory = match memory {
            Err(error)
                if is_refused(&error) && fields.as_ref().is_err_and(|error| !Failure::of(error).ends_session()) =>
            {
                return Ok(Reading::Refused(error));
            }
            memory => optional(memory)?,
        };
        if optional(fields)?.is_some() {
            self.take_fields(&mut sample)?;
        }
        if action_refused {
            sample.health.recovery_action = self.standing.recovery_action;
        }
        self.standing.recovery_action = sample.health.only_faults().recovery_action;
        if let Some(memory) = memory {
            sample.memory_total_bytes = Some(memory.total);
            sample.memory_free_bytes = Some(memory.free);
            sample.memory_used_bytes = Some(memory.used);
        }
        // With MIG the driver tells no use of the whole GPU.
        if self.mig.instances().is_none()
            && let Some(rates) = optional(calls.run(CallClass::Utilization, || device.utilization_rates()))?
        {
            sample.utilization_percent = Some(rates.gpu);
            sample.memory_utilization_percent = Some(rates.memory);
        }
        sample.sm_clock_mhz = optional(calls.run(CallClass::Clocks, || device.clock_info(Clock::SM)))?;
        if sample.power_milliwatts.is_none() {
            sample.power_milliwatts = optional(calls.run(CallClass::Power, || device.power_usage()))?;
        }
        sample.temperature_celsius =
            match optional(calls.run(CallClass::Temperature, || device.temperature(TemperatureSensor::Gpu)))? {
                Some(degrees) => Some(degrees),
                None => optional(calls.run(CallClass::Temperature, || raw::temperature(nvml, device)))?,
            };
        sample.temperature_margin_celsius = match self.slowdown_celsius {
            Some(slowdown) => sample.temperature_celsius.and_then(|now| margin(slowdown, now)),
            None => optional(calls.run(CallClass::Temperature, || raw::margin_temperature(nvml, device)))?,
        };
        self.read_slowly(&sample, process_period, closer, calls)?;
        sample.memory_clock_mhz = self.memory_clock_mhz;
        sample.clocks_event_reasons = self.clocks_event_reasons;
        sample.health = GpuHealth {
            recovery_action: sample.health.recovery_action,
            ..self.facts.health
        };
        sample.power_limit_milliwatts = sample.power_limit_milliwatts.or(self.power_limits.0);
        sample.power_limit_default_milliwatts = sample.power_limit_default_milliwatts.or(self.power_limits.1);
        sample.processes.clone_from(&self.processes);
        sample.mig_instances = self.mig.instances().cloned();
        Ok(Reading::Sample(Box::new(sample)))
    }

    fn take_fields(&self, sample: &mut GpuSample) -> Result<(), NvmlError> {
        for (position, (_, cause)) in COUNTERS.into_iter().enumerate() {
            let mut counted = optional(self.fields.get(position))?;
            if counted.is_none() && cause == ThrottleCause::SoftwareThermal {
                counted = optional(self.fields.get(SOFTWARE_THERMAL_BEFORE.0))?;
            }
            if let Some(nanoseconds) = counted {
                sample.throttle.push(ThrottleCounter { cause, nanoseconds });
            }
        }
        sample.energy_millijoules = optional(self.fields.get(ENERGY.0))?;
        sample.power_limit_milliwatts = self.small_field(POWER_LIMIT.0)?;
        sample.power_limit_default_milliwatts = self.small_field(POWER_LIMIT_DEFAULT.0)?;
        sample.memory_temperature_celsius = self.small_field(MEMORY_TEMPERATURE.0)?;
        sample.health.recovery_action = self.small_field(RECOVERY_ACTION.0)?.map(RecoveryAction::from_code);
        sample.power_milliwatts = self.small_field(POWER_AVERAGE.0)?;
        Ok(())
    }

    fn small_field(&self, position: usize) -> Result<Option<u32>, NvmlError> {
        Ok(optional(self.fields.get(position))?.and_then(|value| u32::try_from(value).ok()))
    }

    fn read_slowly(
        &mut self,
        sample: &GpuSample,
        process_period: Duration,
        closer: bool,
        calls: &mut Calls<'_>,
    ) -> Result<(), NvmlError> {
        let now = Instant::now();
        let due = !self.slow_done || now >= self.slow_due;
        if due || closer {
            self.read_health(calls)?;
        }
        if !due {
            return Ok(());
        }
        self.slow_done = true;
        while self.slow_due <= now {
            self.slow_due += process_period;
        }
        let (nvml, device) = (self.nvml, &self.device);
        let list = optional(calls.run(CallClass::Processes, || self.process_list.read(nvml, device)))?;
        self.processes = match list {
            Some(list) if !list.is_empty() => {
                let clients = calls.run(CallClass::Processes, || self.process_list.read_clients(nvml, device));
                Some(with_clients(list, optional(clients)?.unwrap_or_default()))
            }
            list => list,
        };
        self.mig.read(device, calls)?;
        self.memory_clock_mhz = optional(calls.run(CallClass::Clocks, || device.clock_info(Clock::Memory)))?;
        self.clocks_event_reasons =
            optional(calls.run(CallClass::EventReasons, || raw::clocks_event_reasons(nvml, device)))?;
        if sample.power_limit_milliwatts.is_none() {
            self.power_limits.0 = optional(calls.run(CallClass::Power, || device.enforced_power_limit()))?;
            self.power_limits.1 = optional(calls.run(CallClass::Power, || device.power_management_limit_default()))?;
        }
        Ok(())
    }
}

impl DeviceReader<'_> {
    /// What a driver does not have, or refuses, stays unknown; but a fault that stood stands until the driver says that it is over.
    fn read_health(&mut self, calls: &mut Calls<'_>) -> Result<(), NvmlError> {
        let (nvml, device) = (self.nvml, &self.device);
        let read = calls.run(CallClass::Health, || self.health_fields.read(nvml, device));
        calls.reported(CallClass::Health, self.health_fields.driver_microseconds());
        let refused = read.as_ref().is_err_and(is_refused);
        let known = optional(read)?.is_some();
        let mut values = [(None, refused); HEALTH.len()];
        for (position, (value, refused)) in values.iter_mut().enumerate().filter(|_| known) {
            let answer = self.health_fields.get(position);
            *refused = answer.as_ref().is_err_and(is_refused);
            *value = optional(answer)?;
        }
        let [
            (volatile, _),
            (aggregate, _),
            (remapped, _),
            pending,
            failed,
            (retired, _),
            retiring,
        ] = values;
        let small = |value: Option<u64>| value.map(|value| u32::try_from(value).unwrap_or(u32::MAX));
        let stands = |(value, refused): (Option<u64>, bool), last: Option<bool>| match value {
            None if refused => last,
            value => value.map(|value| value != 0),
        };
        let last = self.standing;
        self.facts.health = GpuHealth {
            ecc_uncorrectable_volatile: volatile,
            ecc_uncorrectable_aggregate: aggregate,
            remapped_rows_uncorrectable: small(remapped),
            row_remap_pending: stands(pending, last.row_remap_pending),
            row_remap_failed: stands(failed, last.row_remap_failed),
            retired_pages: small(retired),
            page_retirement_pending: stands(retiring, last.page_retirement_pending),
            ..self.facts.health
        };
        self.standing = GpuHealth {
            recovery_action: last.recovery_action,
            ..self.facts.health.only_faults()
        };
        Ok(())
    }
}

/// Whether a GPU is of those whose temperature of slowdown is told as such. From Ada on NVIDIA's header points to the margin instead.
fn tells_slowdown(architecture: &DeviceArchitecture) -> bool {
    matches!(
        architecture,
        DeviceArchitecture::Kepler
            | DeviceArchitecture::Maxwell
            | DeviceArchitecture::Pascal
            | DeviceArchitecture::Volta
            | DeviceArchitecture::Turing
            | DeviceArchitecture::Ampere
    )
}

/// Degrees left until the slowdown; `None` for temperatures that no GPU has.
fn margin(slowdown_celsius: u32, celsius: u32) -> Option<i32> {
    let (slowdown, now) = (i32::try_from(slowdown_celsius).ok()?, i32::try_from(celsius).ok()?);
    slowdown.checked_sub(now)
}

/// Adds the clients of a Multi-Process Service that are not in the list already.
fn with_clients(mut list: Vec<GpuProcess>, clients: Vec<GpuProcess>) -> Vec<GpuProcess> {
    for client in clients {
        let same = |known: &GpuProcess| (known.pid, known.gpu_instance) == (client.pid, client.gpu_instance);
        if !list.iter().any(same) {
            list.push(client);
        }
    }
    list
}

fn is_refused(error: &NvmlError) -> bool {
    Failure::of(error) == Failure::Refused
}
