//! Ends the process in order: a signal cancels a token, tasks see it, and the process waits for them, but not for ever.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks had not ended when the deadline passed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("still running after {} ms: {}", within.as_millis(), tasks.join(", "))]
pub struct StillRunning {
    /// Names of the tasks.
    pub tasks: Vec<&'static str>,
    /// The time they were given.
    pub within: Duration,
}

type Names = Arc<Mutex<BTreeMap<&'static str, usize>>>;

/// The token that tells tasks to end, and the tasks that are waited for. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
    running: Names,
}

impl Shutdown {
    /// A shutdown that only [`Shutdown::request`] starts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A shutdown that SIGTERM or SIGINT starts. A second signal ends the process at once, with the exit code of that signal.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = shutdown.token.clone();
        tokio::spawn(async move {
            loop {
                let (name, number) = tokio::select! {
                    _ = terminate.recv() => ("SIGTERM", 15),
                    _ = interrupt.recv() => ("SIGINT", 2),
                };
                if token.is_cancelled() {
                    std::process::exit(128 + number);
                }
                tracing::info!(signal = name, "shutting down");
                token.cancel();
            }
        });
        Ok(shutdown)
    }

    /// Token that is cancelled when the shutdown starts.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Starts the shutdown.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Waits for the start of the shutdown.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Starts a task that [`Shutdown::finish`] waits for; the name is told when it does not end in time.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let entry = Entry::new(Arc::clone(&self.running), name);
        self.tracker.spawn(async move {
            let _entry = entry;
            future.await
        })
    }

    /// Starts the shutdown if nobody did, and waits until every task has ended.
    ///
    /// # Errors
    /// [`StillRunning`] with their names when tasks run on after `within`; they are left alone.
    pub async fn finish(&self, within: Duration) -> Result<(), StillRunning> {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(within, self.tracker.wait())
            .await
            .map_err(|_| StillRunning {
                tasks: self.lock().keys().copied().collect(),
                within,
            })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a running task under its name; a drop guard, so that a panic counts as an end.
struct Entry {
    names: Names,
    name: &'static str,
}

impl Entry {
    fn new(names: Names, name: &'static str) -> Self {
        *names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name)
            .or_insert(0) += 1;
        Self { names, name }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = names.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                names.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_tasks_that_see_the_token() {
        let shutdown = Shutdown::new();
        let token = shutdown.token();
        shutdown.spawn("reports", async move { token.cancelled().await });
        assert_eq!(shutdown.finish(Duration::from_secs(5)).await, Ok(()));
    }

    #[tokio::test]
    async fn names_tasks_that_do_not_end() {
        let shutdown = Shutdown::new();
        shutdown.spawn("scraper", std::future::pending::<()>());
        shutdown.spawn("scraper", std::future::pending::<()>());
        shutdown.spawn("done", async {}).await.unwrap();
        let error = shutdown.finish(Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(error.to_string(), "still running after 10 ms: scraper");
    }

    #[tokio::test]
    async fn a_panicking_task_counts_as_ended() {
        let shutdown = Shutdown::new();
        let task = shutdown.spawn("broken", async { panic!("on purpose") });
        assert!(task.await.is_err());
        assert_eq!(shutdown.finish(Duration::from_secs(5)).await, Ok(()));
    }
}
