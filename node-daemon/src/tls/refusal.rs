//! Why a TLS connection came to nothing, in words that say what to change.

use infmon_samples::{Access, Credentials};
use rustls::{AlertDescription, CertificateError, Error};
use std::error::Error as StdError;

/// Names of a certificate that are repeated in a message.
const NAMES_SHOWN: usize = 3;

/// Looks for what TLS says in an error and what it was caused by; `None` when TLS is not at fault. `host` is whom the certificate is for.
#[must_use]
pub fn explain(error: &(dyn StdError + 'static), host: &str, access: &Access) -> Option<String> {
    let credentials = access.credentials.as_deref();
    match tls_error(error)? {
        Error::InvalidCertificate(fault) => Some(certificate_words(fault, host, credentials)),
        Error::AlertReceived(alert) => alert_words(*alert, credentials),
        _ => None,
    }
}

/// The TLS error in a chain: an I/O error carries it inside, not as its source.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    None
}

fn certificate_words(fault: &CertificateError, host: &str, credentials: Option<&Credentials>) -> String {
    match fault {
        // The second is an authority of the same name with another key: one that was made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => match credentials.filter(|given| given.ca_pem.is_some()) {
            Some(given) => format!(
                "its certificate does not come from an authority in ca.crt of {}; put the CA of the server there",
                given.source
            ),
            None => "its certificate comes from an authority that is not trusted here; put the certificate of the CA into the key \
                     ca.crt of a Secret and name that in credentialsSecretRef (infmon: --ca-file)"
                .to_owned(),
        },
        CertificateError::NotValidForName => {
            format!("its certificate is not for {host}; name the host that it is for, or make one for this host")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<String> = presented.iter().take(NAMES_SHOWN).map(|name| plain(name)).collect();
            let names = if names.is_empty() {
                "no name".to_owned()
            } else {
                names.join(", ")
            };
            format!(
                "its certificate is for {names}, not for {host}; name the host that it is for, or make one for this host"
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired; renew it, or set the clock of this machine right".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is the clock of this machine right?".to_owned()
        }
        CertificateError::Revoked => "its certificate was revoked; renew it".to_owned(),
        // What `openssl req -x509` makes by default.
        fault if format!("{fault:?}").contains("CaUsedAsEndEntity") => {
            "it shows the certificate of an authority (CA:TRUE) as its own; make it one with CA:FALSE (openssl req -x509 \
             -addext basicConstraints=critical,CA:FALSE)"
                .to_owned()
        }
        fault => format!("its certificate is not valid: {}", plain(&fault.to_string())),
    }
}

fn alert_words(alert: AlertDescription, credentials: Option<&Credentials>) -> Option<String> {
    let of_certificate = matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    );
    let shown = credentials.filter(|given| given.client_certificate.is_some());
    // Of an authority of the same name with another key.
    let of_its_signature = alert == AlertDescription::DecryptError && shown.is_some();
    (of_certificate || of_its_signature).then(|| match shown {
        Some(given) => format!(
            "it refuses the client certificate of {} ({alert:?}); correct tls.crt and tls.key there",
            given.source
        ),
        None => format!(
            "it wants a client certificate ({alert:?}); put tls.crt and tls.key into a Secret and name that in credentialsSecretRef \
             (infmon: --client-certificate-file and --client-key-file)"
        ),
    })
}

/// Foreign text, cut and without what could break a line.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Arc;

    fn access(credentials: Option<Credentials>) -> Access {
        Access {
            verify_certificate: true,
            credentials: credentials.map(Arc::new),
        }
    }

    #[test]
    fn each_fault_has_its_next_step() {
        let of_secret = Credentials {
            source: "Secret llm".into(),
            ca_pem: Some("x".into()),
            client_certificate: Some(infmon_samples::ClientCertificate {
                chain_pem: infmon_samples::Hidden::new("x".into()),
                key_pem: infmon_samples::Hidden::new("x".into()),
            }),
            ..Credentials::default()
        };
        let certificate = Error::InvalidCertificate;
        let table = [
            (
                certificate(CertificateError::UnknownIssuer),
                None,
                "key ca.crt of a Secret",
            ),
            (
                certificate(CertificateError::UnknownIssuer),
                Some(of_secret.clone()),
                "ca.crt of Secret llm",
            ),
            (
                certificate(CertificateError::NotValidForName),
                None,
                "is not for llm.test",
            ),
            (certificate(CertificateError::Expired), None, "has expired"),
            (certificate(CertificateError::NotValidYet), None, "not valid yet"),
            (certificate(CertificateError::Revoked), None, "revoked"),
            (
                certificate(CertificateError::BadSignature),
                None,
                "key ca.crt of a Secret",
            ),
            (certificate(CertificateError::BadEncoding), None, "is not valid"),
            (
                Error::AlertReceived(AlertDescription::CertificateRequired),
                None,
                "put tls.crt and tls.key into a Secret",
            ),
            (
                Error::AlertReceived(AlertDescription::DecryptError),
                Some(of_secret.clone()),
                "refuses the client certificate of Secret llm",
            ),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                Some(of_secret),
                "refuses the client certificate of Secret llm",
            ),
        ];
        for (error, credentials, words) in table {
            // As the handshake gives it, and as a read of a connection does.
            let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
            let said = explain(&error, "llm.test", &access(credentials)).unwrap();
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(explain(&io::Error::other("reset"), "llm.test", &access(None)), None);
        let other = Error::AlertReceived(AlertDescription::InternalError);
        assert_eq!(explain(&io::Error::other(other), "llm.test", &access(None)), None);
    }
}
