//! Loopback addresses, one for each simulated pod.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU16, Ordering},
};

/// An address of 127.0.0.0/8 that nothing else uses. Its second and third byte come from the process id, so test processes that
/// run beside each other do not meet.
pub fn next() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = std::process::id();
    let byte = |value: u32| u8::try_from(value % 250 + 1).unwrap_or(1);
    let number = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
    // 250 addresses are more than any test starts pods.
    IpAddr::V4(Ipv4Addr::new(127, byte(process / 250), byte(process), byte(number)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses_differ_and_are_loopback() {
        let (one, two) = (super::next(), super::next());
        assert_ne!(one, two);
        assert!(one.is_loopback() && two.is_loopback());
    }
}
