//! The C structures of `nvml.h` that the stand-in fills in (x86-64 and aarch64 agree on them).

use std::ffi::{c_char, c_int, c_uint, c_void};

#[repr(C)]
pub struct MemoryV2 {
    pub version: c_uint,
    pub total: u64,
    pub reserved: u64,
    pub free: u64,
    pub used: u64,
}

#[repr(C)]
pub struct Memory {
    pub total: u64,
    pub free: u64,
    pub used: u64,
}

#[repr(C)]
pub struct Utilization {
    pub gpu: c_uint,
    pub memory: c_uint,
}

#[repr(C)]
pub struct ProcessInfo {
    pub pid: c_uint,
    pub used_gpu_memory: u64,
    pub gpu_instance_id: c_uint,
    pub compute_instance_id: c_uint,
}

#[repr(C)]
pub struct FieldValue {
    pub field_id: c_uint,
    pub scope_id: c_uint,
    pub timestamp: i64,
    pub latency_usec: i64,
    pub value_type: c_uint,
    pub nvml_return: c_uint,
    /// The union `nvmlValue_t`; on a little-endian machine the low bytes serve every integer member.
    pub value: u64,
}

#[repr(C)]
pub struct PciInfo {
    pub bus_id_legacy: [c_char; 16],
    pub domain: c_uint,
    pub bus: c_uint,
    pub device: c_uint,
    pub pci_device_id: c_uint,
    pub pci_subsystem_id: c_uint,
    pub bus_id: [c_char; 32],
}

#[repr(C)]
pub struct TemperatureV1 {
    pub version: c_uint,
    pub sensor: c_uint,
    pub temperature: c_int,
}

#[repr(C)]
pub struct MarginTemperatureV1 {
    pub version: c_uint,
    pub margin: c_int,
}

#[repr(C)]
pub struct EventData {
    pub device: *mut c_void,
    pub event_type: u64,
    pub event_data: u64,
    pub gpu_instance_id: c_uint,
    pub compute_instance_id: c_uint,
}

const _: () = assert!(size_of::<MemoryV2>() == 40);
const _: () = assert!(size_of::<ProcessInfo>() == 24);
const _: () = assert!(size_of::<FieldValue>() == 40);
const _: () = assert!(size_of::<PciInfo>() == 68);
const _: () = assert!(size_of::<EventData>() == 32);
