//! MIG: the mode, the devices, and what may be asked of them.

use std::ffi::{c_char, c_uint};

use crate::codes::ReturnCode;
use crate::exports::{Device, MIB, on_gpu, put, put_text};
use crate::layout::MemoryV2;
use crate::mig::{Mig, MigDevice};
use crate::world::World;

/// Handles of MIG devices: the slot + 1 above the handle of the GPU.
const SLOT_SHIFT: u32 = 16;

/// The GPU of a handle, and the slot of a MIG device.
pub fn split(device: Device) -> (Device, Option<u32>) {
    let slot = ((device as usize) >> SLOT_SHIFT) as u32;
    let gpu = (device as usize & ((1 << SLOT_SHIFT) - 1)) as Device;
    (gpu, slot.checked_sub(1))
}

/// MIG of a GPU on which it is on.
pub fn enabled(world: &World, index: usize) -> Result<&Mig, ReturnCode> {
    let mig = world.gpu(index)?.mig.as_ref();
    mig.filter(|mig| mig.enabled).ok_or(ReturnCode::NOT_SUPPORTED)
}

/// The MIG device in a slot. A handle stays as it is when its device is destroyed, and names the next one in that slot.
fn device_in(world: &World, index: usize, slot: u32) -> Result<&MigDevice, ReturnCode> {
    let mut devices = enabled(world, index)?.devices.iter();
    devices.find(|device| device.slot == slot).ok_or(ReturnCode::NOT_FOUND)
}

/// Memory of the GPU instance of a MIG device.
pub fn memory(world: &World, index: usize, slot: u32) -> Result<MemoryV2, ReturnCode> {
    let gpu_instance = device_in(world, index, slot)?.gpu_instance;
    let mut devices = enabled(world, index)?.devices.iter();
    let first = devices.find(|device| device.gpu_instance == gpu_instance);
    let first = first.ok_or(ReturnCode::NOT_FOUND)?;
    Ok(MemoryV2 {
        version: 0,
        total: first.memory_total_mib * MIB,
        reserved: 0,
        free: first.memory_total_mib.saturating_sub(first.memory_used_mib) * MIB,
        used: first.memory_used_mib * MIB,
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUUID(device: Device, text: *mut c_char, length: c_uint) -> u32 {
    let (gpu, slot) = split(device);
    on_gpu("nvmlDeviceGetUUID", gpu, |world, index| {
        let uuid = match slot {
            Some(slot) => &device_in(world, index, slot)?.uuid,
            None => &world.gpu(index)?.uuid,
        };
        put_text(text, length, uuid)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigMode(device: Device, current: *mut c_uint, pending: *mut c_uint) -> u32 {
    on_gpu("nvmlDeviceGetMigMode", device, |world, index| {
        let mig = world.gpu(index)?.mig.as_ref().ok_or(ReturnCode::NOT_SUPPORTED)?;
        put(current, c_uint::from(mig.enabled)).and(put(pending, c_uint::from(mig.enabled)))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: Device, count: *mut c_uint) -> u32 {
    on_gpu("nvmlDeviceGetMaxMigDeviceCount", device, |world, index| {
        put(count, world.gpu(index)?.mig.as_ref().map_or(0, |mig| mig.most))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(device: Device, slot: c_uint, handle: *mut Device) -> u32 {
    on_gpu("nvmlDeviceGetMigDeviceHandleByIndex", device, |world, index| {
        device_in(world, index, slot)?;
        put(handle, (device as usize | (slot as usize + 1) << SLOT_SHIFT) as Device)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstanceId(device: Device, id: *mut c_uint) -> u32 {
    let (gpu, slot) = split(device);
    on_gpu("nvmlDeviceGetGpuInstanceId", gpu, |world, index| {
        let slot = slot.ok_or(ReturnCode::INVALID_ARG)?;
        put(id, device_in(world, index, slot)?.gpu_instance)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeInstanceId(device: Device, id: *mut c_uint) -> u32 {
    let (gpu, slot) = split(device);
    on_gpu("nvmlDeviceGetComputeInstanceId", gpu, |world, index| {
        let slot = slot.ok_or(ReturnCode::INVALID_ARG)?;
        put(id, device_in(world, index, slot)?.compute_instance)
    })
}
