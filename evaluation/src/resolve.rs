//! From a spec and the cluster to the endpoints of a monitor.

use crate::cluster::{Namespace, Pod, PodPort, port_number, selects};
use crate::credentials::{Given, given};
use crate::mapping::{digest, mapping_of};
use crate::url::Url;
use infmon_crds::v1alpha1::{Endpoint, EngineChoice, InferenceMonitorSpec, Scheme as SpecScheme, ServiceEndpoint};
use infmon_engines::{Engine, Mapping};
use infmon_samples::{Access, Credentials, Scheme, Target, TargetId};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Largest metrics body that is read. The largest real one known is 2.8 MB (vLLM, 64 data-parallel ranks).
const BODY_LIMIT_BYTES: u64 = 16 << 20;
/// Endpoints of one monitor; more are left out and reported.
const ENDPOINTS_MAX: usize = 1000;
/// Problems told of one monitor.
const PROBLEMS_MAX: usize = 8;

/// Which addresses a spec may lead to. Set by the administrator, never by a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Pods may have loopback and link-local addresses (standalone mode and tests).
    pub allow_loopback: bool,
    /// Pods may share the network of their node.
    pub allow_host_network: bool,
    /// Hosts that `url` endpoints may name.
    pub allowed_hosts: Vec<String>,
    /// What servers of `url` endpoints are shown that name no Secret, by HTTPS or on this machine (standalone mode; never in a cluster,
    /// where it would be the administrator's and go where tenants say).
    pub credentials: Option<Arc<Credentials>>,
}

impl AddressPolicy {
    /// Whether a `url` may be asked at all.
    pub(crate) fn allows(&self, url: &Url) -> bool {
        (self.allow_loopback && url.is_loopback()) || url.is_among(&self.allowed_hosts)
    }
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
    /// Labels that the spec gives it (url endpoints).
    pub labels: BTreeMap<String, String>,
    /// Device ids of the pod, where the cluster tells.
    pub devices: Vec<String>,
    /// Uid by which the kubelet knows the pod; empty for what is no pod.
    pub pod_uid: String,
    /// What to scrape; `None` while the pod has no address, or the Secret of a url has not been read.
    pub target: Option<Target>,
}

/// Endpoints of a monitor, and what stood in the way of more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Servers, in the order of the spec, then by name.
    pub endpoints: Vec<ResolvedEndpoint>,
    /// Faults of the spec that only the cluster shows, for people.
    pub problems: Vec<String>,
    /// One of the problems keeps something that takes requests from being measured: a sum over the endpoints would lack it.
    pub partial: bool,
}

/// Resolves the endpoints of a spec against the pods and Services of its namespace.
#[must_use]
pub fn resolve(spec: &InferenceMonitorSpec, namespace: &dyn Namespace, policy: &AddressPolicy) -> Resolution {
    let mapping = match mapping_of(spec) {
        Ok(mapping) => mapping,
        // Without it no body can be read: no endpoint can be measured.
        Err(words) => {
            return Resolution {
                endpoints: Vec::new(),
                problems: vec![words],
                partial: true,
            };
        }
    };
    let engine = engine(spec.engine);
    let mut resolver = Resolver {
        spec,
        policy,
        found: Resolution::default(),
        seen: BTreeSet::new(),
        asked: BTreeMap::new(),
        way: match engine {
            None => "Auto".to_owned(),
            Some(Engine::Custom) => format!("{}-{}", Engine::Custom.as_str(), digest(&mapping)),
            Some(engine) => engine.as_str().to_owned(),
        },
        engine,
        mapping,
    };
    for endpoint in &spec.endpoints {
        let start = resolver.found.endpoints.len();
        if let Some(pods) = &endpoint.pods {
            for pod in namespace.pods().filter(|pod| selects(&pods.selector, &pod.labels)) {
                match port_number(&pods.port, &pod.ports) {
                    _ if pod.ended => {}
                    Some(port) => resolver.pod(endpoint, pod, port),
                    None => {
                        let words = format!(
                            "pod {} declares no TCP container port {}; declared: {}",
                            pod.name,
                            pods.port,
                            declared(&pod.ports)
                        );
                        resolver.problem(endpoint, &words, serving(pod));
                    }
                }
            }
        } else if let Some(service) = &endpoint.service {
            resolver.service(endpoint, service, namespace);
        } else if let Some(url) = &endpoint.url {
            resolver.url(endpoint, url, namespace);
        }
        resolver.found.endpoints[start..].sort_by(|a, b| a.name.cmp(&b.name));
    }
    resolver.bounded()
}

struct Resolver<'a> {
    spec: &'a InferenceMonitorSpec,
    policy: &'a AddressPolicy,
    found: Resolution,
    /// The same pod may be selected twice; counting it twice would double the queue.
    seen: BTreeSet<String>,
    /// Scheme and Secret that each server of a url is asked with.
    asked: BTreeMap<String, (Scheme, Option<String>)>,
    engine: Option<Engine>,
    mapping: Mapping,
    /// Engine and mapping in the id of a target: who reads the same server in another way has a target of his own.
    way: String,
}

impl Resolver<'_> {
    /// Notes a problem, and whether what it concerns takes requests.
    fn problem(&mut self, endpoint: &Endpoint, words: &str, serving: bool) {
        self.found.problems.push(format!("endpoint {}: {words}", endpoint.name));
        self.found.partial |= serving;
    }

    fn pod(&mut self, endpoint: &Endpoint, pod: &Pod, port: u16) {
        if pod.host_network && !self.policy.allow_host_network {
            let words = format!(
                "pod {} uses the network of its node, which an administrator must allow (Helm value podAddresses.allowHostNetwork)",
                pod.name
            );
            return self.problem(endpoint, &words, serving(pod));
        }
        if let Some(ip) = pod.ip
            && let Err(words) = allowed(ip, self.policy)
        {
            return self.problem(endpoint, &format!("pod {}: {words}", pod.name), serving(pod));
        }
        if !self.seen.insert(format!("{}/{}/{port}", pod.uid, pod.name)) {
            return;
        }
        let target = pod.ip.filter(|_| pod.node.is_some()).map(|ip| {
            let address = SocketAddr::new(ip, port).to_string();
            let pod_uid = Some(pod.kubelet_uid.clone()).filter(|uid| !uid.is_empty());
            let target = self.target(scheme(self.spec.scheme), &pod.uid, &address, Access::default());
            Target { pod_uid, ..target }
        });
        self.found.endpoints.push(ResolvedEndpoint {
            group: endpoint.name.clone(),
            name: pod.name.clone(),
            place: pod.node.clone().map_or(Place::Nowhere, Place::Node),
            serving: serving(pod),
            labels: BTreeMap::new(),
            devices: pod.devices.clone(),
            pod_uid: pod.kubelet_uid.clone(),
            target,
        });
    }

    fn service(&mut self, endpoint: &Endpoint, service: &ServiceEndpoint, namespace: &dyn Namespace) {
        let name = &service.name;
        let Some(addresses) = namespace.service(name) else {
            let words = format!(
                "no EndpointSlice belongs to Service {name}: is the name right, and does the Service have a selector?"
            );
            return self.problem(endpoint, &words, true);
        };
        let pods: BTreeMap<&str, &Pod> = namespace.pods().map(|pod| (pod.name.as_str(), pod)).collect();
        // A pod may have several addresses (two IP families) and stand in several slices (other ports): what one lacks another may have.
        let mut found = BTreeSet::new();
        let mut lacking = BTreeMap::new();
        for address in &addresses {
            // Only pods are reached through a Service: an address without a pod may be anything, the API server included.
            let Some(pod) = address.pod.as_deref().and_then(|pod| pods.get(pod)) else {
                let words = format!(
                    "address {} of Service {name} belongs to no pod of this namespace: use a url endpoint",
                    address.ip
                );
                self.problem(endpoint, &words, address.ready);
                continue;
            };
            let Some(ip) = pod.ip.filter(|_| !pod.ended) else {
                continue;
            };
            // An EndpointSlice is easier to write than a pod: the address must be the pod's own.
            if ip != address.ip {
                let words = format!(
                    "address {} of Service {name} is not the primary address of pod {} ({ip}), which alone is scraped",
                    address.ip, pod.name
                );
                lacking.insert(pod.name.as_str(), (words, serving(pod)));
            } else if let Some(port) = port_number(&service.port, &address.ports) {
                found.insert(pod.name.as_str());
                self.pod(endpoint, pod, port);
            } else {
                let words = format!(
                    "Service {name} has no port {} for pod {}; it has: {}",
                    service.port,
                    pod.name,
                    declared(&address.ports)
                );
                lacking.insert(pod.name.as_str(), (words, serving(pod)));
            }
        }
        for (_, (words, serving)) in lacking.into_iter().filter(|(pod, _)| !found.contains(pod)) {
            self.problem(endpoint, &words, serving);
        }
    }

    fn url(&mut self, endpoint: &Endpoint, url: &str, namespace: &dyn Namespace) {
        let url = match Url::parse(url) {
            Ok(url) => url,
            Err(words) => return self.problem(endpoint, &words, true),
        };
        if !self.policy.allows(&url) {
            let words = format!(
                "host {} is not among the hosts an administrator allows (Helm value allowedHosts): ask for it to be listed",
                url.host
            );
            return self.problem(endpoint, &words, true);
        }
        // Before its Secret is looked at: one that cannot be used must not make way for another way to ask the same server.
        let secret = endpoint.credentials_secret_ref.as_ref();
        let way = (url.scheme, secret.map(|reference| reference.name.clone()));
        match self.asked.entry(url.address()) {
            Entry::Vacant(free) => _ = free.insert(way),
            Entry::Occupied(first) if *first.get() == way => return,
            Entry::Occupied(_) => {
                let words = format!(
                    "{} is named twice with different credentials or scheme: keep one",
                    url.address()
                );
                return self.problem(endpoint, &words, true);
            }
        }
        let (owner, credentials) = match self.credentials(endpoint, &url, namespace) {
            Ok(Given::Credentials(credentials, owner)) => (owner, Some(credentials)),
            Ok(Given::Nothing) => (String::new(), None),
            // Not without them meanwhile: what a server says to strangers may be something else.
            Ok(Given::NotYet) => return self.push_url(endpoint, &url, None),
            Err(words) => return self.problem(endpoint, &words, true),
        };
        let access = Access {
            verify_certificate: url.scheme == Scheme::Https,
            credentials,
        };
        let target = self.target(url.scheme, &owner, &url.address(), access);
        self.push_url(endpoint, &url, Some(target));
    }

    fn credentials(&self, endpoint: &Endpoint, url: &Url, namespace: &dyn Namespace) -> Result<Given, String> {
        if let Some(reference) = &endpoint.credentials_secret_ref {
            return given(&reference.name, namespace.secret(&reference.name), url);
        }
        let protected = url.scheme == Scheme::Https || url.is_loopback();
        let common = self.policy.credentials.as_ref().filter(|_| protected);
        Ok(common.map_or(Given::Nothing, |credentials| {
            Given::Credentials(Arc::clone(credentials), String::new())
        }))
    }

    fn push_url(&mut self, endpoint: &Endpoint, url: &Url, target: Option<Target>) {
        self.found.endpoints.push(ResolvedEndpoint {
            group: endpoint.name.clone(),
            name: url.address(),
            place: Place::Anywhere,
            serving: true,
            labels: endpoint.labels.clone(),
            devices: Vec::new(),
            pod_uid: String::new(),
            target,
        });
    }

    /// What to scrape. `owner` is part of its id: the uid of a pod, or `namespace/name` of the Secret of a url, so that no tenant reads by the
    /// rights of another. No value of a Secret is in it.
    fn target(&self, scheme: Scheme, owner: &str, address: &str, access: Access) -> Target {
        let spec = self.spec;
        let period = Duration::from_millis(u64::try_from(spec.sample_period_milliseconds).unwrap_or(1000).max(250));
        let default_path = self.engine.map_or("/metrics", Engine::metrics_path);
        let path = spec.metrics_path.as_deref().unwrap_or(default_path);
        let protocol = if scheme == Scheme::Http { "http" } else { "https" };
        Target {
            id: TargetId(format!("{owner}/{protocol}://{address}{path}#{}", self.way)),
            scheme,
            address: address.to_owned(),
            metrics_path: path.to_owned(),
            engine: self.engine,
            mapping: self.mapping.clone(),
            period,
            // A scrape must end before the next one starts; servers that take longer than 5 s are not measured more truthfully by waiting.
            deadline: period
                .mul_f64(0.9)
                .clamp(Duration::from_millis(225), Duration::from_secs(5)),
            body_limit_bytes: BODY_LIMIT_BYTES,
            access,
            pod_uid: None,
        }
    }

    fn bounded(self) -> Resolution {
        let Resolution {
            mut endpoints,
            mut problems,
            mut partial,
        } = self.found;
        problems.sort();
        problems.dedup();
        if problems.len() > PROBLEMS_MAX {
            let more = problems.len() - PROBLEMS_MAX;
            problems.truncate(PROBLEMS_MAX);
            problems.push(format!("and {more} more of the kind"));
        }
        if endpoints.len() > ENDPOINTS_MAX {
            let words = format!(
                "{} endpoints are selected, {ENDPOINTS_MAX} at most are monitored: split the monitor",
                endpoints.len()
            );
            problems.insert(0, words);
            partial |= endpoints.iter().skip(ENDPOINTS_MAX).any(|endpoint| endpoint.serving);
            endpoints.truncate(ENDPOINTS_MAX);
        }
        Resolution {
            endpoints,
            problems,
            partial,
        }
    }
}

/// It takes requests, as far as Kubernetes knows.
fn serving(pod: &Pod) -> bool {
    pod.ready && !pod.terminating
}

/// Pods have addresses of the pod network. Loopback and link-local ones would turn the daemon on itself or on the metadata service of
/// a cloud.
fn allowed(ip: IpAddr, policy: &AddressPolicy) -> Result<(), String> {
    let ip = ip.to_canonical();
    let local = match ip {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
    };
    if local && !policy.allow_loopback {
        return Err(format!(
            "{ip} is a loopback, link-local or multicast address, which is never scraped"
        ));
    }
    Ok(())
}

const fn engine(choice: EngineChoice) -> Option<Engine> {
    Some(match choice {
        EngineChoice::Auto => return None,
        EngineChoice::Vllm => Engine::Vllm,
        EngineChoice::LlamaCpp => Engine::LlamaCpp,
        EngineChoice::Sglang => Engine::Sglang,
        EngineChoice::Triton => Engine::Triton,
        EngineChoice::TensorRtLlm => Engine::TensorRtLlm,
        EngineChoice::Tgi => Engine::Tgi,
        EngineChoice::LmDeploy => Engine::LmDeploy,
        EngineChoice::Nim => Engine::Nim,
        EngineChoice::Ollama => Engine::Ollama,
        EngineChoice::Custom => Engine::Custom,
    })
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
