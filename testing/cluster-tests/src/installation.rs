//! The release of the chart.

use anyhow::ensure;
use infmon_control_plane::{HelmVersion, Tools, process};
use infmon_end_to_end::{NAMESPACE, cluster::RELEASE, eventually};
use serde_json::{Value, json};
use std::{path::PathBuf, process::Command, time::Duration};

use crate::Session;

/// What Helm waits for is said with its own limit.
const HELM: Duration = Duration::from_secs(240);
/// A DaemonSet appears, or goes, within this.
const ROLLOUT: Duration = Duration::from_secs(120);

/// The product, installed as the README says.
#[derive(Debug)]
pub struct Installation;

impl Installation {
    /// Installs the chart, or changes the release to these values. What is not given is the chart's default, and where
    /// `INFMON_IMAGE_TAG` is set, images have that tag.
    ///
    /// # Errors
    /// When Helm fails or the operator does not become ready.
    pub fn with(session: &Session, values: &[&str]) -> anyhow::Result<Self> {
        let chart = chart();
        let mut arguments = vec![
            "upgrade",
            "--install",
            RELEASE,
            &chart,
            "--namespace",
            NAMESPACE,
            "--create-namespace",
            "--reset-values",
            "--wait",
            "--timeout=2m",
        ];
        for value in values {
            arguments.extend(["--set", value]);
        }
        if !session.api().exists(&format!("/api/v1/namespaces/{NAMESPACE}"))? {
            session.kubectl(&["create", "namespace", NAMESPACE])?;
            Self::allow(session, "restricted")?;
        }
        helm(session, &arguments)?;
        Ok(Self)
    }

    /// Sets the level of the Pod Security Standards that the release's namespace enforces: `restricted`, which the default
    /// installation meets, or `privileged`, which some opt-ins need.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn allow(session: &Session, level: &str) -> anyhow::Result<()> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}");
        let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
        session.api().merge(&path, &labels).map(drop)
    }

    /// Whether there is a release.
    ///
    /// # Errors
    /// When Helm fails.
    pub fn exists(session: &Session) -> anyhow::Result<bool> {
        let names = helm(session, &["list", "--short", "--namespace", NAMESPACE])?;
        Ok(names.lines().any(|name| name == RELEASE))
    }

    /// Removes the release.
    ///
    /// # Errors
    /// When Helm fails.
    pub fn remove(session: &Session) -> anyhow::Result<()> {
        helm(
            session,
            &["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=2m"],
        )
        .map(drop)
    }

    /// The daemons' DaemonSets.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn daemon_sets(&self, session: &Session) -> anyhow::Result<Vec<Value>> {
        session.api().list(&format!(
            "/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets?labelSelector=app.kubernetes.io/component=node-daemon"
        ))
    }

    /// Waits until there is a DaemonSet, and every daemon of every one is ready and as its template says.
    ///
    /// # Errors
    /// With what is not so after two minutes.
    pub fn wait_for_daemons(&self, session: &Session) -> anyhow::Result<()> {
        eventually("every daemon ready", ROLLOUT, || {
            let sets = self.daemon_sets(session)?;
            ensure!(!sets.is_empty(), "no DaemonSet");
            for set in sets {
                let status = &set["status"];
                ensure!(
                    status["observedGeneration"] == set["metadata"]["generation"]
                        && status["numberReady"] == status["desiredNumberScheduled"]
                        && status["updatedNumberScheduled"] == status["desiredNumberScheduled"]
                        && status["desiredNumberScheduled"].as_u64() > Some(0),
                    "{}: {status}",
                    set["metadata"]["name"]
                );
            }
            Ok(())
        })
    }

    /// Pods of a component, `operator` or `node-daemon`, but for those on their way out.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn pods(&self, session: &Session, component: &str) -> anyhow::Result<Vec<Value>> {
        let mut pods = session.api().list(&format!(
            "/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/component={component}"
        ))?;
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(pods)
    }
}

/// Runs Helm and returns what it prints.
///
/// # Errors
/// When it fails; with what it wrote to standard error.
pub fn helm(session: &Session, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(Tools::helm(HelmVersion::V4)?);
    command.args(arguments).env("KUBECONFIG", session.kubeconfig());
    process::run(command, "", HELM)
}

/// The chart of this repository.
#[must_use]
pub fn chart() -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../charts/inference-monitor")
        .display()
        .to_string()
}
