//! Event sets: XIDs and other events of the registered GPUs, each delivered once.

use std::ffi::{c_uint, c_void};
use std::time::{Duration, Instant};

use crate::codes::ReturnCode;
use crate::driver;
use crate::exports::{Device, on_driver, on_gpu, put};
use crate::layout::EventData;
use crate::scenario::Event;
use crate::world::{World, call};

const NO_INSTANCE: c_uint = u32::MAX;
/// How often a wait looks for events: rarely, so that its cost does not pass for that of the program that waits.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// An event set handle: index + 1 in the shape of a pointer.
type Set = *mut c_void;

/// The event sets of the process.
pub struct EventSets {
    sets: Vec<Option<EventSet>>,
}

/// GPUs by index, with the kinds that are listened for and the serial number of the last event that was told.
#[derive(Default)]
struct EventSet {
    gpus: Vec<(usize, u64, u32)>,
}

impl EventSets {
    pub const fn new() -> Self {
        Self { sets: Vec::new() }
    }

    fn get(&mut self, set: Set) -> Result<&mut EventSet, ReturnCode> {
        let index = (set as usize).checked_sub(1).ok_or(ReturnCode::INVALID_ARG)?;
        let set = self.sets.get_mut(index).and_then(Option::as_mut);
        set.ok_or(ReturnCode::INVALID_ARG)
    }
}

fn last_serial(world: &World, index: usize) -> u32 {
    let events = world.gpu(index).map_or(&[][..], |gpu| &gpu.events);
    events.iter().map(|event| event.serial).max().unwrap_or(0)
}

/// The next event that was not told yet.
fn next(world: &mut World, set: Set) -> Result<Option<(usize, Event)>, ReturnCode> {
    let mut gpus = std::mem::take(&mut world.event_sets.get(set)?.gpus);
    let found = gpus.iter_mut().find_map(|(index, kinds, told)| {
        let mut events = world.gpu(*index).ok()?.events.iter();
        let event = *events.find(|event| event.serial > *told && event.kind & *kinds != 0)?;
        *told = event.serial;
        Some((*index, event))
    });
    world.event_sets.get(set)?.gpus = gpus;
    Ok(found)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetCreate(set: *mut Set) -> u32 {
    on_driver("nvmlEventSetCreate", |world| {
        world.event_sets.sets.push(Some(EventSet::default()));
        put(set, world.event_sets.sets.len() as Set)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: Set) -> u32 {
    on_driver("nvmlEventSetFree", |world| {
        *world.event_sets.get(set)? = EventSet::default();
        let index = (set as usize) - 1;
        world.event_sets.sets[index] = None;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSupportedEventTypes(device: Device, kinds: *mut u64) -> u32 {
    on_gpu("nvmlDeviceGetSupportedEventTypes", device, |world, index| {
        world.gpu(index)?;
        put(kinds, driver::event_kinds(&world.scenario()?.driver))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(device: Device, kinds: u64, set: Set) -> u32 {
    let index = (device as usize).wrapping_sub(1);
    call("nvmlDeviceRegisterEvents", Some(index), |world| {
        world.gpu(index)?;
        if kinds & !driver::event_kinds(&world.scenario()?.driver) != 0 {
            return Err(ReturnCode::NOT_SUPPORTED);
        }
        // What happened before is not told, as with the real library.
        let told = last_serial(world, index);
        world.event_sets.get(set)?.gpus.push((index, kinds, told));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait_v2(set: Set, data: *mut EventData, milliseconds: c_uint) -> u32 {
    let deadline = Instant::now() + Duration::from_millis(milliseconds.into());
    loop {
        let mut found = None;
        let answer = on_driver("nvmlEventSetWait_v2", |world| {
            found = next(world, set)?;
            Ok(())
        });
        if answer != ReturnCode::SUCCESS.0 {
            return answer;
        }
        if let Some((index, event)) = found {
            let event = EventData {
                device: (index + 1) as Device,
                event_type: event.kind,
                event_data: event.data,
                gpu_instance_id: event.gpu_instance.unwrap_or(NO_INSTANCE),
                compute_instance_id: event.compute_instance.unwrap_or(NO_INSTANCE),
            };
            return put(data, event).map_or_else(|code| code.0, |()| ReturnCode::SUCCESS.0);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return ReturnCode::TIMEOUT.0;
        }
        std::thread::sleep(left.min(LOOK_PERIOD));
    }
}
