//! Reads XIDs from the kernel's log, `/dev/kmsg`: with the process that caused them, and those that the driver library does not tell.
//! Opt-in: it takes a privileged container.
//!
//! Read from the end: what was there before the daemon started may be of a driver that was loaded anew since. Never blocking: a record is
//! read when it is there, a bounded number in a row.

use crate::metrics::DaemonMetrics;
use infmon_gpu::kernel_log::{KernelEvent, parse_record};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether there is something new: an XID is told with the next report, which comes once a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a log that cannot be opened is tried again.
const TRY_EVERY: Duration = Duration::from_secs(60);
/// Records read in a row before others get their turn.
const RECORDS_IN_A_ROW: usize = 256;
/// The kernel writes records of up to 8 KiB; with less room a read fails.
const RECORD_MAX: usize = 8192;
/// XIDs that wait to be taken in; more at once are counted and left out.
pub(crate) const WAITING_MAX: usize = 256;
/// `O_NONBLOCK` of Linux on the architectures that have GPUs (x86-64, aarch64).
const O_NONBLOCK: i32 = 0o4000;

/// The log, with what of the last record is still to come (from a pipe; the device gives whole records).
struct Log {
    file: File,
    rest: Vec<u8>,
}

/// What came of one look.
struct Look {
    events: Vec<KernelEvent>,
    /// There is more at once.
    more: bool,
    /// Records were overwritten before they were read.
    overrun: bool,
}

impl Log {
    fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
        // A pipe has no end to go to, and nothing from before.
        _ = file.seek(SeekFrom::End(0));
        Ok(Self { file, rest: Vec::new() })
    }

    /// Reads what is there.
    fn look(&mut self) -> std::io::Result<Look> {
        let mut look = Look {
            events: Vec::new(),
            more: true,
            overrun: false,
        };
        let mut buffer = [0; RECORD_MAX];
        for _ in 0..RECORDS_IN_A_ROW {
            match self.file.read(&mut buffer) {
                Ok(0) => {
                    look.more = false;
                    break;
                }
                Ok(length) => self.take(buffer.get(..length).unwrap_or_default(), &mut look.events),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        look.more = false;
                        break;
                    }
                    ErrorKind::Interrupted => {}
                    // The device says so that records were overwritten, and goes on with the oldest that is left.
                    ErrorKind::BrokenPipe => look.overrun = true,
                    _ => return Err(error),
                },
            }
        }
        Ok(look)
    }

    fn take(&mut self, bytes: &[u8], events: &mut Vec<KernelEvent>) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            events.extend(parse_record(line.trim_end_matches('\n')));
        }
        if self.rest.len() > 2 * RECORD_MAX {
            self.rest.clear();
        }
    }
}

/// Reads until `shutdown`. What cannot be read is told once, and is no fault.
pub(crate) async fn follow(
    path: PathBuf,
    sender: mpsc::Sender<KernelEvent>,
    metrics: DaemonMetrics,
    shutdown: CancellationToken,
) {
    let mut told: Option<ErrorKind> = None;
    metrics.kernel_log_readable(false);
    loop {
        let error = match Log::open(&path) {
            Ok(log) => {
                told = None;
                tracing::info!(path = %path.display(), "reading XIDs from the kernel's log");
                metrics.kernel_log_readable(true);
                let error = read(log, &sender, &metrics, &shutdown).await;
                metrics.kernel_log_readable(false);
                let Some(error) = error else { return };
                error
            }
            Err(error) => error,
        };
        if told.replace(error.kind()) != Some(error.kind()) {
            let next = advice(&error);
            tracing::warn!(path = %path.display(), %error, next, "the kernel's log cannot be read: XIDs come from the driver library alone");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(TRY_EVERY) => {}
        }
    }
}

/// Reads one opened log until it fails (`Some`) or the shutdown comes.
async fn read(
    mut log: Log,
    sender: &mpsc::Sender<KernelEvent>,
    metrics: &DaemonMetrics,
    shutdown: &CancellationToken,
) -> Option<std::io::Error> {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return None,
            _ = looks.tick() => {}
        }
        loop {
            let look = match log.look() {
                Ok(look) => look,
                Err(error) => return Some(error),
            };
            if look.overrun {
                metrics.kernel_log_overrun();
            }
            for event in look.events {
                metrics.kernel_log_told(&event);
                if sender.try_send(event).is_err() {
                    metrics.kernel_log_overrun();
                }
            }
            if !look.more || shutdown.is_cancelled() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// What to do about a log that cannot be opened.
fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "the daemon needs CAP_SYSLOG and the device: set kmsg in its node profile, which makes its container privileged"
        }
        ErrorKind::NotFound => "mount the node's /dev/kmsg, or leave --kernel-log out",
        _ => "leave --kernel-log out if this node has no such log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn numbers(look: &Look) -> Vec<u32> {
        let number = |event: &KernelEvent| match event {
            KernelEvent::Xid { number, .. } | KernelEvent::SwitchXid { number, .. } => *number,
            KernelEvent::OffTheBus { .. } => 79,
        };
        look.events.iter().map(number).collect()
    }

    fn line(number: u32) -> String {
        format!("4,1,2,-;NVRM: Xid (PCI:0000:10:00): {number}, pid=1, name=a, text\n SUBSYSTEM=pci\n")
    }

    #[test]
    fn only_what_comes_after_the_start_is_read_and_parts_are_put_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kmsg");
        let mut log = File::create(&path).unwrap();
        log.write_all(line(13).as_bytes()).unwrap();
        let mut read = Log::open(&path).unwrap();
        assert_eq!(numbers(&read.look().unwrap()), [0; 0]);
        let (first, second) = (line(31), line(79));
        let (begin, end) = second.split_at(20);
        log.write_all(format!("{first}{begin}").as_bytes()).unwrap();
        let look = read.look().unwrap();
        assert_eq!((numbers(&look), look.more), (vec![31], false));
        log.write_all(end.as_bytes()).unwrap();
        assert_eq!(numbers(&read.look().unwrap()), [79]);
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kmsg");
        let mut log = File::create(&path).unwrap();
        let mut read = Log::open(&path).unwrap();
        log.write_all(&vec![b'x'; 64 * RECORD_MAX]).unwrap();
        read.look().unwrap();
        assert!(read.rest.len() <= 3 * RECORD_MAX, "{}", read.rest.len());
        log.write_all(format!("\n{}", line(48)).as_bytes()).unwrap();
        assert_eq!(numbers(&read.look().unwrap()), [48]);
    }
}
