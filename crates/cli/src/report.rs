//! What the person at the terminal reads, and how the process ends.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use crate::config::Mistakes;

/// Why standard output takes nothing any more.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Writes to standard output, until a write fails: [`ended`] reports it once the command has cleaned up.
pub fn print(text: &str) {
    if is_output_lost() {
        return;
    }
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        LOST.get_or_init(|| error);
    }
}

/// Whether nobody reads on, so that a command that only shows something can end.
pub fn is_output_lost() -> bool {
    LOST.get().is_some()
}

/// The exit status of a command that ended with this one. Output that was lost makes it 1, unless its reader, such as
/// `head`, ended first.
pub fn ended(status: ExitCode) -> ExitCode {
    match LOST.get().filter(|error| error.kind() != ErrorKind::BrokenPipe) {
        None => status,
        Some(error) => {
            let _ = writeln!(io::stderr().lock(), "malote: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to standard output.
pub fn line(text: impl AsRef<str>) {
    print(&format!("{}\n", text.as_ref()));
}

/// Writes a line to standard error: progress while a command waits.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "malote: {}", text.as_ref());
}

/// Reports the error; the exit status is 1.
pub fn failed(error: &anyhow::Error) -> ExitCode {
    // The mistakes of a configuration are a list already.
    let text = match error.downcast_ref::<Mistakes>() {
        Some(mistakes) => mistakes.to_string(),
        None => format!("{error:#}"),
    };
    let _ = writeln!(io::stderr().lock(), "malote: {text}");
    ExitCode::FAILURE
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    event::Chain(error).to_string()
}
