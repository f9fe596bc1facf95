//! Standard output: lines go out through a thread, so that a pager that does not read holds up nobody.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Lines that wait while nobody reads; more are dropped.
const WAITING_LINES: usize = 1024;
/// Width of what is no terminal.
const DEFAULT_WIDTH: usize = 120;
/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_millis(300);

/// Standard output.
#[derive(Debug)]
pub(crate) struct Terminal {
    lines: SyncSender<String>,
    ended: Receiver<()>,
}

impl Terminal {
    /// Starts the thread. When nobody reads any more (`infmon demo | head`), `closed` is cancelled.
    pub(crate) fn open(closed: CancellationToken) -> std::io::Result<Self> {
        let (lines, waiting) = mpsc::sync_channel::<String>(WAITING_LINES);
        let (end, ended) = mpsc::channel();
        std::thread::Builder::new().name("terminal".into()).spawn(move || {
            for line in waiting {
                let mut out = std::io::stdout().lock();
                if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                    closed.cancel();
                    break;
                }
            }
            let _ = end.send(());
        })?;
        Ok(Self { lines, ended })
    }

    /// Writes a line, some time soon.
    pub(crate) fn line(&self, line: String) {
        let _ = self.lines.try_send(line);
    }

    /// Waits for the last line, but not for long.
    pub(crate) fn close(self) {
        drop(self.lines);
        let _ = self.ended.recv_timeout(LAST_LINES);
    }
}

/// Whether colours are wanted: a terminal, and nobody said no (<https://no-color.org>).
pub(crate) fn colour() -> bool {
    std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Columns of the terminal.
pub(crate) fn width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|columns| *columns > 0)
        .unwrap_or(DEFAULT_WIDTH)
}
