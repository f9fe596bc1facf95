//! The kubelet's end of PodResources: a gRPC server on a socket, whose answer a test sets.

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};
use wire::pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer};
use wire::{ContainerDevices, ContainerResources, ListPodResourcesRequest, ListPodResourcesResponse, PodResources};

#[allow(clippy::all, missing_docs, unreachable_pub, dead_code, reason = "generated")]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/server/v1.rs"));
}

/// What the kubelet does when it is asked.
#[derive(Clone)]
pub enum Answer {
    /// Namespace, pod, resource and device ids; a pod without resource has no device.
    Pods(Vec<(&'static str, &'static str, &'static str, Vec<String>)>),
    /// It never answers.
    Hang,
    Refuse(Status),
}

/// A pod with a GPU.
pub fn gpu(
    namespace: &'static str,
    pod: &'static str,
    id: &str,
) -> (&'static str, &'static str, &'static str, Vec<String>) {
    (namespace, pod, "nvidia.com/gpu", vec![id.to_owned()])
}

/// A pod without devices.
pub fn plain(pod: &'static str) -> (&'static str, &'static str, &'static str, Vec<String>) {
    ("system", pod, "", Vec::new())
}

#[derive(Clone)]
struct Service {
    answer: Arc<Mutex<Answer>>,
    calls: Arc<AtomicUsize>,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

/// Leaves the count also when the caller has given up.
struct Leave(Arc<AtomicUsize>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Service {
    async fn list(&self, _: Request<ListPodResourcesRequest>) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        let _leave = Leave(Arc::clone(&self.at_once));
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            Answer::Pods(pods) => Ok(Response::new(ListPodResourcesResponse {
                pod_resources: pods.into_iter().map(pod).collect(),
            })),
            Answer::Hang => std::future::pending().await,
            Answer::Refuse(status) => Err(status),
        }
    }
}

fn pod((namespace, name, resource, ids): (&str, &str, &str, Vec<String>)) -> PodResources {
    let devices = match resource {
        "" => Vec::new(),
        _ => vec![ContainerDevices {
            resource_name: resource.to_owned(),
            device_ids: ids,
        }],
    };
    PodResources {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        containers: vec![ContainerResources {
            name: "server".to_owned(),
            devices,
            dynamic_resources: Vec::new(),
        }],
    }
}

/// A kubelet that listens until it is dropped. As the real one, it leaves its socket behind and puts a new one in its place when it
/// starts again.
pub struct Kubelet {
    service: Service,
    _server: AbortOnDropHandle<()>,
}

impl Kubelet {
    pub fn start(socket: &Path, answer: Answer) -> Self {
        if let Err(error) = std::fs::remove_file(socket) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
        let listener = UnixListener::bind(socket).unwrap();
        let service = Service {
            answer: Arc::new(Mutex::new(answer)),
            calls: Arc::default(),
            at_once: Arc::default(),
            most_at_once: Arc::default(),
        };
        let server = tokio::spawn(serve(listener, PodResourcesListerServer::new(service.clone())));
        Self {
            service,
            _server: AbortOnDropHandle::new(server),
        }
    }

    pub fn answer(&self, answer: Answer) {
        *self.service.answer.lock().unwrap() = answer;
    }

    pub fn calls(&self) -> usize {
        self.service.calls.load(Ordering::SeqCst)
    }

    pub fn most_at_once(&self) -> usize {
        self.service.most_at_once.load(Ordering::SeqCst)
    }
}

/// Serves until it is aborted; its connections end with it, without a word.
async fn serve(listener: UnixListener, service: PodResourcesListerServer<Service>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(service.clone());
        let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
    }
}

/// Where the kubelet of a test listens.
pub fn socket_in(folder: &Path) -> PathBuf {
    folder.join("kubelet.sock")
}

/// Waits until the kubelet has been asked so many times more.
pub async fn asked_again(kubelet: &Kubelet, times: usize) {
    let before = kubelet.calls();
    let give_up = Instant::now() + Duration::from_secs(15);
    while kubelet.calls() < before + times {
        assert!(
            Instant::now() < give_up,
            "asked {} times, not {times} more",
            kubelet.calls()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
