//! What was run, how long it took and the result: the summary of every command.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The steps of one command, in the order they ran.
#[derive(Default)]
pub struct Report {
    steps: Vec<Step>,
}

struct Step {
    name: String,
    elapsed: Duration,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    Failed(String),
    Skipped(&'static str),
}

impl Report {
    /// Runs a step and keeps its outcome; true when it passed.
    pub fn step(&mut self, name: impl Into<String>, run: impl FnOnce() -> anyhow::Result<()>) -> bool {
        self.step_with(name, run).is_some()
    }

    /// Runs a step that yields what later steps need: `None` when it failed.
    pub fn step_with<T>(
        &mut self,
        name: impl Into<String>,
        run: impl FnOnce() -> anyhow::Result<T>,
    ) -> Option<T> {
        let name = name.into();
        eprintln!("==> {name}");
        let start = Instant::now();
        let result = run();
        let elapsed = start.elapsed();
        let (value, outcome) = match result {
            Ok(value) => (Some(value), Outcome::Passed),
            Err(error) => {
                let error = format!("{error:#}");
                eprintln!("error: {}", error.lines().next().unwrap_or_default());
                (None, Outcome::Failed(error))
            }
        };
        self.steps.push(Step { name, elapsed, outcome });
        value
    }

    /// Notes a step that could not run because of `reason`.
    pub fn skip(&mut self, name: impl Into<String>, reason: &'static str) {
        self.steps.push(Step {
            name: name.into(),
            elapsed: Duration::ZERO,
            outcome: Outcome::Skipped(reason),
        });
    }

    /// Prints what failed, then the summary; the exit code is a success when every step passed.
    pub fn finish(self) -> ExitCode {
        eprint!("{}{}", self.details(), self.summary());
        if self.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn passed(&self) -> bool {
        self.steps.iter().all(|step| matches!(step.outcome, Outcome::Passed))
    }

    /// The errors that take more than the line that the summary has for each.
    fn details(&self) -> String {
        let failed = self.steps.iter().filter_map(|Step { name, outcome, .. }| match outcome {
            Outcome::Failed(error) if error.trim_end().contains('\n') => {
                Some(format!("\n==> FAILED: {name}\n{error}\n"))
            }
            _ => None,
        });
        failed.collect()
    }

    fn summary(&self) -> String {
        let mut text = String::from("\n");
        for Step { name, elapsed, outcome } in &self.steps {
            let seconds = elapsed.as_secs_f64();
            let line = match outcome {
                Outcome::Passed => format!("passed   {seconds:7.1} s  {name}"),
                Outcome::Failed(error) => {
                    format!("FAILED   {seconds:7.1} s  {name}: {}", error.lines().next().unwrap_or_default())
                }
                Outcome::Skipped(reason) => format!("SKIPPED            {name}: {reason}"),
            };
            writeln!(text, "{line}").expect("a string takes every write");
        }
        let total: Duration = self.steps.iter().map(|step| step.elapsed).sum();
        let verdict = if self.passed() { "everything passed" } else { "NOT everything passed" };
        writeln!(text, "{verdict} in {:.1} s", total.as_secs_f64()).expect("a string takes every write");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_step_fails_the_whole_and_the_later_ones_still_count() {
        let mut report = Report::default();
        assert!(report.step("first", || Ok(())));
        assert!(!report.step("second", || anyhow::bail!("broken\nin detail")));
        assert!(report.step("third", || Ok(())));
        report.skip("fourth", "the second failed");
        assert!(!report.passed());
        let summary = report.summary();
        assert!(summary.contains("s  second: broken\n"), "{summary}");
        assert!(summary.contains("s  third\n") && summary.contains("fourth: the second failed"), "{summary}");
        assert!(summary.contains("NOT everything passed"), "{summary}");
        assert_eq!(report.details(), "\n==> FAILED: second\nbroken\nin detail\n");
    }

    #[test]
    fn nothing_but_passed_steps_is_a_success() {
        let mut report = Report::default();
        assert_eq!(report.step_with("first", || Ok(7)), Some(7));
        assert!(report.passed());
    }
}
