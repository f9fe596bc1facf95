//! GPU Performance Monitoring of MIG instances: samples, and the use between two of them.

use std::ffi::{c_char, c_uint, c_void};
use std::time::SystemTime;

use crate::codes::ReturnCode;
use crate::exports::{Device, on_driver, on_gpu, put};
use crate::instances;
use crate::world::{World, call};

/// `NVML_GPM_METRIC_GRAPHICS_UTIL`, the only metric that is played.
const GRAPHICS_UTIL: c_uint = 1;

/// A sample handle: index + 1 in the shape of a pointer.
type Sample = *mut c_void;

#[repr(C)]
struct GpmMetric {
    id: c_uint,
    answer: c_uint,
    value: f64,
    names: [*const c_char; 3],
}

/// The head of `nvmlGpmMetricsGet_t`; the metrics follow.
#[repr(C)]
struct GpmMetricsGet {
    version: c_uint,
    count: c_uint,
    first: Sample,
    second: Sample,
    metrics: [GpmMetric; 0],
}

#[repr(C)]
struct GpmSupport {
    version: c_uint,
    supported: c_uint,
}

const _: () = assert!(size_of::<GpmMetric>() == 40);
const _: () = assert!(size_of::<GpmMetricsGet>() == 24);

/// Samples that the caller has allocated.
pub struct Samples(Vec<Option<Taken>>);

/// What a sample holds.
#[derive(Clone, Copy, Default)]
struct Taken {
    /// Time, and for how many seconds the instance was busy up to it; none before it was filled in.
    at: Option<(SystemTime, f64)>,
}

impl Samples {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    fn get(&mut self, sample: Sample) -> Result<&mut Option<Taken>, ReturnCode> {
        let index = (sample as usize).checked_sub(1).ok_or(ReturnCode::INVALID_ARG)?;
        let taken = self.0.get_mut(index).filter(|taken| taken.is_some());
        taken.ok_or(ReturnCode::INVALID_ARG)
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmQueryDeviceSupport(device: Device, support: *mut GpmSupport) -> u32 {
    on_gpu("nvmlGpmQueryDeviceSupport", device, |world, index| {
        let supported = world.gpu(index)?.mig.as_ref().is_some_and(|mig| mig.gpm);
        put(
            support,
            GpmSupport {
                version: 1,
                supported: c_uint::from(supported),
            },
        )
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleAlloc(sample: *mut Sample) -> u32 {
    on_driver("nvmlGpmSampleAlloc", |world| {
        let free = world.gpm_samples.0.iter().position(Option::is_none);
        let index = free.unwrap_or(world.gpm_samples.0.len());
        if free.is_none() {
            world.gpm_samples.0.push(None);
        }
        world.gpm_samples.0[index] = Some(Taken::default());
        put(sample, (index + 1) as Sample)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleFree(sample: Sample) -> u32 {
    on_driver("nvmlGpmSampleFree", |world| {
        *world.gpm_samples.get(sample)? = None;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmMigSampleGet(device: Device, gpu_instance: c_uint, sample: Sample) -> u32 {
    let index = (device as usize).wrapping_sub(1);
    call("nvmlGpmMigSampleGet", Some(index), |world| {
        let mig = instances::enabled(world, index)?;
        if !mig.gpm {
            return Err(ReturnCode::NOT_SUPPORTED);
        }
        if !mig.devices.iter().any(|device| device.gpu_instance == gpu_instance) {
            return Err(ReturnCode::INVALID_ARG);
        }
        let busy = world.mig_busy_seconds(index, gpu_instance);
        *world.gpm_samples.get(sample)? = Some(Taken {
            at: Some((SystemTime::now(), busy)),
        });
        Ok(())
    })
}

/// Percent of the time between two samples.
fn graphics_util(world: &mut World, first: Sample, second: Sample) -> Result<f64, ReturnCode> {
    let mut taken = |sample| world.gpm_samples.get(sample)?.and_then(|taken| taken.at).ok_or(ReturnCode::INVALID_ARG);
    let ((begun, before), (ended, after)) = (taken(first)?, taken(second)?);
    let over = ended.duration_since(begun).map_err(|_| ReturnCode::INVALID_ARG)?;
    Ok((after - before) / over.as_secs_f64() * 100.0)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmMetricsGet(request: *mut GpmMetricsGet) -> u32 {
    on_driver("nvmlGpmMetricsGet", |world| {
        if request.is_null() {
            return Err(ReturnCode::INVALID_ARG);
        }
        // SAFETY: not null, and the caller sets the head before the call.
        let (version, count, first, second) =
            unsafe { ((*request).version, (*request).count, (*request).first, (*request).second) };
        if version != 1 {
            return Err(ReturnCode::ARGUMENT_VERSION_MISMATCH);
        }
        let value = graphics_util(world, first, second)?;
        for position in 0..count as usize {
            // SAFETY: the caller's structure has room for more metrics than it may count.
            let metric = unsafe { &mut *(&raw mut (*request).metrics).cast::<GpmMetric>().add(position) };
            metric.names = [std::ptr::null(); 3];
            if metric.id == GRAPHICS_UTIL {
                (metric.answer, metric.value) = (ReturnCode::SUCCESS.0, value);
            } else {
                metric.answer = ReturnCode::NOT_SUPPORTED.0;
            }
        }
        Ok(())
    })
}
