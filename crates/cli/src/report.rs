//! What is told to the person at the terminal, and how the process ends.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use crate::config::Mistakes;

/// Writes to standard output. A reader that has gone, such as `head`, ends the process quietly.
pub fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        // Nowhere is left to say it.
        Ok(()) | Err(_) => {}
    }
}

/// Writes a line to standard output.
pub fn line(text: impl AsRef<str>) {
    print(&format!("{}\n", text.as_ref()));
}

/// Tells what went wrong and gives the exit status: 1.
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
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
