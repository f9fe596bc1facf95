//! A load of completions: so many requests at once, each followed by the next as soon as it ends.
//!
//! The queue of the servers is then the number of requests less those that run, however fast they are.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use axum::body::Bytes;
use http::{Request, StatusCode, Uri, header, uri::Authority};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::exchange::Connection;

/// How often the state is printed.
const REPORT: Duration = Duration::from_secs(5);
/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// What a worker waits for after a failure, so that a server that is gone is not asked without a break.
const PAUSE: Duration = Duration::from_millis(500);
/// An answer of 1000 tokens has a few kB.
const ANSWER_LIMIT: usize = 4 << 20;
/// As many latencies are kept: hours of them.
const LATENCIES_KEPT: usize = 100_000;

/// What is asked, and how often.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where, such as `http://gateway:8080/v1/completions`.
    pub url: Uri,
    /// Requests at once.
    pub concurrency: usize,
    /// Tokens of each answer.
    pub max_tokens: u32,
    /// How long an answer may take.
    pub answer_within: Duration,
    /// How long the load lasts; without it, until it is told to stop.
    pub lasts: Option<Duration>,
}

/// What came of a load.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Requests that were answered with as many tokens as asked for.
    pub completed: u64,
    /// Requests that were not.
    pub failed: u64,
    /// The last failure.
    pub last_failure: Option<String>,
    /// Seconds from request to answer of the completed ones, the newest last.
    latencies: VecDeque<f64>,
}

impl Outcome {
    /// The latency below which this share of the completed requests stayed, in seconds.
    #[must_use]
    pub fn latency(&self, share: f64) -> Option<f64> {
        let mut sorted: Vec<f64> = self.latencies.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() as f64 * share.clamp(0.0, 1.0)) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied()
    }

    /// One line: `completed=120 failed=0 p50=1.25s p95=2.50s`.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("completed={} failed={}", self.completed, self.failed);
        for (name, share) in [("p50", 0.5), ("p95", 0.95)] {
            if let Some(seconds) = self.latency(share) {
                line.push_str(&format!(" {name}={seconds:.2}s"));
            }
        }
        if let Some(failure) = &self.last_failure {
            line.push_str(&format!(" last failure: {failure}"));
        }
        line
    }

    fn count(&mut self, result: Result<Duration, anyhow::Error>) {
        match result {
            Ok(latency) => {
                self.completed += 1;
                if self.latencies.len() == LATENCIES_KEPT {
                    self.latencies.pop_front();
                }
                self.latencies.push_back(latency.as_secs_f64());
            }
            Err(error) => {
                self.failed += 1;
                self.last_failure = Some(format!("{error:#}"));
            }
        }
    }
}

/// Loads until the time is over or it is told to stop, and gives a line each five seconds to `report`.
///
/// # Errors
///
/// When the URL cannot be used, or not one request was completed.
pub async fn run(settings: &Settings, stop: CancellationToken, report: impl Fn(&str)) -> anyhow::Result<Outcome> {
    let target = Target::new(settings)?;
    let mut outcome = Outcome::default();
    let end = async {
        match settings.lasts {
            Some(lasts) => sleep(lasts).await,
            None => std::future::pending().await,
        }
    };
    let mut workers = JoinSet::new();
    let (done, mut results) = tokio::sync::mpsc::channel(settings.concurrency.max(1));
    for _ in 0..settings.concurrency {
        let (target, done) = (target.clone(), done.clone());
        workers.spawn(async move {
            loop {
                let result = target.ask().await;
                let failed = result.is_err();
                if done.send(result).await.is_err() {
                    return;
                }
                if failed {
                    sleep(PAUSE).await;
                }
            }
        });
    }
    drop(done);
    let mut reports = interval(REPORT);
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    reports.tick().await;
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            () = stop.cancelled() => break,
            Some(result) = results.recv() => outcome.count(result),
            _ = reports.tick() => report(&outcome.line()),
        }
    }
    // The servers see that nobody waits for the rest.
    workers.shutdown().await;
    report(&outcome.line());
    ensure!(
        outcome.completed > 0,
        "not one request was completed: {}",
        outcome.line()
    );
    Ok(outcome)
}

/// What every request asks for.
#[derive(Debug, Clone)]
struct Target {
    server: String,
    authority: Authority,
    path: String,
    body: Bytes,
    max_tokens: u32,
    answer_within: Duration,
}

impl Target {
    fn new(settings: &Settings) -> anyhow::Result<Self> {
        let url = &settings.url;
        if url.scheme_str() != Some("http") {
            bail!("{url} is no URL that begins with http://");
        }
        let authority = url.authority().with_context(|| format!("{url} names no host"))?.clone();
        let server = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        // ignore_eos: a model of random weights would end whenever it likes.
        let body = json!({"prompt": "the time is", "max_tokens": settings.max_tokens, "ignore_eos": true});
        Ok(Self {
            server,
            authority,
            path: url.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            body: body.to_string().into(),
            max_tokens: settings.max_tokens,
            answer_within: settings.answer_within,
        })
    }

    async fn ask(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let (status, body) = timeout(self.answer_within, self.answer())
            .await
            .with_context(|| format!("no answer within {} s", self.answer_within.as_secs_f64()))??;
        ensure!(status.is_success(), "{status}: {}", beginning(&body));
        let answer: serde_json::Value = serde_json::from_slice(&body).context("the answer is no JSON")?;
        let tokens = answer
            .pointer("/usage/completion_tokens")
            .and_then(serde_json::Value::as_u64);
        ensure!(
            tokens == Some(u64::from(self.max_tokens)),
            "{} tokens were asked for, and the answer says {tokens:?}",
            self.max_tokens
        );
        Ok(began.elapsed())
    }

    async fn answer(&self) -> anyhow::Result<(StatusCode, Bytes)> {
        let connection = Connection::open(&self.server, CONNECT).await?;
        let request = Request::post(&self.path)
            .header(header::HOST, self.authority.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(self.body.clone()))?;
        let answer = connection.send(request).await.context("the connection ended")?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_LIMIT)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        Ok((status, body.to_bytes()))
    }
}

/// Enough of an answer to know what is wrong.
fn beginning(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..body.len().min(200)).unwrap_or_default()).into_owned()
}
