//! The cluster under test.

use anyhow::{Context, bail};
use infmon_cluster::Cluster;
use infmon_control_plane::{Tools, process};
use infmon_end_to_end::Api;
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};
use tokio::runtime::Runtime;

/// How long one kubectl command may take; `kubectl wait` and `rollout status` have limits of their own below it.
const KUBECTL: Duration = Duration::from_secs(180);

/// The cluster under test, the same for all tests of a process.
#[derive(Debug)]
pub struct Session {
    runtime: Runtime,
    api: Api,
    kubeconfig: PathBuf,
    cluster: Option<Cluster>,
}

impl Session {
    /// Connects to the cluster that `KUBECONFIG` names.
    ///
    /// # Errors
    /// When the variable is not set or the cluster does not answer.
    pub fn get() -> anyhow::Result<&'static Self> {
        static SESSION: OnceLock<Result<Session, String>> = OnceLock::new();
        match SESSION.get_or_init(|| Self::connect().map_err(|error| format!("{error:#}"))) {
            Ok(session) => Ok(session),
            Err(error) => bail!("{error}"),
        }
    }

    fn connect() -> anyhow::Result<Self> {
        infmon_runtime::install_crypto_provider();
        let kubeconfig = env::var_os("KUBECONFIG")
            .map(PathBuf::from)
            .context("KUBECONFIG names no cluster: run the tests with cargo xtask e2e")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let api = Api::new(&kubeconfig, runtime.handle())?;
        api.get("/version").context("the cluster does not answer")?;
        Ok(Self {
            api,
            runtime,
            cluster: Cluster::of_kubeconfig(&kubeconfig)?,
            kubeconfig,
        })
    }

    /// Its API, as administrator.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Where background readers run.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Login of its administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The cluster, where it is one of this machine, so that its nodes can be reached; `None` for any other. A test that needs it says
    /// so and ends.
    #[must_use]
    pub fn machine(&self, what: &str) -> Option<&Cluster> {
        if self.cluster.is_none() {
            println!(
                "skipped: {what}: it reaches into the nodes, which only a cluster of cargo xtask cluster lets it do"
            );
        }
        self.cluster.as_ref()
    }

    /// Runs kubectl and returns what it prints.
    ///
    /// # Errors
    /// When it fails; with what it wrote to standard error.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl_with(arguments, "")
    }

    /// Applies YAML documents.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub fn apply(&self, namespace: &str, yaml: &str) -> anyhow::Result<()> {
        self.kubectl_with(&["apply", "--namespace", namespace, "--filename=-"], yaml)
            .map(drop)
    }

    fn kubectl_with(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut command = Command::new(Tools::node_programs()?.kubectl());
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBERC", "off");
        process::run(command, input, KUBECTL)
    }
}
