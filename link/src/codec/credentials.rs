//! How servers are reached: what is verified, and what they are shown.

use crate::wire;
use infmon_samples::{Access, ClientCertificate, Credentials, Hidden};
use std::fmt;
use std::sync::Arc;

impl fmt::Debug for wire::Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// `None` for what is absent on the wire: neither verified nor shown anything.
pub(super) fn encode_access(access: &Access) -> Option<wire::Access> {
    (*access != Access::default()).then(|| wire::Access {
        verify_certificate: access.verify_certificate,
        credentials: access.credentials.as_deref().map(encode_credentials),
    })
}

pub(super) fn decode_access(access: Option<wire::Access>) -> Access {
    let access = access.unwrap_or_default();
    Access {
        verify_certificate: access.verify_certificate,
        credentials: access.credentials.map(decode_credentials).map(Arc::new),
    }
}

fn encode_credentials(credentials: &Credentials) -> wire::Credentials {
    let Credentials {
        source,
        authorization,
        client_certificate,
        ca_pem,
    } = credentials;
    let shown = |text: &Hidden| text.reveal().to_owned();
    let client = client_certificate.as_ref();
    wire::Credentials {
        source: source.clone(),
        authorization: authorization.as_ref().map(shown).unwrap_or_default(),
        client_chain_pem: client.map(|client| shown(&client.chain_pem)).unwrap_or_default(),
        client_key_pem: client.map(|client| shown(&client.key_pem)).unwrap_or_default(),
        ca_pem: ca_pem.clone().unwrap_or_default(),
    }
}

fn decode_credentials(credentials: wire::Credentials) -> Credentials {
    let given = |text: String| (!text.is_empty()).then_some(text);
    // A half of the pair is kept: what is incomplete must fail where it is used, not be left out.
    let client = !credentials.client_chain_pem.is_empty() || !credentials.client_key_pem.is_empty();
    Credentials {
        source: credentials.source,
        authorization: given(credentials.authorization).map(Hidden::new),
        client_certificate: client.then(|| ClientCertificate {
            chain_pem: Hidden::new(credentials.client_chain_pem),
            key_pem: Hidden::new(credentials.client_key_pem),
        }),
        ca_pem: given(credentials.ca_pem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::through_bytes;

    fn access(credentials: Option<Credentials>) -> Access {
        Access {
            verify_certificate: true,
            credentials: credentials.map(Arc::new),
        }
    }

    fn bearer() -> Credentials {
        Credentials {
            source: "Secret llm-access".into(),
            authorization: Some(Hidden::new("Bearer canary-5d41402a".into())),
            ..Credentials::default()
        }
    }

    #[test]
    fn access_comes_back_as_it_was() {
        let certificate = Credentials {
            client_certificate: Some(ClientCertificate {
                chain_pem: Hidden::new("chain".into()),
                key_pem: Hidden::new("key".into()),
            }),
            ca_pem: Some("authorities".into()),
            ..bearer()
        };
        for whole in [
            Access::default(),
            access(None),
            access(Some(bearer())),
            access(Some(certificate)),
        ] {
            let sent = wire::Target {
                access: encode_access(&whole),
                ..wire::Target::default()
            };
            assert_eq!(decode_access(through_bytes(&sent).access), whole);
        }
    }

    #[test]
    fn a_message_does_not_show_what_it_carries() {
        let plan = wire::Plan {
            targets: vec![wire::Target {
                access: encode_access(&access(Some(bearer()))),
                ..wire::Target::default()
            }],
            ..wire::Plan::default()
        };
        let shown = format!("{plan:?}");
        assert!(
            shown.contains("Secret llm-access") && !shown.contains("canary"),
            "{shown}"
        );
    }

    #[test]
    fn a_peer_from_before_the_field_neither_verifies_nor_shows() {
        assert_eq!(decode_access(None), Access::default());
        assert_eq!(encode_access(&Access::default()), None);
    }

    #[test]
    fn half_a_client_certificate_is_not_none() {
        let half = wire::Credentials {
            client_chain_pem: "chain".into(),
            ..wire::Credentials::default()
        };
        assert!(decode_credentials(half).client_certificate.is_some());
    }
}
