//! An operator replica: the real binary with the identity of one of the Deployment's pods.

use anyhow::{Context, ensure};
use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Cluster, NAMESPACE, addresses,
    cluster::RELEASE,
    http_client::Connection,
    polling::{eventually, took},
    process::{Process, arguments},
    programs::Programs,
    service_proxy::is_ready,
};

const METRICS_API_PORT: u16 = 6443;
const LINK_PORT: u16 = 8443;
const ADMIN_PORT: u16 = 8080;

/// Seconds for which a replica serves after SIGTERM.
pub const DRAIN_SECONDS: u64 = 3;

/// A replica.
#[derive(Debug)]
pub struct OperatorProcess {
    pod: String,
    ip: IpAddr,
    kubeconfig: PathBuf,
    arguments: Vec<String>,
    process: Option<Process>,
}

impl OperatorProcess {
    /// Starts as many replicas as the Deployment has pods, all on one node, and waits until they are ready.
    ///
    /// # Errors
    /// When one does not become ready.
    pub fn start_all(cluster: &Cluster, node: &str) -> anyhow::Result<Vec<Self>> {
        let begun = Instant::now();
        let wanted = usize::from(cluster.settings.replicas);
        let pods = eventually("the operator's pods", Duration::from_secs(30), || {
            let pods = cluster.component_pods("operator")?;
            ensure!(pods.len() == wanted, "{} of {wanted}", pods.len());
            Ok(pods)
        })?;
        let mut replicas = Vec::new();
        for pod in &pods {
            let mut replica = Self::prepare(cluster, pod, node)?;
            replica.start(cluster)?;
            replicas.push(replica);
        }
        for replica in &mut replicas {
            replica.wait_until_ready(cluster, Duration::from_secs(40))?;
        }
        took(&format!("{wanted} operator replica(s) ready"), begun);
        Ok(replicas)
    }

    fn prepare(cluster: &Cluster, pod: &Value, node: &str) -> anyhow::Result<Self> {
        let name = pod["metadata"]["name"]
            .as_str()
            .context("a pod without a name")?
            .to_owned();
        let ip = addresses::next();
        cluster.bind(pod, node)?;
        cluster.report_running(pod, ip)?;
        let service_account = format!("{RELEASE}-operator");
        ensure!(
            pod["spec"]["serviceAccountName"] == service_account.as_str(),
            "{}",
            pod["spec"]
        );
        let token = cluster
            .plane()
            .service_account_token(NAMESPACE, &service_account, None, Some(&name))?;
        let map = cluster
            .api()
            .get(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{RELEASE}-operator"))?;
        let config = map["data"]["config.yaml"].as_str().context("no config.yaml")?;
        let config = cluster.write_file(&format!("{name}.yaml"), config)?;
        let at = |port| SocketAddr::new(ip, port).to_string();
        let changed = [
            ("--config", config.display().to_string()),
            ("--metrics-api-listen", at(METRICS_API_PORT)),
            ("--link-listen", at(LINK_PORT)),
            ("--admin-listen", at(ADMIN_PORT)),
            ("--drain-seconds", DRAIN_SECONDS.to_string()),
            ("--log-format", "text".to_owned()),
        ];
        Ok(Self {
            ip,
            kubeconfig: cluster.plane().kubeconfig_for_token(&token, &name)?,
            arguments: arguments(pod, &changed),
            pod: name,
            process: None,
        })
    }

    /// Starts the process, again after it was ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let mut command = Command::new(&Programs::locate()?.operator);
        command
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .env("POD_NAMESPACE", NAMESPACE)
            .env("POD_NAME", &self.pod)
            .args(&self.arguments);
        let log = cluster.log_file(&self.pod);
        self.process = Some(Process::start(&self.pod, command, &log)?);
        cluster.proxy().add(self.metrics_api(), self.admin());
        Ok(())
    }

    /// Waits for `/readyz`.
    ///
    /// # Errors
    /// When the process ends or the time is over.
    pub fn wait_until_ready(&mut self, cluster: &Cluster, limit: Duration) -> anyhow::Result<()> {
        let admin = self.admin();
        let ended = eventually("the operator ready", limit, || {
            if let Err(ended) = self.process()?.check() {
                return Ok(Err(ended));
            }
            ensure!(
                cluster.runtime().block_on(is_ready(admin)),
                "/readyz of {admin} does not say 200"
            );
            Ok(Ok(()))
        })?;
        ended.with_context(|| format!("{} did not become ready", self.pod))
    }

    /// The running process.
    ///
    /// # Errors
    /// When it was never started.
    pub fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("the operator was not started")
    }

    /// The name of its pod.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// Where it serves the metrics API.
    pub fn metrics_api(&self) -> SocketAddr {
        SocketAddr::new(self.ip, METRICS_API_PORT)
    }

    /// Where daemons connect.
    pub fn link(&self) -> SocketAddr {
        SocketAddr::new(self.ip, LINK_PORT)
    }

    /// Where it serves probes and `/metrics`.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.ip, ADMIN_PORT)
    }

    /// `/metrics` as text.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn exposition(&self, cluster: &Cluster) -> anyhow::Result<String> {
        let admin = self.admin();
        cluster
            .runtime()
            .block_on(async { Connection::plain(admin).await?.get("/metrics", &[]).await })?
            .success()
    }
}

/// The value of the first series of an exposition whose name and labels contain all the given parts.
pub fn series(exposition: &str, name: &str, parts: &[&str]) -> Option<f64> {
    exposition
        .lines()
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']) && parts.iter().all(|part| rest.contains(part)))
        })
        .find_map(|line| line.rsplit(' ').next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::series;

    #[test]
    fn a_series_is_found_by_name_and_labels() {
        let text = "# HELP a_total x\na_total 3\na_total_more{b=\"c\"} 4\na_total_more{b=\"d\",e=\"f\"} 5.5\n";
        assert_eq!(series(text, "a_total", &[]), Some(3.0));
        assert_eq!(series(text, "a_total_more", &["e=\"f\""]), Some(5.5));
        assert_eq!(series(text, "a", &[]), None);
    }
}
