//! A deadline with a name, for every call that leaves the process.

use std::future::Future;
use std::time::Duration;

/// A call that did not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} did not end within {} ms", within.as_millis())]
pub struct DeadlineExceeded {
    /// What was called, for example `token review`.
    pub call: &'static str,
    /// The time it was given.
    pub within: Duration,
}

/// Runs `future`, but no longer than `within`; it is dropped when the time is up.
///
/// # Errors
/// [`DeadlineExceeded`] with the name of the call, so that a log line says which one hung.
pub async fn deadline<T>(
    call: &'static str,
    within: Duration,
    future: impl Future<Output = T>,
) -> Result<T, DeadlineExceeded> {
    tokio::time::timeout(within, future)
        .await
        .map_err(|_| DeadlineExceeded { call, within })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_the_call_that_hung() {
        let error = deadline("token review", Duration::from_millis(5), std::future::pending::<()>())
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "token review did not end within 5 ms");
    }

    #[tokio::test]
    async fn passes_the_value_through() {
        assert_eq!(deadline("answer", Duration::from_secs(5), async { 42 }).await, Ok(42));
    }
}
