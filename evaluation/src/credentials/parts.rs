//! The parts of credentials, each checked before it is used. The errors never hold a value.

use base64::Engine as _;
use infmon_samples::{ClientCertificate, Hidden};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A JSON Web Token with many claims has 4 KiB; servers refuse heads of 16.
const TOKEN_MAX: usize = 8 * 1024;
/// User name and password, each.
const NAME_MAX: usize = 1024;
/// A chain of some certificates.
const CHAIN_MAX: usize = 24 * 1024;
/// A key of RSA 4096 has 3.2 KiB.
const KEY_MAX: usize = 8 * 1024;
/// Authorities of a company, not those of the whole web: these are there by themselves.
const AUTHORITIES_MAX: usize = 32 * 1024;
/// Certificates in a chain or a bundle.
const CERTIFICATES_MAX: usize = 32;

/// What is wrong with a part. The caller says where it is from.
pub type Fault = String;

/// The value of `Authorization` for a bearer token. Line ends after it, which editors and `echo` add, are left out.
///
/// # Errors
/// When it is not a token that a header can carry.
pub fn bearer(token: &[u8]) -> Result<Hidden, Fault> {
    let token = text(token, TOKEN_MAX)?;
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "has blanks, control characters or letters that are not ASCII: give the token alone, on one line".into(),
        );
    }
    Ok(Hidden::new(format!("Bearer {token}")))
}

/// The value of `Authorization` for a user name and a password. Line ends after them are left out.
///
/// # Errors
/// When a header cannot carry them. The first text says which one it is.
pub fn basic(username: &[u8], password: &[u8]) -> Result<Hidden, (&'static str, Fault)> {
    let part = |name: &'static str, value| {
        let text = text(value, NAME_MAX).map_err(|fault| (name, fault))?;
        if text.chars().any(char::is_control) {
            return Err((name, "has control characters: give it on one line".to_owned()));
        }
        Ok(text)
    };
    let (username, password) = (part("username", username)?, part("password", password)?);
    if username.contains(':') {
        return Err(("username", "has a ':', which basic authentication cannot carry".into()));
    }
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    Ok(Hidden::new(format!("Basic {pair}")))
}

/// A certificate chain and its key. That they belong together shows when they are first used.
///
/// # Errors
/// When either is not PEM of its kind. The first text says which one it is.
pub fn client_certificate(chain: &[u8], key: &[u8]) -> Result<ClientCertificate, (&'static str, Fault)> {
    let (certificate, private) = ("tls.crt", "tls.key");
    let chain_pem = certificates(chain, CHAIN_MAX).map_err(|fault| (certificate, fault))?;
    let key_pem = text(key, KEY_MAX).map_err(|fault| (private, fault))?;
    if PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).is_err() {
        let fault = "is no private key in PEM (BEGIN PRIVATE KEY, BEGIN EC PRIVATE KEY or BEGIN RSA PRIVATE KEY)";
        return Err((private, fault.into()));
    }
    Ok(ClientCertificate {
        chain_pem: Hidden::new(chain_pem.to_owned()),
        key_pem: Hidden::new(key_pem.to_owned()),
    })
}

/// Certificates of authorities.
///
/// # Errors
/// When they are not PEM.
pub fn authorities(pem: &[u8]) -> Result<String, Fault> {
    certificates(pem, AUTHORITIES_MAX).map(str::to_owned)
}

fn certificates(pem: &[u8], max: usize) -> Result<&str, Fault> {
    let pem = text(pem, max)?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()).take(CERTIFICATES_MAX + 1) {
        if certificate.is_err() {
            return Err("is not PEM: a block is cut off or damaged".into());
        }
        count += 1;
    }
    match count {
        0 => Err("holds no certificate in PEM (BEGIN CERTIFICATE)".into()),
        1..=CERTIFICATES_MAX => Ok(pem),
        _ => Err(format!("holds more than {CERTIFICATES_MAX} certificates")),
    }
}

fn text(value: &[u8], max: usize) -> Result<&str, Fault> {
    if value.len() > max {
        return Err(format!("has {} bytes: {max} at most", value.len()));
    }
    let text = std::str::from_utf8(value).map_err(|_| Fault::from("is not text"))?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err("is empty".into()),
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_fits_into_a_header() {
        assert_eq!(bearer(b"abc.def-_~+/=\r\n").unwrap().reveal(), "Bearer abc.def-_~+/=");
        for (token, words) in [
            (&b""[..], "empty"),
            (b"\n", "empty"),
            (b"a b", "blanks"),
            (b"a\nX-Injected: 1", "blanks"),
            (b"a\tb", "blanks"),
            ("\u{e4}".as_bytes(), "ASCII"),
            (b"\xff", "not text"),
            (&[b'a'; TOKEN_MAX + 1], "8193 bytes"),
        ] {
            assert!(bearer(token).unwrap_err().contains(words), "{words}");
        }
        assert!(bearer(&[b'a'; TOKEN_MAX]).is_ok());
    }

    #[test]
    fn a_user_has_a_name_and_a_password() {
        // Of RFC 7617.
        assert_eq!(
            basic(b"Aladdin", b"open sesame\n").unwrap().reveal(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert!(basic("j\u{fc}rgen".as_bytes(), "p\u{e4}ss:wort".as_bytes()).is_ok());
        for (username, password, part) in [
            (&b"a:b"[..], &b"x"[..], "username"),
            (b"", b"x", "username"),
            (b"a", b"", "password"),
            (b"a", b"x\ny", "password"),
            (b"a\0", b"x", "username"),
            (b"a", &[b'x'; NAME_MAX + 1], "password"),
        ] {
            assert_eq!(basic(username, password).unwrap_err().0, part);
        }
    }

    /// PEM of the right form; what is inside is looked at where it is used.
    fn pem(kind: &str) -> String {
        format!("-----BEGIN {kind}-----\nMAA=\n-----END {kind}-----\n")
    }

    #[test]
    fn certificates_and_keys_are_pem() {
        let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
        assert!(client_certificate(certificate.as_bytes(), key.as_bytes()).is_ok());
        assert!(authorities(certificate.repeat(CERTIFICATES_MAX).as_bytes()).is_ok());
        let cut = certificate.replace("-----END", "----");
        for (pem, words) in [
            ("", "empty"),
            ("hello", "no certificate"),
            (key.as_str(), "no certificate"),
            (cut.as_str(), "PEM"),
            (&certificate.repeat(CERTIFICATES_MAX + 1), "more than 32"),
            (&"x".repeat(AUTHORITIES_MAX + 1), "32769 bytes"),
        ] {
            assert!(authorities(pem.as_bytes()).unwrap_err().contains(words), "{words}");
        }
        let swapped = client_certificate(key.as_bytes(), certificate.as_bytes()).unwrap_err();
        assert_eq!(swapped.0, "tls.crt");
        let no_key = client_certificate(certificate.as_bytes(), certificate.as_bytes()).unwrap_err();
        assert!(no_key.0 == "tls.key" && no_key.1.contains("no private key"));
    }
}
