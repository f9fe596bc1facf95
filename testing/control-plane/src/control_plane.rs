//! A running control plane: etcd, kube-apiserver and kube-controller-manager.
//!
//! What a test should know about the plane:
//!
//! * The controller manager runs its default controllers, so ServiceAccounts, owner references, EndpointSlices, Deployments
//!   and HorizontalPodAutoscalers act as in a cluster. There is no scheduler and no kubelet: a pod stays Pending unless the
//!   test sets `spec.nodeName` and writes its status.
//! * The HorizontalPodAutoscaler controller learns a new CustomResourceDefinition up to 30 s after it is made.
//! * An aggregated API can be a process of the test: an APIService whose Service is `type: ExternalName`,
//!   `externalName: localhost`, with the APIService's `spec.service.port`.

use std::{
    fmt,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::{
    NodeCredentials, Options, Tools,
    audit::{self, AuditWrite},
    kubeconfig::Login,
    plan::Plan,
    process::Process,
};

/// A running control plane. Dropping it kills its processes and removes its folder.
///
/// Set `INFMON_KEEP_CONTROL_PLANE` to any value to keep the folder, which has the logs; its path is then printed.
pub struct ControlPlane {
    // Processes first: they have to be gone before the folder is.
    _scheduler: Option<Process>,
    apiserver: Mutex<Option<Process>>,
    controller_manager: Mutex<Process>,
    etcd: Mutex<Process>,
    plan: Plan,
}

impl ControlPlane {
    /// Starts a control plane and waits until pods can be created: the apiserver is ready, the controller manager is
    /// healthy and the `default` ServiceAccount exists.
    ///
    /// # Errors
    ///
    /// When the programs cannot be found or built, or when a part ends or does not become ready; the error then has the end
    /// of that part's log.
    pub fn start(options: Options) -> anyhow::Result<Self> {
        let tools = if options.address.is_loopback() {
            Tools::locate_or_build()?
        } else {
            Tools::node_programs()?
        };
        let plan = Plan::new(tools, options)?;
        let mut etcd = plan.start_etcd()?;
        let apiserver = plan.start_apiserver(&mut etcd)?;
        let controller_manager = plan.start_controller_manager()?;
        let scheduler = plan.start_scheduler()?;
        Ok(Self {
            _scheduler: scheduler,
            apiserver: Mutex::new(Some(apiserver)),
            controller_manager: Mutex::new(controller_manager),
            etcd: Mutex::new(etcd),
            plan,
        })
    }

    /// A plane with default options that the tests of this process share while any of them holds it. A test that stops
    /// the apiserver, or that counts what others may write, starts its own.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn shared() -> anyhow::Result<Arc<Self>> {
        static SHARED: Mutex<Weak<ControlPlane>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plane) = shared.upgrade() {
            return Ok(plane);
        }
        let plane = Arc::new(Self::start(Options::default())?);
        *shared = Arc::downgrade(&plane);
        Ok(plane)
    }

    /// Kills the apiserver, as a crash would. The controller manager and etcd keep running.
    pub fn stop_apiserver(&self) {
        *self.apiserver.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Starts the apiserver again, on the same port with the same data, and waits until it is ready. Does nothing when it
    /// runs already.
    ///
    /// # Errors
    ///
    /// When it ends or does not become ready.
    pub fn start_apiserver(&self) -> anyhow::Result<()> {
        let mut apiserver = self.apiserver.lock().unwrap_or_else(PoisonError::into_inner);
        if apiserver.is_none() {
            let mut etcd = self.etcd.lock().unwrap_or_else(PoisonError::into_inner);
            *apiserver = Some(self.plan.start_apiserver(&mut etcd)?);
        }
        Ok(())
    }

    /// Fails unless the controller manager runs and says that it is healthy.
    ///
    /// # Errors
    ///
    /// When it has ended or does not answer `ok`.
    pub fn check_controller_manager(&self) -> anyhow::Result<()> {
        self.controller_manager
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .check()?;
        let answer = self.plan.controller_manager_health()?;
        anyhow::ensure!(answer == "ok", "the controller manager's health is {answer:?}");
        Ok(())
    }

    pub(crate) fn kubectl_command(&self, kubeconfig: &Path, args: &[&str]) -> Command {
        self.plan.kubectl_command(kubeconfig, args)
    }

    /// A kubeconfig of a member of `system:masters`.
    pub fn admin_kubeconfig(&self) -> &Path {
        self.plan.admin_kubeconfig()
    }

    /// The apiserver's URL, `https://127.0.0.1:PORT`.
    pub fn server_url(&self) -> String {
        self.plan.server_url()
    }

    /// The authority that signed the apiserver's certificate.
    pub fn ca_pem(&self) -> String {
        self.plan.authority().pem()
    }

    /// The programs the plane runs on.
    pub fn tools(&self) -> &Tools {
        self.plan.tools()
    }

    /// The folder that holds everything of this plane: `logs/`, `etcd/`, `certificates/`, `audit.log`.
    pub fn data_dir(&self) -> &Path {
        self.plan.folder()
    }

    /// Writes a kubeconfig that logs in with a token. `name` tells several of one test apart.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn kubeconfig_for_token(&self, token: &str, name: &str) -> anyhow::Result<PathBuf> {
        self.plan.write_kubeconfig(name, &Login::Token(token))
    }

    /// Writes a kubeconfig that logs in as any user, with at most one group beside `system:authenticated`.
    ///
    /// # Errors
    ///
    /// When the certificate cannot be made or the file cannot be written.
    pub fn kubeconfig_for_user(&self, user: &str, group: Option<&str>, name: &str) -> anyhow::Result<PathBuf> {
        self.plan
            .write_kubeconfig(name, &Login::Certificate(&self.plan.authority().client(user, group)?))
    }

    /// What a node needs to join this plane: its kubelet's login and serving certificate, and kube-proxy's login.
    ///
    /// # Errors
    ///
    /// When a certificate cannot be made or a file cannot be written.
    pub fn node_credentials(&self, node: &str, address: Ipv4Addr) -> anyhow::Result<NodeCredentials> {
        self.plan.node_credentials(node, address)
    }

    /// Where the audit log ends now: pass it to [`audit_writes_since`](Self::audit_writes_since) later.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn audit_offset(&self) -> anyhow::Result<u64> {
        audit::length(&self.plan.audit_log())
    }

    /// Every create, update, patch and delete since an offset, oldest first. A write may show a moment after its answer.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn audit_writes_since(&self, offset: u64) -> anyhow::Result<Vec<AuditWrite>> {
        audit::read(&self.plan.audit_log(), offset)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::env::var_os("INFMON_KEEP_CONTROL_PLANE").is_some() {
            self.plan.keep_folder();
            eprintln!("kept the control plane's folder {}", self.data_dir().display());
        }
    }
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPlane")
            .field("server", &self.server_url())
            .field("folder", &self.data_dir())
            .finish()
    }
}
