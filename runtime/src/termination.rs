//! The last words of a process, where `kubectl describe pod` shows them.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// The kubelet keeps this much of a termination message.
const LIMIT_BYTES: usize = 4096;

/// Writes the error and its causes to `path` (`/dev/termination-log` in a pod).
///
/// # Errors
/// When the file cannot be written. Outside a pod the path is usually missing: callers ignore that.
pub fn termination_log(path: &Path, error: &anyhow::Error) -> io::Result<()> {
    // Opened without creating it: in a pod the kubelet made the file, elsewhere /dev must not get a stray one.
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(path)?;
    io::Write::write_all(&mut file, message(error).as_bytes())
}

/// What a `main` does with its error: logs it (or prints it, when logs are not set up yet) and leaves it for `kubectl describe pod`.
pub fn last_words(error: &anyhow::Error) {
    let text = message(error);
    if tracing::dispatcher::has_been_set() {
        tracing::error!(error = text, "the process ends");
    } else {
        eprintln!("error: {text}");
    }
    // Not there outside a pod.
    let _ = termination_log(Path::new("/dev/termination-log"), error);
}

/// The error and its causes on one line, without a cause that the text before already says (some libraries embed their sources).
#[must_use]
pub fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            let _ = write!(text, ": {cause}");
        }
    }
    if text.len() > LIMIT_BYTES {
        let mut end = LIMIT_BYTES - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn tells_causes_once() {
        let error = anyhow!("connection refused")
            .context("dialing 10.0.0.1: connection refused")
            .context("failed to start");
        assert_eq!(message(&error), "failed to start: dialing 10.0.0.1: connection refused");
    }

    #[test]
    fn stays_within_the_limit_of_the_kubelet() {
        let text = message(&anyhow!("ä".repeat(5000)));
        assert!(text.len() <= LIMIT_BYTES && text.ends_with('…'));
    }

    #[test]
    fn writes_only_to_a_file_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("termination-log");
        assert!(termination_log(&path, &anyhow!("gone")).is_err());
        std::fs::write(&path, "an older and longer message").unwrap();
        termination_log(&path, &anyhow!("no operator")).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "no operator");
    }
}
