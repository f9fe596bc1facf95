//! The API groups, their versions, and the resources in them: constants, in one place.

/// A group and version that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServedVersion {
    /// `custom.metrics.k8s.io/v1beta2`, preferred.
    CustomV1Beta2,
    /// `custom.metrics.k8s.io/v1beta1`
    CustomV1Beta1,
    /// `external.metrics.k8s.io/v1beta1`
    ExternalV1Beta1,
}

/// Which groups this server offers. A group has one owner in a cluster, so each can be left to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Serve `custom.metrics.k8s.io`.
    pub custom: bool,
    /// Serve `external.metrics.k8s.io`.
    pub external: bool,
}

impl Groups {
    /// The custom metrics alone, the default.
    pub const CUSTOM: Self = Self {
        custom: true,
        external: false,
    };

    /// The groups offered, each with its versions, preferred first.
    pub fn served(self) -> impl Iterator<Item = (&'static str, &'static [ServedVersion])> {
        let custom = (
            CUSTOM,
            &[ServedVersion::CustomV1Beta2, ServedVersion::CustomV1Beta1][..],
        );
        let external = (EXTERNAL, &[ServedVersion::ExternalV1Beta1][..]);
        [(self.custom, custom), (self.external, external)]
            .into_iter()
            .filter_map(|(on, group)| on.then_some(group))
    }

    /// The versions of a group, preferred first; `None` when the group is not served.
    pub fn versions(self, group: &str) -> Option<&'static [ServedVersion]> {
        self.served()
            .find(|(name, _)| *name == group)
            .map(|(_, versions)| versions)
    }
}

/// The group of metrics that describe Kubernetes objects.
pub const CUSTOM: &str = "custom.metrics.k8s.io";
/// The group of metrics that describe nothing in the cluster.
pub const EXTERNAL: &str = "external.metrics.k8s.io";

impl ServedVersion {
    /// The API group.
    pub fn group(self) -> &'static str {
        match self {
            Self::CustomV1Beta2 | Self::CustomV1Beta1 => CUSTOM,
            Self::ExternalV1Beta1 => EXTERNAL,
        }
    }

    /// The version.
    pub fn version(self) -> &'static str {
        match self {
            Self::CustomV1Beta2 => "v1beta2",
            Self::CustomV1Beta1 | Self::ExternalV1Beta1 => "v1beta1",
        }
    }

    /// The kind of a list of values.
    pub fn list_kind(self) -> &'static str {
        match self {
            Self::CustomV1Beta2 | Self::CustomV1Beta1 => "MetricValueList",
            Self::ExternalV1Beta1 => "ExternalMetricValueList",
        }
    }

    /// `group/version`
    pub fn group_version(self) -> String {
        format!("{}/{}", self.group(), self.version())
    }
}

/// The object that custom metrics describe.
pub(super) mod monitor {
    /// The resource, as the HPA's REST mapper writes it: `plural.group`.
    pub(crate) const RESOURCE: &str = "inferencemonitors.inferencemonitor.io";
    /// The kind in `describedObject`.
    pub(crate) const KIND: &str = "InferenceMonitor";
    /// The version in `describedObject`.
    pub(crate) const API_VERSION: &str = "inferencemonitor.io/v1alpha1";
    /// The label of an external metric that names the monitor.
    pub(crate) const LABEL: &str = "monitor";
}
