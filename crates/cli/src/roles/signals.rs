//! The signals that end a process: the first asks it to stop, the second ends it at once. SIGHUP makes it reload its
//! secrets.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes both signals from their defaults.
    pub fn take() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// From now on, a signal ends the process at once: 130, as after SIGINT.
    pub fn end_on_next(mut self) {
        tokio::spawn(async move {
            self.next().await;
            super::log_queue::flush();
            std::process::exit(130);
        });
    }
}

/// SIGHUP, which does not end a process that handles it.
pub struct Hangup(Signal);

impl Hangup {
    /// Replaces the default action of the signal.
    pub fn take() -> std::io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for one.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}
