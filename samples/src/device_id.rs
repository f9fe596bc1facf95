//! Names of GPUs as device plugins, DRA drivers and the kubelet write them: one place reads every form.

/// Which GPU an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName<'a> {
    /// By its uuid, `GPU-<uuid>`.
    Gpu(&'a str),
    /// By the uuid of a MIG instance, `MIG-<uuid>`; which GPU that is a part of is not in it.
    Mig(&'a str),
    /// By the number in its device file, `/dev/nvidia<minor>`, which is not its index.
    Minor(u32),
}

/// A device id of a GPU or of a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId<'a> {
    /// Which GPU.
    pub name: DeviceName<'a>,
    /// It is one share of several (time-slicing, MPS): other pods may have the same GPU.
    pub shared: bool,
    /// Number of the GPU instance of MIG that it is a part of, where the id has it.
    pub gpu_instance: Option<u32>,
}

/// NVIDIA's driver for dynamic resource allocation.
const DRA_DRIVER: &str = "gpu.nvidia.com/";
/// Its vendor in names of the container device interface (CDI).
const DRA_CDI_VENDOR: &str = "k8s.gpu.nvidia.com/";

impl<'a> DeviceId<'a> {
    /// Reads an id; `None` for what names no GPU in any known form.
    ///
    /// | Form | From |
    /// |---|---|
    /// | `GPU-<uuid>`, `MIG-<uuid>` | NVIDIA's device plugin |
    /// | `MIG-GPU-<uuid>/<gi>/<ci>` | the same, drivers before 470 |
    /// | `GPU-<uuid>::<n>` | its replicas for time-slicing and MPS, of any of these |
    /// | `nvidia<minor>`, with `/gi<n>`, `/vgpu<n>` or both | the device plugin of GKE |
    /// | `gpu.nvidia.com/<pool>/gpu-<minor>`, with `-mig-...` | NVIDIA's DRA driver |
    /// | `<vendor>/<class>=<one of the first three>`, `k8s.gpu.nvidia.com/claim=<claim>-gpu-<minor>` | CDI |
    #[must_use]
    pub fn parse(id: &'a str) -> Option<Self> {
        if let Some((kind, device)) = id.split_once('=') {
            return match kind.strip_prefix(DRA_CDI_VENDOR) {
                Some(_) => dra_device(device),
                None => plugin_device(device),
            };
        }
        match id.strip_prefix(DRA_DRIVER) {
            Some(device) => dra_device(device.rsplit('/').next()?),
            None => plugin_device(id).or_else(|| gke_device(id)),
        }
    }
}

fn plugin_device(id: &str) -> Option<DeviceId<'_>> {
    let (device, shared) = match id.split_once("::") {
        Some((device, replica)) => (device, number(replica).map(|_| true)?),
        None => (id, false),
    };
    let mut gpu_instance = None;
    let name = if let Some(legacy) = device.strip_prefix("MIG-").filter(|rest| rest.starts_with("GPU-")) {
        let mut parts = legacy.split('/');
        let gpu = parts.next()?;
        gpu_instance = Some(number(parts.next()?)?);
        number(parts.next()?)?;
        if parts.next().is_some() {
            return None;
        }
        DeviceName::Gpu(gpu)
    } else if device.starts_with("GPU-") {
        DeviceName::Gpu(device)
    } else if device.starts_with("MIG-") {
        DeviceName::Mig(device)
    } else {
        return None;
    };
    Some(DeviceId {
        name,
        shared,
        gpu_instance,
    })
}

fn gke_device(id: &str) -> Option<DeviceId<'_>> {
    let mut parts = id.strip_prefix("nvidia")?.split('/');
    let minor = number(parts.next()?)?;
    let mut part = parts.next();
    let mut gpu_instance = None;
    if let Some(rest) = part.and_then(|part| part.strip_prefix("gi")) {
        gpu_instance = Some(number(rest)?);
        part = parts.next();
    }
    let shared = part.is_some();
    if let Some(part) = part {
        number(part.strip_prefix("vgpu")?)?;
    }
    parts.next().is_none().then_some(DeviceId {
        name: DeviceName::Minor(minor),
        shared,
        gpu_instance,
    })
}

/// `gpu-0` and `gpu-0-mig-...`, with the uid of a claim before it or without.
fn dra_device(device: &str) -> Option<DeviceId<'_>> {
    let whole = plugin_device(device);
    if whole.is_some() {
        return whole;
    }
    let from = if device.starts_with("gpu-") {
        0
    } else {
        device.find("-gpu-")? + 1
    };
    let rest = device.get(from..)?.strip_prefix("gpu-")?;
    let (minor, part) = rest
        .split_once('-')
        .map_or((rest, None), |(minor, part)| (minor, Some(part)));
    let name = DeviceName::Minor(number(minor)?);
    part.is_none_or(|part| part.starts_with("mig-")).then_some(DeviceId {
        name,
        shared: false,
        gpu_instance: None,
    })
}

/// Digits and nothing else, unlike `str::parse`, which takes a sign.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use DeviceName::{Gpu, Mig, Minor};

    #[test]
    fn every_form_names_its_gpu() {
        let cases = [
            ("GPU-5f2c91e0-1a2b", Gpu("GPU-5f2c91e0-1a2b"), false),
            ("GPU-5f2c91e0-1a2b::3", Gpu("GPU-5f2c91e0-1a2b"), true),
            ("MIG-7f0a", Mig("MIG-7f0a"), false),
            ("MIG-7f0a::0", Mig("MIG-7f0a"), true),
            ("MIG-GPU-5f2c/3/0", Gpu("GPU-5f2c"), false),
            ("MIG-GPU-5f2c/3/0::1", Gpu("GPU-5f2c"), true),
            ("nvidia0", Minor(0), false),
            ("nvidia12", Minor(12), false),
            ("nvidia0/gi1", Minor(0), false),
            ("nvidia3/vgpu0", Minor(3), true),
            ("nvidia3/gi1/vgpu0", Minor(3), true),
            ("gpu.nvidia.com/gpu-4", Minor(4), false),
            ("gpu.nvidia.com/node-7/gpu-4", Minor(4), false),
            ("gpu.nvidia.com/node-7/gpu-4-mig-1g10gb-19-0", Minor(4), false),
            ("k8s.gpu.nvidia.com/device=gpu-2", Minor(2), false),
            (
                "k8s.gpu.nvidia.com/claim=6f1c9e52-0b7e-4f8e-9d6b-2f1f3c1d0a11-gpu-2",
                Minor(2),
                false,
            ),
            (
                "k8s.gpu.nvidia.com/claim=6f1c9e52-0b7e-4f8e-9d6b-2f1f3c1d0a11-gpu-2-mig-1g10gb-19-0",
                Minor(2),
                false,
            ),
            ("nvidia.com/gpu=GPU-5f2c", Gpu("GPU-5f2c"), false),
            ("nvidia.com/gpu=MIG-7f0a", Mig("MIG-7f0a"), false),
        ];
        for (id, name, shared) in cases {
            let found = DeviceId::parse(id).map(|id| (id.name, id.shared));
            assert_eq!(found, Some((name, shared)), "{id}");
        }
    }

    #[test]
    fn the_gpu_instance_is_told_where_the_id_has_it() {
        let cases = [
            ("MIG-GPU-5f2c/3/0", Some(3)),
            ("MIG-GPU-5f2c/3/0::1", Some(3)),
            ("nvidia0/gi1", Some(1)),
            ("nvidia3/gi2/vgpu0", Some(2)),
            ("nvidia3/vgpu0", None),
            ("GPU-5f2c::1", None),
            ("MIG-7f0a", None),
            // The last two numbers are profile and place.
            ("gpu.nvidia.com/node-7/gpu-4-mig-1g10gb-19-0", None),
        ];
        for (id, gpu_instance) in cases {
            assert_eq!(DeviceId::parse(id).unwrap().gpu_instance, gpu_instance, "{id}");
        }
    }

    #[test]
    fn what_names_no_gpu_is_not_guessed() {
        for id in [
            "",
            "0",
            "nvidia",
            "nvidia-0",
            "nvidia+1",
            "nvidia0/gi",
            "nvidia0/gi1/ci0",
            "nvidia0/vgpu0/gi1",
            "nvidia99999999999",
            "GPU",
            "GPU-1::",
            "GPU-1::x",
            "MIG-GPU-1",
            "MIG-GPU-1/3",
            "MIG-GPU-1/3/0/9",
            // A bare number may be an index, which is not a minor number.
            "nvidia.com/gpu=0",
            "k8s.gpu.example.com/gpu=gpu-0",
            "k8s.gpu.nvidia.com/claim=6f1c",
            "k8s.gpu.nvidia.com/device=gpu-vfio-0",
            "gpu.nvidia.com/node/gpu-0-x",
            "gpu.example.com/node/gpu-0",
            "gpu-0",
            "0000:3b:00.2",
            "mlx5_0",
        ] {
            assert_eq!(DeviceId::parse(id), None, "{id:?}");
        }
    }
}
