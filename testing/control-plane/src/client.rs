//! `kubectl`, `helm` and tokens against a running plane.

use std::{path::Path, process::Command, time::Duration};

use crate::{ControlPlane, HelmVersion, Tools, process};

/// How long one kubectl command may take.
const KUBECTL: Duration = Duration::from_secs(30);
/// How long one helm command may take. Helm's own waits are longer by default: pass `--timeout` to have its message.
const HELM: Duration = Duration::from_secs(120);

impl ControlPlane {
    /// Runs kubectl as administrator and returns its standard output.
    ///
    /// # Errors
    ///
    /// When it fails or takes longer than 30 s; the error has what it wrote to standard error.
    pub fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.kubectl_as(self.admin_kubeconfig(), args)
    }

    /// Runs kubectl with a kubeconfig of [`kubeconfig_for_token`](Self::kubeconfig_for_token) or
    /// [`kubeconfig_for_user`](Self::kubeconfig_for_user).
    ///
    /// # Errors
    ///
    /// As for [`kubectl`](Self::kubectl).
    pub fn kubectl_as(&self, kubeconfig: &Path, args: &[&str]) -> anyhow::Result<String> {
        process::run(self.kubectl_command(kubeconfig, args), "", KUBECTL)
    }

    /// Applies YAML or JSON documents as administrator, server-side (so that a large CustomResourceDefinition fits), and
    /// takes over fields that another manager owns.
    ///
    /// # Errors
    ///
    /// As for [`kubectl`](Self::kubectl).
    pub fn kubectl_apply(&self, yaml: &str) -> anyhow::Result<String> {
        let args = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        process::run(self.kubectl_command(self.admin_kubeconfig(), &args), yaml, KUBECTL)
    }

    /// Runs Helm as administrator and returns its standard output. Helm's own folders are inside the plane's.
    ///
    /// # Errors
    ///
    /// When Helm cannot be built, fails, or takes longer than 2 min; the error has what it wrote to standard error.
    pub fn helm(&self, version: HelmVersion, args: &[&str]) -> anyhow::Result<String> {
        let home = self.data_dir().join("helm").join(version.name());
        let mut command = Command::new(Tools::helm(version)?);
        command.args(args).env("KUBECONFIG", self.admin_kubeconfig());
        for name in ["CACHE", "CONFIG", "DATA"] {
            command.env(format!("HELM_{name}_HOME"), home.join(name.to_lowercase()));
        }
        process::run(command, "", HELM)
    }

    /// Asks for a ServiceAccount's token, for an audience other than the apiserver if one is named. With `bound_pod`, the
    /// token is bound to that pod of the same namespace, as a projected token inside the pod would be.
    ///
    /// # Errors
    ///
    /// As for [`kubectl`](Self::kubectl): when the ServiceAccount or the pod is missing, or when the pod runs as another
    /// ServiceAccount.
    pub fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
        audience: Option<&str>,
        bound_pod: Option<&str>,
    ) -> anyhow::Result<String> {
        let mut args = vec!["create", "token", "--namespace", namespace, name];
        if let Some(audience) = audience {
            args.extend(["--audience", audience]);
        }
        if let Some(pod) = bound_pod {
            args.extend(["--bound-object-kind", "Pod", "--bound-object-name", pod]);
        }
        Ok(self.kubectl(&args)?.trim().to_owned())
    }
}
