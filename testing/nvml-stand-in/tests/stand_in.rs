//! The state file survives a round trip and refuses what it does not know; the installed library exports what it should.

use infmon_nvml_stand_in::{Cause, Event, Gpu, Mig, Process, Profile, ReturnCode, Scenario, StandIn, driver};

#[test]
fn every_profile_survives_the_round_trip() {
    for profile in Profile::ALL {
        let scenario = Scenario::of(profile, 3);
        assert_eq!(scenario.to_string().parse(), Ok(scenario));
    }
}

#[test]
fn everything_that_goes_wrong_survives_the_round_trip() {
    let mut gpu = Profile::H100
        .gpu(7)
        .throttle(Cause::HardwareThermal, 0.38)
        .process(4711, 65_536)
        .fail(ReturnCode::GPU_LOST)
        .fail_call("nvmlDeviceGetPowerUsage", ReturnCode(4242))
        .hang("GetUtilizationRates");
    gpu.processes.push(Process {
        pid: 12,
        used_mib: None,
    });
    let mut mig = Mig::on(true).device("MIG-a", 3, 120).device("MIG-b", 4, 9000);
    mig.devices[1].utilization = 35;
    mig.devices[1].processes.push(Process {
        pid: 13,
        used_mib: Some(8000),
    });
    gpu.mig = Some(mig);
    gpu.clocks_event_reasons = Some(0x604);
    gpu = gpu.xid(119).event(Event::DOUBLE_BIT_ECC, 0);
    gpu = gpu.xid_in(31, (3, Some(0))).xid_in(13, (4, None));
    gpu.events[1].gpu_instance = Some(3);
    gpu.remap_pending = Some(1);
    gpu.ecc_aggregate = Some(u64::MAX);
    let scenario = Scenario::new("570.172.08")
        .init_error(ReturnCode::LIB_RM_VERSION_MISMATCH)
        .missing_symbol("nvmlDeviceGetMarginTemperature")
        .absent_symbol("nvmlDeviceGetTemperature")
        .hang("GetMemoryInfo")
        .delay("GetComputeRunningProcesses", 4_500)
        .gpu(gpu)
        .gpu(Gpu::default());
    assert_eq!(scenario.to_string().parse(), Ok(scenario));
}

#[test]
fn a_line_that_is_not_understood_is_named() {
    let table = [
        ("driver = 1\ncolour = red", "line 2: colour: unknown key"),
        ("driver = 1\n[gpu 1]", "line 2: expected [gpu 0], found [gpu 1]"),
        (
            "driver = 1\n[gpu 0]\nthrottle.boredom = 1",
            "line 3: throttle.boredom: no such throttle cause: boredom",
        ),
        (
            "driver = 1\ninit_error = Tired",
            "line 2: init_error: no such NVML return code: Tired",
        ),
        ("driver = 1\n[gpu 0]\nxid = 119", "line 3: xid: expected serial:number"),
        (
            "driver = 1\n[gpu 0]\nmig_device = 0:MIG-a:3:0:1:1:0",
            "line 3: mig_device: expected mig before it",
        ),
        (
            "driver = 1\n[gpu 0]\nmig = on",
            "line 3: mig: expected other parts between colons",
        ),
        ("# nothing", "line 1: no driver version"),
    ];
    for (text, message) in table {
        assert_eq!(text.parse::<Scenario>().unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn the_numbering_of_fields_changes_with_driver_580_82() {
    for (driver, id, smoothing) in [
        ("470.256.02", None, None),
        ("570.172.08", None, Some(251)),
        ("575.57.08", Some(252), Some(256)),
        ("580.65.06", Some(252), Some(256)),
        ("580.82.07", Some(270), Some(251)),
        ("610.57.04", Some(270), Some(251)),
    ] {
        assert_eq!(Cause::HardwareThermal.field_id(driver), id, "{driver}");
        assert_eq!(Cause::PowerCap.field_id(driver), Some(74), "{driver}");
        assert_eq!(driver::power_smoothing(driver), smoothing, "{driver}");
    }
}

#[test]
fn a_symbol_can_be_left_out_of_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let has = |stand_in: &StandIn, symbol: &str| {
        let name = format!("\0{symbol}\0").into_bytes();
        std::fs::read(stand_in.library_path())
            .unwrap()
            .windows(name.len())
            .any(|window| window == name)
    };
    let scenario = Scenario::of(Profile::T4, 1);
    let whole = StandIn::install(&folder.path().join("whole"), &scenario).unwrap();
    assert!(has(&whole, "nvmlDeviceGetMarginTemperature"));
    let old = Scenario::with_driver(Profile::T4, 1, "470.256.02");
    let old = StandIn::install(&folder.path().join("old"), &old).unwrap();
    assert!(!has(&old, "nvmlDeviceGetMemoryInfo_v2") && has(&old, "nvmlDeviceGetMemoryInfo"));
    let partial = scenario.absent_symbol("nvmlDeviceGetMarginTemperature");
    let partial = StandIn::install(&folder.path().join("partial"), &partial).unwrap();
    assert!(!has(&partial, "nvmlDeviceGetMarginTemperature"));
    assert!(has(&partial, "nvmlShutdown"));
    let unknown = Scenario::of(Profile::T4, 1).absent_symbol("nvmlTeapot");
    assert!(StandIn::install(folder.path(), &unknown).is_err());
}
