//! Who asks: front proxy, client certificate, bearer token, or nobody.
//!
//! The order and the outcomes are those of apiserver `pkg/authentication/authenticatorfactory/delegating.go`: the first
//! that recognises the caller decides; where none does but one was offered credentials that failed, the answer is 401;
//! where nothing was offered, the caller is anonymous.

mod certificate;
mod front_proxy;
mod token;
mod trust;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::time::Instant;

use self::{
    certificate::{CertificateError, Subject},
    token::Tokens,
};
pub use self::{
    token::TokenReviewer,
    trust::{CONFIG_MAP, NAMESPACE, Trust, TrustError},
};
use super::identity::Identity;

/// How long a verdict on the certificate of a connection stands; then its dates are looked at again.
const VERDICT_LIFETIME: Duration = Duration::from_secs(10);

/// The certificates that the client of a connection presented. The handshake proved that it holds the key of the first,
/// and nothing else; whether anybody trusts it is decided here, against the CAs of this moment.
#[derive(Debug, Default)]
pub struct PeerCertificates {
    chain: Vec<CertificateDer<'static>>,
    verdict: Mutex<Option<Verdict>>,
}

#[derive(Clone, Debug)]
struct Verdict {
    trust: Arc<Trust>,
    made: Instant,
    /// `None` where no CA of this kind is known.
    front_proxy: Option<Result<Subject, CertificateError>>,
    client: Option<Result<Subject, CertificateError>>,
}

impl PeerCertificates {
    /// The chain as presented: the client's own certificate first; empty where none was presented.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self {
            chain,
            verdict: Mutex::default(),
        }
    }

    /// The verdict, remembered for as long as the trusted CAs stay and for [`VERDICT_LIFETIME`] at most.
    fn verdict(&self, trust: &Arc<Trust>) -> Verdict {
        let now = Instant::now();
        let mut remembered = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = remembered.as_ref()
            && Arc::ptr_eq(&verdict.trust, trust)
            && now.duration_since(verdict.made) < VERDICT_LIFETIME
        {
            return verdict.clone();
        }
        let verify = |roots| certificate::verify(&self.chain, roots, UnixTime::now());
        let verdict = Verdict {
            trust: Arc::clone(trust),
            made: now,
            front_proxy: trust.front_proxy.as_ref().map(|proxy| verify(&proxy.roots)),
            client: trust.clients.as_ref().map(verify),
        };
        remembered.insert(verdict).clone()
    }
}

/// Why a caller is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthenticationError {
    /// Credentials were presented, and none is valid. The text is for the log only.
    Invalid(String),
    /// A credential could not be judged, since the API server did not answer. The text is for the log only.
    Unavailable(String),
}

/// Authenticates requests.
pub struct Authentication {
    trust: ArcSwapOption<Trust>,
    tokens: Tokens,
}

impl Authentication {
    /// Trusts nobody's certificate until [`Authentication::set_trust`] is called.
    pub fn new(reviewer: Arc<dyn TokenReviewer>) -> Self {
        Self {
            trust: ArcSwapOption::empty(),
            tokens: Tokens::new(reviewer),
        }
    }

    /// Replaces the trusted CAs and header names, for requests on open connections too.
    pub fn set_trust(&self, trust: Trust) {
        self.trust.store(Some(Arc::new(trust)));
    }

    /// Whether it is known whom to trust.
    pub fn has_trust(&self) -> bool {
        self.trust.load().is_some()
    }

    /// Who sent a request with these headers over a connection with these certificates.
    pub async fn authenticate(
        &self,
        peer: &PeerCertificates,
        headers: &HeaderMap,
    ) -> Result<Arc<Identity>, AuthenticationError> {
        let mut refusals = Vec::new();
        if !peer.chain.is_empty()
            && let Some(trust) = self.trust.load_full()
            && let Some(identity) = by_certificate(&peer.verdict(&trust), headers, &mut refusals)
        {
            return Ok(Arc::new(identity.authenticated()));
        }
        if let Some(token) = token::bearer(headers) {
            match self.tokens.identity(token).await {
                Ok(Some(identity)) => return Ok(identity),
                Ok(None) => refusals.push("the bearer token is not valid".to_owned()),
                Err(error) => return Err(AuthenticationError::Unavailable(error.to_string())),
            }
        }
        if refusals.is_empty() {
            Ok(Arc::new(Identity::anonymous()))
        } else {
            Err(AuthenticationError::Invalid(refusals.join("; ")))
        }
    }
}

fn by_certificate(verdict: &Verdict, headers: &HeaderMap, refusals: &mut Vec<String>) -> Option<Identity> {
    if let (Some(proxy), Some(result)) = (&verdict.trust.front_proxy, &verdict.front_proxy) {
        match result {
            Ok(subject) if proxy.allowed_names.is_empty() || proxy.allowed_names.contains(&subject.common_name) => {
                if let Some(identity) = front_proxy::identity(headers, &proxy.headers) {
                    return Some(identity);
                }
            }
            Ok(subject) => refusals.push(format!("{:?} may not speak for others", subject.common_name)),
            Err(error) => refusals.push(error.to_string()),
        }
    }
    match &verdict.client {
        Some(Ok(subject)) => subject.clone().into_identity(),
        Some(Err(error)) => {
            refusals.push(error.to_string());
            None
        }
        None => None,
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Authentication")
            .field("has_trust", &self.has_trust())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
