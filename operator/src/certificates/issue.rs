//! Carries a [`Decision`] out on a [`Bundle`]: new keys and certificates, ECDSA P-256.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

use super::{
    bundle::{self, Bundle, Pair},
    decision::{AUTHORITY_LIFE, BACKDATE, Decision, LEAF_LIFE},
};

/// Why nothing could be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// There is nothing to change.
    #[error("there is no bundle to change")]
    NoBundle,
    /// A key or a certificate could not be made.
    #[error("failed to make a certificate")]
    Certificate(#[from] Error),
}

/// The bundle after the decision; `None` where nothing changes.
pub(super) fn carry_out(
    decision: &Decision,
    bundle: Option<&Bundle>,
    dns_names: &[String],
    now: Timestamp,
) -> Result<Option<Bundle>, IssueError> {
    let current = || bundle.ok_or(IssueError::NoBundle);
    let bundle = match decision {
        Decision::Keep { .. } => return Ok(None),
        Decision::Create { .. } => {
            let signing = authority(now)?;
            let leaf = leaf(&signing, dns_names, now)?;
            Bundle {
                signing,
                next: None,
                previous: Vec::new(),
                leaf,
            }
        }
        Decision::IssueLeaf { .. } => {
            let current = current()?;
            Bundle {
                leaf: leaf(&current.signing, dns_names, now)?,
                ..current.clone()
            }
        }
        Decision::AddNextAuthority => Bundle {
            next: Some(authority(now)?),
            ..current()?.clone()
        },
        Decision::SwitchAuthority => {
            let mut current = current()?.clone();
            let signing = current.next.take().ok_or(IssueError::NoBundle)?;
            current.leaf = leaf(&signing, dns_names, now)?;
            current
                .previous
                .push(std::mem::replace(&mut current.signing, signing).certificate);
            current
        }
        Decision::DropPreviousAuthorities => Bundle {
            previous: Vec::new(),
            ..current()?.clone()
        },
    };
    Ok(Some(bundle))
}

fn authority(now: Timestamp) -> Result<Pair, Error> {
    let key = KeyPair::generate()?;
    let mut params = params(now, now + AUTHORITY_LIFE);
    // The moment in the name keeps authorities apart for clients that look issuers up by name.
    let name = format!("inference-monitor CA {}", now.strftime("%Y-%m-%dT%H:%M:%SZ"));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?.pem();
    Ok(Pair {
        certificate,
        key: key.serialize_pem(),
    })
}

fn leaf(signing: &Pair, dns_names: &[String], now: Timestamp) -> Result<Pair, Error> {
    let key = KeyPair::generate()?;
    // A leaf does not outlive its authority: it would look valid and fail.
    let end = bundle::validity("authority", &signing.certificate)
        .map_or(now + LEAF_LIFE, |authority| authority.not_after.min(now + LEAF_LIFE));
    let mut params = params(now, end);
    params.subject_alt_names = CertificateParams::new(dns_names.to_vec())?.subject_alt_names;
    params.distinguished_name.push(DnType::CommonName, "inference-monitor");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    // Of the authority, a signature needs the name and the key only; the key's identifier is made as it was for itself.
    let mut authority = CertificateParams::default();
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name = DistinguishedName::new();
    let name = bundle::common_name(&signing.certificate).ok_or(Error::CouldNotParseCertificate)?;
    authority.distinguished_name.push(DnType::CommonName, name);
    let issuer = Issuer::new(authority, KeyPair::from_pem(&signing.key)?);
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Pair {
        certificate,
        key: key.serialize_pem(),
    })
}

fn params(now: Timestamp, end: Timestamp) -> CertificateParams {
    let epoch = date_time_ymd(1970, 1, 1);
    let moment = |time: Timestamp| {
        epoch
            + time
                .duration_since(Timestamp::UNIX_EPOCH)
                .max(SignedDuration::ZERO)
                .unsigned_abs()
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = moment(now - BACKDATE);
    params.not_after = moment(end);
    params
}
