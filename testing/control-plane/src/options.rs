//! What a test can choose about its control plane.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

/// How a [`ControlPlane`](crate::ControlPlane) is started.
///
/// The default suits most tests: an HorizontalPodAutoscaler that acts within a second, and an aggregator that reaches a
/// process of the test through a Service of type `ExternalName` with `externalName: localhost`.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the apiserver listens. On loopback, the default, there are no nodes; any other address is one that nodes and pods
    /// reach, and then the plane is complete: a scheduler, the `kubernetes` Service with its endpoint, and the Node authorizer.
    pub address: Ipv4Addr,
    /// Folder for everything the plane writes. It must not exist, and stays when the plane ends. `None`: a temporary one.
    pub folder: Option<PathBuf>,
    /// Route aggregated API calls to endpoint addresses (`--enable-aggregator-routing`) instead of the Service's address.
    /// With it, a Service of type `ExternalName` is refused, and endpoints must not be loopback addresses.
    pub aggregator_routing: bool,
    /// How often the HorizontalPodAutoscaler controller looks (Kubernetes' own default is 15 s).
    pub hpa_sync_period: Duration,
    /// How long the HorizontalPodAutoscaler controller waits before it scales down (Kubernetes' own default is 5 min).
    pub hpa_downscale_stabilization: Duration,
    /// Further flags of kube-apiserver. They come last, so they win over the ones set here.
    pub apiserver_args: Vec<String>,
    /// Further flags of kube-controller-manager. They come last, so they win over the ones set here.
    pub controller_manager_args: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST,
            folder: None,
            aggregator_routing: false,
            hpa_sync_period: Duration::from_secs(1),
            hpa_downscale_stabilization: Duration::from_secs(1),
            apiserver_args: Vec::new(),
            controller_manager_args: Vec::new(),
        }
    }
}
