//! Fatal SXids of NVSwitches: whom they concern, what is said, and when they are over.

use crate::scene::{Gpu, Scene, assert_presentable, finding, gpu, scene, server, short};
use infmon_crds::v1alpha1::ConditionType::GpusHealthy;
use infmon_gpu::RecoveryAction;
use infmon_samples::SwitchIncident;
use std::time::Duration;

const CALM: &str = "True NoFaults";
const HIT: &str = "False Sxid";
/// "LTSSM Fault Up": a link is down.
const LINK: u32 = 20_034;
/// "Minion Halt": fatal to the whole fabric.
const FABRIC: u32 = 22_003;

fn uuid(number: u32) -> String {
    format!("GPU-{number}0000000-0000-0000-0000-000000000000")
}

fn healthy(number: u32) -> Gpu {
    gpu("n1", number, &uuid(number)).with(|sample| {
        sample.health.recovery_action = Some(RecoveryAction::None);
        sample.health.xid_events = Some(true);
    })
}

fn sxid(number: u32, ago: u64) -> SwitchIncident {
    SwitchIncident {
        pci: "0000:05:00".into(),
        number,
        fatal: true,
        text: "Link 30 LTSSM Fault Up".into(),
        count: 1,
        first: Duration::from_secs(ago),
        last: Duration::from_secs(ago),
    }
}

/// Pod `a` has two GPUs and pod `b` one.
fn three_gpus() -> Scene {
    scene([
        server("a").device(&uuid(1)).device(&uuid(2)),
        server("b").device(&uuid(3)),
    ])
    .gpu(healthy(1))
    .gpu(healthy(2))
    .gpu(healthy(3))
}

fn happened(mut scene: Scene, incident: SwitchIncident) -> Scene {
    scene.switch_incidents.push(("n1".into(), incident));
    scene
}

#[test]
fn sxids_follow_the_table() {
    let alone = || scene([server("b").device(&uuid(3))]).gpu(healthy(3)).gpu(healthy(2));
    let divided = || {
        scene([server("b").device("MIG-a")])
            .gpu(healthy(3).mig(3, "MIG-a", 100))
            .gpu(healthy(2))
    };
    let unknown = || scene([server("b")]).gpu(healthy(2)).gpu(healthy(3));
    let needs_reset = || {
        let reset = healthy(4).with(|sample| sample.health.recovery_action = None);
        three_gpus().gpu(reset)
    };
    let harmless = SwitchIncident {
        fatal: false,
        ..sxid(LINK, 4)
    };
    let cases = [
        ("a link, of a pod with two GPUs", three_gpus(), sxid(LINK, 4), HIT),
        ("a link, of a pod with one GPU", alone(), sxid(LINK, 4), CALM),
        (
            "a link, where nobody knows which GPUs a pod has",
            unknown(),
            sxid(LINK, 4),
            HIT,
        ),
        ("the fabric, of a pod with one GPU", alone(), sxid(FABRIC, 4), HIT),
        ("the fabric, of a part of a GPU", divided(), sxid(FABRIC, 4), CALM),
        ("one that is not fatal", three_gpus(), harmless, CALM),
        ("a link, long ago", three_gpus(), sxid(LINK, 601), CALM),
        (
            "a link, long ago, and a GPU of which nobody knows",
            needs_reset(),
            sxid(LINK, 601),
            HIT,
        ),
        ("the fabric, long ago", three_gpus(), sxid(FABRIC, 80_000), HIT),
    ];
    for (name, scene, incident, expected) in cases {
        let verdict = happened(scene, incident).look();
        let message = &finding(&verdict, GpusHealthy).message;
        assert_eq!(short(&verdict, GpusHealthy), expected, "{name}: {message}");
        assert_presentable(&verdict);
    }
}

#[test]
fn a_switch_of_another_node_is_none_of_their_business() {
    let mut scene = three_gpus();
    scene.switch_incidents.push(("n2".into(), sxid(FABRIC, 4)));
    assert_eq!(short(&scene.look(), GpusHealthy), CALM);
}

#[test]
fn the_message_names_switch_number_pods_and_the_next_step() {
    let repeated = SwitchIncident {
        count: 2,
        first: Duration::from_secs(95),
        ..sxid(LINK, 4)
    };
    assert_eq!(
        finding(&happened(three_gpus(), repeated).look(), GpusHealthy).message,
        "NVSwitch 0000:05:00 on node n1: fatal SXid 20034 (Link 30 LTSSM Fault Up), 2 times, first 95 s and last 4 s ago. GPUs behind it serve pod a. \
         Next: see XID 74 in dmesg and the log of nvidia-fabricmanager on n1 for the GPU at that link; drain n1 and reset the GPUs that the pod uses \
         (nvidia-smi --gpu-reset) or reboot. docs/conditions.md#sxid"
    );
    let halted = SwitchIncident {
        text: "Link 30 Minion Halt".into(),
        ..sxid(FABRIC, 4)
    };
    assert_eq!(
        finding(&happened(three_gpus(), halted).look(), GpusHealthy).message,
        "NVSwitch 0000:05:00 on node n1: fatal SXid 22003 (Link 30 Minion Halt), which stops all NVLink traffic of the node, 4 s ago. \
         GPUs behind it serve pod a, b. Next: drain n1, stop nvidia-fabricmanager, reset all GPUs and switches (nvidia-smi --gpu-reset, without -i) and \
         start it again, or reboot. docs/conditions.md#sxid"
    );
}
