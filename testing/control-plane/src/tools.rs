//! Where the programs come from.
//!
//! * The control plane: the folder in `KUBEBUILDER_ASSETS` when that is set, else one program built from the Go module in
//!   `go/`, linked under the name of each part.
//! * What a node of a real cluster runs beside them (kube-scheduler, kubelet, kube-proxy): always from that build.
//! * CoreDNS, Helm, actionlint and the parsers of others: built from `coredns`, `helm/v4`, `helm/v3`, `actionlint` and
//!   `../parser-peers/go` when they are first asked for.
//!
//! Builds are kept in `$INFMON_TOOLS_CACHE`, else `$XDG_CACHE_HOME/inference-monitor`, else `~/.cache/inference-monitor`.
//! Nothing there is needed again once its module changes; the folder may be removed at any time no test runs.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::bail;

use crate::go_module::{GoModule, Version};

/// The programs a control plane is made of.
const PROGRAMS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];

const CONTROL_PLANE: GoModule = GoModule {
    name: "control-plane",
    folder: "go",
    package: ".",
    version: Some(Version {
        of: "k8s.io/kubernetes",
        symbols: &[
            "k8s.io/component-base/version.gitVersion",
            "k8s.io/client-go/pkg/version.gitVersion",
        ],
    }),
    symbols: &[
        ("k8s.io/component-base/version.gitMajor", "1"),
        ("k8s.io/component-base/version.gitMinor", "37"),
    ],
    links: &[
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kubectl",
        "fake-device-plugin",
    ],
};

const COREDNS: GoModule = GoModule {
    name: "coredns",
    folder: "coredns",
    package: ".",
    version: None,
    symbols: &[],
    links: &[],
};

const PAUSE: GoModule = GoModule {
    name: "pause",
    folder: "pause",
    package: ".",
    version: None,
    symbols: &[],
    links: &[],
};

const HELM_V4: GoModule = GoModule {
    name: "helm-v4",
    folder: "helm/v4",
    package: "helm.sh/helm/v4/cmd/helm",
    version: Some(Version {
        of: "helm.sh/helm/v4",
        symbols: &["helm.sh/helm/v4/internal/version.version"],
    }),
    symbols: &[],
    links: &["helm"],
};

/// Helm 3 takes the Kubernetes version that `helm template` assumes from its linker flags. The default is 1.20, which a
/// chart with a `kubeVersion` refuses; Helm's own releases set the version of the Kubernetes client inside.
const HELM_V3: GoModule = GoModule {
    name: "helm-v3",
    folder: "helm/v3",
    package: "helm.sh/helm/v3/cmd/helm",
    version: Some(Version {
        of: "helm.sh/helm/v3",
        symbols: &["helm.sh/helm/v3/internal/version.version"],
    }),
    symbols: &[
        ("helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor", "1"),
        ("helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor", "36"),
        ("helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor", "1"),
        ("helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor", "36"),
    ],
    links: &["helm"],
};

const ACTIONLINT: GoModule = GoModule {
    name: "actionlint",
    folder: "actionlint",
    package: "github.com/rhysd/actionlint/cmd/actionlint",
    version: Some(Version {
        of: "github.com/rhysd/actionlint",
        symbols: &["github.com/rhysd/actionlint.version"],
    }),
    symbols: &[],
    links: &[],
};

const PARSER_PEERS: GoModule = GoModule {
    name: "parser-peers",
    folder: "../parser-peers/go",
    package: ".",
    version: None,
    symbols: &[],
    links: &[],
};

/// A major version of Helm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HelmVersion {
    /// Helm 3.
    V3,
    /// Helm 4.
    V4,
}

impl HelmVersion {
    /// `v3` or `v4`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V3 => "v3",
            Self::V4 => "v4",
        }
    }
}

/// A folder with etcd, kube-apiserver, kube-controller-manager and kubectl.
#[derive(Debug, Clone)]
pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// Finds the programs of the control plane, or builds them (7 minutes with two cores, once).
    ///
    /// # Errors
    ///
    /// When `KUBEBUILDER_ASSETS` is set and a program is missing there, when Go is missing or too old, or when the build
    /// fails.
    pub fn locate_or_build() -> anyhow::Result<Self> {
        match env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty()) {
            Some(folder) => Self::in_folder(Path::new(&folder)),
            None => Ok(Self {
                folder: CONTROL_PLANE.build()?,
            }),
        }
    }

    /// The folder with every program of a real cluster: those of the control plane, `kube-scheduler`, `kubelet`, `kube-proxy` and
    /// `fake-device-plugin`. It is always our own build, since `KUBEBUILDER_ASSETS` never has a kubelet.
    ///
    /// # Errors
    ///
    /// When Go is missing or too old, or when the build fails.
    pub fn node_programs() -> anyhow::Result<Self> {
        Ok(Self {
            folder: CONTROL_PLANE.build()?,
        })
    }

    /// The folder that holds the programs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// CoreDNS with the plugins that cluster DNS needs, linked statically, built on first use.
    ///
    /// # Errors
    ///
    /// When Go is missing or too old, or when the build fails.
    pub fn coredns() -> anyhow::Result<PathBuf> {
        build(&COREDNS)
    }

    /// The process that holds a pod's namespaces, linked statically, built on first use.
    ///
    /// # Errors
    ///
    /// When Go is missing or too old, or when the build fails.
    pub fn pause() -> anyhow::Result<PathBuf> {
        build(&PAUSE)
    }

    /// Helm, built on first use.
    ///
    /// # Errors
    ///
    /// When Go is missing or too old, or when the build fails.
    pub fn helm(version: HelmVersion) -> anyhow::Result<PathBuf> {
        build(match version {
            HelmVersion::V3 => &HELM_V3,
            HelmVersion::V4 => &HELM_V4,
        })
    }

    /// actionlint, the checker of GitHub workflows, built on first use.
    ///
    /// # Errors
    ///
    /// When Go is missing or too old, or when the build fails.
    pub fn actionlint() -> anyhow::Result<PathBuf> {
        build(&ACTIONLINT)
    }

    /// The exposition parsers of Prometheus and VictoriaMetrics, built on first use.
    ///
    /// # Errors
    ///
    /// When Go is missing or too old, or when the build fails.
    pub fn parser_peers() -> anyhow::Result<PathBuf> {
        build(&PARSER_PEERS)
    }

    /// The path of etcd.
    pub fn etcd(&self) -> PathBuf {
        self.folder.join("etcd")
    }

    /// The path of kube-apiserver.
    pub fn apiserver(&self) -> PathBuf {
        self.folder.join("kube-apiserver")
    }

    /// The path of kube-controller-manager.
    pub fn controller_manager(&self) -> PathBuf {
        self.folder.join("kube-controller-manager")
    }

    /// The path of kube-scheduler, which [`node_programs`](Self::node_programs) has.
    pub fn scheduler(&self) -> PathBuf {
        self.folder.join("kube-scheduler")
    }

    /// The path of kubectl.
    pub fn kubectl(&self) -> PathBuf {
        self.folder.join("kubectl")
    }

    fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        let mut missing = Vec::new();
        for program in PROGRAMS {
            if !folder.join(program).try_exists()? {
                missing.push(program);
            }
        }
        if !missing.is_empty() {
            bail!(
                "KUBEBUILDER_ASSETS is set to {}, which lacks {}",
                folder.display(),
                missing.join(", ")
            );
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }
}

fn build(module: &GoModule) -> anyhow::Result<PathBuf> {
    Ok(module.build()?.join(module.links.first().unwrap_or(&module.name)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Tools;

    #[test]
    fn a_folder_that_lacks_a_program_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for program in ["etcd", "kube-apiserver", "kubectl"] {
            fs::write(folder.path().join(program), "").unwrap();
        }
        let error = Tools::in_folder(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("which lacks kube-controller-manager"), "{error}");
        fs::write(folder.path().join("kube-controller-manager"), "").unwrap();
        assert!(Tools::in_folder(folder.path()).is_ok());
    }
}
