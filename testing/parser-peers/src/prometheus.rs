//! Prometheus' own parsers, in a Go process that is asked body by body.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use infmon_control_plane::Tools;

/// Labels with the name among them, sorted, and the bits of the value.
pub type Series = (Vec<(Vec<u8>, Vec<u8>)>, u64);

/// What Prometheus' parsers find in a body; `Err` with what they say about a body that they refuse.
#[derive(Debug)]
pub struct Found {
    /// The parser of the text format 0.0.4.
    pub text: Result<Vec<Series>, String>,
    /// The parser of OpenMetrics.
    pub openmetrics: Result<Vec<Series>, String>,
}

/// The process.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Prometheus {
    /// Starts the process, which is built first where it was not yet.
    ///
    /// # Errors
    ///
    /// Where Go is missing or too old, or the build fails.
    pub fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(Tools::parser_peers()?)
            .arg("series")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start parser-peers")?;
        let stdin = child.stdin.take().context("parser-peers has no standard input")?;
        let stdout = child.stdout.take().context("parser-peers has no standard output")?;
        Ok(Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    /// What is found in one body.
    ///
    /// # Errors
    ///
    /// Where the process is gone or answers something else.
    pub fn series(&mut self, body: &[u8]) -> anyhow::Result<Found> {
        self.stdin.write_all(&u32::try_from(body.len())?.to_le_bytes())?;
        self.stdin.write_all(body)?;
        self.stdin.flush()?;
        let mut found = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            if self.stdout.read_line(&mut line)? == 0 {
                bail!("parser-peers ended");
            }
            let text = line.trim_end();
            if text == "." {
                break;
            }
            match text.split_once(' ') {
                Some(("text" | "openmetrics", "ok")) => found.push(Ok(Vec::new())),
                Some(("text" | "openmetrics", said)) => found.push(Err(said.to_owned())),
                _ => match found.last_mut() {
                    Some(Ok(series)) => series.push(series_of(text)?),
                    _ => bail!("parser-peers says {text:?}"),
                },
            }
        }
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(text), Some(openmetrics)) => Ok(Found { text, openmetrics }),
            _ => bail!("parser-peers says too little"),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // The test is over; what is left of the process is nobody's concern.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `BITS NAME=VALUE...`, all in hexadecimal.
fn series_of(line: &str) -> anyhow::Result<Series> {
    let mut words = line.split(' ');
    let bits = u64::from_str_radix(words.next().unwrap_or_default(), 16)?;
    let mut labels = Vec::new();
    for word in words {
        let (name, value) = word.split_once('=').context("a label without a value")?;
        labels.push((bytes(name)?, bytes(value)?));
    }
    Ok((labels, bits))
}

fn bytes(hexadecimal: &str) -> anyhow::Result<Vec<u8>> {
    hexadecimal
        .as_bytes()
        .chunks(2)
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect()
}
