//! What a gateway counts, and how it tells.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The metrics of a gateway.
///
/// They are told in the words of llama-server, so that a monitor takes the gateway for one more server, whose queue is what it
/// holds:
///
/// * `requests_deferred` are the requests that no server has taken yet. That is what the word means at a llama-server too.
/// * `requests_processing` is always 0. A request that was handed on is counted by the server that has it; counted here as well,
///   it would be two requests to `in-flight-requests`.
/// * The counters of tokens are 0: a gateway computes none. Without them its metrics would pass for those of an old build.
///
/// vLLM's words would promise more than is true: a monitor expects the use of a KV cache with them.
#[derive(Debug, Default)]
pub struct Counts {
    waiting: Arc<AtomicU64>,
    forwarded: Arc<AtomicU64>,
    /// Requests that a server answered, whatever it said.
    pub(super) answered: AtomicU64,
    /// Requests that were refused because enough waited already.
    pub(super) refused: AtomicU64,
    /// Requests that no server took in time.
    pub(super) expired: AtomicU64,
    /// Times that a request was handed on again, because the server that had it went away or was not ready.
    pub(super) repeated: AtomicU64,
}

/// Counts a request for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counts {
    /// Counts a request as waiting, unless `limit` wait already.
    pub(super) fn wait(&self, limit: u64) -> Option<Counted> {
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < limit).then_some(waiting + 1)
            })
            .ok()
            .map(|_| Counted(Arc::clone(&self.waiting)))
    }

    /// Counts a request as being at a server.
    pub(super) fn forward(&self) -> Counted {
        self.forwarded.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.forwarded))
    }

    /// The body of `/metrics`.
    #[must_use]
    pub fn exposition(&self) -> String {
        let value = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let families = [
            (
                "llamacpp:requests_deferred",
                "gauge",
                "Requests that no server has taken yet.",
                value(&self.waiting),
            ),
            (
                "llamacpp:requests_processing",
                "gauge",
                "Always 0: the server that has a request counts it.",
                0,
            ),
            (
                "llamacpp:prompt_tokens_total",
                "counter",
                "Always 0: a gateway computes no tokens.",
                0,
            ),
            (
                "llamacpp:prompt_tokens_cached_total",
                "counter",
                "Always 0: a gateway keeps no tokens.",
                0,
            ),
            (
                "llamacpp:tokens_predicted_total",
                "counter",
                "Always 0: a gateway generates no tokens.",
                0,
            ),
            (
                "gateway_requests_at_servers",
                "gauge",
                "Requests that a server has.",
                value(&self.forwarded),
            ),
            (
                "gateway_requests_answered_total",
                "counter",
                "Requests that a server answered.",
                value(&self.answered),
            ),
            (
                "gateway_requests_refused_total",
                "counter",
                "Requests refused because enough waited.",
                value(&self.refused),
            ),
            (
                "gateway_requests_expired_total",
                "counter",
                "Requests that no server took in time.",
                value(&self.expired),
            ),
            (
                "gateway_requests_repeated_total",
                "counter",
                "Times that a request was handed on again.",
                value(&self.repeated),
            ),
        ];
        families
            .iter()
            .map(|(name, kind, help, value)| format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use infmon_engines::{BodyReader, Engine};

    use super::Counts;

    #[test]
    fn a_monitor_reads_what_waits_and_misses_nothing() {
        let counts = Counts::default();
        let waiting: Vec<_> = (0..3).map(|_| counts.wait(10).unwrap()).collect();
        let _at_a_server = counts.forward();
        let reading = BodyReader::new(None).read(counts.exposition().as_bytes()).unwrap();
        assert_eq!(reading.missing, Vec::<String>::new());
        assert_eq!(reading.sample.engine, Some(Engine::LlamaCpp));
        assert_eq!((reading.sample.waiting, reading.sample.running), (Some(3.0), Some(0.0)));
        assert_eq!(reading.sample.kv_cache_usage, None, "it has none");

        drop(waiting);
        let reading = BodyReader::new(None).read(counts.exposition().as_bytes()).unwrap();
        assert_eq!(reading.sample.waiting, Some(0.0));
    }

    #[test]
    fn it_passes_for_the_same_generation_as_the_servers_behind_it() {
        let real = include_bytes!("../../../../engines/tests/bodies/llama-server-0.7.0-b11669-queued.prom");
        let server = BodyReader::new(None).read(real).unwrap().sample;
        let gateway = BodyReader::new(None)
            .read(Counts::default().exposition().as_bytes())
            .unwrap();
        assert_eq!(gateway.sample.generation, server.generation);
    }

    #[test]
    fn no_more_wait_than_may() {
        let counts = Counts::default();
        let first = counts.wait(1).unwrap();
        assert!(counts.wait(1).is_none());
        drop(first);
        assert!(counts.wait(1).is_some());
    }
}
