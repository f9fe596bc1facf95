//! The state file: lines `key = value`, `#` comments, one `[gpu N]` section for each GPU in order.
//!
//! ```text
//! driver = 580.95.05
//! init_error = DriverNotLoaded            # nvmlInit answers this
//! missing_symbols = nvmlDeviceGetMarginTemperature, GetTemperatureV
//! absent_symbols = nvmlDeviceGetTemperature   # when installed: not exported at all
//! hang = GetMemoryInfo                    # does not return while it stands here
//! delay = GetComputeRunningProcesses:4500 # microseconds; may be repeated
//!
//! [gpu 0]
//! name = NVIDIA H100 80GB HBM3
//! uuid = GPU-...
//! memory_total_mib = 81559
//! utilization = 87                        # `unsupported` for what the GPU does not tell
//! margin = 35                             # degrees left; older boards tell `slowdown`, the temperature itself
//! throttle.hardware_thermal = 0.38        # duty: the counter advances by 0.38 s each second
//! ecc_volatile = 0                        # uncorrectable errors since the driver loaded; also ecc_aggregate
//! remap_pending = 0                       # also remapped_rows, remap_failed, retired_pages, retirement_pending
//! recovery_action = 0
//! xid = 1:119                             # serial number and XID; told once, to those who listen by then; may be repeated
//! event = 2:0x2:0                         # the same with the bit of the event and its data
//! xid = 3:31@3/0                          # of both, in GPU instance 3 of MIG, and compute instance 0 in it; only `@3` without the latter
//! process = 4711:65536                    # pid:MiB, `?` for unknown MiB; may be repeated
//! mig = on:7:gpm                          # the keys of MIG are those of `src/mig.rs`
//! fail = GpuLost                          # every call; `GpuLost@GetMemoryInfo` only that one; may be repeated
//! hang = GetPowerUsage
//! ```
//!
//! Optional keys of a GPU that are left out count as `unsupported`, sizes as 0. Unknown keys are errors.

use std::fmt::{self, Display};
use std::str::FromStr;

use crate::codes::Call;
use crate::mig;
use crate::scenario::{Event, Failure, Gpu, Process, Scenario};

const UNSUPPORTED: &str = "unsupported";

/// A line of a state file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

impl Display for FormatError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for FormatError {}

impl FromStr for Scenario {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let mut scenario = Self::new("");
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                read_line(&mut scenario, line).map_err(|message| FormatError {
                    line: index + 1,
                    message,
                })?;
            }
        }
        if scenario.driver.is_empty() {
            return Err(FormatError {
                line: 1,
                message: "no driver version".to_owned(),
            });
        }
        Ok(scenario)
    }
}

fn read_line(scenario: &mut Scenario, line: &str) -> Result<(), String> {
    if let Some(section) = line.strip_prefix('[') {
        let number = section.strip_suffix(']').and_then(|inner| inner.strip_prefix("gpu "));
        if number.and_then(|number| number.trim().parse().ok()) != Some(scenario.gpus.len()) {
            return Err(format!("expected [gpu {}], found {line}", scenario.gpus.len()));
        }
        scenario.gpus.push(Gpu::default());
        return Ok(());
    }
    let (key, value) = line.split_once('=').ok_or_else(|| format!("no `=` in {line}"))?;
    let (key, value) = (key.trim(), value.trim());
    match scenario.gpus.last_mut() {
        Some(gpu) => read_gpu(gpu, key, value),
        None => read_driver(scenario, key, value),
    }
    .map_err(|message| format!("{key}: {message}"))
}

pub(crate) fn read_driver(scenario: &mut Scenario, key: &str, value: &str) -> Result<(), String> {
    match key {
        "driver" => value.clone_into(&mut scenario.driver),
        "init_error" => scenario.init_error = Some(value.parse()?),
        "missing_symbols" => scenario.missing_symbols = list(value).map(Call::new).collect(),
        "absent_symbols" => scenario.absent_symbols = list(value).map(str::to_owned).collect(),
        "hang" => scenario.hang.extend(list(value).map(Call::new)),
        "delay" => {
            let (call, microseconds) = value.split_once(':').ok_or("expected call:microseconds")?;
            scenario.delay.push((Call::new(call), number(microseconds)?));
        }
        _ => return Err("unknown key".to_owned()),
    }
    Ok(())
}

pub(crate) fn read_gpu(gpu: &mut Gpu, key: &str, value: &str) -> Result<(), String> {
    match key {
        "name" => value.clone_into(&mut gpu.name),
        "uuid" => value.clone_into(&mut gpu.uuid),
        "memory_total_mib" => gpu.memory_total_mib = number(value)?,
        "memory_reserved_mib" => gpu.memory_reserved_mib = number(value)?,
        "memory_used_mib" => gpu.memory_used_mib = number(value)?,
        "utilization" => gpu.utilization = optional(value)?,
        "memory_utilization" => gpu.memory_utilization = optional(value)?,
        "sm_clock" => gpu.sm_clock = optional(value)?,
        "sm_clock_max" => gpu.sm_clock_max = optional(value)?,
        "memory_clock" => gpu.memory_clock = optional(value)?,
        "power_mw" => gpu.power_mw = optional(value)?,
        "power_limit_mw" => gpu.power_limit_mw = optional(value)?,
        "power_limit_default_mw" => gpu.power_limit_default_mw = optional(value)?,
        "temperature" => gpu.temperature = optional(value)?,
        "margin" => gpu.margin = optional(value)?,
        "slowdown" => gpu.slowdown = optional(value)?,
        "power_smoothing" => gpu.power_smoothing = number::<u8>(value)? != 0,
        "memory_temperature" => gpu.memory_temperature = optional(value)?,
        "recovery_action" => gpu.recovery_action = optional(value)?,
        "ecc_volatile" => gpu.ecc_volatile = optional(value)?,
        "ecc_aggregate" => gpu.ecc_aggregate = optional(value)?,
        "remapped_rows" => gpu.remapped_rows = optional(value)?,
        "remap_pending" => gpu.remap_pending = optional(value)?,
        "remap_failed" => gpu.remap_failed = optional(value)?,
        "retired_pages" => gpu.retired_pages = optional(value)?,
        "retirement_pending" => gpu.retirement_pending = optional(value)?,
        "xid" => {
            let (serial, number) = value.split_once(':').ok_or("expected serial:number")?;
            gpu.events.push(event(serial, Event::XID, number)?);
        }
        "event" => {
            let mut parts = value.splitn(3, ':');
            let (Some(serial), Some(kind), Some(data)) = (parts.next(), parts.next(), parts.next()) else {
                return Err("expected serial:bit:data".to_owned());
            };
            gpu.events.push(event(serial, bits(kind)?, data)?);
        }
        "mig" | "mig_device" | "mig_process" => mig::read(&mut gpu.mig, key, value)?,
        "clocks_event_reasons" => gpu.clocks_event_reasons = Some(bits(value)?),
        "process" => {
            let (pid, used) = value.split_once(':').ok_or("expected pid:MiB")?;
            let used_mib = if used == "?" { None } else { Some(number(used)?) };
            gpu.processes.push(Process {
                pid: number(pid)?,
                used_mib,
            });
        }
        "fail" => {
            let (code, call) = value
                .split_once('@')
                .map_or((value, None), |(code, call)| (code, Some(call)));
            gpu.fail.push(Failure {
                code: code.parse()?,
                call: call.map(Call::new),
            });
        }
        "hang" => gpu.hang.extend(list(value).map(Call::new)),
        _ => {
            let cause = key.strip_prefix("throttle.").ok_or("unknown key")?.parse()?;
            gpu.throttle.insert(cause, optional(value)?);
        }
    }
    Ok(())
}

fn event(serial: &str, kind: u64, data: &str) -> Result<Event, String> {
    let (data, place) = data
        .split_once('@')
        .map_or((data, None), |(data, place)| (data, Some(place)));
    let (gpu, compute) = match place.map(|place| place.split_once('/').unwrap_or((place, ""))) {
        Some((gpu, compute)) => (Some(gpu), Some(compute).filter(|compute| !compute.is_empty())),
        None => (None, None),
    };
    let gpu_instance = gpu.map(number).transpose()?;
    let compute_instance = compute.map(number).transpose()?;
    Ok(Event {
        serial: number(serial)?,
        kind,
        data: number(data)?,
        gpu_instance,
        compute_instance,
    })
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

fn number<T: FromStr<Err: Display>>(value: &str) -> Result<T, String> {
    value.trim().parse().map_err(|error| format!("{value}: {error}"))
}

fn optional<T: FromStr<Err: Display>>(value: &str) -> Result<Option<T>, String> {
    if value == UNSUPPORTED {
        Ok(None)
    } else {
        number(value).map(Some)
    }
}

fn bits(value: &str) -> Result<u64, String> {
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).map_err(|error| format!("{value}: {error}")),
        None => number(value),
    }
}

impl Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "driver = {}", self.driver)?;
        if let Some(code) = self.init_error {
            writeln!(formatter, "init_error = {code}")?;
        }
        write_list(formatter, "missing_symbols", &self.missing_symbols)?;
        write_list(formatter, "absent_symbols", &self.absent_symbols)?;
        write_list(formatter, "hang", &self.hang)?;
        for (call, microseconds) in &self.delay {
            writeln!(formatter, "delay = {call}:{microseconds}")?;
        }
        for (index, gpu) in self.gpus.iter().enumerate() {
            writeln!(formatter, "\n[gpu {index}]")?;
            write_gpu(formatter, gpu)?;
        }
        Ok(())
    }
}

fn write_gpu(formatter: &mut fmt::Formatter<'_>, gpu: &Gpu) -> fmt::Result {
    writeln!(formatter, "name = {}\nuuid = {}", gpu.name, gpu.uuid)?;
    writeln!(formatter, "memory_total_mib = {}", gpu.memory_total_mib)?;
    writeln!(formatter, "memory_reserved_mib = {}", gpu.memory_reserved_mib)?;
    writeln!(formatter, "memory_used_mib = {}", gpu.memory_used_mib)?;
    write_optional(formatter, "utilization", gpu.utilization)?;
    write_optional(formatter, "memory_utilization", gpu.memory_utilization)?;
    write_optional(formatter, "sm_clock", gpu.sm_clock)?;
    write_optional(formatter, "sm_clock_max", gpu.sm_clock_max)?;
    write_optional(formatter, "memory_clock", gpu.memory_clock)?;
    write_optional(formatter, "power_mw", gpu.power_mw)?;
    write_optional(formatter, "power_limit_mw", gpu.power_limit_mw)?;
    write_optional(formatter, "power_limit_default_mw", gpu.power_limit_default_mw)?;
    write_optional(formatter, "temperature", gpu.temperature)?;
    write_optional(formatter, "margin", gpu.margin)?;
    write_optional(formatter, "slowdown", gpu.slowdown)?;
    if gpu.power_smoothing {
        writeln!(formatter, "power_smoothing = 1")?;
    }
    write_optional(formatter, "memory_temperature", gpu.memory_temperature)?;
    write_optional(formatter, "recovery_action", gpu.recovery_action)?;
    write_optional(formatter, "ecc_volatile", gpu.ecc_volatile)?;
    write_optional(formatter, "ecc_aggregate", gpu.ecc_aggregate)?;
    write_optional(formatter, "remapped_rows", gpu.remapped_rows)?;
    write_optional(formatter, "remap_pending", gpu.remap_pending)?;
    write_optional(formatter, "remap_failed", gpu.remap_failed)?;
    write_optional(formatter, "retired_pages", gpu.retired_pages)?;
    write_optional(formatter, "retirement_pending", gpu.retirement_pending)?;
    for event in &gpu.events {
        write_event(formatter, event)?;
    }
    if let Some(reasons) = gpu.clocks_event_reasons {
        writeln!(formatter, "clocks_event_reasons = {reasons:#x}")?;
    }
    for (cause, duty) in &gpu.throttle {
        write_optional(formatter, &format!("throttle.{}", cause.as_str()), *duty)?;
    }
    for process in &gpu.processes {
        match process.used_mib {
            Some(used) => writeln!(formatter, "process = {}:{used}", process.pid)?,
            None => writeln!(formatter, "process = {}:?", process.pid)?,
        }
    }
    if let Some(mig) = &gpu.mig {
        mig::write(formatter, mig)?;
    }
    for failure in &gpu.fail {
        match &failure.call {
            Some(call) => writeln!(formatter, "fail = {}@{call}", failure.code)?,
            None => writeln!(formatter, "fail = {}", failure.code)?,
        }
    }
    write_list(formatter, "hang", &gpu.hang)
}

fn write_event(formatter: &mut fmt::Formatter<'_>, event: &Event) -> fmt::Result {
    match event.kind {
        Event::XID => write!(formatter, "xid = {}:{}", event.serial, event.data)?,
        kind => write!(formatter, "event = {}:{kind:#x}:{}", event.serial, event.data)?,
    }
    match (event.gpu_instance, event.compute_instance) {
        (Some(gpu), Some(compute)) => writeln!(formatter, "@{gpu}/{compute}"),
        (Some(gpu), None) => writeln!(formatter, "@{gpu}"),
        (None, _) => writeln!(formatter),
    }
}

fn write_list<T: Display>(formatter: &mut fmt::Formatter<'_>, key: &str, entries: &[T]) -> fmt::Result {
    if entries.is_empty() {
        return Ok(());
    }
    let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
    writeln!(formatter, "{key} = {}", entries.join(", "))
}

fn write_optional<T: Display>(formatter: &mut fmt::Formatter<'_>, key: &str, value: Option<T>) -> fmt::Result {
    match value {
        Some(value) => writeln!(formatter, "{key} = {value}"),
        None => writeln!(formatter, "{key} = {UNSUPPORTED}"),
    }
}
