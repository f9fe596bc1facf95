//! Where a body comes from: a file, standard input, or a server.

use super::failure::Failure;
use super::http::Client;
use super::url::Url;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The product reads no larger body, so neither does this.
pub(crate) const BODY_LIMIT_BYTES: usize = 16 << 20;

/// A place that a body is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `-`
    Stdin,
    /// A file.
    File(PathBuf),
    /// A server.
    Server(Url),
}

impl Source {
    /// What the command line says: `-`, a URL, or else a file.
    ///
    /// # Errors
    /// When a URL cannot be used; the text says what to change.
    pub fn parse(text: &OsStr) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        match text.to_str().filter(|text| is_url(text)) {
            Some(url) => Url::parse(url).map(Self::Server),
            None => Ok(Self::File(PathBuf::from(text))),
        }
    }

    /// Reads the body.
    ///
    /// # Errors
    /// When there is none, with what to do about it.
    pub(super) async fn read(&self, client: &Client) -> Result<Vec<u8>, Failure> {
        let read = match self {
            Self::Server(url) => return client.get(url, BODY_LIMIT_BYTES).await.map_err(Failure::Unread),
            Self::Stdin => whole(io::stdin().lock()),
            Self::File(path) => File::open(path).and_then(whole),
        };
        let body = read.map_err(|error| Failure::Unread(format!("{self}: {}", self.words(&error))))?;
        match not_as_sent(&body) {
            Some(words) => Err(Failure::Malformed(format!("{self}: {words}"))),
            None => Ok(body),
        }
    }

    fn words(&self, error: &io::Error) -> String {
        let Self::File(path) = self else {
            return format!("cannot be read: {error}");
        };
        match error.kind() {
            ErrorKind::NotFound if looks_like_a_server(path) => {
                format!("no such file; for a server write http://{}", path.display())
            }
            ErrorKind::NotFound => "no such file; name a file, a URL such as http://127.0.0.1:8000, or - for standard \
                                    input"
                .to_owned(),
            _ => format!("cannot be read: {error}"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
            Self::Server(url) => url.fmt(f),
        }
    }
}

fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// `host:8000` or `host:8000/metrics`.
fn looks_like_a_server(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let authority = text.split('/').next().unwrap_or_default();
    authority
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn whole(input: impl Read) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    input.take(BODY_LIMIT_BYTES as u64 + 1).read_to_end(&mut body)?;
    if body.len() > BODY_LIMIT_BYTES {
        return Err(io::Error::other("larger than 16 MiB, which no body of one server is"));
    }
    Ok(body)
}

/// Ways of saving a body that change it.
fn not_as_sent(body: &[u8]) -> Option<&'static str> {
    match body {
        [0x1f, 0x8b, ..] => Some("this is gzip: unpack it first"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Some("this is UTF-16, as PowerShell's > writes it: save the body with curl -o FILE")
        }
        [0xef, 0xbb, 0xbf, ..] => Some("this begins with a byte order mark: save the body with curl -o FILE"),
        _ if body.starts_with(b"HTTP/") => {
            Some("this begins with the head of an HTTP answer: save the body alone, curl without -i")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Source {
        Source::parse(OsStr::new(text)).unwrap()
    }

    #[test]
    fn a_source_is_standard_input_a_url_or_a_file() {
        assert_eq!(parse("-"), Source::Stdin);
        assert_eq!(parse("./-"), Source::File("./-".into()));
        assert_eq!(parse("metrics.txt"), Source::File("metrics.txt".into()));
        assert_eq!(parse("gpu-a7:8000"), Source::File("gpu-a7:8000".into()));
        assert!(matches!(parse("http://gpu-a7:8000"), Source::Server(_)));
        assert!(matches!(parse("HTTPS://gpu-a7"), Source::Server(_)));
        assert!(Source::parse(OsStr::new("ftp://gpu-a7")).is_err());
    }

    #[test]
    fn what_was_meant_as_a_server_is_told() {
        for (path, is) in [
            ("gpu-a7:8000", true),
            ("127.0.0.1:8080/metrics", true),
            ("metrics.txt", false),
            ("a/b:80", false),
        ] {
            assert_eq!(looks_like_a_server(Path::new(path)), is, "{path}");
        }
    }
}
