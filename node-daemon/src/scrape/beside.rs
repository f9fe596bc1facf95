//! What an engine tells elsewhere than in its metrics: which paths, and how often they may be asked.

use http::uri::PathAndQuery;
use infmon_engines::{Engine, EngineSample, Props};
use std::time::{Duration, Instant};

/// After a path failed it is left alone for this long: it is an extra, and a server that hangs on it must not be held up every second.
const PAUSE: Duration = Duration::from_secs(30);
/// The name of a model and limits do not change while a server runs.
const PROPS_PERIOD: Duration = Duration::from_secs(60);

/// One path beside the metrics.
#[derive(Debug)]
pub(super) struct Extra {
    path: Option<PathAndQuery>,
    again: Option<Instant>,
}

impl Extra {
    /// `name` beside the metrics at `metrics`.
    pub(super) fn new(metrics: Option<&PathAndQuery>, name: &str) -> Self {
        Self {
            path: metrics.and_then(|metrics| beside_metrics(metrics, name)),
            again: None,
        }
    }

    /// The path, when it may be asked now.
    pub(super) fn due(&self) -> Option<PathAndQuery> {
        let waits = self.again.is_some_and(|again| Instant::now() < again);
        self.path.clone().filter(|_| !waits)
    }

    pub(super) fn answered(&mut self) {
        self.again = None;
    }

    /// Leaves the path alone for a while. True when it worked before, which is worth a line in the log.
    pub(super) fn failed(&mut self) -> bool {
        self.again.replace(Instant::now() + PAUSE).is_none()
    }
}

/// What a server says of itself at one path, which does not change while it runs: asked now and then.
#[derive(Debug)]
pub(super) struct About<T> {
    extra: Extra,
    said: Option<T>,
    asked: Option<Instant>,
}

impl<T> About<T> {
    /// At `name` beside the metrics at `metrics`.
    pub(super) fn new(metrics: Option<&PathAndQuery>, name: &str) -> Self {
        Self {
            extra: Extra::new(metrics, name),
            said: None,
            asked: None,
        }
    }

    /// The path, when it is to be asked now.
    pub(super) fn due(&self) -> Option<PathAndQuery> {
        let known = self.said.is_some() && self.asked.is_some_and(|asked| asked.elapsed() < PROPS_PERIOD);
        self.extra.due().filter(|_| !known)
    }

    /// Keeps what was said; a failure makes it unknown, since another server may be there now.
    pub(super) fn set(&mut self, said: Option<T>) {
        match &said {
            Some(_) => self.extra.answered(),
            None => _ = self.extra.failed(),
        }
        self.said = said;
        self.asked = Some(Instant::now());
    }

    pub(super) const fn said(&self) -> Option<&T> {
        self.said.as_ref()
    }
}

/// What a llama-server said of itself last.
#[derive(Debug, Default)]
pub(super) struct KnownProps {
    pub(super) props: Option<Props>,
    asked: Option<Instant>,
}

impl KnownProps {
    /// True when `/props` is to be asked again: before `/slots` of a server without requests that can sleep, since `/slots` would wake it,
    /// and now and then.
    pub(super) fn are_due(&self, sample: &EngineSample) -> bool {
        let can_sleep = self.props.as_ref().is_none_or(|props| props.is_sleeping.is_some());
        let idle = sample.running == Some(0.0) && sample.waiting == Some(0.0);
        let old = self.asked.is_none_or(|asked| asked.elapsed() >= PROPS_PERIOD);
        old || (can_sleep && idle)
    }

    pub(super) fn set(&mut self, props: Option<Props>) {
        self.props = props;
        self.asked = Some(Instant::now());
    }

    /// True when the server sleeps, or slept when it was asked last and has had no request since.
    pub(super) fn is_asleep(&self, sample: &EngineSample) -> bool {
        let asleep = self.props.as_ref().and_then(|props| props.is_sleeping) == Some(true);
        asleep && sample.running == Some(0.0)
    }
}

/// The path that tells whether the server works at all, for engines that can be asked without cost.
pub(super) fn health_path(metrics: &PathAndQuery, engine: Engine) -> Option<PathAndQuery> {
    // trtllm-serve's JSON and NIM's model for images are elsewhere than the metrics of their kind.
    let before = |end| metrics.path().strip_suffix(end);
    let prefix = before(engine.metrics_path()).or_else(|| before("/metrics"))?;
    format!("{prefix}{}", engine.health_path()?).parse().ok()
}

/// A path beside the metrics: a prefix (`--api-prefix`) and the model of a router stay, the `/v1` of NIM does not become `/v1/v1`, and the
/// `/prometheus` of trtllm-serve is that of its metrics alone.
pub(super) fn beside_metrics(metrics: &PathAndQuery, name: &str) -> Option<PathAndQuery> {
    let mut prefix = metrics.path().strip_suffix("/metrics")?;
    if name.starts_with("v1/") {
        let own = |end| prefix.strip_suffix(end);
        prefix = own("/v1").or_else(|| own("/prometheus")).unwrap_or(prefix);
    }
    let query = metrics.query().map_or(String::new(), |query| format!("?{query}"));
    format!("{prefix}/{name}{query}").parse().ok()
}

/// The metrics of one model of a router.
pub(super) fn of_model(metrics: &PathAndQuery, query: &str) -> Option<PathAndQuery> {
    format!("{}?{query}", metrics.path()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> PathAndQuery {
        path.parse().unwrap()
    }

    #[test]
    fn slots_lie_beside_the_metrics() {
        let slots = |metrics: &str| beside_metrics(&path(metrics), "slots").map(|path| path.to_string());
        assert_eq!(slots("/metrics").unwrap(), "/slots");
        assert_eq!(slots("/llama/metrics?model=a").unwrap(), "/llama/slots?model=a");
        assert_eq!(slots("/prometheus"), None);
    }

    #[test]
    fn loads_lie_where_the_engine_behind_nim_has_them() {
        let loads = |metrics: &str| beside_metrics(&path(metrics), "v1/loads").map(|path| path.to_string());
        assert_eq!(loads("/metrics").unwrap(), "/v1/loads");
        assert_eq!(loads("/v1/metrics").unwrap(), "/v1/loads");
        assert_eq!(loads("/a/v1/metrics").unwrap(), "/a/v1/loads");
    }

    #[test]
    fn models_lie_where_trtllm_serve_has_them() {
        let models = |metrics: &str| beside_metrics(&path(metrics), "v1/models").map(|path| path.to_string());
        assert_eq!(models("/prometheus/metrics").unwrap(), "/v1/models");
        assert_eq!(models("/a/prometheus/metrics").unwrap(), "/a/v1/models");
        assert_eq!(models("/metrics").unwrap(), "/v1/models");
    }

    #[test]
    fn what_a_server_says_of_itself_is_kept_and_asked_again_after_a_failure() {
        let mut about = About::new(Some(&path("/metrics")), "info");
        assert!(about.due().is_some());
        about.set(Some(7));
        assert_eq!((about.due(), about.said()), (None, Some(&7)));
        about.asked = Instant::now().checked_sub(PROPS_PERIOD);
        assert!(about.due().is_some());
        about.set(None);
        assert_eq!((about.due(), about.said()), (None, None), "left alone for a while");
        about.extra.answered();
        assert!(about.due().is_some());
    }

    #[test]
    fn health_lies_where_the_engine_has_it() {
        let health = |metrics: &str, engine| health_path(&path(metrics), engine).map(|path| path.to_string());
        assert_eq!(health("/a/metrics", Engine::Vllm).unwrap(), "/a/health");
        assert_eq!(health("/prometheus/metrics", Engine::TensorRtLlm).unwrap(), "/health");
        assert_eq!(health("/metrics", Engine::TensorRtLlm).unwrap(), "/health");
        assert_eq!(health("/v1/metrics", Engine::Nim).unwrap(), "/v1/health/live");
        assert_eq!(health("/metrics", Engine::Sglang), None, "it may run a generation");
        assert_eq!(health("/other", Engine::Vllm), None);
    }

    #[test]
    fn a_path_that_failed_is_left_alone() {
        let mut extra = Extra::new(Some(&path("/metrics")), "slots");
        assert!(extra.due().is_some());
        assert!(extra.failed() && extra.due().is_none() && !extra.failed());
        extra.answered();
        assert!(extra.due().is_some());
        assert_eq!(Extra::new(None, "slots").due(), None);
    }

    #[test]
    fn an_idle_server_that_can_sleep_is_asked_first() {
        let sample = |running: f64| EngineSample {
            running: Some(running),
            waiting: Some(0.0),
            ..EngineSample::default()
        };
        let mut known = KnownProps::default();
        assert!(known.are_due(&sample(1.0)), "never asked");
        let props = |is_sleeping| {
            Some(Props {
                total_slots: Some(1),
                is_sleeping,
                ..Props::default()
            })
        };
        known.set(props(Some(true)));
        assert!(known.are_due(&sample(0.0)) && !known.are_due(&sample(1.0)));
        assert!(known.is_asleep(&sample(0.0)) && !known.is_asleep(&sample(1.0)));
        known.set(props(None));
        assert!(
            !known.are_due(&sample(0.0)) && !known.is_asleep(&sample(0.0)),
            "before b7492"
        );
    }
}
