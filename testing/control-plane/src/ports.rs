//! Loopback ports that stay ours for as long as a control plane lives.
//!
//! Binding port 0 and closing it again would hand out a port of the ephemeral range, which any outgoing connection of the
//! machine may take before the server binds it, or while the apiserver is stopped. So a port is picked below that range and
//! claimed with a file lock, which the kernel releases when the process ends, however it ends.

use std::{
    fs::{self, File, TryLockError},
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use anyhow::{Context, bail};

/// Below Linux's default ephemeral range (32768-60999) and below the NodePort range (30000-32767).
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// A port of 127.0.0.1 that no other control plane takes while this value lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Claims a port that nothing listens on. `locks` is the folder all planes of this user share.
    pub(crate) fn claim(locks: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(locks).with_context(|| format!("failed to create {}", locks.display()))?;
        let start = RandomState::new().hash_one(std::process::id()) % u64::from(COUNT);
        let start = u16::try_from(start).unwrap_or(0);
        for step in 0..COUNT {
            let number = FIRST + (start + step) % COUNT;
            let path = locks.join(number.to_string());
            let lock = File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("failed to lock {}", path.display()));
                }
            }
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no free port between {FIRST} and {}", FIRST + COUNT - 1)
    }

    /// The port's number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::Port;

    #[test]
    fn two_claims_never_give_the_same_port() {
        let locks = tempfile::tempdir().unwrap();
        let ports: Vec<Port> = (0..50).map(|_| Port::claim(locks.path()).unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
    }
}
