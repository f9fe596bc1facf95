//! The project's own processes: started with a log file, ended by id, never left behind.

use anyhow::Context;
use serde_json::Value;
use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        mpsc::{self, Sender},
    },
    time::Duration,
};

use crate::polling::eventually;

/// A program that runs in the background. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a process uses.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Resident memory, KiB.
    pub resident_kib: u64,
    /// CPU time since its start.
    pub cpu: Duration,
}

impl Process {
    /// Starts a program; both outputs are appended to the log.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("failed to open {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = spawn_lasting(command).with_context(|| format!("failed to start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Fails when it has ended.
    ///
    /// # Errors
    /// With its exit status.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("{} ended with {status}", self.name),
        }
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// What it uses, as the kernel counts it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let folder = PathBuf::from(format!("/proc/{}", self.id()));
        let status = fs::read_to_string(folder.join("status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|line| line.split_whitespace().next());
        let stat = fs::read_to_string(folder.join("stat"))?;
        // The name of the program is in parentheses and may hold anything; utime and stime are the 12th and 13th field after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).and_then(|field| field.parse::<u64>().ok());
        let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
        Ok(Usage {
            resident_kib: resident.context("no VmRSS")?.parse()?,
            // A tick of these files is 10 ms on every Linux.
            cpu: Duration::from_millis(ticks.context("no CPU time")? * 10),
        })
    }

    /// Asks it to end, as the kubelet does.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id())?;
        // SAFETY: a plain system call; the child is ours and was not waited for, so the id is still its own.
        #[allow(unsafe_code, reason = "the standard library has no safe way to send SIGTERM")]
        let result = unsafe { libc::kill(id, libc::SIGTERM) };
        anyhow::ensure!(result == 0, "{}: {}", self.name, io::Error::last_os_error());
        Ok(())
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it still runs after the limit.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let name = self.name.clone();
        eventually(&format!("the end of {name}"), limit, || {
            self.child.try_wait()?.context("it still runs")
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command line of a pod's first container, as whoever made the pod wrote it, with some options changed.
pub fn arguments(pod: &Value, changed: &[(&str, String)]) -> Vec<String> {
    let name_of = |argument: &str| argument.split('=').next().unwrap_or_default().to_owned();
    let written = pod.pointer("/spec/containers/0/args").and_then(Value::as_array);
    let mut arguments: Vec<String> = written
        .into_iter()
        .flatten()
        .filter_map(|argument| argument.as_str().map(str::to_owned))
        .filter(|argument| changed.iter().all(|(option, _)| *option != name_of(argument)))
        .collect();
    arguments.extend(changed.iter().map(|(option, value)| format!("{option}={value}")));
    arguments
}

type Job = (Command, Sender<io::Result<Child>>);

/// Forks from a thread that lives as long as this process does: the kernel ends a child (`PR_SET_PDEATHSIG`) with the *thread*
/// that forked it, and the test harness ends a thread after each test.
fn spawn_lasting(command: Command) -> io::Result<Child> {
    static FORKER: OnceLock<Sender<Job>> = OnceLock::new();
    let forker = FORKER.get_or_init(|| {
        let (send, receive) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in receive {
                // The receiver waits below; it is gone only when its thread panicked, and then the child is dropped unused.
                let _ = answer.send(end_with_parent(&mut command).spawn());
            }
        });
        send
    });
    let (answer, result) = mpsc::channel();
    forker.send((command, answer)).map_err(io::Error::other)?;
    result.recv().map_err(io::Error::other)?
}

fn end_with_parent(command: &mut Command) -> &mut Command {
    let prepare = || {
        // SAFETY: a plain system call with integer arguments; it neither allocates nor takes a lock.
        #[allow(
            unsafe_code,
            reason = "the standard library has no safe way to set the parent-death signal"
        )]
        let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    command.process_group(0);
    // SAFETY: `prepare` only makes the system call above; its error is built without allocation.
    #[allow(unsafe_code, reason = "code between fork and exec is unsafe by nature")]
    unsafe {
        command.pre_exec(prepare)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_pods_command_line_is_kept_but_for_what_is_changed() {
        let pod = json!({"spec": {"containers": [{"args": ["--a=1", "--b", "--c=2"]}]}});
        let changed = [("--a", "3".to_owned()), ("--a", "4".to_owned())];
        assert_eq!(super::arguments(&pod, &changed), ["--b", "--c=2", "--a=3", "--a=4"]);
    }
}
