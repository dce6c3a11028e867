//! Questions to the person at the terminal.

use std::io::{IsTerminal, Write};

use anyhow::{Result, bail};

/// More events than this are not sent or discarded without asking.
pub const ASKED_BEYOND: i64 = 1_000;

/// Asks for a yes. Another answer is an error, and so is a terminal where nobody can be asked.
pub fn confirm(question: &str) -> Result<()> {
    let answer =
        answer(&format!("{question} [y/N]"), &format!("{question} Give --yes where nobody can be asked"))?;
    if !matches!(answer.as_str(), "y" | "Y" | "yes") {
        bail!("nothing was done");
    }
    Ok(())
}

/// The answer to a question; `otherwise` is the error where nobody can be asked.
pub fn answer(question: &str, otherwise: &str) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        bail!("{otherwise}");
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question} ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}
