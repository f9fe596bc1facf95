//! SXids of NVSwitches: what is folded, what counts, and for how long.

use infmon_gpu::kernel_log::PciAddress;
use infmon_gpu::{RecoveryAction, SwitchLog, breaks_the_fabric, switch_counts};
use std::time::{Duration, Instant};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn switch(bus: u8) -> PciAddress {
    PciAddress {
        domain: 0,
        bus,
        device: 0,
    }
}

#[test]
fn sxids_are_folded_by_switch_number_and_severity() {
    let start = Instant::now();
    let mut log = SwitchLog::default();
    log.sxid(switch(5), 20_034, true, "Link 30 LTSSM Fault Up", start);
    log.sxid(switch(5), 20_034, true, "Link 31 LTSSM Fault Up", start + seconds(2));
    log.sxid(switch(5), 20_034, false, "Link 30 LTSSM Fault Up", start);
    log.sxid(switch(6), 20_034, true, "Link 30 LTSSM Fault Up", start);
    let told: Vec<_> = log
        .incidents()
        .iter()
        .map(|incident| (incident.pci.bus, incident.fatal, incident.count, incident.text.as_str()))
        .collect();
    let (link_30, link_31) = ("Link 30 LTSSM Fault Up", "Link 31 LTSSM Fault Up");
    assert_eq!(
        told,
        [(5, true, 2, link_31), (5, false, 1, link_30), (6, true, 1, link_30)]
    );
    // Long after it is another story.
    log.sxid(switch(5), 20_034, true, link_30, start + seconds(4_000));
    let first = &log.incidents()[0];
    assert_eq!((first.count, first.first), (1, start + seconds(4_000)));
}

#[test]
fn the_log_is_bounded_and_what_is_fatal_stays() {
    let start = Instant::now();
    let mut log = SwitchLog::default();
    log.sxid(switch(1), 22_003, true, "", start);
    for number in 0..1_000 {
        log.sxid(switch(2), number, false, "", start + seconds(u64::from(number)));
    }
    assert_eq!(log.incidents().len(), 64);
    assert!(log.incidents()[0].fatal);
    log.forget(start + seconds(24 * 3_600));
    assert_eq!(log.incidents().len(), 64);
    log.forget(start + seconds(24 * 3_600 + 1));
    assert_eq!(log.incidents().len(), 63);
    log.begins_anew();
    assert_eq!(log.incidents(), []);
}

#[test]
fn fatal_sxids_count_by_the_table() {
    let none = Some(RecoveryAction::None);
    let reset = Some(RecoveryAction::Reset);
    // SXid, seconds ago, recovery actions of the GPUs, counts.
    let cases: [(u32, u64, &[Option<RecoveryAction>], bool); 9] = [
        (20_034, 0, &[none, none], true),
        (20_034, 599, &[none, none], true),
        (20_034, 600, &[none, none], false),
        (20_034, 600, &[none, reset], true),
        (20_034, 80_000, &[none, None], true),
        (20_034, 80_000, &[], true),
        (22_003, 600, &[none, none], true),
        (23_009, 80_000, &[none], true),
        (10_003, 80_000, &[none], true),
    ];
    for (number, ago, actions, expected) in cases {
        let counts = switch_counts(number, seconds(ago), actions.iter().copied());
        assert_eq!(counts, expected, "{number} {ago} s ago, {actions:?}");
    }
    assert!(breaks_the_fabric(23_017) && !breaks_the_fabric(23_018) && !breaks_the_fabric(20_034));
}
