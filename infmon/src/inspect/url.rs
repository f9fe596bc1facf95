//! The URL of a server's metrics.

use hyper::http::uri::PathAndQuery;
use hyper::{Uri, http::uri::Scheme};
use std::fmt;

/// Where a server answers, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub(crate) tls: bool,
    /// Without brackets, when it is an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: PathAndQuery,
    /// The user named no path: `/metrics` is a guess.
    pub(crate) path_guessed: bool,
}

impl Url {
    /// Reads a URL; without a path it is that of the metrics.
    ///
    /// # Errors
    /// When it cannot be used; the text says what to change.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text
            .split('#')
            .next()
            .unwrap_or(text)
            .parse()
            .map_err(|_| "this is not a URL: write http://host:port or http://host:port/path".to_owned())?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err("servers answer http:// or https://".to_owned()),
        };
        let authority = uri.authority().ok_or("there is no host in it")?;
        if authority.as_str().contains('@') {
            return Err(
                "credentials do not belong into a URL: leave the part before @ out, and give --basic-auth-file"
                    .to_owned(),
            );
        }
        // What is no port is told as none: `http://host:` and `http://host:99999`.
        if authority.port_u16().is_none() && authority.as_str() != authority.host() {
            return Err("the port is not a number from 1 to 65535".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("there is no host in it".to_owned());
        }
        let given = uri.path_and_query().filter(|path| path.as_str() != "/").cloned();
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path_guessed: given.is_none(),
            path: given.unwrap_or_else(|| PathAndQuery::from_static("/metrics")),
        })
    }

    /// `host:port`, with the brackets of an IPv6 address.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether what is asked stays on this machine: by its address, or by the name that stands for it.
    pub(crate) fn is_loopback(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
    }

    /// The same scheme, host and port: what may be shown to one may be shown to the other.
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        self.tls == other.tls && self.host.eq_ignore_ascii_case(&other.host) && self.port == other.port
    }

    /// Another path of the same server.
    pub(crate) fn at(&self, path: &'static str) -> Self {
        Self {
            path: PathAndQuery::from_static(path),
            ..self.clone()
        }
    }

    /// The same path with a query.
    pub(crate) fn with_query(&self, query: &str) -> Option<Self> {
        let path = format!("{}?{query}", self.path.path()).parse().ok()?;
        Some(Self { path, ..self.clone() })
    }

    /// A path (`/slots`) beside the metrics: a prefix (`--api-prefix`) and the model of a router stay. `None` where the metrics have
    /// another name. The `/v1` of NIM's metrics does not become `/v1/v1`, and the `/prometheus` of trtllm-serve's is theirs alone.
    pub(crate) fn beside_metrics(&self, path: &str) -> Option<Self> {
        let mut prefix = self.path.path().strip_suffix("/metrics")?;
        if path.starts_with("/v1/") {
            let own = |end| prefix.strip_suffix(end);
            prefix = own("/v1").or_else(|| own("/prometheus")).unwrap_or(prefix);
        }
        let query = self.path.query().map_or(String::new(), |query| format!("?{query}"));
        let path = format!("{prefix}{path}{query}").parse().ok()?;
        Some(Self { path, ..self.clone() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_is_that_of_the_metrics() {
        for (text, whole, guessed) in [
            ("http://gpu-a7:8000", "http://gpu-a7:8000/metrics", true),
            ("http://gpu-a7:8000/", "http://gpu-a7:8000/metrics", true),
            ("http://gpu-a7", "http://gpu-a7:80/metrics", true),
            ("https://gpu-a7/x?model=a#top", "https://gpu-a7:443/x?model=a", false),
            ("HTTP://127.0.0.1:8080/slots", "http://127.0.0.1:8080/slots", false),
            ("http://[::1]:8000", "http://[::1]:8000/metrics", true),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.path_guessed), (whole, guessed), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        for (text, words) in [
            ("ftp://a/b", "http:// or https://"),
            ("http://user:secret@a/", "before @"),
            ("http://a:99999/", "port"),
            ("http://a:/", "port"),
            ("http://", "not a URL"),
            ("http://a b/", "not a URL"),
        ] {
            let error = Url::parse(text).unwrap_err();
            assert!(error.contains(words) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn slots_lie_beside_the_metrics() {
        let beside = |text: &str| {
            let url = Url::parse(text).unwrap().beside_metrics("/slots");
            url.map(|url| url.path.to_string())
        };
        assert_eq!(beside("http://a").unwrap(), "/slots");
        assert_eq!(
            beside("http://a/llama/metrics?model=b").unwrap(),
            "/llama/slots?model=b"
        );
        assert_eq!(beside("http://a/other"), None);
        let loads = Url::parse("http://a/v1/metrics").unwrap().beside_metrics("/v1/loads");
        assert_eq!(loads.unwrap().path.to_string(), "/v1/loads", "NIM's");
        let models = Url::parse("http://a/prometheus/metrics")
            .unwrap()
            .beside_metrics("/v1/models");
        assert_eq!(models.unwrap().path.to_string(), "/v1/models", "trtllm-serve's");
    }
}
