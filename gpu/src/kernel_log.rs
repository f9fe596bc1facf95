//! What NVIDIA's drivers write into the kernel's log: XIDs with the process that caused them, and SXids of NVSwitch. Pure: text in, values
//! out.
//!
//! Forms of a line, by the driver's own source (`krcErrorLog`, open-gpu-kernel-modules) and NVIDIA's document on XIDs:
//!
//! ```text
//! NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python3, GPU has fallen off the bus.
//! NVRM: Xid (PCI:0000:3b:00 GPU-I:05 GPU-CI:00): 94, pid=7194, name=python3, Contained: CE User Channel (0x9).
//! NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
//! NVRM: Xid (PCI:0009:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)
//! NVRM: Xid (0000:03:00): 14, Channel 00000001
//! NVRM: GPU 0000:91:00.0: GPU has fallen off the bus.
//! NVRM: The NVIDIA GPU 0000:5d:00.0\x0aNVRM: (PCI ID: 10de:2330) installed in this system has\x0aNVRM: fallen off the bus and is not ...
//! nvidia-nvswitch0: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM Fault Up
//! ```
//!
//! The second last is one record with line feeds, which `/dev/kmsg` escapes (`osinit.c` of the same source); it comes when a driver is
//! loaded for a GPU that does not answer.

use crate::mig::MigPlace;
use std::fmt;

/// Longest name of a process that is kept, bytes; the kernel has 15.
const NAME_MAX: usize = 32;
/// Longest text of an SXid that is kept, bytes.
const TEXT_MAX: usize = 96;

/// Where a GPU or a switch is on the PCI bus, without its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// Domain.
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device.
    pub device: u8,
}

impl PciAddress {
    /// Reads `0000:3b:00` or `0000:3b:00.0`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (domain, bus, device) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let device = device.split('.').next()?;
        Some(Self {
            domain: u32::from_str_radix(domain, 16).ok()?,
            bus: u8::from_str_radix(bus, 16).ok()?,
            device: u8::from_str_radix(device, 16).ok()?,
        })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04x}:{:02x}:{:02x}", self.domain, self.bus, self.device)
    }
}

/// The process that the driver names with an XID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XidProcess {
    /// Process id in the node's own PID namespace.
    pub pid: Option<u32>,
    /// Name of its thread, as the kernel knows it; printable, at most 32 bytes.
    pub name: Option<String>,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// An XID of a GPU.
    Xid {
        /// Where the GPU is.
        pci: PciAddress,
        /// Number in NVIDIA's catalogue.
        number: u32,
        /// Where on the GPU; only some lines name it.
        place: MigPlace,
        /// The process that the driver blames.
        process: XidProcess,
    },
    /// An SXid of an NVSwitch: no GPU, but all GPUs of the node talk through it.
    SwitchXid {
        /// Where the switch is.
        pci: PciAddress,
        /// Number in NVIDIA's Fabric Manager guide.
        number: u32,
        /// The driver calls it fatal; `None` for lines that say neither, which tell more of another one.
        fatal: Option<bool>,
        /// What the driver says of it; printable, at most 96 bytes.
        text: String,
    },
    /// A GPU does not answer on the bus: what XID 79 tells, without the number.
    OffTheBus {
        /// Where the GPU is.
        pci: PciAddress,
    },
}

/// Reads a record of `/dev/kmsg`: `priority,sequence,microseconds,flags;text`. `None` for what the kernel did not write itself (a program
/// that may write to the device could else invent faults), and for what is none of our lines.
#[must_use]
pub fn parse_record(record: &str) -> Option<KernelEvent> {
    let (prefix, text) = record.split_once(';')?;
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    // Bits above the level are the facility; only the kernel has 0.
    if priority >> 3 != 0 {
        return None;
    }
    parse_text(text)
}

/// Reads the text of a line.
fn parse_text(text: &str) -> Option<KernelEvent> {
    if let Some(rest) = text.strip_prefix("NVRM: Xid (") {
        return xid(rest);
    }
    if let Some(rest) = text.strip_prefix("NVRM: ") {
        return off_the_bus(rest);
    }
    let (switch, rest) = text.split_once(": SXid (")?;
    switch.strip_prefix("nvidia-nvswitch").and_then(|_| switch_xid(rest))
}

/// After `Xid (`.
fn xid(rest: &str) -> Option<KernelEvent> {
    let (place, rest) = rest.split_once("): ")?;
    let mut places = place.split(' ');
    let pci = places.next()?;
    let pci = PciAddress::parse(pci.strip_prefix("PCI:").unwrap_or(pci))?;
    let mut named = |prefix: &str| places.find_map(|part| part.strip_prefix(prefix)?.parse().ok());
    // In this order.
    let gpu_instance = named("GPU-I:");
    let compute_instance = gpu_instance.and_then(|_| named("GPU-CI:"));
    let (number, rest) = number(rest)?;
    let rest = rest.strip_prefix(", ").unwrap_or(rest);
    Some(KernelEvent::Xid {
        pci,
        number,
        place: MigPlace {
            gpu_instance,
            compute_instance,
        },
        process: process(rest),
    })
}

/// After `NVRM: `: one of the lines that begin with the GPU and go on to say that it is off the bus.
fn off_the_bus(rest: &str) -> Option<KernelEvent> {
    let rest = rest.strip_prefix("The NVIDIA ").unwrap_or(rest);
    let rest = rest.strip_prefix("GPU ")?;
    let rest = rest.strip_prefix("at ").unwrap_or(rest);
    let rest = rest.strip_prefix("PCI:").unwrap_or(rest);
    // The line feed of a longer record is escaped.
    let end = rest.find([' ', '\\']).unwrap_or(rest.len());
    let (place, said) = rest.split_at_checked(end)?;
    said.contains("fallen off the bus").then_some(KernelEvent::OffTheBus {
        pci: PciAddress::parse(place.trim_end_matches(':'))?,
    })
}

fn switch_xid(rest: &str) -> Option<KernelEvent> {
    let (place, rest) = rest.split_once("): ")?;
    let (number, rest) = number(rest)?;
    let rest = rest.strip_prefix(", ").unwrap_or(rest);
    let (severity, text) = rest.split_once(", ").unwrap_or((rest, ""));
    Some(KernelEvent::SwitchXid {
        pci: PciAddress::parse(place.strip_prefix("PCI:")?)?,
        number,
        fatal: match severity {
            "Fatal" => Some(true),
            "Non-fatal" => Some(false),
            _ => None,
        },
        text: printable(text, TEXT_MAX),
    })
}

/// The number at the start, and what follows it.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

/// `pid=1234, name=python3, ...`; each may be missing or unknown.
fn process(text: &str) -> XidProcess {
    let Some(rest) = text.strip_prefix("pid=") else {
        return XidProcess::default();
    };
    let (pid, rest) = rest.split_once(", ").unwrap_or((rest, ""));
    let name = rest
        .strip_prefix("name=")
        .map(|rest| rest.split(", ").next().unwrap_or(rest));
    XidProcess {
        pid: pid.trim_matches('\'').parse().ok(),
        name: name
            .map(|name| printable(name, NAME_MAX))
            .filter(|name| !name.is_empty() && name != "<unknown>"),
    }
}

/// What may be shown: a process chooses its own name.
fn printable(name: &str, most: usize) -> String {
    let mut kept = String::new();
    for character in name
        .trim_matches('\'')
        .chars()
        .filter(|character| !character.is_control())
    {
        if kept.len() + character.len_utf8() > most {
            break;
        }
        kept.push(character);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Address, number, GPU and compute instance of MIG, pid and name of the XID in a line; `-` for what is not told.
    fn told(line: &str) -> String {
        let Some(KernelEvent::Xid {
            pci,
            number,
            place,
            process,
        }) = parse_record(&format!("4,1021,19421000,-;{line}"))
        else {
            return "none".to_owned();
        };
        let or_dash = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let name = process.name.unwrap_or_else(|| "-".to_owned());
        format!(
            "{pci} {number} {}/{} {} {name}",
            or_dash(place.gpu_instance),
            or_dash(place.compute_instance),
            or_dash(process.pid)
        )
    }

    /// Lines as people have posted them.
    #[test]
    fn xids_are_read_in_every_form() {
        let table = [
            (
                "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python3, GPU has fallen off the bus.",
                "0000:3b:00 79 -/- 1234 python3",
            ),
            (
                "NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=7194, Contained: CE User Channel (0x9). RST: No, D-RST: No",
                "0000:01:00 94 5/- 7194 -",
            ),
            (
                "NVRM: Xid (PCI:0000:3b:00 GPU-I:01 GPU-CI:02): 13, pid=9, name=a, Graphics Exception",
                "0000:3b:00 13 1/2 9 a",
            ),
            (
                "NVRM: Xid (PCI:0000:91:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
                "0000:91:00 79 -/- - -",
            ),
            (
                "NVRM: Xid (PCI:0000:01:00): 79, pid=1122, GPU has fallen off the bus.",
                "0000:01:00 79 -/- 1122 -",
            ),
            (
                "NVRM: Xid (PCI:0009:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)",
                "0009:01:00 154 -/- - -",
            ),
            ("NVRM: Xid (0000:03:00): 14, Channel 00000001", "0000:03:00 14 -/- - -"),
            (
                "NVRM: Xid (PCI:0000:00:06): 31, pid=79749, name=exe, Ch 0000000a, intr 00000000. MMU Fault: ENGINE GRAPHICS",
                "0000:00:06 31 -/- 79749 exe",
            ),
            (
                "NVRM: Xid (PCI:0000:10:1c): 63, pid=1896, Row Remapper: New row marked for remapping, reset gpu to activate.",
                "0000:10:1c 63 -/- 1896 -",
            ),
            (
                "NVRM: Xid (PCI:0009:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 (0x021425c6 0x00000000)",
                "0009:01:00 149 -/- - -",
            ),
            ("NVRM: Xid (PCI:0000:83:00): 48", "0000:83:00 48 -/- - -"),
        ];
        for (line, expected) in table {
            assert_eq!(told(line), expected, "{line}");
        }
    }

    #[test]
    fn switches_are_told_apart_from_gpus() {
        let table = [
            (
                "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM Fault Up",
                Some(true),
                "Link 48 LTSSM Fault Up",
            ),
            (
                "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Non-fatal, Link 20 Therm Warn Deactivated",
                Some(false),
                "Link 20 Therm Warn Deactivated",
            ),
            (
                "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Severity 1 Engine instance 60 Sub-engine instance 00",
                None,
                "",
            ),
            (
                "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Data {0x00140004, 0x00100000}",
                None,
                "0x00100000}",
            ),
            (
                "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal",
                Some(true),
                "",
            ),
        ];
        for (line, fatal, text) in table {
            let pci = PciAddress::parse("0000:06:00").unwrap();
            let expected = KernelEvent::SwitchXid {
                pci,
                number: 20034,
                fatal,
                text: text.to_owned(),
            };
            assert_eq!(parse_record(&format!("3,1,2,-;{line}")), Some(expected), "{line}");
        }
    }

    #[test]
    fn a_gpu_that_is_off_the_bus_is_known_by_its_address() {
        let table = [
            ("NVRM: GPU 0000:29:00.0: GPU has fallen off the bus.", "0000:29:00"),
            ("NVRM: GPU at PCI:0000:0a:00 has fallen off the bus", "0000:0a:00"),
            ("NVRM: GPU at 0000:01:00.0 has fallen off the bus.", "0000:01:00"),
            (
                "NVRM: The NVIDIA GPU 0000:5d:00.0\\x0aNVRM: (PCI ID: 10de:2330) installed in this system has\\x0aNVRM: fallen off the bus and is not responding to commands.\\x0a",
                "0000:5d:00",
            ),
        ];
        for (line, place) in table {
            let pci = PciAddress::parse(place).unwrap();
            let found = parse_record(&format!("4,1,2,-;{line}"));
            assert_eq!(found, Some(KernelEvent::OffTheBus { pci }), "{line}");
        }
    }

    #[test]
    fn what_is_none_of_ours_is_left_alone() {
        for record in [
            "6,339,5140900,-;NET: Registered protocol family 10",
            // Facility 1: a program wrote it, not the kernel.
            "12,340,5140901,-;NVRM: Xid (PCI:0000:3b:00): 79, pid=1, name=liar, GPU has fallen off the bus.",
            "4,340,5140901,-;said: NVRM: Xid (PCI:0000:3b:00): 79",
            "4,340,5140901,-;NVRM: Xid (invalid): 79, some error",
            "4,340,5140901,-;NVRM: Xid (PCI:0000:3b:00): many",
            "4,340,5140901,-;NVRM: Xid (PCI:0000:3b:00): 99999999999, too many",
            "4,340,5140901,-;NVRM: Xid error: xyz, invalid data",
            "4,340,5140901,-;NVRM: GPU at PCI:0000:91:00: GPU-b6c3b2be-c55b-d076-fa0e-d464e4c7e08b",
            "4,340,5140901,-;NVRM: GPU 0000:91:00.0: GPU serial number is 1653723052734.",
            "4,340,5140901,-;NVRM: The NVIDIA GPU 0000:5d:00.0 (PCI ID: 10de:2330) installed in this system is not supported",
            "4,340,5140901,-;NVRM: GPU has fallen off the bus.",
            "4,340,5140901,-;NVRM: loading NVIDIA UNIX x86_64 Kernel Module  525.125.06",
            "12,340,5140901,-;NVRM: GPU 0000:29:00.0: GPU has fallen off the bus.",
            "4,340,5140901,-;nvidia-nvswitch0: SXid (PCI:nowhere): 20034, Fatal, Link 48 LTSSM Fault Up",
            "x,340;NVRM: Xid (PCI:0000:3b:00): 79",
            " SUBSYSTEM=pci",
            "",
            ";",
        ] {
            assert_eq!(parse_record(record), None, "{record}");
        }
    }

    #[test]
    fn a_name_is_fit_to_be_shown() {
        let line = format!(
            "4,1,2,-;NVRM: Xid (PCI:0000:3b:00): 31, pid=7, name=\u{1b}[31m{}, text",
            "é".repeat(40)
        );
        let Some(KernelEvent::Xid { process, .. }) = parse_record(&line) else {
            panic!("{line}")
        };
        let name = process.name.unwrap();
        assert!(name.len() <= 32 && name.starts_with("[31mé"), "{name}");
    }
}
