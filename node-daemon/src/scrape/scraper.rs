//! One scrape of one target: fetch, read, and say for people what went wrong.

use super::address::AddressPolicy;
use super::fetch::{FetchError, Fetcher};
use super::large::{LargeBodies, ORDINARY_BODY_BYTES};
use super::state::{Failing, Good};
use http::uri::PathAndQuery;
use infmon_engines::{BodyReader, Engine, HttpProblem, ReadError, explain_http, merge_slots, read_slots};
use infmon_samples::{FailureKind, Recognition, Target};
use std::time::{Duration, Instant};

/// A connect that has not succeeded by then will not within the deadline of a scrape at 1 Hz; slower scrapes allow half of theirs.
const SHORTEST_CONNECT_DEADLINE: Duration = Duration::from_millis(250);
/// After `/slots` failed it is left alone for this long: it is an extra, and a server that hangs on it must not be held up every second.
const SLOTS_PAUSE: Duration = Duration::from_secs(30);
/// `/slots` of a server with many slots and long prompts in older builds.
const SLOTS_LIMIT_BYTES: usize = 1024 * 1024;

/// `/health` is asked when metrics fail, and not more often than this: it only explains.
const HEALTH_PAUSE: Duration = Duration::from_secs(10);
/// `{"status":"ok"}`, or an error of a line.
const HEALTH_LIMIT_BYTES: usize = 4096;

/// What `/health` says of a server whose metrics fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    /// 200: the server works.
    Good,
    /// 503: it loads its model, or its engine has died.
    Bad,
    /// Nothing within the deadline.
    Silent,
}

/// Scrapes one target.
pub(super) struct Scraper {
    name: String,
    address: String,
    path: Option<PathAndQuery>,
    slots_path: Option<PathAndQuery>,
    deadline: Duration,
    limit: usize,
    fetcher: Fetcher,
    engine: Option<Engine>,
    reader: BodyReader,
    slots_again: Option<Instant>,
    health_path: Option<PathAndQuery>,
    /// What `/health` said last, and when it may be asked again.
    health: Option<(Health, Instant)>,
    /// The engine that the spec names or that answered last.
    known: Option<Engine>,
}

impl Scraper {
    pub(super) fn new(target: &Target, policy: AddressPolicy, large_bodies: LargeBodies) -> Self {
        let path = parse_path(&target.metrics_path);
        Self {
            name: target.id.0.clone(),
            address: target.address.clone(),
            slots_path: path.as_ref().and_then(|path| beside_metrics(path, "slots")),
            health_path: path.as_ref().and_then(|path| beside_metrics(path, "health")),
            path,
            deadline: target.deadline,
            limit: usize::try_from(target.body_limit_bytes).unwrap_or(usize::MAX),
            fetcher: Fetcher::new(target.scheme, &target.address, policy, large_bodies),
            engine: target.engine,
            reader: BodyReader::new(target.engine),
            slots_again: None,
            health: None,
            known: target.engine,
        }
    }

    /// The id of the target, for logs.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn scrape(&mut self) -> Result<Good, Failing> {
        let result = self.scrape_once().await;
        self.fetcher.let_go();
        result
    }

    async fn scrape_once(&mut self) -> Result<Good, Failing> {
        let began = Instant::now();
        let until = began + self.deadline;
        self.metrics(until).await?;
        let at = Instant::now();
        let body = self.fetcher.body();
        let reading = self.reader.read(body);
        if body.len() > ORDINARY_BODY_BYTES {
            // The reader keeps the layout of a body, which is as large as the body.
            self.reader = BodyReader::new(self.engine);
        }
        let reading = reading.map_err(|error| {
            let kind = match error {
                ReadError::Empty | ReadError::Json { .. } | ReadError::Malformed { .. } => FailureKind::Malformed,
                ReadError::UnknownEngine { .. } | ReadError::WrongEngine { .. } => FailureKind::UnknownEngine,
                ReadError::TooManySeries => FailureKind::BodyTooLarge,
            };
            self.failing(kind, &error)
        })?;
        let mut sample = reading.sample;
        self.known = sample.engine.or(self.known);
        self.health = None;
        if sample.engine == Some(Engine::LlamaCpp) {
            self.add_slots(&mut sample, until).await;
        }
        Ok(Good {
            at,
            took: at - began,
            sample,
            recognition: Recognition {
                missing: reading.missing,
                hint: reading.hint,
            },
        })
    }

    /// Fetches the metrics into the fetcher's body.
    async fn metrics(&mut self, until: Instant) -> Result<(), Failing> {
        let Some(path) = self.path.clone() else {
            let message = "the metrics path is not a path that begins with /; correct metricsPath";
            return Err(self.failing(FailureKind::HttpStatus, &message));
        };
        let connect_within = (self.deadline / 2).max(SHORTEST_CONNECT_DEADLINE);
        let get = self.fetcher.get(&path, self.limit, connect_within);
        let status = match tokio::time::timeout_at(until.into(), get).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(self.failing(error.kind(), &error)),
            Err(_) => {
                let after = self.deadline.as_millis();
                let message = match self.health().await {
                    Some(Health::Good) => format!(
                        "no complete answer within {after} ms, but /health is good: the server is busy (llama-server gives its metrics \
                         between two batches); raise the sample period if that is normal for it"
                    ),
                    Some(Health::Bad) => format!(
                        "no complete answer within {after} ms, and /health says that the server does not serve: see its log"
                    ),
                    Some(Health::Silent) | None => {
                        format!("no complete answer within {after} ms; the server hangs or is overloaded: see its log")
                    }
                };
                return Err(self.failing(FailureKind::Timeout, &message));
            }
        };
        if status.is_success() {
            return Ok(());
        }
        let explanation = explain_http(status.as_u16(), self.fetcher.body(), path.as_str());
        let kind = match explanation.kind {
            HttpProblem::MetricsDisabled => FailureKind::MetricsDisabled,
            HttpProblem::Unauthorized => FailureKind::Unauthorized,
            HttpProblem::Loading => FailureKind::Loading,
            HttpProblem::HttpStatus => FailureKind::HttpStatus,
        };
        Err(self.failing(kind, &explanation.message))
    }

    /// Asks a server whose metrics time out whether it works at all. Only vLLM and llama-server are asked: SGLang's `/health` may run a
    /// generation.
    async fn health(&mut self) -> Option<Health> {
        self.known?;
        if let Some((health, again)) = self.health
            && Instant::now() < again
        {
            return Some(health);
        }
        let path = self.health_path.clone()?;
        let get = self.fetcher.get(&path, HEALTH_LIMIT_BYTES, SHORTEST_CONNECT_DEADLINE);
        let health = match tokio::time::timeout(SHORTEST_CONNECT_DEADLINE, get).await {
            Ok(Ok(status)) if status.is_success() => Health::Good,
            Ok(Ok(_)) => Health::Bad,
            Ok(Err(_)) | Err(_) => Health::Silent,
        };
        self.health = Some((health, Instant::now() + HEALTH_PAUSE));
        Some(health)
    }

    /// Adds what llama.cpp tells only as JSON. Its failure is not one of the target.
    async fn add_slots(&mut self, sample: &mut infmon_engines::EngineSample, until: Instant) {
        let Some(path) = self.slots_path.clone() else { return };
        if self.slots_again.is_some_and(|again| Instant::now() < again) {
            return;
        }
        match self.slots(&path, until).await {
            Ok(slots) => {
                self.slots_again = None;
                merge_slots(sample, &slots);
            }
            Err(error) => {
                if self.slots_again.is_none() {
                    tracing::info!(
                        target = self.name,
                        error,
                        "no slots, so no KV cache use of this llama-server"
                    );
                }
                self.slots_again = Some(Instant::now() + SLOTS_PAUSE);
            }
        }
    }

    async fn slots(&mut self, path: &PathAndQuery, until: Instant) -> Result<infmon_engines::Slots, String> {
        let get = self.fetcher.get(path, SLOTS_LIMIT_BYTES, SHORTEST_CONNECT_DEADLINE);
        let status = tokio::time::timeout_at(until.into(), get)
            .await
            .map_err(|_| "no answer within the deadline of the scrape".to_owned())?
            .map_err(|error: FetchError| error.to_string())?;
        if !status.is_success() {
            return Err(explain_http(status.as_u16(), self.fetcher.body(), path.as_str()).message);
        }
        read_slots(self.fetcher.body()).map_err(|error| error.to_string())
    }

    fn failing(&self, kind: FailureKind, message: &dyn std::fmt::Display) -> Failing {
        let path = self.path.as_ref().map_or("", |path| path.path());
        Failing {
            kind,
            message: format!("{}{path}: {message}", self.address),
        }
    }
}

fn parse_path(path: &str) -> Option<PathAndQuery> {
    path.starts_with('/').then(|| path.parse().ok()).flatten()
}

/// A path beside the metrics: a prefix (`--api-prefix`) and the model of a router stay.
fn beside_metrics(metrics: &PathAndQuery, name: &str) -> Option<PathAndQuery> {
    let prefix = metrics.path().strip_suffix("/metrics")?;
    let query = metrics.query().map_or(String::new(), |query| format!("?{query}"));
    format!("{prefix}/{name}{query}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_lie_beside_the_metrics() {
        let slots = |path: &str| beside_metrics(&parse_path(path).unwrap(), "slots").map(|path| path.to_string());
        assert_eq!(slots("/metrics").unwrap(), "/slots");
        assert_eq!(slots("/llama/metrics?model=a").unwrap(), "/llama/slots?model=a");
        assert_eq!(slots("/prometheus"), None);
    }

    #[test]
    fn only_paths_are_paths() {
        for path in ["", "metrics", "http://other/metrics", "/metr ics", "//\u{7f}"] {
            assert_eq!(parse_path(path), None, "{path:?}");
        }
    }
}
