//! Which addresses may be dialed.
//!
//! The operator plans only addresses of pods, and hosts that an administrator allowed. This is the second lock: a name may resolve to
//! anything, and a daemon stands behind every NetworkPolicy of its node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Addresses that a daemon may dial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Everything but this machine and link-local addresses (cloud metadata services are link-local): for daemons in a cluster.
    #[default]
    NotLocal,
    /// Everything: for a workstation whose owner names the targets.
    Any,
}

impl AddressPolicy {
    /// True when `address` may be dialed.
    pub(crate) fn allows(self, address: SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::NotLocal => match address.ip() {
                IpAddr::V4(v4) => is_remote_v4(v4),
                IpAddr::V6(v6) => is_remote_v6(v6),
            },
        }
    }
}

fn is_remote_v4(ip: Ipv4Addr) -> bool {
    // All of 0.0.0.0/8 is "this host" on Linux.
    !(ip.octets()[0] == 0 || ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast())
}

fn is_remote_v6(ip: Ipv6Addr) -> bool {
    // ::ffff:a.b.c.d and the older ::a.b.c.d are dialed as IPv4 or not at all.
    if let Some(v4) = ip.to_ipv4() {
        return is_remote_v4(v4);
    }
    // 64:ff9b::/96 is translated to IPv4 by NAT64.
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = ip.segments() {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        return is_remote_v4(Ipv4Addr::new(a, b, c, d));
    }
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_link_local_addresses_are_refused() {
        let refused = [
            "127.0.0.1:80",
            "127.8.9.1:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "169.254.169.254:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[::1]:80",
            "[::]:80",
            "[fe80::1]:80",
            "[ff02::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:169.254.169.254]:80",
            "[::127.0.0.1]:80",
            "[64:ff9b::a9fe:a9fe]:80",
        ];
        for address in refused {
            let address = address.parse().unwrap();
            assert!(!AddressPolicy::NotLocal.allows(address), "{address}");
            assert!(AddressPolicy::Any.allows(address), "{address}");
        }
        for address in [
            "10.0.0.7:8000",
            "192.168.1.1:80",
            "100.64.0.3:1",
            "[fd00::7]:80",
            "[2001:db8::1]:80",
        ] {
            let address = address.parse().unwrap();
            assert!(AddressPolicy::NotLocal.allows(address), "{address}");
        }
    }
}
