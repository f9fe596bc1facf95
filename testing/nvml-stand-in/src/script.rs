//! Changes to what is played while it runs, one by one or over time.
//!
//! ```text
//! gpu 0: temperature = 91                 # a key of the state file, see `format`
//! every gpu: throttle.hardware_thermal = 0.4
//! gpu 1: xid = 79                         # the serial number is the next one
//! driver: hang = GetMemoryInfo
//!
//! at 2.5                                  # what follows comes 2.5 s after the start of the script
//! driver: no hang                         # takes all entries of a key away
//! gpu 0: no throttle.hardware_thermal
//! ```

use std::time::Duration;

use crate::codes::Cause;
use crate::format::{read_driver, read_gpu};
use crate::scenario::{Event, Gpu, Scenario};

/// Longest time that a script may name, seconds: a day.
const LONGEST_SECONDS: f64 = 86_400.0;

/// Changes that come together.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When, from the start of the script.
    pub at: Duration,
    /// One change a line, as [`change`] takes them.
    pub changes: Vec<String>,
}

/// Reads a script. Steps come in the order of their times.
///
/// # Errors
/// With the number of the line, when a time is none, or earlier than the one before. Whether a change can be made shows when it is made.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = vec![Step {
        at: Duration::ZERO,
        changes: Vec::new(),
    }];
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let Some(seconds) = line.strip_prefix("at ") else {
            if let Some(step) = steps.last_mut() {
                step.changes.push(line.to_owned());
            }
            continue;
        };
        let wrong = |what: &str| format!("line {}: {what}: {line}", index + 1);
        let seconds: f64 = seconds.trim().parse().map_err(|_| wrong("not a number of seconds"))?;
        if !(0.0..=LONGEST_SECONDS).contains(&seconds) {
            return Err(wrong("seconds are from 0 to 86400"));
        }
        let at = Duration::from_secs_f64(seconds);
        if steps.last().is_some_and(|before| at < before.at) {
            return Err(wrong("earlier than the step before"));
        }
        steps.push(Step {
            at,
            changes: Vec::new(),
        });
    }
    steps.retain(|step| !step.changes.is_empty());
    Ok(steps)
}

/// Makes one change: `gpu N: KEY = VALUE`, `every gpu: ...`, `driver: ...`, or `no KEY` in place of the last part.
///
/// # Errors
/// In words, when there is no such GPU or key, or the value cannot be read. The scenario may have been changed in part then.
pub fn change(scenario: &mut Scenario, line: &str) -> Result<(), String> {
    let (target, what) = line
        .split_once(':')
        .ok_or_else(|| format!("expected `gpu N:`, `every gpu:` or `driver:` at the start of: {line}"))?;
    let what = what.trim();
    let told = |message: String| format!("{line}: {message}");
    match target.trim() {
        "driver" => change_driver(scenario, what).map_err(told),
        "every gpu" => scenario
            .gpus
            .iter_mut()
            .try_for_each(|gpu| change_gpu(gpu, what))
            .map_err(told),
        target => {
            let count = scenario.gpus.len();
            let index = target
                .strip_prefix("gpu ")
                .and_then(|index| index.trim().parse::<usize>().ok());
            let gpu = index.and_then(|index| scenario.gpus.get_mut(index));
            let gpu = gpu.ok_or_else(|| told(format!("no such target; there are {count} GPUs, from 0")))?;
            change_gpu(gpu, what).map_err(told)
        }
    }
}

fn assignment(what: &str) -> Result<(&str, &str), String> {
    let (key, value) = what.split_once('=').ok_or("expected `KEY = VALUE` or `no KEY`")?;
    Ok((key.trim(), value.trim()))
}

fn change_driver(scenario: &mut Scenario, what: &str) -> Result<(), String> {
    let Some(key) = what.strip_prefix("no ") else {
        let (key, value) = assignment(what)?;
        return read_driver(scenario, key, value);
    };
    match key.trim() {
        "init_error" => scenario.init_error = None,
        "missing_symbols" => scenario.missing_symbols.clear(),
        "hang" => scenario.hang.clear(),
        "delay" => scenario.delay.clear(),
        key => return Err(format!("nothing to take away: {key}")),
    }
    Ok(())
}

fn change_gpu(gpu: &mut Gpu, what: &str) -> Result<(), String> {
    let Some(key) = what.strip_prefix("no ") else {
        let (key, value) = assignment(what)?;
        if key == "xid" && !value.contains(':') {
            let number = value.parse().map_err(|_| format!("not an XID: {value}"))?;
            *gpu = gpu.clone().event(Event::XID, number);
            return Ok(());
        }
        return read_gpu(gpu, key, value);
    };
    match key.trim() {
        "process" => gpu.processes.clear(),
        "fail" => gpu.fail.clear(),
        "hang" => gpu.hang.clear(),
        "clocks_event_reasons" => gpu.clocks_event_reasons = None,
        key => {
            let cause = key.strip_prefix("throttle.").map(str::parse::<Cause>);
            let cause = cause.ok_or_else(|| format!("nothing to take away: {key}"))??;
            gpu.throttle.remove(&cause);
        }
    }
    Ok(())
}
