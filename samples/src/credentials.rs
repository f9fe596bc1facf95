//! What a server is shown to let a daemon in, and whom its certificate must come from.

use std::fmt;
use std::sync::Arc;

/// What stands for a value that must not be seen.
const HIDDEN: &str = "[hidden]";

/// Text that is not shown: not by `Debug` or `Display`, and it has no form for serde. Compared by content, so that a changed one is noticed.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Hides a text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// A certificate that a client shows, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain, PEM, leaf first.
    pub chain_pem: Hidden,
    /// The key, PEM.
    pub key_pem: Hidden,
}

/// What a server is shown, and whom its certificate must come from. Sent only to the server that it is planned for.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Where they come from, for people: `Secret llm-access`.
    pub source: String,
    /// Value of the header `Authorization`.
    pub authorization: Option<Hidden>,
    /// Certificate of the client.
    pub client_certificate: Option<ClientCertificate>,
    /// Authorities, PEM, that take the place of the system's.
    pub ca_pem: Option<String>,
}

impl Credentials {
    /// True when the server is shown something that nobody else may see.
    #[must_use]
    pub const fn are_secret(&self) -> bool {
        self.authorization.is_some() || self.client_certificate.is_some()
    }

    /// Bytes that they take on the way to a daemon.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let hidden = |text: &Hidden| text.0.len();
        self.source.len()
            + self.authorization.as_ref().map_or(0, hidden)
            + self
                .client_certificate
                .as_ref()
                .map_or(0, |shown| hidden(&shown.chain_pem) + hidden(&shown.key_pem))
            + self.ca_pem.as_ref().map_or(0, String::len)
    }

    /// What they are made of, without any value.
    fn parts(&self) -> [(&'static str, bool); 3] {
        [
            ("authorization", self.authorization.is_some()),
            ("client_certificate", self.client_certificate.is_some()),
            ("ca", self.ca_pem.is_some()),
        ]
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("source", &self.source);
        for (name, given) in self.parts() {
            shown.field(name, &given);
        }
        shown.finish()
    }
}

/// How a daemon and a server prove to each other who they are. By default not at all, as for pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The certificate of an HTTPS server must carry its name and come from an authority that is trusted.
    pub verify_certificate: bool,
    /// What the server is shown.
    pub credentials: Option<Arc<Credentials>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Plan, Scheme, Target, TargetId};
    use infmon_engines::Mapping;
    use std::time::Duration;

    const CANARY: &str = "canary-5d41402a";

    fn access(value: &str) -> Access {
        Access {
            verify_certificate: true,
            credentials: Some(Arc::new(Credentials {
                source: "Secret llm-access".into(),
                authorization: Some(Hidden::new(format!("Bearer {value}"))),
                client_certificate: Some(ClientCertificate {
                    chain_pem: Hidden::new(value.into()),
                    key_pem: Hidden::new(value.into()),
                }),
                ca_pem: Some("authorities".into()),
            })),
        }
    }

    fn plan(value: &str) -> Plan {
        Plan {
            targets: vec![Target {
                id: TargetId("prod/llm-access/https://llm:443/metrics#Auto".into()),
                scheme: Scheme::Https,
                address: "llm:443".into(),
                metrics_path: "/metrics".into(),
                engine: None,
                mapping: Mapping::default(),
                period: Duration::from_secs(1),
                deadline: Duration::from_secs(1),
                body_limit_bytes: 1,
                access: access(value),
                pod_uid: None,
            }],
            ..Plan::default()
        }
    }

    #[test]
    fn nothing_shows_what_is_hidden() {
        let plan = plan(CANARY);
        let hidden = Hidden::new(CANARY.into());
        let shown = [
            format!("{plan:?}"),
            format!("{plan:#?}"),
            format!("{hidden} {hidden:?}"),
        ];
        for text in &shown {
            assert!(!text.contains(CANARY) && !text.contains("authorities"), "{text}");
        }
        assert!(shown[0].contains("Secret llm-access"));
        assert_eq!(hidden.reveal(), CANARY);
    }

    #[test]
    fn a_changed_value_is_another_plan() {
        assert_eq!(plan("a"), plan("a"));
        assert_ne!(plan("a"), plan("b"));
        assert_eq!(plan("a").targets[0].id, plan("b").targets[0].id);
    }

    #[test]
    fn an_authority_alone_is_no_secret() {
        let public = Credentials {
            ca_pem: Some("authorities".into()),
            ..Credentials::default()
        };
        assert!(!public.are_secret() && public.bytes() == 11);
        assert!(
            access("x")
                .credentials
                .is_some_and(|credentials| credentials.are_secret())
        );
    }
}
