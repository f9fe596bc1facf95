//! Simulated servers and GPUs, and the story that is played on them: load rises, requests queue, the KV cache fills, a GPU throttles,
//! load falls. A minute, then it begins anew.
//!
//! The servers are real HTTP servers with made-up load, and the GPUs are seen through a real shared library: what is simulated is the
//! world, not the pipeline.

use crate::monitors;
use infmon_crds::v1alpha1::InferenceMonitor;
use infmon_nvml_stand_in::{Cause, Profile, Scenario, StandIn};
use infmon_simulated_engine::{Chapter, Kind, Server, SimulatedEngine, Story};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Time that the story advances at once.
const STEP: Duration = Duration::from_millis(250);
/// Length of the story.
const STORY_SECONDS: f64 = 60.0;
/// When the simulated GPU is too hot, seconds into the story: while the queue of the rush drains.
const HOT: std::ops::Range<f64> = 27.0..35.0;
/// What follows takes its time: the window of the threshold, and the time for which the condition must be clear.
const _: () = assert!(HOT.end + 20.0 < STORY_SECONDS);
/// Share of that time in which the GPU loses clocks.
const HOT_DUTY: f64 = 0.38;

/// Simulated servers, and GPUs where there are no real ones.
#[derive(Debug)]
pub struct Simulation {
    engines: Vec<(SimulatedEngine, Story)>,
    gpus: Option<SimulatedGpus>,
    monitors: Vec<InferenceMonitor>,
}

#[derive(Debug)]
struct SimulatedGpus {
    library: StandIn,
    /// Removed with its files when the simulation ends.
    _folder: TempDir,
}

impl Simulation {
    /// Starts the servers on free ports of loopback.
    ///
    /// # Errors
    /// When a port or a temporary folder cannot be had.
    pub async fn start(with_gpus: bool) -> anyhow::Result<Self> {
        let cast = [
            ("chat", "chat-0", Kind::Vllm, chat(1.0)),
            ("chat", "chat-1", Kind::Vllm, chat(0.85)),
            ("assistant", "assistant-0", Kind::LlamaCpp, assistant()),
        ];
        let mut engines = Vec::new();
        let mut servers: Vec<(&str, Vec<(String, String)>)> = Vec::new();
        for (monitor, name, kind, story) in cast {
            let engine = SimulatedEngine::start(kind, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
            engine.set(story.load().clone());
            let server = (name.to_owned(), engine.address().to_string());
            match servers.iter_mut().find(|(known, _)| *known == monitor) {
                Some((_, servers)) => servers.push(server),
                None => servers.push((monitor, vec![server])),
            }
            engines.push((engine, story));
        }
        let monitors = servers
            .iter()
            .map(|(name, servers)| {
                Ok(monitors::marked_simulated(monitors::of_servers(
                    name,
                    servers,
                    &thresholds(),
                )?))
            })
            .collect::<anyhow::Result<_>>()?;
        let gpus = if with_gpus {
            Some(SimulatedGpus::install()?)
        } else {
            None
        };
        Ok(Self {
            engines,
            gpus,
            monitors,
        })
    }

    /// Monitors of the servers, marked as simulated.
    #[must_use]
    pub fn monitors(&self) -> Vec<InferenceMonitor> {
        self.monitors.clone()
    }

    /// The driver library of the simulated GPUs.
    #[must_use]
    pub fn nvml_library(&self) -> Option<PathBuf> {
        self.gpus.as_ref().map(|gpus| gpus.library.library_path())
    }

    /// What is simulated: `2 vLLM servers, 1 llama-server, 2 GPUs`.
    #[must_use]
    pub fn words(&self) -> String {
        let gpus = if self.gpus.is_some() { ", 2 GPUs" } else { "" };
        format!("2 vLLM servers, 1 llama-server{gpus}")
    }

    /// Plays the story, over and over, until `shutdown`.
    pub async fn play(mut self, shutdown: CancellationToken) {
        // Late ticks are made up for: the story keeps to the clock.
        let mut ticks = tokio::time::interval(STEP);
        let mut seconds = 0.0;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            for (engine, story) in &mut self.engines {
                engine.set(story.step(STEP.as_secs_f64()).clone());
            }
            if let Some(gpus) = &self.gpus {
                let busy = self.engines.first().map_or(0.0, |(engine, _)| {
                    let load = engine.load();
                    load.running as f64 / load.max_concurrency.max(1) as f64
                });
                if let Err(error) = gpus.library.write(&scenario(seconds % STORY_SECONDS, busy)) {
                    tracing::warn!(%error, "the simulated GPUs stand still");
                }
            }
            seconds += STEP.as_secs_f64();
        }
    }
}

impl SimulatedGpus {
    fn install() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("infmon-simulated-gpus-").tempdir()?;
        let library = StandIn::install(folder.path(), &scenario(0.0, 0.0))?;
        Ok(Self {
            library,
            _folder: folder,
        })
    }
}

/// Thresholds that a minute is long enough for.
fn thresholds() -> serde_json::Value {
    json!({
        "queueDepth": {"perEndpoint": 5, "forSeconds": 2},
        "kvCacheUsagePercent": {"above": 85, "forSeconds": 2},
        "throttledPercent": {"above": 1, "forSeconds": 5},
    })
}

/// A vLLM server that takes five requests per second. Its KV cache holds a full batch of common requests and little more.
fn chat(share: f64) -> Story {
    let server = Server {
        model: "simulated-llama-8b".into(),
        slots: 16,
        kv_cache_tokens: 12_000.0,
        prefill_tokens_per_second: 8_000.0,
        tokens_per_second: 50.0,
        prompt_tokens: 600.0,
        output_tokens: 150.0,
        prefix_hit_share: 0.3,
    };
    story(server, [1.2, 3.5, 8.5, 1.0].map(|arrivals| arrivals * share))
}

/// A llama-server with four slots that gets busy and no more.
fn assistant() -> Story {
    let server = Server {
        model: "simulated-qwen-4b".into(),
        slots: 4,
        kv_cache_tokens: 8_192.0,
        prefill_tokens_per_second: 2_000.0,
        tokens_per_second: 40.0,
        prompt_tokens: 400.0,
        output_tokens: 80.0,
        prefix_hit_share: 0.0,
    };
    story(server, [0.4, 0.8, 1.9, 0.4])
}

fn story(server: Server, arrivals_per_second: [f64; 4]) -> Story {
    let chapters = [("calm", 9.0), ("rush", 8.0), ("overload", 11.0), ("recovery", 32.0)];
    let chapters = chapters
        .into_iter()
        .zip(arrivals_per_second)
        .map(|((title, seconds), arrivals_per_second)| Chapter {
            title,
            seconds,
            arrivals_per_second,
        })
        .collect();
    Story::new(server, chapters)
}

/// Two GPUs at a moment of the story; the second one gets hot.
fn scenario(seconds: f64, busy: f64) -> Scenario {
    let mut scenario = Scenario::of(Profile::H100, 2);
    for (index, gpu) in scenario.gpus.iter_mut().enumerate() {
        let hot = index == 1 && HOT.contains(&seconds);
        gpu.utilization = Some((busy * 96.0) as u32);
        gpu.power_mw = Some((110_000.0 + busy * 520_000.0) as u32);
        gpu.temperature = Some((41.0 + busy * 30.0) as u32 + if hot { 17 } else { 0 });
        gpu.margin = gpu.temperature.map(|celsius| 87 - i32::try_from(celsius).unwrap_or(0));
        if hot {
            gpu.temperature = Some(89);
            gpu.margin = Some(-2);
            gpu.sm_clock = Some(1_065);
            gpu.throttle.insert(Cause::HardwareThermal, Some(HOT_DUTY));
        }
    }
    scenario
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the conditions are made of, second by second.
    fn minute(mut story: Story) -> Vec<(u64, f64, u64)> {
        (0..60)
            .map(|_| {
                for _ in 0..4 {
                    story.step(STEP.as_secs_f64());
                }
                let load = story.load();
                (load.waiting, load.kv_cache_usage, load.preemptions_total)
            })
            .collect()
    }

    #[test]
    fn the_story_fits_a_minute() {
        let seconds = minute(chat(1.0));
        let text: String = seconds
            .iter()
            .enumerate()
            .map(|(at, second)| format!("{at}: {second:?}\n"))
            .collect();
        let queued: Vec<usize> = (0..60).filter(|at| seconds[*at].0 > 5).collect();
        let full: Vec<usize> = (0..60).filter(|at| seconds[*at].1 > 0.85).collect();
        assert!(
            queued.len() > 8 && queued[0] > 9 && *queued.last().unwrap() < 48,
            "{text}"
        );
        assert!(full.len() > 8 && full[0] > 9 && *full.last().unwrap() < 50, "{text}");
        assert_eq!(
            seconds[59].2, 0,
            "preemptions would stand for a minute after the last: {text}"
        );
    }

    #[test]
    fn the_assistant_stays_below_its_threshold() {
        let most = minute(assistant()).into_iter().map(|(waiting, ..)| waiting).max();
        assert!(most.is_some_and(|most| (1..=5).contains(&most)), "{most:?}");
    }

    #[test]
    fn only_the_second_gpu_gets_hot() {
        let hot = |seconds| {
            scenario(seconds, 1.0)
                .gpus
                .iter()
                .map(|gpu| gpu.sm_clock == Some(1_065))
                .collect::<Vec<_>>()
        };
        assert_eq!(hot(10.0), [false, false]);
        assert_eq!(hot(30.0), [false, true]);
        assert_eq!(hot(50.0), [false, false]);
    }
}
