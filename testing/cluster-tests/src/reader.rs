//! One who reads a metric all the time, as many HPAs would, and counts what failed.

use http::Method;
use infmon_end_to_end::{Answer, Api};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

use crate::Session;

/// Time between two reads.
const PERIOD: Duration = Duration::from_millis(100);

/// What was read.
#[derive(Debug, Default, Clone)]
pub struct Readings {
    /// Reads that gave a value.
    pub good: usize,
    /// The others: when, counted from the start, and what came instead.
    pub failed: Vec<(Duration, String)>,
}

/// Reads a path of the API until it is stopped.
#[derive(Debug)]
pub struct Reader {
    session: &'static Session,
    stop: Arc<AtomicBool>,
    readings: Arc<Mutex<Readings>>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Starts reading ten times a second.
    #[must_use]
    pub fn start(session: &'static Session, path: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let readings = Arc::new(Mutex::new(Readings::default()));
        let task = session.runtime().spawn(read(
            session.api().clone(),
            path.to_owned(),
            Arc::clone(&stop),
            Arc::clone(&readings),
        ));
        Self {
            session,
            stop,
            readings,
            task,
        }
    }

    /// Stops, and tells what was read.
    #[must_use]
    pub fn stop(self) -> Readings {
        self.stop.store(true, Ordering::Relaxed);
        // It ends after the read that is under way, which has a deadline; a panic in it would show as a failure to read.
        let _ = self.session.runtime().block_on(self.task);
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn read(api: Api, path: String, stop: Arc<AtomicBool>, readings: Arc<Mutex<Readings>>) {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let at = begun.elapsed();
        let answer = api
            .send_async(Method::GET, &path, "application/json", String::new())
            .await
            .and_then(Answer::json);
        let mut readings = readings.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(_) => readings.good += 1,
            Err(error) => readings.failed.push((at, format!("{error:#}"))),
        }
    }
}
