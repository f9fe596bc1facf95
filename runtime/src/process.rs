//! Metrics of the process itself, read from `/proc` when somebody asks, and the build that runs.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::path::{Path, PathBuf};

/// Clock ticks per second in `/proc`: Linux fixes it at 100 for user space on every architecture that has GPUs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds `infmon_build_info` and the `process_*` metrics to a registry.
pub fn register(registry: &mut Registry, component: &'static str, version: &'static str) {
    registry.register(
        "infmon_build",
        "Build that runs",
        Info::new([("component", component), ("version", version)]),
    );
    registry.register_collector(Box::new(ProcessCollector::new("/proc")));
}

/// What `/proc` says of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Virtual memory, bytes.
    pub virtual_bytes: u64,
    /// CPU time of all threads, seconds.
    pub cpu_seconds: f64,
    /// Start, seconds since the epoch.
    pub start_time_seconds: f64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Limit of open file descriptors.
    pub max_fds: u64,
}

impl ProcessUsage {
    /// Reads `<proc>/self` and `<proc>/stat`; `None` where they cannot be read.
    #[must_use]
    pub fn read(proc: &Path) -> Option<Self> {
        let read = |name: &str| std::fs::read_to_string(proc.join(name)).ok();
        let status = read("self/status")?;
        let kilobytes = |name: &str| number_after(&status, name).map_or(0, |kb| kb * 1024);
        let stat = read("self/stat")?;
        // The command name stands in parentheses and may hold anything, so fields are counted from the last one.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<f64>().ok();
        let cpu_ticks = ticks()? + ticks()?;
        let start_ticks = fields.nth(6)?.parse::<f64>().ok()?;
        let boot_seconds = number_after(&read("stat")?, "btime")?;
        let limits = read("self/limits").unwrap_or_default();
        Some(Self {
            resident_bytes: kilobytes("VmRSS:"),
            virtual_bytes: kilobytes("VmSize:"),
            cpu_seconds: cpu_ticks / TICKS_PER_SECOND,
            #[allow(clippy::cast_precision_loss, reason = "seconds since the epoch fit")]
            start_time_seconds: boot_seconds as f64 + start_ticks / TICKS_PER_SECOND,
            threads: number_after(&status, "Threads:")?,
            open_fds: std::fs::read_dir(proc.join("self/fd")).map_or(0, |entries| entries.count() as u64),
            max_fds: number_after(&limits, "Max open files").unwrap_or(0),
        })
    }
}

/// The first number on the line that starts with `name`.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[derive(Debug)]
struct ProcessCollector {
    proc: PathBuf,
}

impl ProcessCollector {
    fn new(proc: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into() }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(usage) = ProcessUsage::read(&self.proc) else {
            return Ok(());
        };
        let gauges: [(&str, &str, u64); 5] = [
            ("process_resident_memory_bytes", "Resident memory", usage.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory", usage.virtual_bytes),
            ("process_threads", "Threads", usage.threads),
            ("process_open_fds", "Open file descriptors", usage.open_fds),
            ("process_max_fds", "Limit of open file descriptors", usage.max_fds),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let start = ConstGauge::new(usage.start_time_seconds);
        start.encode(encoder.encode_descriptor(
            "process_start_time_seconds",
            "Start of the process since the epoch",
            None,
            start.metric_type(),
        )?)?;
        let cpu = ConstCounter::new(usage.cpu_seconds);
        cpu.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            "CPU time of all threads",
            None,
            cpu.metric_type(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn reads_this_process() {
        let usage = ProcessUsage::read(Path::new("/proc")).unwrap();
        assert!(usage.resident_bytes > 100_000, "{usage:?}");
        assert!(
            usage.threads >= 1 && usage.open_fds >= 3 && usage.max_fds >= usage.open_fds,
            "{usage:?}"
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - usage.start_time_seconds;
        assert!((-2.0..86_400.0).contains(&age), "started {age} s ago");
    }

    #[test]
    fn counts_fields_behind_a_hostile_command_name() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir_all(folder.path().join("self/fd")).unwrap();
        write("stat", "cpu 1 2 3\nbtime 1000\n");
        write("self/status", "VmSize:\t 20 kB\nVmRSS:\t 10 kB\nThreads:\t3\n");
        write(
            "self/limits",
            "Max open files            1024                 4096                 files\n",
        );
        let before = "7 (a) b (c)) S 1 1 1 0 -1 4194560 100 0 0 0";
        write("self/stat", &format!("{before} 250 50 0 0 20 0 3 0 500 1 2"));
        assert_eq!(
            ProcessUsage::read(folder.path()).unwrap(),
            ProcessUsage {
                resident_bytes: 10_240,
                virtual_bytes: 20_480,
                cpu_seconds: 3.0,
                start_time_seconds: 1005.0,
                threads: 3,
                open_fds: 0,
                max_fds: 1024,
            }
        );
    }

    #[test]
    fn writes_openmetrics() {
        let mut registry = Registry::default();
        register(&mut registry, "node-daemon", "0.1.0");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("infmon_build_info{component=\"node-daemon\",version=\"0.1.0\"} 1"),
            "{text}"
        );
        assert!(text.contains("process_cpu_seconds_total "), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
    }
}
