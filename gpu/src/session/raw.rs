//! The few NVML calls for which the safe wrapper loses information. All `unsafe` of this crate is here.
#![allow(unsafe_code)]

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlFieldValue_t, nvmlMarginTemperature_t, nvmlProcessInfo_t,
    nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE, nvmlReturn_enum_NVML_ERROR_UNKNOWN, nvmlReturn_enum_NVML_SUCCESS,
    nvmlReturn_t, nvmlTemperature_t, nvmlValue_t, nvmlValueType_enum_NVML_VALUE_TYPE_DOUBLE as DOUBLE,
    nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_INT as SIGNED_INT,
    nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_LONG_LONG as SIGNED_LONG_LONG,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT as UNSIGNED_INT,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG as UNSIGNED_LONG,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG as UNSIGNED_LONG_LONG,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_SHORT as UNSIGNED_SHORT,
};

use std::ffi::c_uint;

use crate::mig::MigPlace;
use crate::process::GpuProcess;

/// Marks a value that the driver does not tell (`NVML_VALUE_NOT_AVAILABLE`).
const NOT_AVAILABLE: u64 = u64::MAX;
/// Marks that no MIG instance is meant.
const NO_INSTANCE: u32 = u32::MAX;

/// `sizeof` and version of a versioned NVML structure, as `NVML_STRUCT_VERSION` makes them.
const fn version_1<T>() -> u32 {
    size_of::<T>() as u32 | 1 << 24
}

/// Which numbers a driver gives to the fields that it renumbered.
///
/// Fields 251 to 255 came with driver 575, and moved by 18 with 580.82; before and after, their ids belong to settings of power smoothing
/// (<https://docs.nvidia.com/deploy/nvml-api/change-log.html>, "known-issues" of the same). A version that cannot be read has neither.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbering {
    version: (u32, u32),
}

impl Numbering {
    pub(super) fn of(driver_version: &str) -> Self {
        let mut parts = driver_version.split('.').map(|part| part.parse().unwrap_or(0));
        Self {
            version: (parts.next().unwrap_or(0), parts.next().unwrap_or(0)),
        }
    }

    /// The number of a field that has `id` in the numbering of drivers 575 to 580.81; `None` where this driver does not have the field.
    fn id(self, id: u32) -> Option<u32> {
        match id {
            251..=255 if self.version < (575, 0) => None,
            251..=255 if self.version >= (580, 82) => Some(id + 18),
            _ => Some(id),
        }
    }
}

/// A batch of field values that is asked for again and again.
pub(super) struct FieldBatch {
    values: Vec<nvmlFieldValue_t>,
    /// Where the answer for each id is in `values`; `None` for one that this driver does not have.
    positions: Vec<Option<usize>>,
}

impl FieldBatch {
    /// `ids` in the numbering of drivers 575 to 580.81; this driver's is looked up. Answers are told apart by position.
    pub(super) fn new(numbering: Numbering, ids: &[u32]) -> Self {
        let value = |id: u32| nvmlFieldValue_t {
            fieldId: id,
            scopeId: 0,
            timestamp: 0,
            latencyUsec: 0,
            valueType: 0,
            nvmlReturn: nvmlReturn_enum_NVML_ERROR_UNKNOWN,
            value: nvmlValue_t { ullVal: 0 },
        };
        let mut values = Vec::with_capacity(ids.len());
        let positions = ids.iter().map(|id| {
            let id = numbering.id(*id)?;
            values.push(value(id));
            Some(values.len() - 1)
        });
        let positions = positions.collect();
        Self { values, positions }
    }

    /// Reads all of them in one call.
    pub(super) fn read(&mut self, nvml: &Nvml, device: &Device<'_>) -> Result<(), NvmlError> {
        let get = nvml_sym(nvml.lib().nvmlDeviceGetFieldValues.as_ref())?;
        for value in &mut self.values {
            value.nvmlReturn = nvmlReturn_enum_NVML_ERROR_UNKNOWN;
        }
        let count = i32::try_from(self.values.len()).map_err(|_| NvmlError::InvalidArg)?;
        // SAFETY: the handle belongs to `nvml`, which is borrowed, and the array has `count` entries.
        nvml_try(unsafe { get(device.handle(), count, self.values.as_mut_ptr()) })
    }

    /// What the driver says that the answers of the last call took in all, microseconds: it divides the time of one access to the GPU among the
    /// fields that it served. `None` where it says nothing.
    pub(super) fn driver_microseconds(&self) -> Option<u64> {
        let answered = self.values.iter().filter(|value| nvml_try(value.nvmlReturn).is_ok());
        let told = answered.filter_map(|value| u64::try_from(value.latencyUsec).ok().filter(|told| *told > 0));
        Some(told.sum()).filter(|sum| *sum > 0)
    }

    /// An answer by position.
    pub(super) fn get(&self, position: usize) -> Result<u64, NvmlError> {
        let position = self.positions.get(position).ok_or(NvmlError::InvalidArg)?;
        let position = position.ok_or(NvmlError::NotSupported)?;
        let value = self.values.get(position).ok_or(NvmlError::InvalidArg)?;
        nvml_try(value.nvmlReturn)?;
        decode(value).ok_or(NvmlError::NoData)
    }
}

/// The value, whatever its type; `None` if it is negative, not a number, or of an unknown type.
fn decode(value: &nvmlFieldValue_t) -> Option<u64> {
    let union = value.value;
    // SAFETY: the driver sets the member that the type names, every member is plain data, and all eight bytes were initialised.
    unsafe {
        match value.valueType {
            DOUBLE => Some(union.dVal)
                .filter(|number| number.is_finite() && *number >= 0.0)
                .map(|number| number as u64),
            UNSIGNED_INT => Some(u64::from(union.uiVal)),
            #[allow(clippy::useless_conversion)] // 32 bits on some platforms
            UNSIGNED_LONG => Some(u64::from(union.ulVal)),
            UNSIGNED_LONG_LONG => Some(union.ullVal),
            SIGNED_LONG_LONG => u64::try_from(union.sllVal).ok(),
            SIGNED_INT => u64::try_from(union.siVal).ok(),
            UNSIGNED_SHORT => Some(u64::from(union.usVal)),
            _ => None,
        }
    }
}

/// All bits of the clocks event reasons, by the new name of the call or by the old one. The wrapper drops bits that it does not know.
pub(super) fn clocks_event_reasons(nvml: &Nvml, device: &Device<'_>) -> Result<u64, NvmlError> {
    let lib = nvml.lib();
    let get = lib.nvmlDeviceGetCurrentClocksEventReasons.as_ref();
    let get = nvml_sym(get.or(lib.nvmlDeviceGetCurrentClocksThrottleReasons.as_ref()))?;
    let mut reasons = 0;
    // SAFETY: the handle belongs to `nvml`, which is borrowed, and the result is written to a local.
    nvml_try(unsafe { get(device.handle(), &raw mut reasons) })?;
    Ok(reasons)
}

/// Degrees left until the hardware slows down; negative when it does.
pub(super) fn margin_temperature(nvml: &Nvml, device: &Device<'_>) -> Result<i32, NvmlError> {
    let get = nvml_sym(nvml.lib().nvmlDeviceGetMarginTemperature.as_ref())?;
    let mut margin = nvmlMarginTemperature_t {
        version: version_1::<nvmlMarginTemperature_t>(),
        marginTemperature: 0,
    };
    // SAFETY: the handle belongs to `nvml`, which is borrowed, and the structure has the size that its version says.
    nvml_try(unsafe { get(device.handle(), &raw mut margin) })?;
    Ok(margin.marginTemperature)
}

/// Core temperature by the call that replaces `nvmlDeviceGetTemperature`.
pub(super) fn temperature(nvml: &Nvml, device: &Device<'_>) -> Result<u32, NvmlError> {
    let get = nvml_sym(nvml.lib().nvmlDeviceGetTemperatureV.as_ref())?;
    let mut sensor = nvmlTemperature_t {
        version: version_1::<nvmlTemperature_t>(),
        sensorType: 0,
        temperature: 0,
    };
    // SAFETY: the handle belongs to `nvml`, which is borrowed, and the structure has the size that its version says.
    nvml_try(unsafe { get(device.handle(), &raw mut sensor) })?;
    u32::try_from(sensor.temperature).map_err(|_| NvmlError::NoData)
}

/// Number of the GPU instance of a MIG device.
pub(super) fn gpu_instance_id(nvml: &Nvml, device: &Device<'_>) -> Result<u32, NvmlError> {
    let get = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceId.as_ref())?;
    let mut id = NO_INSTANCE;
    // SAFETY: the handle came from `nvml`, which is borrowed, and the result is written to a local. NVML refuses handles of MIG devices that
    // were destroyed.
    nvml_try(unsafe { get(device.handle(), &raw mut id) })?;
    Some(id).filter(|id| *id != NO_INSTANCE).ok_or(NvmlError::NoData)
}

/// Number of the compute instance of a MIG device, within its GPU instance.
pub(super) fn compute_instance_id(nvml: &Nvml, device: &Device<'_>) -> Result<u32, NvmlError> {
    let get = nvml_sym(nvml.lib().nvmlDeviceGetComputeInstanceId.as_ref())?;
    let mut id = NO_INSTANCE;
    // SAFETY: as for the GPU instance.
    nvml_try(unsafe { get(device.handle(), &raw mut id) })?;
    Some(id).filter(|id| *id != NO_INSTANCE).ok_or(NvmlError::NoData)
}

/// What the driver tells of as it happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawEvent {
    /// Handle of the GPU, as [`handle_of`] gives it.
    pub(super) device: usize,
    /// Bit of `nvmlEventType`.
    pub(super) kind: u64,
    /// The XID, for an XID.
    pub(super) data: u64,
    /// Where on the GPU.
    pub(super) place: MigPlace,
}

/// Identity of a GPU within a session.
pub(super) fn handle_of(device: &Device<'_>) -> usize {
    // SAFETY: the handle is compared and never followed.
    unsafe { device.handle() as usize }
}

/// GPUs whose events are waited for. The wrapper's own drops unknown kinds, and frees the set when one GPU refuses.
pub(super) struct EventSet<'nvml> {
    nvml: &'nvml Nvml,
    set: nvmlEventSet_t,
}

// SAFETY: NVML may be called from any thread, and one thread at a time uses the set.
unsafe impl Send for EventSet<'_> {}

impl<'nvml> EventSet<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml) -> Result<Self, NvmlError> {
        let lib = nvml.lib();
        let create = nvml_sym(lib.nvmlEventSetCreate.as_ref())?;
        // Without these two a set is of no use.
        nvml_sym(lib.nvmlEventSetWait_v2.as_ref())?;
        nvml_sym(lib.nvmlEventSetFree.as_ref())?;
        let mut set = std::ptr::null_mut();
        // SAFETY: the result is written to a local.
        nvml_try(unsafe { create(&raw mut set) })?;
        Ok(Self { nvml, set })
    }

    /// Adds a GPU, for those of `kinds` that it can tell of; those are returned.
    pub(super) fn register(&self, device: &Device<'_>, kinds: u64) -> Result<u64, NvmlError> {
        let supported = nvml_sym(self.nvml.lib().nvmlDeviceGetSupportedEventTypes.as_ref())?;
        let register = nvml_sym(self.nvml.lib().nvmlDeviceRegisterEvents.as_ref())?;
        let mut can = 0;
        // SAFETY: the handle belongs to `nvml`, which is borrowed, and the result is written to a local.
        nvml_try(unsafe { supported(device.handle(), &raw mut can) })?;
        let kinds = kinds & can;
        if kinds == 0 {
            return Err(NvmlError::NotSupported);
        }
        // SAFETY: handle and set belong to `nvml`, which is borrowed.
        nvml_try(unsafe { register(device.handle(), kinds, self.set) })?;
        Ok(kinds)
    }

    /// Waits for the next event, so long at most; `None` when none came.
    pub(super) fn wait(&self, milliseconds: u32) -> Result<Option<RawEvent>, NvmlError> {
        let wait = nvml_sym(self.nvml.lib().nvmlEventSetWait_v2.as_ref())?;
        let mut event = nvmlEventData_t {
            device: std::ptr::null_mut(),
            eventType: 0,
            eventData: 0,
            gpuInstanceId: NO_INSTANCE,
            computeInstanceId: NO_INSTANCE,
        };
        // SAFETY: the set belongs to `nvml`, which is borrowed, and the result is written to a local.
        match nvml_try(unsafe { wait(self.set, &raw mut event, milliseconds) }) {
            Ok(()) => Ok(Some(RawEvent {
                device: event.device as usize,
                kind: event.eventType,
                data: event.eventData,
                place: MigPlace {
                    gpu_instance: instance(event.gpuInstanceId),
                    compute_instance: instance(event.computeInstanceId)
                        .filter(|_| instance(event.gpuInstanceId).is_some()),
                },
            })),
            Err(NvmlError::Timeout) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for EventSet<'_> {
    fn drop(&mut self) {
        if let Ok(free) = &self.nvml.lib().nvmlEventSetFree {
            // SAFETY: the set belongs to `nvml`, which is borrowed, and nobody uses it after this. A refusal changes nothing here.
            _ = unsafe { free(self.set) };
        }
    }
}

/// A call that lists processes.
type GetProcesses = unsafe extern "C" fn(nvmlDevice_t, *mut c_uint, *mut nvmlProcessInfo_t) -> nvmlReturn_t;

/// Process list with its own buffer: one call where the wrapper makes two, and this is the slow one.
pub(super) struct ProcessList {
    buffer: Vec<nvmlProcessInfo_t>,
}

impl ProcessList {
    const EMPTY: nvmlProcessInfo_t = nvmlProcessInfo_t {
        pid: 0,
        usedGpuMemory: NOT_AVAILABLE,
        gpuInstanceId: 0,
        computeInstanceId: 0,
    };

    pub(super) fn new() -> Self {
        Self {
            buffer: vec![Self::EMPTY; 32],
        }
    }

    /// Processes with a compute context on this GPU.
    pub(super) fn read(&mut self, nvml: &Nvml, device: &Device<'_>) -> Result<Vec<GpuProcess>, NvmlError> {
        let get = nvml_sym(nvml.lib().nvmlDeviceGetComputeRunningProcesses_v3.as_ref())?;
        self.list(*get, device)
    }

    /// Clients of a Multi-Process Service on this GPU, which need not be in the other list.
    pub(super) fn read_clients(&mut self, nvml: &Nvml, device: &Device<'_>) -> Result<Vec<GpuProcess>, NvmlError> {
        let get = nvml_sym(nvml.lib().nvmlDeviceGetMPSComputeRunningProcesses_v3.as_ref())?;
        self.list(*get, device)
    }

    fn list(&mut self, get: GetProcesses, device: &Device<'_>) -> Result<Vec<GpuProcess>, NvmlError> {
        // The list may grow between the calls.
        for _ in 0..3 {
            let mut count = u32::try_from(self.buffer.len()).map_err(|_| NvmlError::InvalidArg)?;
            // SAFETY: function and handle belong to the same `Nvml`, which both callers borrow, and the array has `count` entries.
            let answer = unsafe { get(device.handle(), &raw mut count, self.buffer.as_mut_ptr()) };
            if answer == nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE {
                self.buffer
                    .resize((count as usize).max(self.buffer.len()) + 32, Self::EMPTY);
                continue;
            }
            nvml_try(answer)?;
            return Ok(self.buffer.iter().take(count as usize).map(process).collect());
        }
        Err(NvmlError::InsufficientSize(None))
    }
}

/// Number of an instance; the driver has one that means none.
fn instance(number: u32) -> Option<u32> {
    Some(number).filter(|number| *number != NO_INSTANCE)
}

fn process(info: &nvmlProcessInfo_t) -> GpuProcess {
    GpuProcess {
        pid: info.pid,
        used_bytes: Some(info.usedGpuMemory).filter(|used| *used != NOT_AVAILABLE),
        gpu_instance: instance(info.gpuInstanceId),
        compute_instance: instance(info.computeInstanceId),
        ..GpuProcess::default()
    }
}

const _: () = assert!(nvmlReturn_enum_NVML_SUCCESS == 0);
