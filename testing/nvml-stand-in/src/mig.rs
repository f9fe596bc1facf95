//! MIG of a simulated GPU: its part of a scenario, and of the state file.
//!
//! ```text
//! mig = on:7:gpm                          # on or off; the most devices; `gpm` where the GPU tells their use, else `-`
//! mig_device = 0:MIG-...:3:0:9856:120:35  # slot, uuid, GPU instance, compute instance, MiB, MiB in use, percent; may be repeated
//! mig_process = 0:4711:120                # a process on the device of that slot: pid:MiB; may be repeated
//! ```

use std::fmt;
use std::str::FromStr;

use crate::scenario::Process;

/// MIG of a GPU that has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Mig {
    /// The mode.
    pub enabled: bool,
    /// The most devices, which is how many slots there are.
    pub most: u32,
    /// Whether the GPU tells the use of its instances (GPM, Hopper and newer).
    pub gpm: bool,
    /// The devices that there are.
    pub devices: Vec<MigDevice>,
}

/// A MIG device: a compute instance.
#[derive(Clone, Debug, PartialEq)]
pub struct MigDevice {
    /// Index under which the driver enumerates it.
    pub slot: u32,
    /// `MIG-<uuid>`.
    pub uuid: String,
    /// Its GPU instance, whose memory it shares with others of that instance: the first one tells it.
    pub gpu_instance: u32,
    /// Its number in the GPU instance.
    pub compute_instance: u32,
    /// Memory of the GPU instance, MiB.
    pub memory_total_mib: u64,
    /// Memory in use, MiB.
    pub memory_used_mib: u64,
    /// Use of the GPU instance, percent.
    pub utilization: u32,
    /// Processes that compute on it.
    pub processes: Vec<Process>,
}

impl Mig {
    /// MIG with seven slots and no device.
    #[must_use]
    pub const fn on(gpm: bool) -> Self {
        Self {
            enabled: true,
            most: 7,
            gpm,
            devices: Vec::new(),
        }
    }

    /// Adds a device of 9856 MiB in the next slot, with a GPU instance of its own.
    #[must_use]
    pub fn device(mut self, uuid: &str, gpu_instance: u32, used_mib: u64) -> Self {
        let slot = self.devices.last().map_or(0, |device| device.slot + 1);
        self.devices.push(MigDevice {
            slot,
            uuid: uuid.to_owned(),
            gpu_instance,
            compute_instance: 0,
            memory_total_mib: 9856,
            memory_used_mib: used_mib,
            utilization: 0,
            processes: Vec::new(),
        });
        self
    }
}

/// Reads a line of the state file whose key begins with `mig`.
pub(crate) fn read(mig: &mut Option<Mig>, key: &str, value: &str) -> Result<(), String> {
    let parts: Vec<&str> = value.split(':').collect();
    match (key, parts.as_slice()) {
        ("mig", [mode, most, gpm]) => {
            *mig = Some(Mig {
                enabled: *mode == "on",
                most: number(most)?,
                gpm: *gpm == "gpm",
                devices: Vec::new(),
            });
        }
        ("mig_device", [slot, uuid, gpu_instance, compute_instance, total, used, utilization]) => {
            let device = MigDevice {
                slot: number(slot)?,
                uuid: (*uuid).to_owned(),
                gpu_instance: number(gpu_instance)?,
                compute_instance: number(compute_instance)?,
                memory_total_mib: number(total)?,
                memory_used_mib: number(used)?,
                utilization: number(utilization)?,
                processes: Vec::new(),
            };
            mig.as_mut().ok_or("expected mig before it")?.devices.push(device);
        }
        ("mig_process", [slot, pid, used]) => {
            let slot: u32 = number(slot)?;
            let devices = mig.iter_mut().flat_map(|mig| &mut mig.devices);
            let process = Process {
                pid: number(pid)?,
                used_mib: if *used == "?" { None } else { Some(number(used)?) },
            };
            let device = devices.into_iter().find(|device| device.slot == slot);
            device
                .ok_or("no device in that slot before it")?
                .processes
                .push(process);
        }
        _ => return Err("expected other parts between colons".to_owned()),
    }
    Ok(())
}

/// Writes what [`read`] reads.
pub(crate) fn write(formatter: &mut fmt::Formatter<'_>, mig: &Mig) -> fmt::Result {
    let (mode, gpm) = (
        if mig.enabled { "on" } else { "off" },
        if mig.gpm { "gpm" } else { "-" },
    );
    writeln!(formatter, "mig = {mode}:{}:{gpm}", mig.most)?;
    for device in &mig.devices {
        writeln!(
            formatter,
            "mig_device = {}:{}:{}:{}:{}:{}:{}",
            device.slot,
            device.uuid,
            device.gpu_instance,
            device.compute_instance,
            device.memory_total_mib,
            device.memory_used_mib,
            device.utilization
        )?;
        for process in &device.processes {
            let used = process.used_mib.map_or("?".to_owned(), |used| used.to_string());
            writeln!(formatter, "mig_process = {}:{}:{used}", device.slot, process.pid)?;
        }
    }
    Ok(())
}

fn number<T: FromStr<Err: fmt::Display>>(value: &str) -> Result<T, String> {
    value.trim().parse().map_err(|error| format!("{value}: {error}"))
}
