//! The XIDs of NVIDIA's catalogue: what they mean and what the catalogue asks for at once.
//!
//! Source: <https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html>, table "Xids", column "Resolution Bucket (Immediate
//! Action)", as it stood in 2026. What the catalogue names without an action is [`XidClass::NoActionStated`] here: the name alone says
//! nothing about what to do.

/// What follows from an XID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum XidClass {
    /// Nothing: it repeats another one, or informs.
    Ignore,
    /// The program on the GPU was ended; the GPU goes on.
    RestartProgram,
    /// The GPU needs to be drained and reset.
    ResetGpu,
    /// The node needs a reboot.
    RebootNode,
    /// The virtual machine needs a restart.
    RestartMachine,
    /// Power and seating of the board are to be looked at.
    CheckBoard,
    /// Driver and firmware are to be updated.
    UpdateSoftware,
    /// NVLink or the fabric is to be looked at.
    CheckLink,
    /// The driver's recovery action has changed, and says what to do.
    FollowRecoveryAction,
    /// CUDA's managed memory reported it; the catalogue asks to look at the other XIDs beside it.
    CheckManagedMemory,
    /// The catalogue sends to the vendor.
    ContactVendor,
    /// The catalogue names it and says nothing of what to do.
    NoActionStated,
    /// Not in the catalogue that this version knows.
    Unknown,
}

impl XidClass {
    /// Whether the GPU itself stays impaired until it was reset or repaired, and not only the program that ran on it.
    #[must_use]
    pub const fn lasts(self) -> bool {
        matches!(
            self,
            Self::ResetGpu | Self::RebootNode | Self::RestartMachine | Self::CheckBoard | Self::CheckLink
        )
    }

    /// Whether the catalogue asks for no more than a restart of the program, so that an XID that names a GPU instance of MIG is none of the
    /// others' business. MIG promises that faults of programs stay in their GPU instance
    /// (<https://docs.nvidia.com/datacenter/tesla/mig-user-guide/>, "error isolation"). What asks for more, or of which the catalogue does
    /// not say what follows, concerns the whole GPU.
    #[must_use]
    pub const fn stays_in_its_instance(self) -> bool {
        matches!(self, Self::Ignore | Self::RestartProgram | Self::CheckManagedMemory)
    }
}

/// "Preemptive cleanup, due to previous errors": it accompanies the XID that caused it.
pub const CLEANUP: u32 = 45;

/// "GPU has fallen off the bus": the kernel's log also says it without the number.
pub const OFF_THE_BUS: u32 = 79;

/// The class of an XID by the column "immediate action" of NVIDIA's catalogue.
///
/// Where that column names a workflow (48, 74, 144 to 150) this is the step that the workflow begins with. 171 and 172 have no action of
/// their own: the catalogue calls them "additional to Xid 48", so they ask for what 48 asks for. 163 to 170 and 173 have none either.
#[must_use]
pub const fn class(number: u32) -> XidClass {
    match number {
        8
        | 11
        | 13
        | 25
        | 31
        | 32
        | 39..=41
        | 45
        | 60
        | 68..=72
        | 75..=77
        | 80
        | 82..=86
        | 88
        | 89
        | 94
        | 96..=105
        | 126..=135
        | 139 => XidClass::RestartProgram,
        14 | 37 | 38 | 43 | 44 | 63 | 66 | 67 | 92 | 93 | 106..=108 | 121 | 137 | 141 | 152 | 153 | 157 | 160..=162 => {
            XidClass::Ignore
        }
        46 | 48 | 62 | 64 | 95 | 109 | 110 | 119 | 120 | 136 | 140 | 143 | 155 | 156 | 158 | 171 | 172 => {
            XidClass::ResetGpu
        }
        79 => XidClass::RebootNode,
        151 => XidClass::RestartMachine,
        54 => XidClass::CheckBoard,
        78 => XidClass::UpdateSoftware,
        74 | 144..=150 => XidClass::CheckLink,
        154 => XidClass::FollowRecoveryAction,
        159 => XidClass::CheckManagedMemory,
        163..=170 | 173 => XidClass::NoActionStated,
        1..=173 => XidClass::ContactVendor,
        _ => XidClass::Unknown,
    }
}

/// What the catalogue calls an XID, shortened; `None` where there is no short name that says more than the number.
#[must_use]
pub const fn name(number: u32) -> Option<&'static str> {
    Some(match number {
        8 => "GPU stopped processing",
        11 | 25 | 32 => "invalid or corrupted push buffer",
        13 => "graphics engine exception",
        31 => "GPU memory page fault",
        45 => "preemptive cleanup",
        46 => "GPU stopped processing",
        48 => "double-bit ECC error",
        54 => "auxiliary power is not connected",
        60 => "video processor exception",
        62 => "internal micro-controller halt",
        63 => "memory repair recorded",
        64 => "memory repair could not be recorded",
        68 | 83 | 84 | 88 | 89 | 96..=98 => "video decoder exception",
        69 => "graphics engine class error",
        74 => "NVLink error",
        70..=72 | 75..=77 | 85 | 126..=135 => "copy engine exception",
        78 => "vGPU start error",
        79 => "GPU has fallen off the bus",
        80 => "corrupted data sent to the GPU",
        82 | 99..=105 => "JPEG engine exception",
        86 | 139 => "optical flow engine exception",
        92 => "high rate of single-bit ECC errors",
        94 => "contained memory error",
        95 => "uncontained memory error",
        106 | 107 => "test message",
        109 => "context switch timeout",
        110 => "security fault",
        119 => "GSP call timeout",
        120 => "GSP error",
        136 => "link training failed",
        137 => "NVLink privilege error",
        140 => "unrecovered ECC error",
        142 => "video encoder exception",
        143 => "GPU initialisation failure",
        144..=150 => "NVLink error",
        151 => "key rotation error",
        154 => "recovery action changed",
        155 => "NVLink software error",
        156 => "resource retirement",
        157 => "resource retirement failure",
        158 => "GPU fatal timeout",
        159 => "CHI non-data error",
        160 => "channel retired",
        161 => "channel could not be retired",
        162..=165 => "power smoothing circuit",
        166 | 170 => "NVLink security error",
        167 => "PCIe fatal timeout",
        168 => "reduced memory capacity",
        169 => "security engine halt",
        171 => "uncorrectable DRAM error",
        172 => "uncorrectable SRAM error",
        173 => "fatal failure of the C2C link",
        _ => return None,
    })
}
