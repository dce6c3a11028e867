//! Moves the log of the embedded broker into its file while the writer goes on.
//!
//! A checkpoint of a whole log takes tens of milliseconds of reading, writing and `fsync`. On a thread and a connection of its
//! own nobody waits for it. What is written meanwhile is for another one, or for the writer.

use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use rusqlite::Connection;

/// The thread.
pub(super) struct Checkpointer {
    requests: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Checkpointer {
    /// Starts the thread, with a connection of its own to the broker's file.
    pub fn start(connection: Connection) -> io::Result<Self> {
        // Without room: a request is taken only while the thread waits for one.
        let (requests, receiver) = mpsc::sync_channel(0);
        let thread = std::thread::Builder::new()
            .name("broker-log".to_owned())
            .spawn(move || serve(&connection, &receiver))?;
        Ok(Self { requests, thread })
    }

    /// Asks for a checkpoint, unless one is under way.
    pub fn request(&self) {
        let _ = self.requests.try_send(());
    }

    /// Waits for the checkpoint under way and ends the thread.
    pub fn end(self) {
        drop(self.requests);
        if self.thread.join().is_err() {
            tracing::error!("the thread that moves the embedded broker's log panicked");
        }
    }
}

/// How much this thread steps back where processors are scarce (`nice`).
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

fn serve(connection: &Connection, requests: &Receiver<()>) {
    // On Linux that is the thread's own. Where it fails, the thread is as urgent as the others.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICENESS);
    while requests.recv().is_ok() {
        checkpoint(connection);
    }
}

/// Moves as much of the log as possible into the file. What cannot be moved now, because the disk is full for instance, stays
/// in the log until the next time.
pub(super) fn checkpoint(connection: &Connection) {
    let checkpoint = connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)");
    if let Err(error) = checkpoint.and_then(|mut checkpoint| checkpoint.query_row([], |_| Ok(()))) {
        tracing::debug!(%error, "the broker's log stays as it is until a later commit");
    }
}
