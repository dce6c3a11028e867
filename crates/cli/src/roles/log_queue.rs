//! Log lines on the way to standard error: a bounded queue and one writing thread.
//!
//! Promises that logging never waits for the reader of the log. Lines beyond the bound are dropped and counted, and a
//! later line reports how many; space is reserved for errors. [`flush`] waits briefly until everything is written, at
//! the end of the process.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use std::{fs, mem, thread};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// The bound of the queue: a few thousand lines.
const QUEUE_BYTES: usize = 1024 * 1024;

/// The additional space for errors.
const ERROR_RESERVE_BYTES: usize = 64 * 1024;

/// How long the process waits for the reader at its end.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// The pause before a retry if standard error is a full non-blocking pipe.
const FULL_PIPE_PAUSE: Duration = Duration::from_millis(10);

static INSTALLED: OnceLock<LogQueue> = OnceLock::new();

/// Waits until the log of this process is written, for at most two seconds.
pub fn flush() {
    if let Some(queue) = INSTALLED.get() {
        queue.flush(FLUSH_PATIENCE);
    }
}

/// The queue. Clones share it.
#[derive(Clone, Default)]
pub struct LogQueue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<Backlog>,
    /// Notified when lines arrive and when they are written.
    changed: Condvar,
}

#[derive(Default)]
struct Backlog {
    waiting: Vec<u8>,
    is_writing: bool,
    dropped: u64,
}

impl LogQueue {
    /// The queue of this process, in front of standard error.
    pub fn install() -> io::Result<Self> {
        // Its own handle, so that a writer that waits for the reader holds no lock of the standard library.
        let stderr = fs::File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let queue = Self::start(stderr)?;
        Ok(INSTALLED.get_or_init(|| queue).clone())
    }

    fn start(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Self::default();
        let shared = Arc::clone(&queue.0);
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_to(sink))?;
        Ok(queue)
    }

    /// How many lines were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    fn flush(&self, patience: Duration) {
        let is_busy = |state: &mut Backlog| state.is_writing || !state.waiting.is_empty();
        // Poisoned or timed out: the process ends in any case.
        drop(self.0.changed.wait_timeout_while(self.0.lock(), patience, is_busy));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8], limit: usize) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > limit {
            state.dropped += 1;
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.changed.notify_all();
        }
    }

    fn write_to(&self, mut sink: impl Write) {
        let (mut batch, mut reported) = (Vec::new(), 0);
        loop {
            batch.clear();
            let mut state = self.lock();
            state.is_writing = false;
            self.changed.notify_all();
            while state.waiting.is_empty() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            mem::swap(&mut batch, &mut state.waiting);
            state.is_writing = true;
            drop(state);

            let unwritten = write(&mut sink, &batch).err();
            let (dropped, has_room) = {
                let mut state = self.lock();
                state.dropped += unwritten.unwrap_or(0);
                (state.dropped, state.waiting.len() < QUEUE_BYTES / 2)
            };
            // If nothing can be written, the count is only in the metric.
            if unwritten.is_none() && has_room && dropped > reported {
                let lines = dropped - reported;
                tracing::warn!(lines, "log lines were dropped: standard error was not read fast enough");
                reported = dropped;
            }
        }
    }
}

/// Writes everything, or returns the number of lines that could not be written.
fn write(sink: &mut impl Write, mut text: &[u8]) -> Result<(), u64> {
    while !text.is_empty() {
        match sink.write(text) {
            Ok(written) if written > 0 => text = &text[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PIPE_PAUSE),
            Ok(_) | Err(_) => return Err(text.iter().filter(|byte| **byte == b'\n').count() as u64),
        }
    }
    Ok(())
}

/// Takes one line.
pub struct Line<'a> {
    shared: &'a Shared,
    limit: usize,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.push(line, self.limit);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { shared: &self.0, limit: QUEUE_BYTES }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        let reserve = if *metadata.level() == Level::ERROR { ERROR_RESERVE_BYTES } else { 0 };
        Line { shared: &self.0, limit: QUEUE_BYTES + reserve }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::{Layer, SubscriberExt};

    use super::*;

    /// Accepts a batch whenever it may, and passes it on.
    struct Reader {
        may_take: mpsc::Receiver<()>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.may_take.recv().map_err(|_| ErrorKind::BrokenPipe)?;
            self.taken.send(text.to_vec()).map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_nobody_waits_for_it() {
        let (let_take, may_take) = mpsc::channel();
        let (taken, texts) = mpsc::channel();
        let queue = LogQueue::start(Reader { may_take, taken }).unwrap();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(queue.clone());
        // For the writer's thread too, which says what was dropped; of the other tests, nothing.
        let only_ours = filter_fn(|metadata| metadata.target().starts_with("malote::roles::log_queue"));
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(only_ours));
        tracing::subscriber::set_global_default(subscriber).unwrap();

        let filler = "x".repeat(1000);
        tracing::info!("first");
        for _ in 0..3 * QUEUE_BYTES / filler.len() {
            tracing::info!("{filler}");
        }
        let dropped = queue.dropped();
        assert!(dropped > 900, "{dropped}");
        tracing::error!("an error still fits");
        assert_eq!(queue.dropped(), dropped);

        let next = || {
            let_take.send(()).unwrap();
            String::from_utf8(texts.recv_timeout(Duration::from_secs(10)).unwrap()).unwrap()
        };
        let mut text = String::new();
        while !text.contains("log lines were dropped") {
            text += &next();
        }
        assert!(text.contains("an error still fits"));
        assert!(text.contains(&format!("lines={dropped}")), "{}", text.lines().last().unwrap());

        tracing::info!("last");
        let flushing = queue.clone();
        let flushed = thread::spawn(move || flushing.flush(Duration::from_secs(60)));
        assert!(next().contains("last"));
        flushed.join().unwrap();

        // The reader is gone: lines are counted, and nothing is written.
        drop(let_take);
        tracing::info!("lost");
        queue.flush(Duration::from_secs(60));
        assert_eq!(queue.dropped(), dropped + 1);
    }
}
