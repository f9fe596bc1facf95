//! `manifests/install.yaml`: the chart with its default values, for a cluster without Helm.

use super::CHART;
use crate::workspace::{output, program, root};
use anyhow::{Context, bail};
use infmon_control_plane::{HelmVersion, Tools};
use std::fs;

/// Release of the README.
pub(crate) const RELEASE: &str = "inference-monitor";
/// Namespace of the README.
pub(crate) const NAMESPACE: &str = "inference-monitor-system";
const NAMESPACE_FILE: &str = "manifests/namespace.yaml";
const HEADER: &str = "\
# Rendered from charts/inference-monitor by cargo xtask generate. Do not edit.
#
#   kubectl apply --server-side -f install.yaml
#
# kubectl delete -f install.yaml removes the CRD too, and with it every InferenceMonitor.
";

/// Renders the chart with helm 4.
pub(super) fn render() -> anyhow::Result<String> {
    if !root().join(CHART).join("Chart.yaml").try_exists()? {
        bail!("{CHART}/Chart.yaml is missing, so manifests/install.yaml cannot be rendered");
    }
    let namespace = fs::read_to_string(root().join(NAMESPACE_FILE)).with_context(|| {
        format!("failed to read {NAMESPACE_FILE}, the namespace that manifests/install.yaml begins with")
    })?;
    let mut helm = program(Tools::helm(HelmVersion::V4)?);
    helm.args(["template", RELEASE, CHART, "--namespace", NAMESPACE]);
    // What is rendered must not depend on what the user's Helm is set up with.
    let home = root().join("target/helm");
    for name in ["CACHE", "CONFIG", "DATA"] {
        helm.env(format!("HELM_{name}_HOME"), home.join(name.to_lowercase()));
    }
    helm.env_remove("KUBECONFIG");
    let rendered = output(helm).context("failed to render the chart")?;
    Ok(join(&namespace, &rendered))
}

/// Header, namespace, rendered chart as one stream of documents.
fn join(namespace: &str, rendered: &str) -> String {
    let namespace = namespace.trim_start_matches("---\n").trim_end();
    let rendered = rendered.trim_start_matches("---\n").trim_end();
    let mut manifest = format!("{HEADER}---\n{namespace}\n---\n");
    let mut lines = rendered.lines().filter(|line| !is_of_helm(line)).peekable();
    while let Some(line) = lines.next() {
        let ends_document = line.trim().is_empty() && lines.peek().is_none_or(|next| *next == "---");
        if !ends_document {
            manifest.push_str(line);
            manifest.push('\n');
        }
    }
    manifest
}

/// Labels that say that Helm owns an object, which is not so for one that kubectl applied.
fn is_of_helm(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("helm.sh/chart:") || line == "app.kubernetes.io/managed-by: Helm"
}

#[cfg(test)]
mod tests {
    use super::{HEADER, join};

    #[test]
    fn each_document_begins_once_and_is_not_of_helm() {
        let rendered = "---\nkind: ServiceAccount\n  helm.sh/chart: x\n\n---\nkind: Service\n\nspec:\n\n";
        let joined = join("kind: Namespace\n\n", rendered);
        let documents = joined.strip_prefix(HEADER).unwrap();
        assert_eq!(
            documents,
            "---\nkind: Namespace\n---\nkind: ServiceAccount\n---\nkind: Service\n\nspec:\n"
        );
    }
}
