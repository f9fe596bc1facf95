//! The exported functions that fill arrays: field values and process lists.

use std::ffi::{c_int, c_uint};
use std::time::SystemTime;

use crate::codes::{Cause, ReturnCode};
use crate::driver;
use crate::exports::{Answer, Device, MIB, on_gpu, put};
use crate::layout::{FieldValue, ProcessInfo};
use crate::scenario::{Gpu, Process};
use crate::world::World;

const NO_INSTANCE: c_uint = u32::MAX;
const VALUE_NOT_AVAILABLE: u64 = u64::MAX;

/// Value type and value of a field; `None` for a field that this driver does not have.
fn field(world: &World, index: usize, id: c_uint) -> Option<(c_uint, u64)> {
    const UNSIGNED_INT: c_uint = 1;
    const UNSIGNED_LONG_LONG: c_uint = 3;
    let number = |value: Option<u32>| Some((UNSIGNED_INT, u64::from(value?)));
    let gpu = world.gpu(index).ok()?;
    let driver = &world.scenario().ok()?.driver;
    if !driver::has_field(driver, id) {
        return None;
    }
    if let (Some(first), true) = (driver::power_smoothing(driver), gpu.power_smoothing) {
        // Enabled, privilege level, immediate ramp down: settings, and no times.
        if (first..first + 3).contains(&id) {
            return number(Some(1));
        }
    }
    match id {
        75 => Some((
            UNSIGNED_LONG_LONG,
            world.throttle_nanoseconds(index, Cause::SoftwareThermal)?,
        )),
        82 => number(gpu.memory_temperature),
        83 | 191 => Some((UNSIGNED_LONG_LONG, world.energy_millijoules(index)?)),
        185 | 186 => number(gpu.power_mw),
        189 => number(gpu.power_limit_default_mw),
        190 | 192 => number(gpu.power_limit_mw),
        4 => Some((UNSIGNED_LONG_LONG, gpu.ecc_volatile?)),
        6 => Some((UNSIGNED_LONG_LONG, gpu.ecc_aggregate?)),
        30 => number(gpu.retired_pages),
        31 => number(gpu.retirement_pending),
        143 => number(gpu.remapped_rows),
        144 => number(gpu.remap_pending),
        145 => number(gpu.remap_failed),
        230 => number(gpu.recovery_action),
        _ => {
            let cause = Cause::ALL
                .into_iter()
                .find(|cause| cause.field_id(driver) == Some(id))?;
            Some((UNSIGNED_LONG_LONG, world.throttle_nanoseconds(index, cause)?))
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFieldValues(device: Device, count: c_int, values: *mut FieldValue) -> u32 {
    on_gpu("nvmlDeviceGetFieldValues", device, |world, index| {
        world.gpu(index)?;
        let count = usize::try_from(count).map_err(|_| ReturnCode::INVALID_ARG)?;
        if values.is_null() {
            return Err(ReturnCode::INVALID_ARG);
        }
        // SAFETY: not null, and the caller passes an array of `count` entries.
        let values = unsafe { std::slice::from_raw_parts_mut(values, count) };
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        for value in values {
            value.timestamp = now.as_micros() as i64;
            value.latency_usec = 1;
            match field(world, index, value.field_id) {
                Some((value_type, bits)) => {
                    (value.value_type, value.value) = (value_type, bits);
                    value.nvml_return = ReturnCode::SUCCESS.0;
                }
                None => value.nvml_return = ReturnCode::NOT_SUPPORTED.0,
            }
        }
        Ok(())
    })
}

/// The processes of a GPU with the numbers of their GPU and compute instances; with MIG they are on its devices.
fn processes(gpu: &Gpu) -> Vec<(Process, c_uint, c_uint)> {
    let whole = gpu.processes.iter().map(|process| (*process, NO_INSTANCE, NO_INSTANCE));
    let devices = gpu.mig.iter().filter(|mig| mig.enabled).flat_map(|mig| &mig.devices);
    let parts = devices.flat_map(|device| {
        let processes = device.processes.iter();
        processes.map(|process| (*process, device.gpu_instance, device.compute_instance))
    });
    whole.chain(parts).collect()
}

fn put_processes(gpu: &Gpu, count: *mut c_uint, infos: *mut ProcessInfo) -> Answer {
    let processes = processes(gpu);
    if count.is_null() {
        return Err(ReturnCode::INVALID_ARG);
    }
    // SAFETY: not null, and the caller sets the capacity of its array before the call.
    let capacity = unsafe { count.replace(processes.len() as c_uint) } as usize;
    if processes.is_empty() {
        return Ok(());
    }
    if infos.is_null() || capacity < processes.len() {
        return Err(ReturnCode::INSUFFICIENT_SIZE);
    }
    for (position, (process, gpu_instance_id, compute_instance_id)) in processes.into_iter().enumerate() {
        let info = ProcessInfo {
            pid: process.pid,
            used_gpu_memory: process.used_mib.map_or(VALUE_NOT_AVAILABLE, |used| used * MIB),
            gpu_instance_id,
            compute_instance_id,
        };
        // SAFETY: the array has at least as many entries as there are processes.
        unsafe { infos.add(position).write(info) };
    }
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Device,
    count: *mut c_uint,
    infos: *mut ProcessInfo,
) -> u32 {
    on_gpu("nvmlDeviceGetComputeRunningProcesses_v3", device, |world, index| {
        put_processes(world.gpu(index)?, count, infos)
    })
}

macro_rules! empty_process_lists {
    ($($symbol:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $symbol(device: Device, count: *mut c_uint, _infos: *mut ProcessInfo) -> u32 {
            on_gpu(stringify!($symbol), device, |world, index| world.gpu(index).and(put(count, 0)))
        }
    )*};
}

empty_process_lists! { nvmlDeviceGetGraphicsRunningProcesses_v3 nvmlDeviceGetMPSComputeRunningProcesses_v3 }
