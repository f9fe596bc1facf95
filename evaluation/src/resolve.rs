//! From a spec and the cluster to the endpoints of a monitor.

use crate::cluster::{Namespace, Pod, PodPort, port_number, selects};
use infmon_crds::v1alpha1::{Endpoint, EngineChoice, InferenceMonitorSpec, PortReference, Scheme as SpecScheme};
use infmon_engines::Engine;
use infmon_samples::{Scheme, Target, TargetId};
use std::net::IpAddr;
use std::time::Duration;

/// Largest metrics body that is read. The largest real one known is 2.8 MB (vLLM, 64 data-parallel ranks).
const BODY_LIMIT_BYTES: u64 = 16 << 20;
/// Endpoints of one monitor; more are left out and reported.
const ENDPOINTS_MAX: usize = 1000;

/// Which addresses a spec may lead to. Set by the administrator, never by a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Pods may have loopback and link-local addresses (standalone mode and tests).
    pub allow_loopback: bool,
    /// Pods may share the network of their node.
    pub allow_host_network: bool,
    /// Hosts that `url` endpoints may name.
    pub allowed_hosts: Vec<String>,
}

/// Where an endpoint is measured from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// By the daemon of this node.
    Node(String),
    /// By any connected daemon (url endpoints).
    Anywhere,
    /// Nowhere yet: the pod is not bound to a node.
    Nowhere,
}

/// One server of a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedEndpoint {
    /// Name of the endpoint group in the spec.
    pub group: String,
    /// Pod, or `host:port`.
    pub name: String,
    /// Where it is measured from.
    pub place: Place,
    /// It takes requests, as far as Kubernetes knows; url endpoints always do.
    pub serving: bool,
    /// Device ids of the pod, where the cluster tells.
    pub devices: Vec<String>,
    /// What to scrape; `None` while the pod has no address.
    pub target: Option<Target>,
}

/// Endpoints of a monitor, and what stood in the way of more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Servers, in the order of the spec, then by name.
    pub endpoints: Vec<ResolvedEndpoint>,
    /// Faults of the spec that only the cluster shows, for people.
    pub problems: Vec<String>,
}

/// Resolves the endpoints of a spec against the pods and Services of its namespace.
#[must_use]
pub fn resolve(spec: &InferenceMonitorSpec, namespace: &dyn Namespace, policy: &AddressPolicy) -> Resolution {
    let mut resolution = Resolution::default();
    for endpoint in &spec.endpoints {
        let start = resolution.endpoints.len();
        if let Some(pods) = &endpoint.pods {
            for pod in namespace
                .pods()
                .filter(|pod| !pod.ended && selects(&pods.selector, &pod.labels))
            {
                let port = port_number(&pods.port, &pod.ports);
                add_pod(&mut resolution, spec, endpoint, pod, port, &pods.port, policy);
            }
        } else if let Some(service) = &endpoint.service {
            add_service(
                &mut resolution,
                spec,
                endpoint,
                &service.name,
                &service.port,
                namespace,
                policy,
            );
        } else if let Some(url) = &endpoint.url {
            add_url(&mut resolution, spec, endpoint, url, policy);
        }
        resolution.endpoints[start..].sort_by(|a, b| a.name.cmp(&b.name));
    }
    // The same server may be selected twice; counting it twice would double the queue.
    let mut seen = std::collections::BTreeSet::new();
    resolution.endpoints.retain(|endpoint| {
        endpoint
            .target
            .as_ref()
            .is_none_or(|target| seen.insert(target.id.clone()))
    });
    if resolution.endpoints.len() > ENDPOINTS_MAX {
        resolution.problems.push(format!(
            "{} endpoints are selected, {ENDPOINTS_MAX} at most are monitored: split the monitor",
            resolution.endpoints.len()
        ));
        resolution.endpoints.truncate(ENDPOINTS_MAX);
    }
    resolution.problems.sort();
    resolution.problems.dedup();
    resolution
}

fn add_pod(
    resolution: &mut Resolution,
    spec: &InferenceMonitorSpec,
    endpoint: &Endpoint,
    pod: &Pod,
    port: Option<u16>,
    reference: &PortReference,
    policy: &AddressPolicy,
) {
    let Some(port) = port else {
        resolution.problems.push(format!(
            "endpoint {}: pod {} declares no TCP container port {reference}; declared: {}",
            endpoint.name,
            pod.name,
            declared(&pod.ports)
        ));
        return;
    };
    if pod.host_network && !policy.allow_host_network {
        resolution.problems.push(format!(
            "endpoint {}: pod {} uses the network of its node, which an administrator must allow (podAddresses.allowHostNetwork)",
            endpoint.name, pod.name
        ));
        return;
    }
    if let Some(ip) = pod.ip
        && let Err(problem) = allowed(ip, policy)
    {
        resolution
            .problems
            .push(format!("endpoint {}: pod {}: {problem}", endpoint.name, pod.name));
        return;
    }
    let target = pod.ip.filter(|_| pod.node.is_some()).map(|ip| {
        let address = std::net::SocketAddr::new(ip, port).to_string();
        target(spec, scheme(spec.scheme), &pod.uid, &address)
    });
    resolution.endpoints.push(ResolvedEndpoint {
        group: endpoint.name.clone(),
        name: pod.name.clone(),
        place: pod.node.clone().map_or(Place::Nowhere, Place::Node),
        serving: pod.ready && !pod.terminating,
        devices: pod.devices.clone(),
        target,
    });
}

fn add_service(
    resolution: &mut Resolution,
    spec: &InferenceMonitorSpec,
    endpoint: &Endpoint,
    service: &str,
    reference: &PortReference,
    namespace: &dyn Namespace,
    policy: &AddressPolicy,
) {
    let Some(addresses) = namespace.service(service) else {
        resolution.problems.push(format!(
            "endpoint {}: no EndpointSlice belongs to Service {service}: is the name right, and does the Service have a selector?",
            endpoint.name
        ));
        return;
    };
    for address in addresses {
        // Only pods are reached through a Service: an address without a pod may be anything, the API server included.
        let Some(pod) = address
            .pod
            .as_ref()
            .and_then(|name| namespace.pods().find(|pod| pod.name == *name))
        else {
            resolution.problems.push(format!(
                "endpoint {}: address {} of Service {service} belongs to no pod of this namespace: use a url endpoint",
                endpoint.name, address.ip
            ));
            continue;
        };
        // An EndpointSlice is easier to write than a pod: the address must be the pod's own.
        if pod.ip != Some(address.ip) {
            continue;
        }
        let port = port_number(reference, &address.ports);
        add_pod(resolution, spec, endpoint, pod, port, reference, policy);
    }
}

fn add_url(
    resolution: &mut Resolution,
    spec: &InferenceMonitorSpec,
    endpoint: &Endpoint,
    url: &str,
    policy: &AddressPolicy,
) {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        _ => {
            resolution.problems.push(format!(
                "endpoint {}: {url} is neither http:// nor https://",
                endpoint.name
            ));
            return;
        }
    };
    let authority = rest.trim_end_matches('/');
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().ok()),
        _ => (authority, Some(if scheme == Scheme::Http { 80 } else { 443 })),
    };
    let Some(port) = port else {
        resolution
            .problems
            .push(format!("endpoint {}: {url} has no valid port", endpoint.name));
        return;
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback =
        policy.allow_loopback && (bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()));
    if !loopback
        && !policy
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(bare))
    {
        resolution.problems.push(format!(
            "endpoint {}: host {bare} is not among the hosts an administrator allows (allowedHosts): ask for it to be listed",
            endpoint.name
        ));
        return;
    }
    let address = format!("{host}:{port}");
    resolution.endpoints.push(ResolvedEndpoint {
        group: endpoint.name.clone(),
        name: address.clone(),
        place: Place::Anywhere,
        serving: true,
        devices: Vec::new(),
        target: Some(target(spec, scheme, "", &address)),
    });
}

/// Pods have addresses of the pod network. Loopback and link-local ones would turn the daemon on itself or on the metadata service of
/// a cloud.
fn allowed(ip: IpAddr, policy: &AddressPolicy) -> Result<(), String> {
    let ip = ip.to_canonical();
    let local = match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
    };
    if local && !policy.allow_loopback {
        return Err(format!(
            "{ip} is a loopback, link-local or multicast address, which is never scraped"
        ));
    }
    Ok(())
}

fn target(spec: &InferenceMonitorSpec, scheme: Scheme, owner: &str, address: &str) -> Target {
    let period = Duration::from_millis(u64::try_from(spec.sample_period_milliseconds).unwrap_or(1000).max(250));
    let path = spec.metrics_path.as_deref().unwrap_or("/metrics");
    let engine = match spec.engine {
        EngineChoice::Auto => None,
        EngineChoice::Vllm => Some(Engine::Vllm),
        EngineChoice::LlamaCpp => Some(Engine::LlamaCpp),
    };
    let protocol = if scheme == Scheme::Http { "http" } else { "https" };
    Target {
        id: TargetId(format!(
            "{owner}/{protocol}://{address}{path}#{}",
            engine.map_or("Auto", Engine::as_str)
        )),
        scheme,
        address: address.to_owned(),
        metrics_path: path.to_owned(),
        engine,
        period,
        // A scrape must end before the next one starts; servers that take longer than 5 s are not measured more truthfully by waiting.
        deadline: period
            .mul_f64(0.9)
            .clamp(Duration::from_millis(225), Duration::from_secs(5)),
        body_limit_bytes: BODY_LIMIT_BYTES,
    }
}

fn scheme(scheme: SpecScheme) -> Scheme {
    match scheme {
        SpecScheme::Http => Scheme::Http,
        SpecScheme::Https => Scheme::Https,
    }
}

fn declared(ports: &[PodPort]) -> String {
    if ports.is_empty() {
        return "none".into();
    }
    let names: Vec<String> = ports
        .iter()
        .take(8)
        .map(|port| {
            if port.name.is_empty() {
                port.number.to_string()
            } else {
                format!("{} ({})", port.name, port.number)
            }
        })
        .collect();
    names.join(", ")
}
