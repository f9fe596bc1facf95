//! What a request path asks for. Pure.
//!
//! The shapes are those of custom-metrics-apiserver `pkg/apiserver/installer/{cm,em}handlers.go`.

use std::borrow::Cow;

use super::{
    group::{Groups, ServedVersion},
    percent,
};

/// A path that means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/healthz` and `/livez`: the process answers.
    Live,
    /// `/readyz`: traffic is wanted.
    Ready,
    /// `/openapi/...`: not offered, and said so before authentication (aggregators poll it).
    OpenApi,
    /// `/version`
    Version,
    /// `/apis`
    Groups,
    /// `/apis/{group}`
    Group(&'static str),
    /// `/apis/{group}/{version}`
    Resources(ServedVersion),
    /// The values of a metric.
    Values(ServedVersion, Target),
    /// No such path.
    Unknown,
}

/// What a metric is asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `/namespaces/{namespace}/{resource}/{name}/{metric}`, or without a namespace for root-scoped objects.
    Object {
        /// The namespace; `None` for root-scoped objects.
        namespace: Option<String>,
        /// `plural.group`
        resource: String,
        /// The object's name, or `*`.
        name: String,
        /// The metric's name.
        metric: String,
    },
    /// `/namespaces/{namespace}/metrics/{metric}` of the custom metrics: a metric of the namespace itself.
    Namespace {
        /// The namespace.
        namespace: String,
        /// The metric's name.
        metric: String,
    },
    /// `/namespaces/{namespace}/{metric}` of the external metrics.
    External {
        /// The namespace.
        namespace: String,
        /// The metric's name.
        metric: String,
    },
}

/// Reads a path.
pub(super) fn parse(path: &str, groups: Groups) -> Route {
    let path = path.strip_suffix('/').unwrap_or(path);
    let Some(segments) = path.strip_prefix('/').map(decode) else {
        return Route::Unknown;
    };
    let Some(segments) = segments else {
        return Route::Unknown;
    };
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    match segments.as_slice() {
        ["healthz" | "livez"] => Route::Live,
        ["readyz"] => Route::Ready,
        ["openapi", ..] => Route::OpenApi,
        ["version"] => Route::Version,
        ["apis"] => Route::Groups,
        ["apis", group] => groups
            .served()
            .find(|(name, _)| name == group)
            .map_or(Route::Unknown, |(name, _)| Route::Group(name)),
        ["apis", group, version, rest @ ..] => {
            let served = groups.versions(group).unwrap_or_default();
            let Some(served) = served.iter().find(|served| served.version() == *version) else {
                return Route::Unknown;
            };
            match (rest, served) {
                ([], _) => Route::Resources(*served),
                (rest, ServedVersion::ExternalV1Beta1) => values(*served, external(rest)),
                (rest, _) => values(*served, custom(rest)),
            }
        }
        _ => Route::Unknown,
    }
}

fn values(version: ServedVersion, target: Option<Target>) -> Route {
    target.map_or(Route::Unknown, |target| Route::Values(version, target))
}

fn custom(segments: &[&str]) -> Option<Target> {
    match *segments {
        ["namespaces", namespace, "metrics", metric] => Some(Target::Namespace {
            namespace: namespace.to_owned(),
            metric: metric.to_owned(),
        }),
        ["namespaces", namespace, resource, name, metric] => Some(object(Some(namespace), resource, name, metric)),
        // Three segments below `namespaces` are a namespaced resource without a metric, not the object "namespaces".
        ["namespaces", ..] => None,
        [resource, name, metric] => Some(object(None, resource, name, metric)),
        _ => None,
    }
}

fn object(namespace: Option<&str>, resource: &str, name: &str, metric: &str) -> Target {
    Target::Object {
        namespace: namespace.map(str::to_owned),
        resource: resource.to_owned(),
        name: name.to_owned(),
        metric: metric.to_owned(),
    }
}

fn external(segments: &[&str]) -> Option<Target> {
    match *segments {
        ["namespaces", namespace, metric] => Some(Target::External {
            namespace: namespace.to_owned(),
            metric: metric.to_owned(),
        }),
        _ => None,
    }
}

/// The decoded segments; `None` where one is empty, malformed, or hides a slash.
fn decode(path: &str) -> Option<Vec<Cow<'_, str>>> {
    path.split('/')
        .map(|segment| percent::decode(segment).filter(|segment| !segment.is_empty() && !segment.contains('/')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Groups = Groups {
        custom: true,
        external: true,
    };
    const MONITORS: &str = "inferencemonitors.inferencemonitor.io";

    #[test]
    fn paths_become_routes() {
        use ServedVersion::{CustomV1Beta1, CustomV1Beta2, ExternalV1Beta1};
        let of = |namespace, resource, name, metric| object(namespace, resource, name, metric);
        for (path, expected) in [
            ("/healthz", Route::Live),
            ("/livez", Route::Live),
            ("/readyz", Route::Ready),
            ("/version", Route::Version),
            ("/openapi/v2", Route::OpenApi),
            ("/openapi/v3/apis/custom.metrics.k8s.io/v1beta2", Route::OpenApi),
            ("/apis", Route::Groups),
            ("/apis/", Route::Groups),
            ("/apis/custom.metrics.k8s.io", Route::Group("custom.metrics.k8s.io")),
            ("/apis/custom.metrics.k8s.io/v1beta2", Route::Resources(CustomV1Beta2)),
            ("/apis/custom.metrics.k8s.io/v1beta1/", Route::Resources(CustomV1Beta1)),
            (
                "/apis/external.metrics.k8s.io/v1beta1",
                Route::Resources(ExternalV1Beta1),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/inferencemonitors.inferencemonitor.io/llama/queue-depth",
                Route::Values(CustomV1Beta2, of(Some("prod"), MONITORS, "llama", "queue-depth")),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta1/namespaces/prod/inferencemonitors.inferencemonitor.io/%2A/queue-depth",
                Route::Values(CustomV1Beta1, of(Some("prod"), MONITORS, "*", "queue-depth")),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta2/nodes/*/gpus",
                Route::Values(CustomV1Beta2, of(None, "nodes", "*", "gpus")),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/metrics/queue-depth",
                Route::Values(
                    CustomV1Beta2,
                    Target::Namespace {
                        namespace: "prod".into(),
                        metric: "queue-depth".into(),
                    },
                ),
            ),
            (
                "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/queue-depth",
                Route::Values(
                    ExternalV1Beta1,
                    Target::External {
                        namespace: "prod".into(),
                        metric: "queue-depth".into(),
                    },
                ),
            ),
        ] {
            assert_eq!(parse(path, BOTH), expected, "{path}");
        }
    }

    /// The shapes that the reference's `apiserver_test.go` expects a 404 for, and hostile ones.
    #[test]
    fn other_shapes_are_unknown() {
        for path in [
            "",
            "/",
            "//apis",
            "/api",
            "/apis//",
            "/metrics",
            "/healthz/etcd",
            "/apis/apps",
            "/apis/apps/v1",
            "/apis/custom.metrics.k8s.io/v1",
            "/apis/external.metrics.k8s.io/v1beta2",
            "/apis/custom.metrics.k8s.io/v1beta2/nodes",
            "/apis/custom.metrics.k8s.io/v1beta2/nodes/foo",
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns",
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods",
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods/bar",
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods/bar/metric/more",
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces//pods/bar/metric",
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods/bar/a%2Fb",
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods/bar/%ZZ",
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/ns",
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/a/b",
            "/apis/external.metrics.k8s.io/v1beta1/nodes/a/b",
        ] {
            assert_eq!(parse(path, BOTH), Route::Unknown, "{path}");
        }
        assert_eq!(parse("/apis/external.metrics.k8s.io", Groups::CUSTOM), Route::Unknown);
        assert_eq!(
            parse("/apis/external.metrics.k8s.io/v1beta1/namespaces/a/b", Groups::CUSTOM),
            Route::Unknown
        );
    }
}
