//! kube-proxy and the kubelet's readiness probes in one: a TCP proxy in front of the replicas that say they are ready.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Handle,
    task::JoinHandle,
};

use crate::http_client::{Connection, tcp};

/// How often each replica is asked whether it is ready.
const PROBE_EVERY: Duration = Duration::from_millis(200);

/// A proxy. As with kube-proxy, readiness decides about new connections only.
#[derive(Debug)]
pub struct ServiceProxy {
    port: u16,
    backends: Arc<Mutex<Vec<Backend>>>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug, Clone, Copy)]
struct Backend {
    service: SocketAddr,
    admin: SocketAddr,
    ready: bool,
}

impl ServiceProxy {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is none.
    pub fn start(runtime: &Handle) -> anyhow::Result<Self> {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let port = listener.local_addr()?.port();
        let backends = Arc::new(Mutex::new(Vec::new()));
        let tasks = [
            runtime.spawn(probe(Arc::clone(&backends))),
            runtime.spawn(accept(listener, Arc::clone(&backends))),
        ];
        Ok(Self { port, backends, tasks })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Adds a replica, which takes connections as soon as it is ready.
    pub fn add(&self, service: SocketAddr, admin: SocketAddr) {
        let mut backends = lock(&self.backends);
        backends.retain(|known| known.service != service);
        backends.push(Backend {
            service,
            admin,
            ready: false,
        });
    }

    /// Replicas that take connections now.
    pub fn ready(&self) -> usize {
        lock(&self.backends).iter().filter(|backend| backend.ready).count()
    }
}

impl Drop for ServiceProxy {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn lock(backends: &Mutex<Vec<Backend>>) -> MutexGuard<'_, Vec<Backend>> {
    backends.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn probe(backends: Arc<Mutex<Vec<Backend>>>) {
    loop {
        let known: Vec<Backend> = lock(&backends).clone();
        for backend in known {
            let ready = is_ready(backend.admin).await;
            let mut backends = lock(&backends);
            if let Some(backend) = backends.iter_mut().find(|known| known.service == backend.service) {
                backend.ready = ready;
            }
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// The kubelet's probe: 200 on `/readyz` within a second.
pub(crate) async fn is_ready(admin: SocketAddr) -> bool {
    let probe = async { Connection::plain(admin).await?.get("/readyz", &[]).await };
    matches!(tokio::time::timeout(Duration::from_secs(1), probe).await, Ok(Ok(answer)) if answer.status == 200)
}

async fn accept(listener: TcpListener, backends: Arc<Mutex<Vec<Backend>>>) {
    let mut turn = 0_usize;
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(PROBE_EVERY).await;
            continue;
        };
        let ready: Vec<SocketAddr> = lock(&backends)
            .iter()
            .filter(|backend| backend.ready)
            .map(|backend| backend.service)
            .collect();
        turn = turn.wrapping_add(1);
        // Without a ready replica kube-proxy refuses; closing the connection is as near as a process comes.
        if let Some(&target) = ready.get(turn % ready.len().max(1)) {
            tokio::spawn(forward(client, target));
        }
    }
}

async fn forward(mut client: TcpStream, target: SocketAddr) {
    if client.set_nodelay(true).is_ok()
        && let Ok(mut server) = tcp(target).await
    {
        // Either end may break off; the other one sees the end of its stream.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
