//! What is to be done with the certificates now. Pure.
//!
//! A rotation of the authority takes three steps, each of which is safe for clients that have seen only the one before:
//!
//! 1. the next authority is added to what clients trust ([`Decision::AddNextAuthority`]);
//! 2. when everybody had [`PROPAGATION`] to read that, it signs a new leaf ([`Decision::SwitchAuthority`]);
//! 3. when everybody had [`OVERLAP`] to pick the leaf up, the old one is no longer trusted
//!    ([`Decision::DropPreviousAuthorities`]).

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

use super::bundle::{self, Bundle, Validity};

/// The life of an authority.
pub const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// The life of a leaf.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// By so much the beginning of a certificate lies in the past, for clocks that are slow.
pub const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// How long clients have to read a new authority: a kubelet takes about two minutes to update a mounted ConfigMap.
pub const PROPAGATION: SignedDuration = SignedDuration::from_hours(1);
/// How long an authority stays trusted after it signs no more.
pub const OVERLAP: SignedDuration = SignedDuration::from_hours(24);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing before this moment.
    Keep {
        /// When to look again.
        until: Timestamp,
    },
    /// Make everything anew.
    Create {
        /// Why, for the log.
        why: String,
    },
    /// Sign a new leaf.
    IssueLeaf {
        /// Why, for the log.
        why: String,
    },
    /// Make the next authority, and have it trusted.
    AddNextAuthority,
    /// Let the next authority sign.
    SwitchAuthority,
    /// Trust the authorities of the past no longer.
    DropPreviousAuthorities,
}

/// Decides. `bundle` is `None` where there is none, with the reason.
pub fn decide(bundle: Result<&Bundle, &str>, dns_names: &[String], now: Timestamp) -> Decision {
    let bundle = match bundle {
        Ok(bundle) => bundle,
        Err(why) => return Decision::Create { why: why.to_owned() },
    };
    let next = match &bundle.next {
        Some(next) => match authority(&next.certificate, &next.key, now) {
            Ok(validity) => Some(validity),
            Err(why) => {
                return Decision::Create {
                    why: format!("the next authority {why}"),
                };
            }
        },
        None => None,
    };
    let signing = match (authority(&bundle.signing.certificate, &bundle.signing.key, now), next) {
        (Ok(validity), _) => validity,
        // The next one is as good as it gets.
        (Err(_), Some(_)) => return Decision::SwitchAuthority,
        (Err(why), None) => {
            return Decision::Create {
                why: format!("the authority {why}"),
            };
        }
    };
    let switch = next.map(|next| made(next) + PROPAGATION);
    if switch.is_some_and(|switch| now >= switch) {
        return Decision::SwitchAuthority;
    }
    let leaf = match leaf(bundle, dns_names, now) {
        Ok(validity) if now >= renewal(validity) => {
            return Decision::IssueLeaf {
                why: "two thirds of its life are over".to_owned(),
            };
        }
        Ok(validity) => validity,
        Err(why) => return Decision::IssueLeaf { why },
    };
    if switch.is_none() && now >= renewal(signing) {
        return Decision::AddNextAuthority;
    }
    let drop = (!bundle.previous.is_empty()).then(|| made(leaf) + OVERLAP);
    if drop.is_some_and(|drop| now >= drop) {
        return Decision::DropPreviousAuthorities;
    }
    let until = [Some(renewal(leaf)), switch.or(Some(renewal(signing))), drop];
    Decision::Keep {
        until: until.into_iter().flatten().min().unwrap_or(now),
    }
}

/// When a certificate was made.
fn made(validity: Validity) -> Timestamp {
    validity.not_before + BACKDATE
}

/// When two thirds of a certificate's life are over.
fn renewal(validity: Validity) -> Timestamp {
    let life = validity.not_after.duration_since(validity.not_before);
    validity.not_before + life * 2 / 3
}

/// Whether an authority can sign now.
fn authority(certificate: &str, key: &str, now: Timestamp) -> Result<Validity, String> {
    let validity = bundle::validity("it", certificate).map_err(|_| "cannot be read".to_owned())?;
    certified(certificate, key).map_err(|why| format!("cannot be used: {why}"))?;
    if now < validity.not_before {
        return Err("is not valid yet".to_owned());
    }
    if now >= validity.not_after {
        return Err("has expired".to_owned());
    }
    Ok(validity)
}

/// Whether the leaf serves every name, for a client that trusts the signing authority alone.
fn leaf(bundle: &Bundle, dns_names: &[String], now: Timestamp) -> Result<Validity, String> {
    let validity = bundle::validity("it", &bundle.leaf.certificate).map_err(|_| "it cannot be read".to_owned())?;
    let certified =
        certified(&bundle.leaf.certificate, &bundle.leaf.key).map_err(|why| format!("it cannot be used: {why}"))?;
    let (own, intermediates) = certified.cert.split_first().ok_or("it is empty")?;
    let mut roots = RootCertStore::empty();
    let authority = bundle::first(&bundle.signing.certificate).ok_or("the authority cannot be read")?;
    roots.add(authority).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| error.to_string())?;
    let seconds = u64::try_from(now.as_second()).map_err(|error| error.to_string())?;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    for name in dns_names {
        let server = ServerName::try_from(name.as_str()).map_err(|_| format!("{name:?} is no DNS name"))?;
        verifier
            .verify_server_cert(own, intermediates, &server, &[], time)
            .map_err(|error| format!("it does not verify for {name}: {error}"))?;
    }
    Ok(validity)
}

/// The certificate with its key, where they belong together.
pub(super) fn certified(certificate: &str, key: &str) -> Result<CertifiedKey, String> {
    let chain = rustls_pki_types::CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    if chain.is_empty() {
        return Err("no certificate".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| error.to_string())?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
