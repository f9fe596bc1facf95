//! One scrape of one target: fetch, read, and say for people what went wrong.

use super::address::AddressPolicy;
use super::beside::{About, Extra, KnownProps, beside_metrics, health_path, of_model};
use super::fetch::{FetchError, Fetcher};
use super::large::{LargeBodies, ORDINARY_BODY_BYTES};
use super::state::{Failing, Good};
use http::StatusCode;
use http::uri::PathAndQuery;
use infmon_engines::{
    BodyReader, Engine, EngineSample, Explanation, HttpProblem, Info, ReadError, Reading, explain_http_of, merge_info,
    merge_loads, merge_model_list, merge_models, merge_props, merge_slots, read_info, read_loads, read_model_list,
    read_props, read_router_models, read_slots, router_query,
};
use infmon_samples::{FailureKind, Recognition, Target};
use std::time::{Duration, Instant};

/// A connect that has not succeeded by then will not within the deadline of a scrape at 1 Hz; slower scrapes allow half of theirs.
const SHORTEST_CONNECT_DEADLINE: Duration = Duration::from_millis(250);
/// What is read beside the metrics: `/slots` of a server with many slots and long prompts in older builds.
const EXTRA_LIMIT_BYTES: usize = 1024 * 1024;

/// `/health` is asked when metrics fail, and not more often than this: it only explains.
const HEALTH_PAUSE: Duration = Duration::from_secs(10);
/// `{"status":"ok"}`, or an error of a line.
const HEALTH_LIMIT_BYTES: usize = 4096;

/// What is told of JSON where a server is shown a secret, which its own words may hold.
const JSON_OF_GUARDED: &str = "the body is JSON, not Prometheus text: check the metrics path (what it says is not repeated, since the \
                               server is shown credentials)";

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
    deadline: Duration,
    limit: usize,
    fetcher: Fetcher,
    reader: BodyReader,
    /// A reading that nobody needs any more: the next one takes its memory.
    spare: Reading,
    slots: Extra,
    loads: Extra,
    props: Extra,
    known_props: KnownProps,
    /// TGI's `/info`.
    info: About<Info>,
    /// Models of trtllm-serve.
    models: About<Vec<String>>,
    /// What `/health` said last, and when it may be asked again.
    health: Option<(Health, Instant)>,
    /// The engine that the spec names or that answered last.
    known: Option<Engine>,
    /// Where the credentials come from that the server is shown.
    credentials: Option<String>,
    /// The server is shown something secret. It may echo what it gets, so none of its words are repeated.
    guarded: bool,
    /// The status that the metrics were refused with last.
    refused: Option<u16>,
}

impl Scraper {
    pub(super) fn new(target: &Target, policy: AddressPolicy, large_bodies: LargeBodies) -> Self {
        let path = parse_path(&target.metrics_path);
        Self {
            name: target.id.0.clone(),
            address: target.address.clone(),
            slots: Extra::new(path.as_ref(), "slots"),
            loads: Extra::new(path.as_ref(), "v1/loads"),
            props: Extra::new(path.as_ref(), "props"),
            known_props: KnownProps::default(),
            info: About::new(path.as_ref(), "info"),
            models: About::new(path.as_ref(), "v1/models"),
            path,
            deadline: target.deadline,
            limit: usize::try_from(target.body_limit_bytes).unwrap_or(usize::MAX),
            fetcher: Fetcher::new(target, policy, large_bodies),
            credentials: target.access.credentials.as_ref().map(|given| given.source.clone()),
            guarded: target
                .access
                .credentials
                .as_ref()
                .is_some_and(|given| given.are_secret()),
            reader: target.reader(),
            spare: Reading::default(),
            health: None,
            known: target.engine,
            refused: None,
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
        let (reading, of_router) = match self.metrics(until).await {
            Ok(()) => (self.read()?, false),
            Err(failing) => (self.router(&failing, until).await.ok_or(failing)?, true),
        };
        let at = Instant::now();
        let mut sample = reading.sample;
        self.known = sample.engine.or(self.known);
        self.health = None;
        match sample.engine_behind() {
            Some(Engine::LlamaCpp) if !of_router => {
                self.add_props(&mut sample, until).await;
                if !self.known_props.is_asleep(&sample) {
                    self.add_slots(&mut sample, until).await;
                }
            }
            Some(Engine::Sglang) => self.add_loads(&mut sample, until).await,
            Some(Engine::Tgi) => self.add_info(&mut sample, until).await,
            Some(Engine::TensorRtLlm) => self.add_models(&mut sample, until).await,
            _ => {}
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

    /// Takes the memory of a scrape that nobody needs any more.
    pub(super) fn reuse(&mut self, before: Good) {
        let Recognition { missing, hint } = before.recognition;
        self.spare = Reading {
            sample: before.sample,
            missing,
            hint,
        };
    }

    /// Reads the fetcher's body.
    fn read(&mut self) -> Result<Reading, Failing> {
        let body = self.fetcher.body();
        let mut reading = std::mem::take(&mut self.spare);
        let done = self.reader.read_into(body, &mut reading);
        if body.len() > ORDINARY_BODY_BYTES {
            // The reader keeps the layout of a body, which is as large as the body.
            self.reader = self.reader.anew();
        }
        let Err(error) = done else { return Ok(reading) };
        self.spare = reading;
        // Its list is empty while nothing runs, and then tells nobody's: it answered before.
        if self.known == Some(Engine::TensorRtLlm)
            && matches!(error, ReadError::Json { .. })
            && let Ok(reading) = BodyReader::new(self.known).read(body)
        {
            return Ok(reading);
        }
        let kind = match error {
            ReadError::Empty | ReadError::Json { .. } | ReadError::Malformed { .. } => FailureKind::Malformed,
            ReadError::UnknownEngine { .. }
            | ReadError::WrongEngine { .. }
            | ReadError::NoMappedSeries { .. }
            | ReadError::NoMapping => FailureKind::UnknownEngine,
            ReadError::TooManySeries => FailureKind::BodyTooLarge,
        };
        if self.guarded && matches!(error, ReadError::Json { .. }) {
            return Err(self.failing(kind, &JSON_OF_GUARDED));
        }
        Err(self.failing(kind, &error))
    }

    /// Fetches the metrics into the fetcher's body.
    async fn metrics(&mut self, until: Instant) -> Result<(), Failing> {
        self.refused = None;
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
                let health = self.health().await;
                let message = timeout_words(self.deadline, health, self.known, path.path());
                return Err(self.failing(FailureKind::Timeout, &message));
            }
        };
        if status.is_success() {
            return Ok(());
        }
        let explanation = self.explain(status, &path);
        self.refused = Some(status.as_u16());
        let kind = match explanation.kind {
            HttpProblem::MetricsDisabled => FailureKind::MetricsDisabled,
            HttpProblem::Unauthorized => FailureKind::Unauthorized,
            HttpProblem::Loading => FailureKind::Loading,
            HttpProblem::HttpStatus => FailureKind::HttpStatus,
        };
        if kind == FailureKind::Unauthorized {
            let next = match &self.credentials {
                Some(source) => format!("it was shown those of {source}: correct them"),
                None => "it was shown none: name a Secret in credentialsSecretRef of an https:// url; pods are never shown any, so let \
                         them serve their metrics without"
                    .to_owned(),
            };
            return Err(self.failing(kind, &format!("{}; {next}", explanation.message)));
        }
        Err(self.failing(kind, &explanation.message))
    }

    /// Asks a server whose metrics time out whether it works at all, where asking does not cost it a generation.
    async fn health(&mut self) -> Option<Health> {
        let path = health_path(self.path.as_ref()?, self.known?)?;
        if let Some((health, again)) = self.health
            && Instant::now() < again
        {
            return Some(health);
        }
        let get = self.fetcher.get(&path, HEALTH_LIMIT_BYTES, SHORTEST_CONNECT_DEADLINE);
        let health = match tokio::time::timeout(SHORTEST_CONNECT_DEADLINE, get).await {
            Ok(Ok(status)) if status.is_success() => Health::Good,
            Ok(Ok(_)) => Health::Bad,
            Ok(Err(_)) | Err(_) => Health::Silent,
        };
        self.health = Some((health, Instant::now() + HEALTH_PAUSE));
        Some(health)
    }

    /// Adds the name of the model, and whether the server sleeps.
    async fn add_props(&mut self, sample: &mut EngineSample, until: Instant) {
        if self.known_props.are_due(sample)
            && let Some(path) = self.props.due()
        {
            let props = self.beside(&path, until).await.ok();
            let props = props.and_then(|()| read_props(self.fetcher.body()));
            match &props {
                Some(_) => self.props.answered(),
                None => _ = self.props.failed(),
            }
            self.known_props.set(props);
        }
        if let Some(props) = &self.known_props.props {
            merge_props(sample, props);
        }
    }

    /// Adds what llama.cpp tells only as JSON. Its failure is not one of the target.
    async fn add_slots(&mut self, sample: &mut EngineSample, until: Instant) {
        if let Some(path) = self.slots.due() {
            self.add_slots_at(sample, &path, until).await;
        }
    }

    /// The same of the path that tells them. True when it did.
    async fn add_slots_at(&mut self, sample: &mut EngineSample, path: &PathAndQuery, until: Instant) -> bool {
        let answer = self.beside(path, until).await;
        match answer.and_then(|()| read_slots(self.fetcher.body()).map_err(|error| error.to_string())) {
            Ok(slots) => {
                self.slots.answered();
                merge_slots(sample, &slots);
                true
            }
            Err(error) => {
                if self.slots.failed() {
                    tracing::info!(
                        target = self.name,
                        error,
                        "no slots, so no KV cache use of this llama-server"
                    );
                }
                false
            }
        }
    }

    /// Adds what SGLang tells only as JSON. Its failure is not one of the target: older versions have no such path.
    async fn add_loads(&mut self, sample: &mut EngineSample, until: Instant) {
        if sample.max_concurrency.is_some() {
            return;
        }
        let Some(path) = self.loads.due() else { return };
        let answer = self.beside(&path, until).await;
        match answer.and_then(|()| read_loads(self.fetcher.body()).ok_or_else(|| "another answer".to_owned())) {
            Ok(loads) => {
                self.loads.answered();
                merge_loads(sample, &loads);
            }
            Err(error) => {
                if self.loads.failed() {
                    tracing::info!(
                        target = self.name,
                        error,
                        "no /v1/loads, so no limit of running requests of this SGLang"
                    );
                }
            }
        }
    }

    /// Adds the model and the limit of a TGI server.
    async fn add_info(&mut self, sample: &mut EngineSample, until: Instant) {
        if let Some(path) = self.info.due() {
            let answer = self.beside(&path, until).await.ok();
            self.info.set(answer.and_then(|()| read_info(self.fetcher.body())));
        }
        if let Some(info) = self.info.said() {
            merge_info(sample, info);
        }
    }

    /// Adds the models of trtllm-serve.
    async fn add_models(&mut self, sample: &mut EngineSample, until: Instant) {
        if let Some(path) = self.models.due() {
            let answer = self.beside(&path, until).await.ok();
            self.models
                .set(answer.and_then(|()| read_model_list(self.fetcher.body())));
        }
        if let Some(models) = self.models.said() {
            merge_model_list(sample, models);
        }
    }

    /// Reads the loaded models of a llama-server router, which refuses to give metrics without a model; `None` where it is none.
    async fn router(&mut self, failing: &Failing, until: Instant) -> Option<Reading> {
        let may_be = matches!(self.known, None | Some(Engine::LlamaCpp));
        if self.refused != Some(400) || failing.kind != FailureKind::HttpStatus || !may_be {
            return None;
        }
        let metrics = self.path.clone().filter(|path| path.query().is_none())?;
        let list = beside_metrics(&metrics, "models")?;
        self.beside(&list, until).await.ok()?;
        let models = match read_router_models(self.fetcher.body())? {
            Ok(models) => models,
            Err(too_many) => return Some(too_many.reading()),
        };
        let mut readings = Vec::with_capacity(models.len());
        let mut paths = Vec::with_capacity(models.len());
        for model in models {
            let path = of_model(&metrics, &router_query(&model))?;
            self.beside(&path, until).await.ok()?;
            let reading = BodyReader::new(Some(Engine::LlamaCpp)).read(self.fetcher.body()).ok()?;
            readings.push((model, reading));
            paths.push(beside_metrics(&path, "slots")?);
        }
        // Last, so that slots that hang cost no metrics.
        if self.slots.due().is_some() {
            for ((_, reading), path) in readings.iter_mut().zip(&paths) {
                if !self.add_slots_at(&mut reading.sample, path, until).await {
                    break;
                }
            }
        }
        let mut reading = merge_models(readings);
        reading.sample.engine = Some(Engine::LlamaCpp);
        Some(reading)
    }

    /// Fetches a path beside the metrics.
    async fn beside(&mut self, path: &PathAndQuery, until: Instant) -> Result<(), String> {
        let get = self.fetcher.get(path, EXTRA_LIMIT_BYTES, SHORTEST_CONNECT_DEADLINE);
        let status = tokio::time::timeout_at(until.into(), get)
            .await
            .map_err(|_| "no answer within the deadline of the scrape".to_owned())?
            .map_err(|error: FetchError| error.to_string())?;
        if !status.is_success() {
            return Err(self.explain(status, path).message);
        }
        Ok(())
    }

    /// Explains the answer in the fetcher's body, which is no success.
    fn explain(&self, status: StatusCode, path: &PathAndQuery) -> Explanation {
        let explain = |body| explain_http_of(self.known, status.as_u16(), body, path.as_str());
        let explanation = explain(self.fetcher.body());
        // That a model is loading is told in fixed words, by what the body says.
        if self.guarded && explanation.kind != HttpProblem::Loading {
            return explain(b"");
        }
        explanation
    }

    fn failing(&self, kind: FailureKind, message: &dyn std::fmt::Display) -> Failing {
        let path = self.path.as_ref().map_or("", |path| path.path());
        Failing {
            kind,
            message: format!("{}{path}: {message}", self.address),
        }
    }
}

/// Says what an answer that does not come in time may mean, by what `/health` says meanwhile.
fn timeout_words(deadline: Duration, health: Option<Health>, engine: Option<Engine>, path: &str) -> String {
    let after = deadline.as_millis();
    let is_list = engine == Some(Engine::TensorRtLlm) && !path.ends_with(Engine::TensorRtLlm.metrics_path());
    match health {
        Some(Health::Good) if is_list => format!(
            "no complete answer within {after} ms, but /health is good: trtllm-serve's list waits up to 2 s for an iteration, and none comes \
             while nothing runs; set return_perf_metrics: true and scrape /prometheus/metrics, or raise samplePeriodMilliseconds to 3000"
        ),
        Some(Health::Good) => format!(
            "no complete answer within {after} ms, but /health is good: the server is busy (llama-server gives its metrics between two \
             batches); raise the sample period if that is normal for it"
        ),
        Some(Health::Bad) => {
            format!(
                "no complete answer within {after} ms, and /health says that the server does not serve: see its log"
            )
        }
        Some(Health::Silent) | None => {
            format!("no complete answer within {after} ms; the server hangs or is overloaded: see its log")
        }
    }
}

fn parse_path(path: &str) -> Option<PathAndQuery> {
    path.starts_with('/').then(|| path.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_waits_for_work_is_not_called_busy() {
        let words = |engine, path| timeout_words(Duration::from_millis(900), Some(Health::Good), engine, path);
        let list = words(Some(Engine::TensorRtLlm), "/metrics");
        assert!(
            list.contains("900 ms") && list.contains("samplePeriodMilliseconds to 3000"),
            "{list}"
        );
        for (engine, path) in [
            (Some(Engine::TensorRtLlm), "/prometheus/metrics"),
            (Some(Engine::LlamaCpp), "/metrics"),
            (None, "/metrics"),
        ] {
            assert!(words(engine, path).contains("busy"), "{engine:?} {path}");
        }
    }

    #[test]
    fn only_paths_are_paths() {
        for path in ["", "metrics", "http://other/metrics", "/metr ics", "//\u{7f}"] {
            assert_eq!(parse_path(path), None, "{path:?}");
        }
    }
}
