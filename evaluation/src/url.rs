//! The address of a `url` endpoint. Strict: what is not plainly scheme, host and port is refused, since the host is compared with a list
//! that an administrator made.

use infmon_samples::Scheme;
use std::net::{IpAddr, SocketAddr};

/// Scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: Scheme,
    /// Lower case; an address in its canonical form, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(format!("{text} is neither http:// nor https://")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        // The colons of an IPv6 address stand in brackets.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (authority, ""),
        };
        let port = match (port, scheme) {
            ("", Scheme::Http) => 80,
            ("", Scheme::Https) => 443,
            (digits, _) => digits
                .parse()
                .ok()
                .filter(|port| *port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()))
                .ok_or_else(|| format!("{text} has no valid port: give a number from 1 to 65535"))?,
        };
        let host = canonical(host)
            .filter(|canonical| canonical.contains(':') == host.starts_with('[') || is_mapped(host))
            .ok_or_else(|| format!("{text} has no valid host: give scheme, host and port and nothing else"))?;
        Ok(Self { scheme, host, port })
    }

    /// `host:port`, with brackets where they belong.
    pub(crate) fn address(&self) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, self.port).to_string(),
            Err(_) => format!("{}:{}", self.host, self.port),
        }
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether a list names the host; case, brackets and the spelling of an address do not count.
    pub(crate) fn is_among(&self, hosts: &[String]) -> bool {
        hosts.iter().any(|host| canonical(host).as_ref() == Some(&self.host))
    }
}

/// An IPv4 address written as IPv6 loses its brackets in the canonical form.
fn is_mapped(host: &str) -> bool {
    host.starts_with("[::")
}

pub(crate) fn canonical(host: &str) -> Option<String> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Some(ip.to_canonical().to_string());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (bare == host && !host.is_empty() && host.bytes().all(plain)).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_become_addresses() {
        for (text, address) in [
            ("http://gpu-box", Some("gpu-box:80")),
            ("https://gpu-box/", Some("gpu-box:443")),
            ("HTTP://GPU-Box.Example.COM:8000", Some("gpu-box.example.com:8000")),
            ("http://gpu-box:", Some("gpu-box:80")),
            ("http://10.1.2.3:8000", Some("10.1.2.3:8000")),
            ("http://[fd00::1]:8000", Some("[fd00::1]:8000")),
            ("http://[FD00:0:0:0:0:0:0:1]", Some("[fd00::1]:80")),
            ("http://[::ffff:10.1.2.3]:8000", Some("10.1.2.3:8000")),
            ("ftp://gpu-box", None),
            ("gpu-box:8000", None),
            ("http://", None),
            ("http://:8000", None),
            ("http://gpu-box:0", None),
            ("http://gpu-box:65536", None),
            ("http://gpu-box:+80", None),
            ("http://fd00::1", None),
            ("http://[fd00::1", None),
            ("http://[gpu-box]", None),
            ("http://[[fd00::1]]", None),
            ("http://[fe80::1%25eth0]", None),
            ("http://gpu-box/metrics", None),
            ("http://gpu-box//", None),
            ("http://allowed@evil:80", None),
            ("http://evil?@allowed", None),
            ("http://gpu-box#", None),
            ("http://gpu box", None),
        ] {
            let parsed = Url::parse(text).ok().map(|url| url.address());
            assert_eq!(parsed.as_deref(), address, "{text}");
        }
    }

    #[test]
    fn hosts_are_compared_by_meaning() {
        let allowed = ["GPU-Box".to_owned(), "[fd00:0::1]".to_owned(), "10.1.2.3".to_owned()];
        for (text, among) in [
            ("http://gpu-box:1", true),
            ("http://GPU-BOX:2", true),
            ("http://[fd00::1]:3", true),
            ("http://10.1.2.3:4", true),
            ("http://gpu-box.evil.com", false),
            ("http://evil-gpu-box", false),
            ("http://gpu-box.", false),
            ("http://[fd00::2]", false),
            ("http://10.1.2.30", false),
        ] {
            assert_eq!(
                Url::parse(text).is_ok_and(|url| url.is_among(&allowed)),
                among,
                "{text}"
            );
        }
        assert!(!Url::parse("http://x").is_ok_and(|url| url.is_among(&[String::new()])));
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_words(text in "(http://)?\\PC{0,40}") {
            match Url::parse(&text) {
                Ok(url) => prop_assert!(!url.host.is_empty() && url.port > 0),
                Err(words) => prop_assert!(!words.is_empty()),
            }
        }
    }
}
