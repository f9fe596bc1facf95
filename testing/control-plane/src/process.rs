//! Child processes that never outlive the test.
//!
//! A child asks the kernel to be killed when its parent ends (`PR_SET_PDEATHSIG`). For the kernel the parent is the
//! *thread* that forked, and the Rust test harness ends a thread after each test; so long-lived children are forked by one
//! thread that lives as long as the process, and a plane shared between tests survives the test that started it.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        mpsc::{self, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// How often a waiting loop looks again.
const POLL: Duration = Duration::from_millis(10);
/// How much of a log goes into an error.
const TAIL_LINES: usize = 25;

/// Whether this process may do what only root may.
#[must_use]
pub fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
}

/// Kills a process that is not a child of this one, as `kill -KILL` does.
///
/// # Errors
/// When there is no such process, or it belongs to somebody else.
pub fn kill(id: u32) -> anyhow::Result<()> {
    let mut command = Command::new("kill");
    command.args(["-KILL", &id.to_string()]);
    run(command, "", Duration::from_secs(10)).map(drop)
}

/// A server that runs in the background and writes to a log file. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program in its own process group. The log is appended to, so a restart keeps what came before.
    pub fn start(name: &str, program: &Path, args: &[String], log: &Path) -> anyhow::Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("failed to open {}", log.display()))?;
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = spawn_lasting(command).with_context(|| format!("failed to start {}", program.display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails with the end of the log when the process has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}\n{}", self.name, self.log_tail()),
        }
    }

    /// The end of the log, for an error message.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        format!("last lines of {}:\n{}", self.log.display(), lines[from..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a short command to its end and returns its standard output. An error holds the command line and its standard error.
pub fn run(mut command: Command, input: &str, limit: Duration) -> anyhow::Result<String> {
    let line = command_line(&command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = end_with_parent(&mut command)
        .spawn()
        .with_context(|| format!("failed to start {line}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(mut stdin) = stdin {
                // A command that does not read its input closes the pipe; its own exit status tells whether that matters.
                let _ = stdin.write_all(input.as_bytes());
            }
        });
        let stdout = scope.spawn(move || read_all(stdout));
        let stderr = scope.spawn(move || read_all(stderr));
        let status = wait(&mut child, limit);
        let stdout = stdout.join().unwrap_or_default();
        let stderr = stderr.join().unwrap_or_default();
        match status? {
            Some(status) if status.success() => Ok(stdout),
            Some(status) => bail!("{line} ended with {status}: {}", stderr.trim()),
            None => bail!("{line} did not end within {limit:?}: {}", stderr.trim()),
        }
    })
}

/// Calls `done` until it says yes. `what` completes the sentence "timed out waiting for ...".
pub fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    while !done()? {
        if Instant::now() >= deadline {
            bail!("timed out after {limit:?} waiting for {what}");
        }
        thread::sleep(POLL);
    }
    Ok(())
}

fn wait(child: &mut Child, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

fn read_all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What could be read before an error is still the best there is to show.
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// Makes the command's process its own group (a Ctrl-C in the terminal goes to the test alone) that the kernel kills when
/// the forking thread ends.
fn end_with_parent(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    let prepare = move || {
        // SAFETY: both are plain system calls with integer arguments; neither allocates nor takes a lock, so they may run
        // between fork and exec.
        #[allow(
            unsafe_code,
            reason = "the standard library has no safe way to set the parent-death signal"
        )]
        let (result, actual) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have ended before the request was made: then nothing would ever end this child.
        if u32::try_from(actual) != Ok(parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    command.process_group(0);
    // SAFETY: `prepare` only makes the system calls above; its error is built without allocation.
    #[allow(unsafe_code, reason = "code between fork and exec is unsafe by nature")]
    unsafe {
        command.pre_exec(prepare)
    }
}

type Job = (Command, Sender<io::Result<Child>>);

/// Forks from a thread that lives as long as this process does.
fn spawn_lasting(command: Command) -> io::Result<Child> {
    static FORKER: OnceLock<Sender<Job>> = OnceLock::new();
    let forker = FORKER.get_or_init(|| {
        let (send, receive) = mpsc::channel::<Job>();
        thread::spawn(move || {
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

#[cfg(test)]
mod tests {
    use std::{process::Command, thread, time::Duration};

    use super::{Process, run, wait_for};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_is_returned_and_input_is_passed_on() {
        assert_eq!(
            run(shell("cat; echo done"), "text ", Duration::from_secs(10)).unwrap(),
            "text done\n"
        );
    }

    #[test]
    fn an_error_names_the_command_and_what_it_said() {
        let error = run(shell("echo no such thing >&2; exit 3"), "", Duration::from_secs(10))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no such thing") && error.contains("exit status: 3"),
            "{error}"
        );
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let error = run(shell("exec sleep 60"), "", Duration::from_millis(50))
            .unwrap_err()
            .to_string();
        assert!(error.contains("did not end within 50ms"), "{error}");
    }

    #[test]
    fn a_server_outlives_the_thread_that_started_it_and_ends_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let started = thread::spawn({
            let log = log.clone();
            move || Process::start("sleep", "/bin/sleep".as_ref(), &["60".to_owned()], &log).unwrap()
        });
        let mut process = started.join().unwrap();
        // The kernel sends the signal when the thread ends, so a wrong design shows at once; look a few times all the same.
        for _ in 0..5 {
            process.check().unwrap();
            thread::sleep(Duration::from_millis(10));
        }
        let stat = format!("/proc/{}/stat", process.child.id());
        drop(process);
        assert!(!std::fs::exists(stat).unwrap());
    }

    #[test]
    fn an_ended_server_shows_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let args = ["-c".to_owned(), "echo cannot bind; exit 1".to_owned()];
        let mut process = Process::start("server", "/bin/sh".as_ref(), &args, &folder.path().join("log")).unwrap();
        let mut error = String::new();
        wait_for("the process to end", Duration::from_secs(10), || {
            error = process.check().err().map(|e| e.to_string()).unwrap_or_default();
            Ok(!error.is_empty())
        })
        .unwrap();
        assert!(
            error.starts_with("server ended with exit status: 1") && error.ends_with("cannot bind"),
            "{error}"
        );
    }
}
