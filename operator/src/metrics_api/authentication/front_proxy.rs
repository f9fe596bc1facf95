//! The identity in the headers of a front proxy (apiserver `pkg/authentication/request/headerrequest/requestheader.go`).
//!
//! Pure. To be called only after the proxy's certificate was verified: the headers are anybody's to send.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::trust::HeaderNames;
use crate::metrics_api::{identity::Identity, percent};

/// The identity; `None` where no user is named.
pub(super) fn identity(headers: &HeaderMap, names: &HeaderNames) -> Option<Identity> {
    let name = first(headers, &names.user)?;
    Some(Identity {
        name,
        uid: first(headers, &names.uid),
        groups: names.group.iter().flat_map(|header| all(headers, header)).collect(),
        extra: extra(headers, &names.extra_prefix),
    })
}

fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    names
        .iter()
        .flat_map(|name| all(headers, name).take(1))
        .find(|value| !value.is_empty())
}

fn all(headers: &HeaderMap, name: &str) -> impl Iterator<Item = String> {
    headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn extra(headers: &HeaderMap, prefixes: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut extra = BTreeMap::<String, Vec<String>>::new();
    for (header, value) in headers {
        // Header names are lower case already, as the keys have to be before they are decoded.
        for prefix in prefixes {
            let Some(key) = header.as_str().strip_prefix(prefix.to_ascii_lowercase().as_str()) else {
                continue;
            };
            let key = percent::decode(key).map_or_else(|| key.to_owned(), std::borrow::Cow::into_owned);
            extra
                .entry(key)
                .or_default()
                .push(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
    }
    extra
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("name");
            headers.append(name, HeaderValue::from_str(value).expect("value"));
        }
        headers
    }

    fn names() -> HeaderNames {
        HeaderNames {
            user: vec!["X-Remote-User".into(), "X-Other-User".into()],
            uid: vec!["X-Remote-Uid".into()],
            group: vec!["X-Remote-Group".into()],
            extra_prefix: vec!["X-Remote-Extra-".into()],
        }
    }

    #[test]
    fn all_parts_of_an_identity_are_read() {
        let headers = headers(&[
            (
                "X-Remote-User",
                "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
            ),
            ("X-Remote-Uid", "42"),
            ("X-Remote-Group", "system:serviceaccounts"),
            ("X-Remote-Group", "system:authenticated"),
            ("X-Remote-Extra-Authentication.kubernetes.io%2fcredential-Id", "JTI=1"),
            ("X-Remote-Extra-Scopes", "a"),
            ("X-Remote-Extra-Scopes", "b"),
            ("X-Remote-Extra-Bad%zz", "c"),
        ]);
        let identity = identity(&headers, &names()).expect("identity");
        assert_eq!(
            identity.name,
            "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
        );
        assert_eq!(identity.uid.as_deref(), Some("42"));
        assert_eq!(identity.groups, ["system:serviceaccounts", "system:authenticated"]);
        assert_eq!(identity.extra["authentication.kubernetes.io/credential-id"], ["JTI=1"]);
        assert_eq!(identity.extra["scopes"], ["a", "b"]);
        assert_eq!(identity.extra["bad%zz"], ["c"]);
    }

    #[test]
    fn only_configured_headers_count() {
        let mut names = names();
        names.uid.clear();
        let sent = headers(&[
            ("X-Other-User", "jane"),
            ("X-Remote-Uid", "42"),
            ("X-Forwarded-User", "root"),
        ]);
        let identity = identity(&sent, &names).expect("identity");
        assert_eq!((identity.name.as_str(), identity.uid), ("jane", None));
        assert_eq!(super::identity(&headers(&[("X-Forwarded-User", "root")]), &names), None);
        assert_eq!(super::identity(&headers(&[("X-Remote-User", "")]), &names), None);
    }
}
