//! Tables, and the file that they are written to.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// What one scenario found.
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// What was done, and how to read it.
    pub text: String,
    /// The tables: each a header row and rows.
    pub tables: Vec<Table>,
}

/// A table of text.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(header: &[&str]) -> Self {
        Self { header: header.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

impl Section {
    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n", self.title, self.text.trim());
        for Table { header, rows } in &self.tables {
            let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
            let rule = vec!["---".to_owned(); header.len()];
            let lines: Vec<_> = [header, &rule].into_iter().chain(rows).map(|cells| line(cells)).collect();
            write!(text, "\n{}\n", lines.join("\n")).expect("a string takes every write");
        }
        text
    }
}

/// Figures of several rounds.
#[derive(Clone, Default)]
pub struct Figures(Vec<f64>);

impl Figures {
    /// Adds the figure of a round, and shows it.
    pub fn add(&mut self, figure: f64) {
        eprint!(" {figure:.1}");
        self.0.push(figure);
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    /// Each round's figure by the same round's other one.
    pub fn by(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }

    /// Median, and least and greatest, with so many decimals.
    pub fn show(&self, decimals: usize) -> String {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let number = |figure| grouped(figure, decimals);
        match self.0.len() {
            0 => "–".to_owned(),
            1 => number(self.0[0]),
            _ => format!("{} ({}–{})", number(self.median()), number(least), number(greatest)),
        }
    }
}

/// A number with commas between thousands.
pub fn grouped(figure: f64, decimals: usize) -> String {
    let text = format!("{figure:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let digits = whole.trim_start_matches('-');
    let mut grouped = whole[..whole.len() - digits.len()].to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// The machine and the versions of what ran on it, as a section.
pub fn machine() -> Section {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or("?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let printed = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.ok().filter(|text| !text.is_empty()).unwrap_or("?".to_owned())
    };
    let versions = harness::versions(&harness::Root::from_env()).ok();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let mut table = Table::new(&["what", "which"]);
    table.row(["processor".to_owned(), format!("{cores} × {}", value(&read("/proc/cpuinfo"), "model name"))]);
    table.row(["memory".to_owned(), value(&read("/proc/meminfo"), "MemTotal")]);
    table.row(["system".to_owned(), format!("Linux {}", read("/proc/sys/kernel/osrelease").trim())]);
    table.row(["compiler".to_owned(), printed("rustc", &["--version"])]);
    table.row(["servers".to_owned(), versions.map_or("?".to_owned(), |versions| versions.to_string())]);
    Section {
        title: "Machine",
        text: "Shared with others: absolute figures move by a quarter from hour to hour, ratios of one run far less."
            .to_owned(),
        tables: vec![table],
    }
}

/// Puts sections into the file: each in the place of the one with its title, or at the end.
pub fn write(file: &Path, head: &str, tail: &str, sections: &[Section]) -> Result<()> {
    let old = fs::read_to_string(file).unwrap_or_default();
    let tail_title = tail.lines().next().unwrap_or_default();
    let mut kept: Vec<(String, String)> = Vec::new();
    for line in old.lines().skip_while(|line| !line.starts_with("## ")) {
        match line.strip_prefix("## ") {
            Some(_) if line == tail_title => break,
            Some(title) => kept.push((title.to_owned(), format!("{line}\n"))),
            None => {
                let (_, text) = kept.last_mut().context("a heading comes first")?;
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    for section in sections {
        match kept.iter_mut().find(|(title, _)| title == section.title) {
            Some((_, text)) => *text = section.markdown(),
            None => kept.push((section.title.to_owned(), section.markdown())),
        }
    }
    let parts: Vec<_> = [head.trim()]
        .into_iter()
        .chain(kept.iter().map(|(_, text)| text.trim()))
        .chain([tail.trim()])
        .collect();
    Ok(fs::write(file, parts.join("\n\n") + "\n")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_with_their_range_and_divided_round_by_round() {
        let figures = |all: &[f64]| Figures(all.to_vec());
        assert_eq!(figures(&[12_345.6, 999.0, 1_000.0]).show(0), "1,000 (999–12,346)");
        assert_eq!(figures(&[0.5]).show(2), "0.50");
        assert_eq!(figures(&[10.0, 30.0]).by(&figures(&[20.0, 20.0])).show(1), "1.0 (0.5–1.5)");
    }

    #[test]
    fn a_section_takes_the_place_of_the_one_with_its_title() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("benchmarks.md");
        let section = |title, text: &str| Section { title, text: text.to_owned(), tables: Vec::new() };
        write(&file, "# Head", "## Tail\n\nend", &[section("A", "one"), section("B", "two")]).unwrap();
        write(&file, "# Head", "## Tail\n\nend", &[section("A", "three")]).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, "# Head\n\n## A\n\nthree\n\n## B\n\ntwo\n\n## Tail\n\nend\n");
    }
}
