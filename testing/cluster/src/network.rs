//! Namespaces, addresses and routes of a cluster.
//!
//! ```text
//!  machine ── infmon-NAME ══ root ┐
//!                                 ├─ bridge (BASE.1: control plane)      namespace infmon-NAME
//!  node N ─── eth0 (BASE.10+N) ═ nodeN ┘                                 namespaces infmon-NAME-N
//! ```
//!
//! The bridge lives in the control plane's namespace, so the machine's own firewall never sees what nodes say to each other, and the
//! machine has one interface to remove.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use infmon_control_plane::process;
use serde::{Deserialize, Serialize};

/// How long one `ip` command may take; it waits for a kernel lock at most.
const LIMIT: Duration = Duration::from_secs(20);
/// Where `ip` keeps the files that stand for namespaces.
const FOLDER: &str = "/run/netns";
/// How many clusters fit beside each other: each takes a /24 for its nodes and a /16 for its pods.
const PLACES: u8 = 15;
/// Most nodes of a cluster; a bound for addresses, not for the machine.
pub const MOST_NODES: u8 = 20;

/// The network of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    cluster: String,
    place: u8,
    nodes: u8,
}

impl Network {
    /// A network for a cluster of so many nodes, in address ranges that no route of this machine uses.
    ///
    /// # Errors
    ///
    /// When every range is in use or the routes cannot be read.
    pub fn choose(cluster: &str, nodes: u8) -> anyhow::Result<Self> {
        let routes = run(&["-4", "-o", "route", "show", "table", "all"])?;
        for place in 0..PLACES {
            let network = Self {
                cluster: cluster.to_owned(),
                place,
                nodes,
            };
            if !network.is_taken(&routes) {
                return Ok(network);
            }
        }
        bail!(
            "no free address range: 172.31.240.0/24 to 172.31.254.0/24 and 10.240.0.0/16 to 10.254.0.0/16 are all routed already"
        )
    }

    /// Whether a route leads into one of the ranges; the default route leads everywhere and does not count.
    fn is_taken(&self, routes: &str) -> bool {
        let nodes = format!("172.31.{}.", 240 + self.place);
        let pods = format!("10.{}.", 240 + self.place);
        routes
            .split_whitespace()
            .any(|word| word.starts_with(&nodes) || word.starts_with(&pods))
    }

    /// Where the apiserver listens.
    #[must_use]
    pub fn apiserver(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// Address of a node, counted from 1.
    #[must_use]
    pub fn node(&self, number: u8) -> Ipv4Addr {
        self.address(10 + number)
    }

    /// Pod addresses of the whole cluster.
    #[must_use]
    pub fn pods(&self) -> String {
        format!("10.{}.0.0/16", 240 + self.place)
    }

    /// Pod addresses of one node.
    #[must_use]
    pub fn pods_of(&self, number: u8) -> String {
        format!("10.{}.{number}.0/24", 240 + self.place)
    }

    /// Name of the control plane's namespace.
    #[must_use]
    pub fn namespace(&self) -> String {
        format!("infmon-{}", self.cluster)
    }

    /// Name of a node's namespace.
    #[must_use]
    pub fn node_namespace(&self, number: u8) -> String {
        format!("infmon-{}-{number}", self.cluster)
    }

    /// The file that stands for a namespace.
    #[must_use]
    pub fn file(namespace: &str) -> PathBuf {
        Path::new(FOLDER).join(namespace)
    }

    /// The machine's interface into the cluster. The kernel takes 15 characters.
    #[must_use]
    pub fn interface(&self) -> String {
        format!("im-{}", self.cluster)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, 240 + self.place, host)
    }

    /// Makes it. What exists already is an error: call [`remove`](Self::remove) first.
    ///
    /// # Errors
    ///
    /// When a command fails; what was made until then stays, for `remove`.
    pub fn create(&self) -> anyhow::Result<()> {
        let plane = self.namespace();
        let interface = self.interface();
        let bridge_address = format!("{}/24", self.apiserver());
        let machine_address = format!("{}/24", self.address(254));
        run(&["netns", "add", &plane])?;
        run(&["-n", &plane, "link", "set", "lo", "up"])?;
        run(&["-n", &plane, "link", "add", "bridge", "type", "bridge"])?;
        run(&["-n", &plane, "address", "add", &bridge_address, "dev", "bridge"])?;
        run(&["-n", &plane, "link", "set", "bridge", "up"])?;
        run(&[
            "link", "add", &interface, "type", "veth", "peer", "name", "root", "netns", &plane,
        ])?;
        run(&["-n", &plane, "link", "set", "root", "master", "bridge", "up"])?;
        run(&["address", "add", &machine_address, "dev", &interface])?;
        run(&["link", "set", &interface, "up"])?;
        let gateway = self.apiserver().to_string();
        run(&["route", "add", &self.pods(), "via", &gateway])?;
        set_kernel(&plane, &["net.ipv4.ip_forward=1"])?;
        for number in 1..=self.nodes {
            self.create_node(number)?;
        }
        Ok(())
    }

    fn create_node(&self, number: u8) -> anyhow::Result<()> {
        let plane = self.namespace();
        let node = self.node_namespace(number);
        let port = format!("node{number}");
        let address = self.node(number).to_string();
        let gateway = self.apiserver().to_string();
        run(&["netns", "add", &node])?;
        run(&["-n", &node, "link", "set", "lo", "up"])?;
        run(&[
            "-n", &plane, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &node,
        ])?;
        run(&["-n", &plane, "link", "set", &port, "master", "bridge", "up"])?;
        run(&["-n", &node, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        run(&["-n", &node, "link", "set", "eth0", "up"])?;
        run(&["-n", &node, "route", "add", "default", "via", &gateway])?;
        run(&["-n", &plane, "route", "add", &self.pods_of(number), "via", &address])?;
        for other in (1..=self.nodes).filter(|other| *other != number) {
            let via = self.node(other).to_string();
            run(&["-n", &node, "route", "add", &self.pods_of(other), "via", &via])?;
        }
        // Without the second, pods of one node do not reach each other through a Service.
        set_kernel(
            &node,
            &["net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"],
        )
    }

    /// Takes away whatever is left of it. The machine's interface and routes go with the namespace that holds their other end.
    ///
    /// # Errors
    ///
    /// When something that exists cannot be removed.
    pub fn remove(&self) -> anyhow::Result<()> {
        for number in 1..=self.nodes {
            remove_namespace(&self.node_namespace(number))?;
        }
        let interface = self.interface();
        if run(&["link", "show", &interface]).is_ok() {
            run(&["link", "delete", &interface])?;
        }
        remove_namespace(&self.namespace())?;
        release_folder()
    }
}

/// `ip` mounts its folder on itself with the first namespace and leaves it so after the last. Nobody needs that while it is empty, and `ip` mounts it
/// again.
fn release_folder() -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounted = mounts.lines().any(|line| line.split(' ').nth(1) == Some(FOLDER));
    if mounted && fs::read_dir(FOLDER)?.next().is_none() {
        let mut command = Command::new("umount");
        command.arg(FOLDER);
        process::run(command, "", LIMIT).context("the folder of network namespaces")?;
    }
    Ok(())
}

fn remove_namespace(name: &str) -> anyhow::Result<()> {
    if Network::file(name).try_exists()? {
        run(&["netns", "delete", name])?;
    }
    Ok(())
}

fn set_kernel(namespace: &str, settings: &[&str]) -> anyhow::Result<()> {
    // Not `ip netns exec`: that mounts /sys anew and loses the control groups below it.
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", Network::file(namespace).display()));
    command.args(["sysctl", "-qw"]).args(settings);
    process::run(command, "", LIMIT).map(drop)
}

fn run(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("ip");
    command.args(arguments);
    process::run(command, "", LIMIT).context("the network of the cluster")
}

#[cfg(test)]
mod tests {
    use super::Network;

    fn network() -> Network {
        Network {
            cluster: "test".into(),
            place: 2,
            nodes: 2,
        }
    }

    #[test]
    fn addresses_follow_from_the_place() {
        let network = network();
        assert_eq!(network.apiserver().to_string(), "172.31.242.1");
        assert_eq!(network.node(2).to_string(), "172.31.242.12");
        assert_eq!(network.pods_of(2), "10.242.2.0/24");
        assert_eq!(network.node_namespace(2), "infmon-test-2");
        assert!(network.interface().len() <= 15);
    }

    #[test]
    fn a_range_that_is_routed_is_taken() {
        for (routes, taken) in [
            ("default via 192.0.2.1 dev eth0", false),
            ("172.31.241.0/24 dev other proto kernel", false),
            ("172.31.242.0/24 dev other proto kernel", true),
            ("10.242.0.0/16 via 192.0.2.7 dev tun0", true),
        ] {
            assert_eq!(network().is_taken(routes), taken, "{routes}");
        }
    }
}
