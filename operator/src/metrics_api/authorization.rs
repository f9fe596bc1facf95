//! Who may: SubjectAccessReview, remembered for a short time (apiserver `pkg/server/options/authorization.go`).

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;

use super::{
    identity::{Identity, MASTERS},
    review_cache::{ReviewCache, ReviewError, ReviewLimits},
};

/// What a caller wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// `get`, or `list` for external metrics.
    pub verb: &'static str,
    /// The API group.
    pub group: &'static str,
    /// The API version.
    pub version: &'static str,
    /// The resource.
    pub resource: String,
    /// The subresource; empty for none.
    pub subresource: String,
    /// The object's name; empty for none.
    pub name: String,
    /// The namespace; empty for none.
    pub namespace: String,
}

impl Attributes {
    /// The message of a 403, in the words of apiserver `pkg/endpoints/handlers/responsewriters/errors.go`.
    pub fn forbidden_message(&self, identity: &Identity, reason: &str) -> String {
        let Self {
            verb,
            group,
            resource,
            subresource,
            name,
            namespace,
            ..
        } = self;
        let path = if subresource.is_empty() {
            resource.clone()
        } else {
            format!("{resource}/{subresource}")
        };
        let name = if name.is_empty() {
            String::new()
        } else {
            format!(" {name:?}")
        };
        let place = if namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {namespace:?}")
        };
        let reason = if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        };
        format!(
            "{resource}.{group}{name} is forbidden: User {:?} cannot {verb} resource {path:?} in API group {group:?} {place}{reason}",
            identity.name
        )
    }
}

/// A question to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessRequest {
    /// Who asks.
    pub identity: Arc<Identity>,
    /// What for.
    pub attributes: Attributes,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessDecision {
    /// Go ahead.
    Allowed,
    /// No, with a reason that may be empty.
    Denied(String),
}

/// Asks the API server.
pub trait AccessReviewer: Send + Sync + 'static {
    /// Whether the caller may.
    fn review(&self, request: AccessRequest) -> BoxFuture<'static, Result<AccessDecision, ReviewError>>;
}

/// Authorises requests.
pub struct Authorization {
    reviewer: Arc<dyn AccessReviewer>,
    cache: ReviewCache<AccessRequest, AccessDecision>,
}

impl Authorization {
    /// With an empty cache.
    pub fn new(reviewer: Arc<dyn AccessReviewer>) -> Self {
        Self {
            reviewer,
            cache: ReviewCache::new(ReviewLimits {
                answers: 8192,
                ..ReviewLimits::default()
            }),
        }
    }

    /// Whether a caller may.
    ///
    /// A caller without an identity may not, and the API server is not asked: nobody could be meant by such a permission,
    /// and anybody who reaches the port could make us ask without end.
    pub async fn authorize(
        &self,
        identity: &Arc<Identity>,
        attributes: Attributes,
    ) -> Result<AccessDecision, ReviewError> {
        if identity.is_member(MASTERS) {
            return Ok(AccessDecision::Allowed);
        }
        if !identity.is_authenticated() {
            return Ok(AccessDecision::Denied(String::new()));
        }
        let request = AccessRequest {
            identity: Arc::clone(identity),
            attributes,
        };
        self.cache.get(&request, || self.reviewer.review(request.clone())).await
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Authorization")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;

    use super::*;

    #[derive(Default)]
    struct Scripted {
        calls: AtomicUsize,
    }

    impl AccessReviewer for Scripted {
        fn review(&self, request: AccessRequest) -> BoxFuture<'static, Result<AccessDecision, ReviewError>> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let decision = match request.attributes.namespace.as_str() {
                "prod" => AccessDecision::Allowed,
                _ => AccessDecision::Denied("no rule".into()),
            };
            async { Ok(decision) }.boxed()
        }
    }

    fn attributes(namespace: &str) -> Attributes {
        Attributes {
            verb: "get",
            group: "custom.metrics.k8s.io",
            version: "v1beta2",
            resource: "inferencemonitors.inferencemonitor.io".into(),
            subresource: "queue-depth".into(),
            name: "llama".into(),
            namespace: namespace.into(),
        }
    }

    #[tokio::test]
    async fn decisions_are_asked_once_and_masters_and_anonymous_never() {
        let reviewer = Arc::new(Scripted::default());
        let authorization = Authorization::new(reviewer.clone());
        let user = |name: &str, groups: &[&str]| {
            let groups = groups.iter().copied().map(str::to_owned).collect();
            Arc::new(Identity {
                name: name.into(),
                groups,
                ..Identity::default()
            })
        };
        let jane = Arc::new(Identity::clone(&user("jane", &[])).authenticated());
        let denied = AccessDecision::Denied("no rule".into());
        for (identity, namespace, expected, calls) in [
            (&jane, "prod", AccessDecision::Allowed, 1),
            (&jane, "prod", AccessDecision::Allowed, 1),
            (&jane, "other", denied.clone(), 2),
            (&jane, "other", denied, 2),
            (
                &user("kube-aggregator", &[MASTERS]),
                "other",
                AccessDecision::Allowed,
                2,
            ),
            (
                &Arc::new(Identity::anonymous()),
                "prod",
                AccessDecision::Denied(String::new()),
                2,
            ),
        ] {
            assert_eq!(
                authorization.authorize(identity, attributes(namespace)).await,
                Ok(expected)
            );
            assert_eq!(reviewer.calls.load(Ordering::SeqCst), calls);
        }
    }

    #[test]
    fn a_refusal_says_who_what_and_where() {
        assert_eq!(
            attributes("prod").forbidden_message(&Identity::anonymous(), "no rule"),
            "inferencemonitors.inferencemonitor.io.custom.metrics.k8s.io \"llama\" is forbidden: User \
             \"system:anonymous\" cannot get resource \"inferencemonitors.inferencemonitor.io/queue-depth\" in API group \
             \"custom.metrics.k8s.io\" in the namespace \"prod\": no rule"
        );
    }
}
