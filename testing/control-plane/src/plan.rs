//! How each process of a control plane is started: its flags, and when it counts as ready.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context;
use tempfile::TempDir;

use crate::{
    Options, Tools, audit,
    certificates::{self, Authority},
    go_module,
    kubeconfig::{self, Login},
    ports::Port,
    process::{self, Process},
};

/// How long any part may take to become ready. A loaded machine takes several times the usual second or two.
const READY: Duration = Duration::from_secs(90);
/// How long one question of a readiness check may take.
const QUESTION: Duration = Duration::from_secs(10);

/// What the processes are started from: everything that stays the same while one of them is restarted.
pub(crate) struct Plan {
    tools: Tools,
    options: Options,
    folder: PathBuf,
    // Removed with the plan; `None` when the caller named the folder or asked to keep it.
    temporary: Option<TempDir>,
    authority: Authority,
    admin_kubeconfig: PathBuf,
    etcd: Port,
    etcd_peer: Port,
    apiserver: Port,
    controller_manager: Port,
}

impl Plan {
    pub(crate) fn new(tools: Tools, options: Options) -> anyhow::Result<Self> {
        let (folder, temporary) = match &options.folder {
            Some(folder) => {
                fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
                (folder.clone(), None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("infmon-control-plane-").tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let authority = certificates::write_all(&folder.join("certificates"), options.address)?;
        fs::create_dir(folder.join("logs"))?;
        fs::write(folder.join("audit-policy.yaml"), audit::POLICY)?;
        let locks = go_module::cache_folder()?.join("ports");
        let mut plan = Self {
            tools,
            options,
            folder,
            temporary,
            authority,
            admin_kubeconfig: PathBuf::new(),
            etcd: Port::claim(&locks)?,
            etcd_peer: Port::claim(&locks)?,
            apiserver: Port::claim(&locks)?,
            controller_manager: Port::claim(&locks)?,
        };
        let admin = plan.authority.client("kubernetes-admin", Some("system:masters"))?;
        plan.admin_kubeconfig = plan.write_kubeconfig("admin", &Login::Certificate(&admin))?;
        Ok(plan)
    }

    pub(crate) fn start_etcd(&self) -> anyhow::Result<Process> {
        let client = format!("http://127.0.0.1:{}", self.etcd.number());
        let peer = format!("http://127.0.0.1:{}", self.etcd_peer.number());
        let args = [
            format!("--data-dir={}", self.path("etcd")),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
        ];
        Process::start("etcd", &self.tools.etcd(), &args, &self.log("etcd"))
    }

    pub(crate) fn start_apiserver(&self, etcd: &mut Process) -> anyhow::Result<Process> {
        let certificate = |name: &str| self.path(&format!("certificates/{name}"));
        let mut args = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd.number()),
            format!("--bind-address={}", self.options.address),
            format!("--secure-port={}", self.apiserver.number()),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            format!("--tls-cert-file={}", certificate("apiserver.crt")),
            format!("--tls-private-key-file={}", certificate("apiserver.key")),
            format!("--client-ca-file={}", certificate("ca.crt")),
            "--allow-privileged=true".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-key-file={}", certificate("service-accounts.pub")),
            format!(
                "--service-account-signing-key-file={}",
                certificate("service-accounts.key")
            ),
            format!("--enable-aggregator-routing={}", self.options.aggregator_routing),
            format!("--requestheader-client-ca-file={}", certificate("front-proxy-ca.crt")),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-uid-headers=X-Remote-Uid".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            format!("--proxy-client-cert-file={}", certificate("front-proxy-client.crt")),
            format!("--proxy-client-key-file={}", certificate("front-proxy-client.key")),
            format!("--audit-policy-file={}", self.path("audit-policy.yaml")),
            format!("--audit-log-path={}", self.path("audit.log")),
            // In MB; never rotate, so that an offset into the log stays right.
            "--audit-log-maxsize=1000000".to_owned(),
            "--profiling=false".to_owned(),
        ];
        if self.has_nodes() {
            args.extend([
                format!("--advertise-address={}", self.options.address),
                "--authorization-mode=Node,RBAC".to_owned(),
                "--enable-admission-plugins=NodeRestriction".to_owned(),
                format!("--kubelet-certificate-authority={}", certificate("ca.crt")),
                format!(
                    "--kubelet-client-certificate={}",
                    certificate("apiserver-kubelet-client.crt")
                ),
                format!("--kubelet-client-key={}", certificate("apiserver-kubelet-client.key")),
                // By default the node's name comes first, which nothing resolves.
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
            ]);
        } else {
            args.extend([
                "--authorization-mode=RBAC".to_owned(),
                // There is no node, so nothing reaches the apiserver through the `kubernetes` Service.
                "--endpoint-reconciler-type=none".to_owned(),
            ]);
        }
        args.extend(self.options.apiserver_args.iter().cloned());
        let mut apiserver = Process::start(
            "kube-apiserver",
            &self.tools.apiserver(),
            &args,
            &self.log("kube-apiserver"),
        )?;
        process::wait_for("the apiserver to be ready", READY, || {
            etcd.check()?;
            apiserver.check()?;
            Ok(answers(self.options.address, self.apiserver.number())
                && self
                    .kubectl(&["get", "--raw", "/readyz"])
                    .is_ok_and(|answer| answer == "ok"))
        })
        .with_context(|| apiserver.log_tail())?;
        Ok(apiserver)
    }

    pub(crate) fn start_controller_manager(&self) -> anyhow::Result<Process> {
        let certificate = |name: &str| self.path(&format!("certificates/{name}"));
        let user = "system:kube-controller-manager";
        let identity = self.authority.client(user, None)?;
        let kubeconfig = self.write_kubeconfig("controller-manager", &Login::Certificate(&identity))?;
        let kubeconfig = kubeconfig.display();
        let mut args = vec![
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.controller_manager.number()),
            format!("--tls-cert-file={}", certificate("controller-manager.crt")),
            format!("--tls-private-key-file={}", certificate("controller-manager.key")),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials=true".to_owned(),
            format!(
                "--service-account-private-key-file={}",
                certificate("service-accounts.key")
            ),
            format!("--root-ca-file={}", certificate("ca.crt")),
            // The default of 20 makes a fresh plane wait for its own limiter.
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
            format!(
                "--horizontal-pod-autoscaler-sync-period={}ms",
                self.options.hpa_sync_period.as_millis()
            ),
            format!(
                "--horizontal-pod-autoscaler-downscale-stabilization={}ms",
                self.options.hpa_downscale_stabilization.as_millis()
            ),
            "--profiling=false".to_owned(),
        ];
        args.extend(self.options.controller_manager_args.iter().cloned());
        let name = "kube-controller-manager";
        let mut manager = Process::start(name, &self.tools.controller_manager(), &args, &self.log(name))?;
        process::wait_for("the controller manager to be healthy", READY, || {
            manager.check()?;
            Ok(answers(Ipv4Addr::LOCALHOST, self.controller_manager.number())
                && self.controller_manager_health().is_ok_and(|answer| answer == "ok"))
        })
        .with_context(|| manager.log_tail())?;
        process::wait_for("the default ServiceAccount", READY, || {
            manager.check()?;
            Ok(self
                .kubectl(&["get", "serviceaccount", "default", "--namespace=default"])
                .is_ok())
        })
        .with_context(|| manager.log_tail())?;
        Ok(manager)
    }

    /// Starts the scheduler; without nodes there is nothing to schedule to.
    pub(crate) fn start_scheduler(&self) -> anyhow::Result<Option<Process>> {
        if !self.has_nodes() {
            return Ok(None);
        }
        let name = "kube-scheduler";
        let identity = self.authority.client("system:kube-scheduler", None)?;
        let kubeconfig = self.write_kubeconfig("scheduler", &Login::Certificate(&identity))?;
        let port = Port::claim(&go_module::cache_folder()?.join("ports"))?;
        let kubeconfig = kubeconfig.display();
        let args = [
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", port.number()),
            "--leader-elect=false".to_owned(),
            "--profiling=false".to_owned(),
        ];
        let process = Process::start(name, &self.tools.scheduler(), &args, &self.log(name))?;
        Ok(Some(process))
    }

    /// Whether this plane is the control plane of nodes.
    pub(crate) fn has_nodes(&self) -> bool {
        !self.options.address.is_loopback()
    }

    pub(crate) fn controller_manager_health(&self) -> anyhow::Result<String> {
        let server = format!("--server=https://127.0.0.1:{}", self.controller_manager.number());
        self.kubectl(&[&server, "get", "--raw", "/healthz"])
    }

    fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        process::run(self.kubectl_command(&self.admin_kubeconfig, args), "", QUESTION)
    }

    pub(crate) fn kubectl_command(&self, kubeconfig: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(self.tools.kubectl());
        // Neither the user's own kuberc nor their discovery cache has a say in a test.
        command
            .args(args)
            .env("KUBECONFIG", kubeconfig)
            .env("KUBECACHEDIR", self.path("kubectl-cache"));
        command.env("KUBERC", "off");
        command
    }

    pub(crate) fn write_kubeconfig(&self, name: &str, login: &Login<'_>) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(format!("{name}.kubeconfig"));
        kubeconfig::write(&path, &self.server_url(), &self.authority.pem(), login)?;
        Ok(path)
    }

    pub(crate) fn server_url(&self) -> String {
        format!("https://{}:{}", self.options.address, self.apiserver.number())
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    pub(crate) fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn tools(&self) -> &Tools {
        &self.tools
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Leaves the folder on disk when the plan is dropped.
    pub(crate) fn keep_folder(&mut self) {
        if let Some(temporary) = &mut self.temporary {
            temporary.disable_cleanup(true);
        }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// Whether something listens on a port yet: far cheaper than to start kubectl for it.
fn answers(address: Ipv4Addr, port: u16) -> bool {
    TcpStream::connect_timeout(&(address, port).into(), QUESTION).is_ok()
}
