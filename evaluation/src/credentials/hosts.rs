//! The hosts that a Secret may be sent to, as its annotation names them.

use crate::url::{Url, canonical};

/// Hosts of one Secret; a list that is longer belongs into several Secrets.
const HOSTS_MAX: usize = 64;
/// Hosts repeated in a message.
const SHOWN: usize = 4;

/// One host, on one port or on all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    name: String,
    port: Option<u16>,
}

/// The hosts that an annotation names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hosts(Vec<Host>);

impl Hosts {
    /// Reads `llm.example.com, other.example.com:8443`. An entry that is not plainly a host spoils the whole list.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let hosts = entries.map(host).collect::<Result<Vec<_>, _>>()?;
        if hosts.is_empty() {
            return Err("it names no host".into());
        }
        if hosts.len() > HOSTS_MAX {
            return Err(format!("it names {} hosts: {HOSTS_MAX} at most", hosts.len()));
        }
        Ok(Self(hosts))
    }

    pub(super) fn allow(&self, url: &Url) -> bool {
        self.0
            .iter()
            .any(|host| host.name == url.host && host.port.is_none_or(|port| port == url.port))
    }

    /// The first few, for a message.
    pub(super) fn shown(&self) -> String {
        let names: Vec<String> = self.0.iter().take(SHOWN).map(Host::shown).collect();
        let more = if self.0.len() > SHOWN { ", ..." } else { "" };
        format!("{}{more}", names.join(", "))
    }
}

impl Host {
    fn shown(&self) -> String {
        match self.port {
            Some(port) if self.name.contains(':') => format!("[{}]:{port}", self.name),
            Some(port) => format!("{}:{port}", self.name),
            None => self.name.clone(),
        }
    }
}

fn host(entry: &str) -> Result<Host, String> {
    let refused = || {
        let shown: String = entry.chars().take(64).filter(|c| !c.is_control()).collect();
        format!(
            "{shown:?} is no host: give names or addresses, without scheme, path and wildcard, with :port if need be"
        )
    };
    // An IPv6 address without brackets has colons and no port.
    if let Some(name) = canonical(entry).filter(|_| !entry.starts_with('[') || entry.ends_with(']')) {
        return Ok(Host { name, port: None });
    }
    let (name, port) = entry.rsplit_once(':').ok_or_else(refused)?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits
        .then(|| port.parse::<u16>().ok())
        .flatten()
        .filter(|port| *port > 0);
    // The port of an IPv6 address stands after brackets.
    let name = canonical(name).filter(|_| !name.contains(':') || name.starts_with('['));
    match (name, port) {
        (Some(name), Some(port)) => Ok(Host { name, port: Some(port) }),
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_are_compared_by_meaning_and_port() {
        let hosts = Hosts::parse(" LLM.example.com , other:8443,10.1.2.3, [fd00:0::1]:9000, fd00::2,").unwrap();
        for (url, allowed) in [
            ("https://llm.example.com", true),
            ("https://LLM.EXAMPLE.COM:8443", true),
            ("https://other:8443", true),
            ("https://other", false),
            ("https://10.1.2.3:1", true),
            ("https://[::ffff:10.1.2.3]", true),
            ("https://[fd00::1]:9000", true),
            ("https://[fd00::1]", false),
            ("https://[fd00::2]:77", true),
            ("https://a.llm.example.com", false),
            ("https://llm.example.com.evil.com", false),
            ("https://evil-llm.example.com", false),
        ] {
            assert_eq!(hosts.allow(&Url::parse(url).unwrap()), allowed, "{url}");
        }
        assert_eq!(
            hosts.shown(),
            "llm.example.com, other:8443, 10.1.2.3, [fd00::1]:9000, ..."
        );
    }

    #[test]
    fn what_is_no_host_spoils_the_list() {
        for text in [
            "",
            " , ",
            "*",
            "*.example.com",
            "good.example.com, *.example.com",
            "https://llm.example.com",
            "llm.example.com/metrics",
            "llm.example.com:0",
            "llm.example.com:65536",
            "llm.example.com:+1",
            "llm.example.com:",
            "fd00::1]:80",
            "[fd00::1",
            "user@host",
            "a b",
        ] {
            assert!(Hosts::parse(text).is_err(), "{text:?}");
        }
        let many = vec!["host"; HOSTS_MAX + 1].join(",");
        assert!(Hosts::parse(&many).is_err_and(|words| words.contains("65 hosts")));
    }

    proptest! {
        #[test]
        fn any_text_is_hosts_or_words(text in "\\PC{0,60}") {
            match Hosts::parse(&text) {
                Ok(hosts) => prop_assert!(!hosts.0.is_empty() && hosts.0.iter().all(|host| !host.name.contains('*'))),
                Err(words) => prop_assert!(!words.is_empty()),
            }
        }
    }
}
