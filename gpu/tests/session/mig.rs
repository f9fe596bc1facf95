//! MIG: which instances there are, their memory and use, and what the driver may still be asked of the whole GPU.

use std::time::Duration;

use infmon_gpu::{CallClass, GpuSample, MigInstance, Snapshot};
use infmon_nvml_stand_in::{Cause, Gpu, Mig, Process, Profile, Scenario};

use super::played::Played;

const MIB: u64 = 1 << 20;

fn divided(mig: Mig) -> Gpu {
    Gpu {
        mig: Some(mig),
        ..Profile::H100.gpu(0)
    }
}

fn scenario(mig: Mig) -> Scenario {
    Scenario::new("580.95.05").gpu(divided(mig))
}

fn three() -> Mig {
    Mig::on(true)
        .device("MIG-a", 3, 120)
        .device("MIG-b", 4, 9000)
        .device("MIG-c", 4, 9000)
}

fn first(snapshot: &Snapshot) -> Option<&GpuSample> {
    snapshot.samples.first()
}

fn instances(snapshot: &Snapshot) -> Option<&Vec<MigInstance>> {
    first(snapshot)?.mig_instances.as_ref()
}

/// `3: MIG-a; 4: MIG-b MIG-c`
fn told(snapshot: &Snapshot) -> Option<String> {
    let instances = instances(snapshot)?.iter().map(|instance| {
        let uuids: Vec<&str> = instance.devices.iter().map(|device| device.uuid.as_str()).collect();
        format!("{}: {}", instance.gpu_instance, uuids.join(" "))
    });
    Some(instances.collect::<Vec<_>>().join("; "))
}

fn until_told(played: &Played, expected: &str) -> std::sync::Arc<Snapshot> {
    played.until(expected, |snapshot| told(snapshot).as_deref() == Some(expected))
}

#[test]
fn instances_have_their_memory_and_the_gpu_its_clocks() {
    let mut mig = three();
    mig.devices[2].compute_instance = 1;
    mig.devices[1].processes.push(Process {
        pid: 4711,
        used_mib: Some(8900),
    });
    let hot = divided(mig).throttle(Cause::HardwareThermal, 0.5);
    let played = Played::new(&Scenario::new("580.95.05").gpu(hot));
    let snapshot = until_told(&played, "3: MIG-a; 4: MIG-b MIG-c");
    let instances = instances(&snapshot).unwrap();
    let memory: Vec<_> = instances
        .iter()
        .map(|instance| {
            (
                instance.memory_total_bytes,
                instance.memory_free_bytes,
                instance.memory_used_bytes,
            )
        })
        .collect();
    let mib = |number: u64| Some(number * MIB);
    assert_eq!(
        memory,
        [(mib(9856), mib(9736), mib(120)), (mib(9856), mib(856), mib(9000))]
    );
    let numbers: Vec<_> = instances[1]
        .devices
        .iter()
        .map(|device| device.compute_instance)
        .collect();
    assert_eq!(numbers, [Some(0), Some(1)]);

    let sample = first(&snapshot).unwrap();
    let process = &sample.processes.as_ref().unwrap()[0];
    assert_eq!(
        (process.pid, process.gpu_instance, process.compute_instance),
        (4711, Some(4), Some(0))
    );
    assert_eq!(sample.utilization_percent, None, "the driver tells no use of the whole");
    assert!(sample.temperature_celsius.is_some() && sample.sm_clock_mhz.is_some());
    let lost = |snapshot: &Snapshot| first(snapshot).unwrap().throttle[0].nanoseconds;
    let before = lost(&snapshot);
    played.until("lost clocks", |snapshot| lost(snapshot) > before);
}

#[test]
fn instances_come_and_go_and_their_numbers_are_given_anew() {
    let played = Played::new(&scenario(Mig::on(false)));
    until_told(&played, "");
    played.play(&scenario(three()));
    until_told(&played, "3: MIG-a; 4: MIG-b MIG-c");
    // The first is destroyed, and another one has its number and its slot; the last is gone.
    let mut mig = three();
    mig.devices.pop();
    mig.devices[0].uuid = "MIG-d".to_owned();
    played.play(&scenario(mig.clone()));
    until_told(&played, "3: MIG-d; 4: MIG-b");
    mig.devices.remove(0);
    played.play(&scenario(mig.clone()));
    until_told(&played, "4: MIG-b");
    mig.enabled = false;
    played.play(&scenario(mig));
    played.until("MIG off", |snapshot| {
        first(snapshot).is_some_and(|sample| sample.mig_instances.is_none() && sample.utilization_percent.is_some())
    });
}

#[test]
fn an_xid_is_noted_in_the_instance_that_the_driver_names_until_that_is_made_anew() {
    let played = Played::new(&scenario(three()));
    played.until("instances", |snapshot| {
        instances(snapshot).is_some_and(|all| all.len() == 2)
    });
    let gpu_instance = three().devices[0].gpu_instance;
    let hit = |mig: Mig| {
        let mut scenario = scenario(mig);
        let gpu = scenario.gpus.remove(0);
        scenario.gpu(
            gpu.xid_in(31, (gpu_instance, Some(0)))
                .xid_in(13, (gpu_instance, None))
                .xid(119),
        )
    };
    played.play(&hit(three()));
    let places = |snapshot: &Snapshot| -> Vec<_> {
        let place = |incident: &infmon_gpu::Incident| (incident.place.gpu_instance, incident.place.compute_instance);
        snapshot.incidents.iter().map(place).collect()
    };
    let snapshot = played.until("XIDs", |snapshot| snapshot.incidents.len() == 3);
    assert_eq!(
        places(&snapshot),
        [(Some(gpu_instance), Some(0)), (Some(gpu_instance), None), (None, None)]
    );
    // A round with the instances of now; then another instance has the number.
    played.until("a round", |later| later.ticks > snapshot.ticks + 1);
    let mut mig = three();
    mig.devices[0].uuid = "MIG-new".to_owned();
    played.play(&hit(mig));
    let snapshot = played.until("the end of what happened there", |snapshot| {
        snapshot.incidents.len() == 1
    });
    assert_eq!(places(&snapshot), [(None, None)]);
}

#[test]
fn a_gpu_without_mig_is_asked_once() {
    let played = Played::new(&Scenario::of(Profile::T4, 1));
    let snapshot = played.until("rounds", |snapshot| snapshot.ticks >= 8);
    assert_eq!(first(&snapshot).unwrap().mig_instances, None);
    assert_eq!(calls(&snapshot, CallClass::Mig), 1);
    assert_eq!(calls(&snapshot, CallClass::Gpm), 0);
}

fn calls(snapshot: &Snapshot, class: CallClass) -> u64 {
    let calls = snapshot.calls.iter().find(|calls| calls.class == class);
    calls.map_or(0, |calls| calls.count)
}

#[test]
fn the_use_of_an_instance_is_the_mean_between_two_samples() {
    let mut mig = three();
    mig.devices[0].utilization = 35;
    mig.devices[1].utilization = 80;
    let played = Played::new(&scenario(mig.clone()));
    let share = |snapshot: &Snapshot, position: usize| instances(snapshot)?.get(position)?.utilization_percent;
    let near = |share: Option<u32>, expected: u32| share.is_some_and(|share| share.abs_diff(expected) <= 2);
    let begun = std::time::Instant::now();
    played.until("both shares", |snapshot| {
        near(share(snapshot, 0), 35) && near(share(snapshot, 1), 80)
    });
    assert!(begun.elapsed() >= Duration::from_secs(1), "a shorter time tells little");
    // Another instance has the number: the share of the one before is not its own.
    mig.devices[0].uuid = "MIG-d".to_owned();
    mig.devices[0].utilization = 60;
    played.play(&scenario(mig));
    let anew = until_told(&played, "3: MIG-d; 4: MIG-b MIG-c");
    assert_eq!(share(&anew, 0), None);
    assert!(share(&anew, 1).is_some(), "the other goes on");
    played.until("its own share", |snapshot| near(share(snapshot, 0), 60));
}

#[test]
fn a_gpu_without_gpm_tells_no_use() {
    let mut mig = three();
    mig.gpm = false;
    let played = Played::new(&scenario(mig));
    let snapshot = played.until("rounds", |snapshot| snapshot.ticks >= 8);
    assert!(
        instances(&snapshot)
            .unwrap()
            .iter()
            .all(|instance| instance.utilization_percent.is_none())
    );
    assert_eq!(calls(&snapshot, CallClass::Gpm), 1, "asked once");
}

#[test]
fn what_is_refused_of_one_instance_leaves_the_rest() {
    let gpu = divided(three()).fail_call("nvmlGpmMigSampleGet", infmon_nvml_stand_in::ReturnCode::NO_PERMISSION);
    let played = Played::new(&Scenario::new("580.95.05").gpu(gpu));
    let snapshot = played.until("rounds", |snapshot| snapshot.ticks >= 8);
    let instances = instances(&snapshot).unwrap();
    assert!(instances.iter().all(|instance| instance.memory_free_bytes.is_some()));
    assert!(instances.iter().all(|instance| instance.utilization_percent.is_none()));
    // Without the number of its GPU instance nobody could say whose memory a device has.
    let nameless = scenario(three()).missing_symbol("nvmlDeviceGetGpuInstanceId");
    let played = Played::new(&nameless);
    until_told(&played, "");
}

#[test]
fn seven_instances_cost_fewer_than_eight_calls_a_second() {
    let mig = (0..7).fold(Mig::on(true), |mig, number| {
        mig.device(&format!("MIG-{number}"), 7 + number, 1000)
    });
    let mut gpu = divided(mig);
    gpu.processes.push(Process {
        pid: 7,
        used_mib: Some(1),
    });
    let played = Played::new(&Scenario::new("580.95.05").gpu(gpu));
    // Two in each round of the slow calls: the list, and that of clients.
    let rounds = |snapshot: &Snapshot| calls(snapshot, CallClass::Processes) / 2;
    let begin = played.until("the first rounds", |snapshot| rounds(snapshot) >= 8);
    let end = played.until("twenty rounds", |snapshot| rounds(snapshot) >= rounds(&begin) + 20);
    let apart = [CallClass::Init, CallClass::Facts, CallClass::Events];
    let all = |snapshot: &Snapshot| -> u64 {
        let of_gpu = snapshot.calls.iter().filter(|calls| !apart.contains(&calls.class));
        of_gpu.map(|calls| calls.count).sum()
    };
    let since = |count: &dyn Fn(&Snapshot) -> u64| (count(&end) - count(&begin)) as f64;
    // Fields, memory, clock, temperature and margin with every tick; a daemon has eight of them to a slow round.
    let slow = (since(&all) - 5.0 * since(&|snapshot| snapshot.ticks)) / since(&rounds);
    let each_second = 5.0 + slow / 8.0;
    assert!(
        (7.0..8.0).contains(&each_second),
        "{each_second} calls for each GPU and second"
    );
}
