//! The exported functions, with the names and signatures of `nvml.h`; those that fill arrays are in `lists`.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use crate::codes::ReturnCode;
use crate::instances;
use crate::layout::{MarginTemperatureV1, Memory, MemoryV2, PciInfo, TemperatureV1, Utilization};
use crate::scenario::Gpu;
use crate::world::{World, call};

pub const MIB: u64 = 1 << 20;

/// A device handle: index + 1 in the shape of a pointer.
pub type Device = *mut c_void;
pub type Answer = Result<(), ReturnCode>;

fn index(device: Device) -> Option<usize> {
    // An index that no scenario has stands for the null handle.
    Some((device as usize).wrapping_sub(1))
}

pub fn on_gpu(symbol: &str, device: Device, answer: impl FnOnce(&World, usize) -> Answer) -> u32 {
    let index = index(device);
    call(symbol, index, |world| answer(world, index.unwrap_or(usize::MAX)))
}

pub fn on_driver(symbol: &str, answer: impl FnOnce(&mut World) -> Answer) -> u32 {
    call(symbol, None, answer)
}

pub fn put<T>(target: *mut T, value: T) -> Answer {
    if target.is_null() {
        return Err(ReturnCode::INVALID_ARG);
    }
    // SAFETY: the caller of an NVML function passes writable, aligned memory for its results, or null.
    unsafe { target.write(value) };
    Ok(())
}

fn put_some<T>(target: *mut T, value: Option<T>) -> Answer {
    put(target, value.ok_or(ReturnCode::NOT_SUPPORTED)?)
}

pub fn put_text(target: *mut c_char, length: c_uint, text: &str) -> Answer {
    if target.is_null() {
        return Err(ReturnCode::INVALID_ARG);
    }
    if text.len() >= length as usize {
        return Err(ReturnCode::INSUFFICIENT_SIZE);
    }
    // SAFETY: the caller's buffer has `length` bytes, and the text with its end fits.
    unsafe {
        target.copy_from_nonoverlapping(text.as_ptr().cast(), text.len());
        target.add(text.len()).write(0);
    }
    Ok(())
}

fn init(symbol: &str) -> u32 {
    on_driver(symbol, |world| match world.scenario()?.init_error {
        Some(code) => Err(code),
        None => {
            world.initialised += 1;
            Ok(())
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> u32 {
    init("nvmlInit_v2")
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> u32 {
    init("nvmlInitWithFlags")
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> u32 {
    on_driver("nvmlShutdown", |world| {
        world.initialised -= 1;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: u32) -> *const c_char {
    match ReturnCode(code) {
        ReturnCode::SUCCESS => c"Success".as_ptr(),
        ReturnCode::GPU_LOST => c"GPU is lost".as_ptr(),
        ReturnCode::LIB_RM_VERSION_MISMATCH => c"Driver/library version mismatch".as_ptr(),
        _ => c"Error of the NVML stand-in".as_ptr(),
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> u32 {
    on_driver("nvmlSystemGetDriverVersion", |world| {
        put_text(version, length, &world.scenario()?.driver)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) -> u32 {
    on_driver("nvmlSystemGetNVMLVersion", |world| {
        put_text(version, length, &format!("13.{}", world.scenario()?.driver))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> u32 {
    on_driver("nvmlDeviceGetCount_v2", |world| {
        put(count, world.scenario()?.gpus.len() as c_uint)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(number: c_uint, device: *mut Device) -> u32 {
    let handle = (number as usize + 1) as Device;
    on_gpu("nvmlDeviceGetHandleByIndex_v2", handle, |world, index| {
        world.gpu(index).and(put(device, handle))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Device) -> u32 {
    on_driver("nvmlDeviceGetHandleByUUID", |world| {
        if uuid.is_null() {
            return Err(ReturnCode::INVALID_ARG);
        }
        // SAFETY: the caller passes a string that ends in zero.
        let uuid = unsafe { CStr::from_ptr(uuid) }.to_string_lossy();
        let position = world.scenario()?.gpus.iter().position(|gpu| gpu.uuid == uuid);
        put(device, (position.ok_or(ReturnCode::NOT_FOUND)? + 1) as Device)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPciInfo_v3(device: Device, pci: *mut PciInfo) -> u32 {
    on_gpu("nvmlDeviceGetPciInfo_v3", device, |world, index| {
        world.gpu(index)?;
        let bus = index as c_uint + 0x10;
        let mut info = PciInfo {
            bus_id_legacy: [0; 16],
            domain: 0,
            bus,
            device: 0,
            pci_device_id: 0x2330_10de,
            pci_subsystem_id: 0x16c1_10de,
            bus_id: [0; 32],
        };
        put_text(info.bus_id_legacy.as_mut_ptr(), 16, &format!("0000:{bus:02X}:00.0"))?;
        put_text(info.bus_id.as_mut_ptr(), 32, &format!("00000000:{bus:02X}:00.0"))?;
        put(pci, info)
    })
}

macro_rules! text_of_gpu {
    ($($symbol:ident: $gpu:ident => $text:expr;)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $symbol(device: Device, text: *mut c_char, length: c_uint) -> u32 {
            on_gpu(stringify!($symbol), device, |world, index| {
                let $gpu = world.gpu(index)?;
                put_text(text, length, $text)
            })
        }
    )*};
}

text_of_gpu! {
    nvmlDeviceGetName: gpu => &gpu.name;
}

macro_rules! numbers_of_gpu {
    ($($symbol:ident: $gpu:ident => $number:expr;)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $symbol(device: Device, number: *mut c_uint) -> u32 {
            on_gpu(stringify!($symbol), device, |world, index| {
                let $gpu = world.gpu(index)?;
                put_some(number, $number)
            })
        }
    )*};
}

numbers_of_gpu! {
    nvmlDeviceGetPowerUsage: gpu => gpu.power_mw;
    nvmlDeviceGetEnforcedPowerLimit: gpu => gpu.power_limit_mw;
    nvmlDeviceGetPowerManagementLimit: gpu => gpu.power_limit_mw;
    nvmlDeviceGetPowerManagementDefaultLimit: gpu => gpu.power_limit_default_mw;
    nvmlDeviceGetPerformanceState: gpu => Some(if gpu.utilization == Some(0) { 8 } else { 0 });
    nvmlDeviceGetPersistenceMode: _gpu => Some(1);
    // Ampere or Hopper: what else a monitor asks for does not depend on it.
    nvmlDeviceGetArchitecture: gpu => Some(if gpu.slowdown.is_some() { 7 } else { 9 });
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetIndex(device: Device, number: *mut c_uint) -> u32 {
    on_gpu("nvmlDeviceGetIndex", device, |world, index| {
        world.gpu(index).and(put(number, index as c_uint))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMinorNumber(device: Device, number: *mut c_uint) -> u32 {
    on_gpu("nvmlDeviceGetMinorNumber", device, |world, index| {
        world.gpu(index).and(put(number, index as c_uint))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo(device: Device, memory: *mut Memory) -> u32 {
    on_gpu("nvmlDeviceGetMemoryInfo", device, |world, index| {
        let gpu = world.gpu(index)?;
        let total = gpu.memory_total_mib * MIB;
        let free = gpu.memory_free_mib() * MIB;
        put(
            memory,
            Memory {
                total,
                free,
                used: total - free,
            },
        )
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Device, memory: *mut MemoryV2) -> u32 {
    let (device, slot) = instances::split(device);
    on_gpu("nvmlDeviceGetMemoryInfo_v2", device, |world, index| {
        let gpu = world.gpu(index)?;
        if memory.is_null() {
            return Err(ReturnCode::INVALID_ARG);
        }
        // SAFETY: not null, and the caller sets the version before the call.
        let version = unsafe { (*memory).version };
        if version != (size_of::<MemoryV2>() as c_uint | 2 << 24) {
            return Err(ReturnCode::ARGUMENT_VERSION_MISMATCH);
        }
        if let Some(slot) = slot {
            let of_instance = instances::memory(world, index, slot)?;
            return put(memory, MemoryV2 { version, ..of_instance });
        }
        let info = MemoryV2 {
            version,
            total: gpu.memory_total_mib * MIB,
            reserved: gpu.memory_reserved_mib * MIB,
            free: gpu.memory_free_mib() * MIB,
            used: gpu.memory_used_mib * MIB,
        };
        put(memory, info)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUtilizationRates(device: Device, utilization: *mut Utilization) -> u32 {
    on_gpu("nvmlDeviceGetUtilizationRates", device, |world, index| {
        let gpu = world.gpu(index)?;
        let whole = gpu.mig.as_ref().is_none_or(|mig| !mig.enabled);
        let rates = gpu.utilization.filter(|_| whole).map(|share| Utilization {
            gpu: share,
            memory: gpu.memory_utilization.unwrap_or(0),
        });
        put_some(utilization, rates)
    })
}

fn clock(gpu: &Gpu, kind: c_uint, highest: bool) -> Option<u32> {
    match kind {
        0 | 1 if highest => gpu.sm_clock_max,
        0 | 1 => gpu.sm_clock,
        2 => gpu.memory_clock,
        _ => None,
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetClockInfo(device: Device, kind: c_uint, megahertz: *mut c_uint) -> u32 {
    on_gpu("nvmlDeviceGetClockInfo", device, |world, index| {
        put_some(megahertz, clock(world.gpu(index)?, kind, false))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxClockInfo(device: Device, kind: c_uint, megahertz: *mut c_uint) -> u32 {
    on_gpu("nvmlDeviceGetMaxClockInfo", device, |world, index| {
        put_some(megahertz, clock(world.gpu(index)?, kind, true))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperature(device: Device, sensor: c_uint, temperature: *mut c_uint) -> u32 {
    on_gpu("nvmlDeviceGetTemperature", device, |world, index| {
        put_some(temperature, world.gpu(index)?.temperature.filter(|_| sensor == 0))
    })
}

/// Only the temperature at which the GPU slows down is played.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperatureThreshold(device: Device, threshold: c_uint, temperature: *mut c_uint) -> u32 {
    const SLOWDOWN: c_uint = 1;
    on_gpu("nvmlDeviceGetTemperatureThreshold", device, |world, index| {
        put_some(
            temperature,
            world.gpu(index)?.slowdown.filter(|_| threshold == SLOWDOWN),
        )
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperatureV(device: Device, temperature: *mut TemperatureV1) -> u32 {
    on_gpu("nvmlDeviceGetTemperatureV", device, |world, index| {
        let degrees = world.gpu(index)?.temperature.ok_or(ReturnCode::NOT_SUPPORTED)?;
        put(
            temperature,
            TemperatureV1 {
                version: 12 | 1 << 24,
                sensor: 0,
                temperature: degrees as c_int,
            },
        )
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMarginTemperature(device: Device, margin: *mut MarginTemperatureV1) -> u32 {
    on_gpu("nvmlDeviceGetMarginTemperature", device, |world, index| {
        let degrees = world.gpu(index)?.margin.ok_or(ReturnCode::NOT_SUPPORTED)?;
        put(
            margin,
            MarginTemperatureV1 {
                version: 8 | 1 << 24,
                margin: degrees,
            },
        )
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrentClocksEventReasons(device: Device, reasons: *mut u64) -> u32 {
    on_gpu("nvmlDeviceGetCurrentClocksEventReasons", device, |world, index| {
        put(reasons, world.gpu(index)?.event_reasons())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(device: Device, reasons: *mut u64) -> u32 {
    on_gpu("nvmlDeviceGetCurrentClocksThrottleReasons", device, |world, index| {
        put(reasons, world.gpu(index)?.event_reasons())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTotalEnergyConsumption(device: Device, millijoules: *mut u64) -> u32 {
    on_gpu("nvmlDeviceGetTotalEnergyConsumption", device, |world, index| {
        put_some(millijoules, world.energy_millijoules(index))
    })
}
