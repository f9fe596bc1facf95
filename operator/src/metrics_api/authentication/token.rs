//! Bearer tokens, reviewed by the API server (TokenReview) and remembered for a short time.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::metrics_api::{
    identity::Identity,
    review_cache::{ReviewCache, ReviewError, ReviewLimits},
};

/// Asks the API server whose token this is.
pub trait TokenReviewer: Send + Sync + 'static {
    /// The identity; `None` when the token is not valid.
    fn review(&self, token: String) -> BoxFuture<'static, Result<Option<Identity>, ReviewError>>;
}

/// Tokens with the identities behind them. Only digests of tokens are kept.
pub(super) struct Tokens {
    reviewer: Arc<dyn TokenReviewer>,
    cache: ReviewCache<[u8; 32], Option<Arc<Identity>>>,
}

impl Tokens {
    pub(super) fn new(reviewer: Arc<dyn TokenReviewer>) -> Self {
        Self {
            reviewer,
            cache: ReviewCache::new(ReviewLimits::default()),
        }
    }

    /// The identity behind a token; `None` when it is not valid.
    pub(super) async fn identity(&self, token: &str) -> Result<Option<Arc<Identity>>, ReviewError> {
        let digest = Sha256::digest(token).into();
        let (reviewer, token) = (Arc::clone(&self.reviewer), token.to_owned());
        let review = async move {
            let identity = reviewer.review(token).await?;
            Ok(identity.map(|identity| Arc::new(identity.authenticated())))
        };
        self.cache.get(&digest, || Box::pin(review)).await
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tokens")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// The token of a request (apiserver `pkg/authentication/request/bearertoken/bearertoken.go`).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, rest) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .trim()
        .split_once(' ')?;
    let token = rest.split(' ').next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn bearer_tokens_are_found() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("Bearer abc def", Some("abc")),
            ("Bearer  abc", None),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic abc", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            assert_eq!(bearer(&headers), expected, "{value:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
