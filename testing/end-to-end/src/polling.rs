//! Waiting for what a cluster does in its own time.

use anyhow::Context;
use std::{
    thread,
    time::{Duration, Instant},
};

const POLL: Duration = Duration::from_millis(40);

/// Tries until it works. Past the limit the error of the last try is returned.
///
/// # Errors
/// When no try worked.
pub fn eventually<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("not within {limit:?}: {what}"));
            }
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Checks again and again that something holds for a time.
///
/// # Errors
/// With the first failure.
pub fn throughout(what: &str, time: Duration, mut check: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        check().with_context(|| format!("does not hold: {what}"))?;
        thread::sleep(POLL);
    }
    Ok(())
}

/// Prints how long something took, in one form for all tests.
pub fn took(what: &str, since: Instant) -> Duration {
    let time = since.elapsed();
    println!("  {:>8.2} s  {what}", time.as_secs_f64());
    time
}
