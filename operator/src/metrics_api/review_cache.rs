//! Answers of the API server (token and access reviews), kept for a short time.
//!
//! * At most one review per key is in flight, however many requests wait for it.
//! * An answer that is used again late in its life is renewed in the background, so steady traffic never waits.
//! * Everything is bounded: the number of answers, of reviews running, and of reviews waiting to run.
//! * A review that fails is not remembered, and does not displace an answer that is still valid.

use std::{
    collections::HashMap,
    hash::Hash,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{sync::Semaphore, time::Instant};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReviewError(Arc<str>);

impl ReviewError {
    /// An error with a message for the log.
    pub fn new(message: impl Into<Arc<str>>) -> Self {
        Self(message.into())
    }
}

/// The limits of a cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReviewLimits {
    /// How long an answer is valid.
    pub(super) lifetime: Duration,
    /// How many answers are kept.
    pub(super) answers: usize,
    /// How many reviews run at a time.
    pub(super) running: usize,
    /// How many reviews may run or wait to run; more are refused.
    pub(super) pending: usize,
    /// How long a review may take, the wait included.
    pub(super) deadline: Duration,
}

impl Default for ReviewLimits {
    /// The lifetime and the deadline of apiserver `pkg/server/options/{authentication,authorization}.go`.
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(10),
            answers: 4096,
            running: 64,
            pending: 1024,
            deadline: Duration::from_secs(10),
        }
    }
}

type Pending<V> = Shared<BoxFuture<'static, Result<V, ReviewError>>>;

struct Entry<V> {
    answer: Option<(V, Instant)>,
    pending: Option<Pending<V>>,
}

struct Inner<K, V> {
    limits: ReviewLimits,
    permits: Semaphore,
    entries: Mutex<HashMap<K, Entry<V>>>,
}

/// See the module.
pub(super) struct ReviewCache<K, V> {
    inner: Arc<Inner<K, V>>,
}

impl<K, V> ReviewCache<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(limits: ReviewLimits) -> Self {
        let inner = Inner {
            limits,
            permits: Semaphore::new(limits.running),
            entries: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The answer for `key`: the one remembered, the one under way, or that of `review`.
    pub(super) async fn get(
        &self,
        key: &K,
        review: impl FnOnce() -> BoxFuture<'static, Result<V, ReviewError>>,
    ) -> Result<V, ReviewError> {
        let pending = {
            let now = Instant::now();
            let lifetime = self.inner.limits.lifetime;
            let mut entries = self.inner.entries();
            if let Some(entry) = entries.get_mut(key) {
                let valid = entry
                    .answer
                    .as_ref()
                    .filter(|(_, made)| now.duration_since(*made) < lifetime);
                if let Some((answer, made)) = valid {
                    let answer = answer.clone();
                    if entry.pending.is_none() && now.duration_since(*made) > lifetime.mul_f32(0.7) {
                        entry.pending = Some(self.start(key.clone(), review()));
                    }
                    return Ok(answer);
                }
                match &entry.pending {
                    Some(pending) => pending.clone(),
                    None => entry.pending.insert(self.start(key.clone(), review())).clone(),
                }
            } else {
                self.inner.make_room(&mut entries, now)?;
                let pending = self.start(key.clone(), review());
                entries.insert(
                    key.clone(),
                    Entry {
                        answer: None,
                        pending: Some(pending.clone()),
                    },
                );
                pending
            }
        };
        pending.await
    }

    /// Runs a review as a task of its own: it ends, and is remembered, even when the request that began it goes away.
    fn start(&self, key: K, review: BoxFuture<'static, Result<V, ReviewError>>) -> Pending<V> {
        let inner = Arc::clone(&self.inner);
        let task = tokio::spawn(async move {
            let review = async {
                let _permit = inner
                    .permits
                    .acquire()
                    .await
                    .map_err(|_| ReviewError::new("reviews have ended"))?;
                match AssertUnwindSafe(review).catch_unwind().await {
                    Ok(result) => result,
                    Err(_) => Err(ReviewError::new("the review panicked")),
                }
            };
            let result = match tokio::time::timeout(inner.limits.deadline, review).await {
                Ok(result) => result,
                Err(_) => Err(ReviewError::new("the API server did not answer in time")),
            };
            inner.finish(&key, &result);
            result
        });
        let pending = async move {
            task.await
                .unwrap_or_else(|error| Err(ReviewError::new(error.to_string())))
        };
        pending.boxed().shared()
    }
}

impl<K: Eq + Hash, V: Clone> Inner<K, V> {
    fn entries(&self) -> MutexGuard<'_, HashMap<K, Entry<V>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, key: &K, result: &Result<V, ReviewError>) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(key) else { return };
        entry.pending = None;
        match result {
            Ok(answer) => entry.answer = Some((answer.clone(), Instant::now())),
            Err(_) if entry.answer.is_none() => {
                entries.remove(key);
            }
            Err(_) => {}
        }
    }

    fn make_room(&self, entries: &mut HashMap<K, Entry<V>>, now: Instant) -> Result<(), ReviewError>
    where
        K: Clone,
    {
        if entries.len() < self.limits.answers.min(self.limits.pending) {
            return Ok(());
        }
        if entries.values().filter(|entry| entry.pending.is_some()).count() >= self.limits.pending {
            return Err(ReviewError::new("too many reviews are waiting for the API server"));
        }
        if entries.len() < self.limits.answers {
            return Ok(());
        }
        let lifetime = self.limits.lifetime;
        let is_valid = |entry: &Entry<V>| {
            entry.pending.is_some()
                || entry
                    .answer
                    .as_ref()
                    .is_some_and(|(_, made)| now.duration_since(*made) < lifetime)
        };
        entries.retain(|_, entry| is_valid(entry));
        if entries.len() >= self.limits.answers {
            let made = |entry: &Entry<V>| entry.answer.as_ref().map(|(_, made)| *made);
            let settled = entries.iter().filter(|(_, entry)| entry.pending.is_none());
            if let Some(oldest) = settled.min_by_key(|(_, entry)| made(entry)).map(|(key, _)| key.clone()) {
                entries.remove(&oldest);
            }
        }
        Ok(())
    }
}

impl<K, V> std::fmt::Debug for ReviewCache<K, V> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ReviewCache")
            .field("limits", &self.inner.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    type Cache = ReviewCache<String, usize>;

    /// Answers after a second with the number of the call.
    fn counted(calls: &Arc<AtomicUsize>) -> BoxFuture<'static, Result<usize, ReviewError>> {
        let calls = Arc::clone(calls);
        async move {
            let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(call)
        }
        .boxed()
    }

    #[tokio::test(start_paused = true)]
    async fn one_review_answers_all_who_wait() {
        let (cache, calls) = (Cache::new(ReviewLimits::default()), Arc::new(AtomicUsize::new(0)));
        let key = "a".to_owned();
        let answers = futures::future::join_all((0..100).map(|_| cache.get(&key, || counted(&calls)))).await;
        assert!(answers.iter().all(|answer| *answer == Ok(1)));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_expires_when_nobody_asks() {
        let (cache, calls) = (Cache::new(ReviewLimits::default()), Arc::new(AtomicUsize::new(0)));
        let key = "a".to_owned();
        assert_eq!(cache.get(&key, || counted(&calls)).await, Ok(1));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(cache.get(&key, || counted(&calls)).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn steady_traffic_never_waits() {
        let (cache, calls) = (Cache::new(ReviewLimits::default()), Arc::new(AtomicUsize::new(0)));
        let key = "a".to_owned();
        cache.get(&key, || counted(&calls)).await.expect("first");
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let asked = Instant::now();
            cache.get(&key, || counted(&calls)).await.expect("answer");
            assert_eq!(asked.elapsed(), Duration::ZERO);
        }
        let calls = calls.load(Ordering::SeqCst);
        assert!((6..=10).contains(&calls), "{calls} reviews in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn a_review_survives_the_request_that_began_it() {
        let (cache, calls) = (Cache::new(ReviewLimits::default()), Arc::new(AtomicUsize::new(0)));
        let key = "a".to_owned();
        let gone = tokio::time::timeout(Duration::from_millis(10), cache.get(&key, || counted(&calls))).await;
        assert!(gone.is_err());
        assert_eq!(cache.get(&key, || counted(&calls)).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_hangs_and_panics_are_not_remembered() {
        let (cache, calls) = (Cache::new(ReviewLimits::default()), Arc::new(AtomicUsize::new(0)));
        let key = "a".to_owned();
        let failed = cache
            .get(&key, || async { Err(ReviewError::new("refused")) }.boxed())
            .await;
        assert_eq!(failed, Err(ReviewError::new("refused")));
        let hung = cache.get(&key, || std::future::pending().boxed()).await;
        assert_eq!(hung, Err(ReviewError::new("the API server did not answer in time")));
        let panicked = cache.get(&key, || async { panic!("scripted") }.boxed()).await;
        assert_eq!(panicked, Err(ReviewError::new("the review panicked")));
        assert_eq!(cache.get(&key, || counted(&calls)).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_answers_is_bounded_and_the_oldest_goes() {
        let cache = Cache::new(ReviewLimits {
            answers: 3,
            ..ReviewLimits::default()
        });
        let calls = Arc::new(AtomicUsize::new(0));
        for key in ["a", "b", "c", "d"] {
            cache.get(&key.to_owned(), || counted(&calls)).await.expect("answer");
        }
        assert_eq!(cache.inner.entries().len(), 3);
        assert_eq!(cache.get(&"d".to_owned(), || counted(&calls)).await, Ok(4));
        assert_eq!(cache.get(&"a".to_owned(), || counted(&calls)).await, Ok(5));
    }

    #[tokio::test(start_paused = true)]
    async fn reviews_are_refused_beyond_the_limit_of_waiting_ones() {
        let limits = ReviewLimits {
            running: 1,
            pending: 2,
            ..ReviewLimits::default()
        };
        let (cache, calls) = (Cache::new(limits), Arc::new(AtomicUsize::new(0)));
        let keys = ["a", "b", "c"].map(str::to_owned);
        let answers = futures::future::join_all(keys.iter().map(|key| cache.get(key, || counted(&calls)))).await;
        assert_eq!(answers[..2], [Ok(1), Ok(2)]);
        assert!(answers[2].is_err());
    }
}
