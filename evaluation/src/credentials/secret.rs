//! One Secret: from its label, annotation and keys to what a server may be shown.

use super::hosts::Hosts;
use super::parts::{authorities, basic, bearer, client_certificate};
use super::{HOSTS, LABEL};
use crate::url::Url;
use infmon_samples::Credentials;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Largest Secret that is used, all keys together.
const BYTES_MAX: usize = 64 * 1024;

/// Types of Secrets that are keys to the cluster itself: a slip with label and annotation must not send one away.
const OF_THE_CLUSTER: [&str; 2] = ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"];

/// A Secret as the API server or a file has it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretData {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Type; empty where none is named.
    pub kind: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Values, decoded.
    pub data: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretData")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Credentials and the hosts that they may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCredentials {
    namespace: String,
    name: String,
    hosts: Hosts,
    credentials: Arc<Credentials>,
}

impl NamedCredentials {
    /// Checks a Secret.
    ///
    /// # Errors
    /// What is wrong with it and what to do, for people; without any of its values.
    pub fn read(secret: &SecretData) -> Result<Self, String> {
        let SecretData {
            namespace,
            name,
            kind,
            labels,
            annotations,
            data,
        } = secret;
        if OF_THE_CLUSTER.contains(&kind.as_str()) {
            return Err(format!(
                "Secret {name} has the type {kind}: it lets in to this cluster and is sent nowhere; make a Secret of its own for the \
                 server, kubectl create secret generic"
            ));
        }
        if labels.get(LABEL).map(String::as_str) != Some("true") {
            return Err(format!(
                "Secret {name} lacks the label that lets a monitor send it: kubectl label secret {name} -n {namespace} {LABEL}=true"
            ));
        }
        let Some(hosts) = annotations.get(HOSTS) else {
            return Err(format!(
                "Secret {name} does not say where it may be sent: kubectl annotate secret {name} -n {namespace} {HOSTS}=HOST"
            ));
        };
        let hosts = Hosts::parse(hosts).map_err(|fault| format!("annotation {HOSTS} of Secret {name}: {fault}"))?;
        let bytes: usize = data.values().map(Vec::len).sum();
        if bytes > BYTES_MAX {
            return Err(format!("Secret {name} has {bytes} bytes: {BYTES_MAX} at most"));
        }
        let credentials = credentials(name, data)?;
        Ok(Self {
            namespace: namespace.clone(),
            name: name.clone(),
            hosts,
            credentials: Arc::new(credentials),
        })
    }

    /// Namespace of the Secret.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Name of the Secret.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The credentials, if the Secret names the host of `url`.
    pub(crate) fn for_url(&self, url: &Url) -> Result<Arc<Credentials>, String> {
        if self.hosts.allow(url) {
            return Ok(Arc::clone(&self.credentials));
        }
        let Self { namespace, name, .. } = self;
        Err(format!(
            "Secret {name} may be sent to {} and not to {}: add the host, kubectl annotate --overwrite secret {name} -n {namespace} \
             {HOSTS}=HOST,HOST",
            self.hosts.shown(),
            url.address()
        ))
    }
}

fn credentials(name: &str, data: &BTreeMap<String, Vec<u8>>) -> Result<Credentials, String> {
    let of = |key: &str| data.get(key).map(Vec::as_slice);
    let fault = |key: &str, fault: &str| format!("key {key} of Secret {name} {fault}");
    let lacks = |key: &str, beside: &str| format!("Secret {name} has the key {beside} and no key {key}: give both");
    let authorization = match (of("token"), of("username"), of("password")) {
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            return Err(format!(
                "Secret {name} has a token and a username or password: a server is shown one of both, remove the other"
            ));
        }
        (Some(token), None, None) => Some(bearer(token).map_err(|words| fault("token", &words))?),
        (None, Some(username), Some(password)) => {
            Some(basic(username, password).map_err(|(key, words)| fault(key, &words))?)
        }
        (None, Some(_), None) => return Err(lacks("password", "username")),
        (None, None, Some(_)) => return Err(lacks("username", "password")),
        (None, None, None) => None,
    };
    let client_certificate = match (of("tls.crt"), of("tls.key")) {
        (Some(chain), Some(key)) => Some(client_certificate(chain, key).map_err(|(key, words)| fault(key, &words))?),
        (Some(_), None) => return Err(lacks("tls.key", "tls.crt")),
        (None, Some(_)) => return Err(lacks("tls.crt", "tls.key")),
        (None, None) => None,
    };
    let ca_pem = match of("ca.crt") {
        Some(pem) => Some(authorities(pem).map_err(|words| fault("ca.crt", &words))?),
        None => None,
    };
    if authorization.is_none() && client_certificate.is_none() && ca_pem.is_none() {
        return Err(format!(
            "Secret {name} has none of the keys token, username and password, tls.crt and tls.key, ca.crt: add what the server wants"
        ));
    }
    Ok(Credentials {
        source: format!("Secret {name}"),
        authorization,
        client_certificate,
        ca_pem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "canary-5d41402a";

    fn secret(keys: &[(&str, &str)]) -> SecretData {
        let data = keys
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        SecretData {
            namespace: "prod".into(),
            name: "llm".into(),
            kind: "Opaque".into(),
            labels: BTreeMap::from([(LABEL.into(), "true".into())]),
            annotations: BTreeMap::from([(HOSTS.into(), "llm.example.com".into())]),
            data: data.collect(),
        }
    }

    fn pem(kind: &str) -> String {
        format!("-----BEGIN {kind}-----\nMAA=\n-----END {kind}-----\n")
    }

    #[test]
    fn what_a_secret_may_hold() {
        let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
        let pair = [("tls.crt", certificate.as_str()), ("tls.key", key.as_str())];
        let token = ("token", CANARY);
        let (username, password) = (("username", "u"), ("password", CANARY));
        let authority = ("ca.crt", certificate.as_str());
        for (keys, authorization, client, ca) in [
            (vec![token], true, false, false),
            (vec![username, password], true, false, false),
            (vec![pair[0], pair[1]], false, true, false),
            (vec![pair[0], pair[1], token], true, true, false),
            (vec![pair[0], pair[1], username, password, authority], true, true, true),
            (vec![authority], false, false, true),
            (vec![token, ("other", "is not looked at")], true, false, false),
        ] {
            let read = NamedCredentials::read(&secret(&keys)).unwrap();
            let got = &read.credentials;
            assert_eq!(
                (
                    got.authorization.is_some(),
                    got.client_certificate.is_some(),
                    got.ca_pem.is_some()
                ),
                (authorization, client, ca),
                "{keys:?}"
            );
            assert_eq!(got.source, "Secret llm");
            assert!(!format!("{read:?}").contains(CANARY));
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_a_value() {
        let certificate = pem("CERTIFICATE");
        let spaced = format!("{CANARY} {CANARY}");
        let large = CANARY.repeat(5000);
        let cases: [(&[(&str, &str)], &str); 10] = [
            (&[], "none of the keys"),
            (&[("token", CANARY), ("username", CANARY)], "one of both"),
            (&[("token", CANARY), ("password", CANARY)], "one of both"),
            (&[("username", CANARY)], "no key password: give both"),
            (&[("password", CANARY)], "no key username: give both"),
            (&[("tls.crt", &certificate)], "no key tls.key"),
            (&[("tls.key", CANARY)], "no key tls.crt"),
            (&[("token", &spaced)], "key token of Secret llm has blanks"),
            (&[("ca.crt", CANARY)], "key ca.crt of Secret llm holds no certificate"),
            (&[("other", &large)], "75000 bytes: 65536 at most"),
        ];
        for (keys, words) in cases {
            let error = NamedCredentials::read(&secret(keys)).unwrap_err();
            assert!(error.contains(words) && !error.contains(CANARY), "{words}: {error}");
        }
        assert!(!format!("{:?}", secret(&[("token", CANARY)])).contains(CANARY));
    }

    #[test]
    fn keys_to_the_cluster_are_not_sent() {
        let read = |kind: &str| {
            NamedCredentials::read(&SecretData {
                kind: kind.into(),
                ..secret(&[("token", CANARY)])
            })
        };
        for kind in OF_THE_CLUSTER {
            let error = read(kind).unwrap_err();
            assert!(error.contains("llm has the type") && error.contains(kind), "{error}");
            assert!(!error.contains(CANARY));
        }
        for kind in [
            "",
            "Opaque",
            "kubernetes.io/basic-auth",
            "kubernetes.io/tls",
            "example.com/own",
        ] {
            assert!(read(kind).is_ok(), "{kind}");
        }
    }

    #[test]
    fn label_and_hosts_are_asked_for_with_the_command() {
        let change = |change: fn(&mut SecretData)| {
            let mut secret = secret(&[("token", CANARY)]);
            change(&mut secret);
            NamedCredentials::read(&secret).unwrap_err()
        };
        for (error, words) in [
            (
                change(|secret| secret.labels.clear()),
                "kubectl label secret llm -n prod inferencemonitor.io/credentials=true",
            ),
            (
                change(|secret| _ = secret.labels.insert(LABEL.into(), "false".into())),
                "lacks the label",
            ),
            (
                change(|secret| secret.annotations.clear()),
                "kubectl annotate secret llm -n prod inferencemonitor.io/hosts=HOST",
            ),
            (
                change(|secret| _ = secret.annotations.insert(HOSTS.into(), "*".into())),
                "\"*\" is no host",
            ),
        ] {
            assert!(error.contains(words) && !error.contains(CANARY), "{error}");
        }
    }

    #[test]
    fn credentials_are_for_the_hosts_that_are_named() {
        let read = NamedCredentials::read(&secret(&[("token", CANARY)])).unwrap();
        let of = |url: &str| read.for_url(&Url::parse(url).unwrap());
        assert!(of("https://LLM.example.com:8443").is_ok());
        let error = of("https://evil.example.com").unwrap_err();
        assert!(
            error.contains("to llm.example.com and not to evil.example.com:443") && !error.contains(CANARY),
            "{error}"
        );
    }
}
