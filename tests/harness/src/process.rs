//! Processes that end with the test: a server, its folder, and a guard that outlives both.
//!
//! Promises that a server never survives the process that started it, even when that process is killed: a small
//! shell (the guard) waits for the end of a pipe that only the starter holds, then ends the server by its process
//! id and removes the folder. Servers and guards live in process groups of their own, so that Ctrl-C in a
//! terminal reaches the tests alone. Knows nothing of RabbitMQ or PostgreSQL.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What the guard runs: the last line it was sent is `<signal> <pid>…`, or empty when nothing is running.
const GUARD: &str = r#"
trap '' HUP INT TERM
while read -r line; do last=$line; done
[ -z "$last" ] || kill -$last
for attempt in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" && exit; sleep 0.5; done
"#;

/// How often a condition is looked at while it is awaited.
pub(crate) const POLL: Duration = Duration::from_millis(25);

/// The shell that ends what was left running and removes the folder.
struct Guard {
    shell: Child,
    stdin: Option<ChildStdin>,
}

impl Guard {
    fn watch(folder: &Path) -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting the guard shell")?;
        let stdin = shell.stdin.take();
        Ok(Self { shell, stdin })
    }

    fn tell(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            // A guard that is gone was killed by hand; the owner's `drop` still ends its servers.
            let _ = writeln!(stdin, "{line}");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The end of the pipe is the guard's signal, so it closes before the wait.
        self.stdin = None;
        let _ = self.shell.wait();
    }
}

struct Processes {
    main: Option<Child>,
    companion: Option<Child>,
    guard: Guard,
}

/// One server process that can be killed, stopped and started again, with an optional companion (RabbitMQ's
/// `epmd`) that stays up in between.
pub(crate) struct Daemon {
    /// The signal that ends the server at once together with the processes it started.
    end_signal: &'static str,
    state: Mutex<Processes>,
}

impl Daemon {
    /// A daemon whose data lie in `folder`, which is removed at the end. Nothing runs yet.
    pub(crate) fn new(folder: &Path, end_signal: &'static str) -> Result<Self> {
        let state = Processes { main: None, companion: None, guard: Guard::watch(folder)? };
        Ok(Self { end_signal, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, Processes> {
        // A test that panicked while it held the lock still wants its servers ended.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn tell_guard(&self, state: &mut Processes) {
        let pids: Vec<_> = [&state.main, &state.companion]
            .into_iter()
            .flatten()
            .map(|child| child.id().to_string())
            .collect();
        let line =
            if pids.is_empty() { String::new() } else { format!("{} {}", self.end_signal, pids.join(" ")) };
        state.guard.tell(&line);
    }

    fn spawn(command: &mut Command, log: &Path) -> Result<Child> {
        let out = fs::File::options().create(true).append(true).open(log).context("opening the log")?;
        let err = out.try_clone().context("opening the log")?;
        command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))
    }

    /// Starts the server; what it prints is appended to `log`.
    pub(crate) fn start(&self, command: &mut Command, log: &Path) -> Result<()> {
        let mut state = self.state();
        state.main = Some(Self::spawn(command, log)?);
        self.tell_guard(&mut state);
        Ok(())
    }

    /// Starts the companion.
    pub(crate) fn start_companion(&self, command: &mut Command, log: &Path) -> Result<()> {
        let mut state = self.state();
        state.companion = Some(Self::spawn(command, log)?);
        self.tell_guard(&mut state);
        Ok(())
    }

    /// The server's process id while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        let mut state = self.state();
        let child = state.main.as_mut()?;
        matches!(child.try_wait(), Ok(None)).then(|| child.id())
    }

    /// `kill -9`, and returns once the process is gone.
    pub(crate) fn kill9(&self) -> Result<()> {
        let mut state = self.state();
        if let Some(mut child) = state.main.take() {
            child.kill().context("killing the server")?;
            child.wait().context("waiting for the killed server")?;
        }
        self.tell_guard(&mut state);
        Ok(())
    }

    /// Sends `signal`, and returns once the process is gone; an error when it takes longer than `patience`.
    pub(crate) fn stop(&self, signal: &str, patience: Duration) -> Result<()> {
        let mut state = self.state();
        if let Some(mut child) = state.main.take() {
            send(signal, child.id())?;
            let deadline = Instant::now() + patience;
            while child.try_wait().context("waiting for the server to stop")?.is_none() {
                if Instant::now() > deadline {
                    state.main = Some(child);
                    bail!("the server did not stop within {patience:?} of SIG{signal}");
                }
                thread::sleep(POLL);
            }
        }
        self.tell_guard(&mut state);
        Ok(())
    }

    /// Ends the server and its companion at once.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        for mut child in [state.main.take(), state.companion.take()].into_iter().flatten() {
            // An error means that the process has ended by itself.
            let _ = send(self.end_signal, child.id());
            let _ = child.wait();
        }
        self.tell_guard(&mut state);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // First the processes, then (by the guard's own drop) the folder they write to.
        self.end();
    }
}

/// Sends a signal by process id. The standard library knows only SIGKILL, and every shell has `kill`.
fn send(signal: &str, pid: u32) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", r#"kill -"$1" "$2""#, "kill", signal, &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .context("running kill")?;
    if !status.success() {
        bail!("no process {pid} to send SIG{signal} to");
    }
    Ok(())
}

/// A loopback port that nothing listens on, and that no other call of this process gets before 16,000 more.
///
/// It lies below the range that the system gives to outgoing connections (32768 and up on Linux): a server that
/// is restarted on its port must not find it taken by a client that was trying to reconnect to it meanwhile.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 16_000;
    const COUNT: u16 = 16_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side start their search in different places.
    let start = std::process::id().wrapping_mul(131) % u32::from(COUNT);
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + u16::try_from((start + step) % u32::from(COUNT)).expect("less than COUNT");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}

/// The last lines of a log, for the message of a server that did not start.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Looks at `ready` until it holds; an error when the daemon ends first or `patience` runs out.
pub(crate) fn await_ready(
    daemon: &Daemon,
    log: &Path,
    patience: Duration,
    mut ready: impl FnMut() -> bool,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        if daemon.pid().is_none() {
            bail!("the server ended while it started:\n{}", tail(log));
        }
        if ready() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the server was not ready after {patience:?}:\n{}", tail(log));
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(pid: u32) -> bool {
        // A process that was killed but not yet collected by init is a zombie: state Z in its stat file.
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[test]
    fn the_end_of_the_starter_ends_the_server_and_removes_its_folder() {
        let folder = tempfile::tempdir().unwrap().keep();
        let mut server = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let mut guard = Guard::watch(&folder).unwrap();
        guard.tell(&format!("KILL {}", server.id()));
        // What the kernel does when the starter is killed: the pipe closes, no destructor has run.
        drop(guard.stdin.take());
        server.wait().unwrap();
        guard.shell.wait().unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn a_dropped_daemon_leaves_neither_process_nor_folder() {
        let folder = tempfile::tempdir().unwrap().keep();
        let daemon = Daemon::new(&folder, "KILL").unwrap();
        daemon.start(Command::new("sleep").arg("600"), &folder.join("log")).unwrap();
        daemon.start_companion(Command::new("sleep").arg("600"), &folder.join("log")).unwrap();
        let pid = daemon.pid().unwrap();
        drop(daemon);
        assert!(!alive(pid));
        assert!(!folder.exists());
    }

    #[test]
    fn free_ports_differ_and_lie_below_the_range_of_outgoing_connections() {
        let ports: Vec<_> = (0..20).map(|_| free_port().unwrap()).collect();
        let mut distinct = ports.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), ports.len());
        assert!(ports.iter().all(|port| *port < 32_768));
    }
}
