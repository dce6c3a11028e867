//! Charts as SVG, made here: they need no script. The same numbers are in a table beside them.

use ledger::Interval;

use super::shell::Shell;

/// The size of the drawing, in its own units: the page stretches it.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

/// A time that is measured of an interval.
type Measure = fn(&Interval) -> Option<i64>;

/// Numbers over time.
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What the highest value is.
    pub(crate) highest: String,
    pub(crate) bars: Vec<Bar>,
    /// When it begins and ends.
    pub(crate) ends: [String; 2],
}

/// A value.
pub(crate) struct Bar {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) class: &'static str,
    pub(crate) title: String,
}

impl Chart {
    /// How many events came in each interval.
    pub(crate) fn received(shell: &Shell, intervals: &[Interval], ends: &[String; 2]) -> Self {
        let highest = intervals.iter().map(|one| one.received).max().unwrap_or_default();
        let bar = |(at, one): (usize, &Interval)| {
            let title = format!("{}: {}", view::time(one.from), one.received);
            Bar::new(at, intervals.len(), one.received, highest, "bar-value", title)
        };
        Self {
            title: shell.t("Events received").to_owned(),
            highest: highest.to_string(),
            bars: intervals.iter().enumerate().filter_map(bar).collect(),
            ends: ends.clone(),
        }
    }

    /// Counts of equal times up to now; `ago` says when each was, by how many came after it.
    pub(crate) fn counts(title: &str, counts: &[i64], ago: impl Fn(usize) -> String) -> Self {
        let highest = counts.iter().copied().max().unwrap_or_default();
        let bar = |(at, count): (usize, &i64)| {
            let text = format!("{}: {count}", ago(counts.len() - 1 - at));
            Bar::new(at, counts.len(), *count, highest, "bar-value", text)
        };
        let bars = counts.iter().enumerate().filter_map(bar).collect();
        let ends = [ago(counts.len().saturating_sub(1)), ago(0)];
        Self { title: title.to_owned(), highest: highest.to_string(), bars, ends }
    }

    /// How long they took: the median in front of the slowest.
    pub(crate) fn latency(shell: &Shell, intervals: &[Interval], ends: &[String; 2]) -> Self {
        let highest = intervals.iter().filter_map(|one| one.slowest_ms).max().unwrap_or_default();
        let values: [(Measure, _, _); 2] = [
            (|one| one.slowest_ms, "bar-outline", shell.t("slowest")),
            (|one| one.median_ms, "bar-value", shell.t("median")),
        ];
        let bars = values.into_iter().flat_map(|(value, class, name)| {
            intervals.iter().enumerate().filter_map(move |(at, one)| {
                let value = value(one)?;
                let title = format!("{}, {name}: {value} ms", view::time(one.from));
                Bar::new(at, intervals.len(), value, highest, class, title)
            })
        });
        Self {
            title: shell.t("Latency: median (filled), slowest (outlined)").to_owned(),
            highest: format!("{highest} ms"),
            bars: bars.collect(),
            ends: ends.clone(),
        }
    }
}

impl Bar {
    /// A bar of a chart with so many places; none for nothing.
    fn new(
        at: usize,
        places: usize,
        value: i64,
        highest: i64,
        class: &'static str,
        title: String,
    ) -> Option<Self> {
        if value <= 0 {
            return None;
        }
        let step = WIDTH / places as f64;
        // What is not nothing is seen.
        let height = (value as f64 / highest as f64 * HEIGHT).max(2.0);
        let round = |number: f64| (number * 10.0).round() / 10.0;
        Some(Self {
            x: round(at as f64 * step + step * 0.1),
            y: round(HEIGHT - height),
            width: round(step * 0.8),
            height: round(height),
            class,
            title,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bar_fills_the_chart_and_a_small_one_is_still_seen() {
        let bar = |value| Bar::new(1, 2, value, 1_000, "bar-value", String::new());
        let full = bar(1_000).unwrap();
        assert_eq!((full.x, full.y, full.width, full.height), (330.0, 0.0, 240.0, 120.0));
        let small = bar(1).unwrap();
        assert_eq!((small.y, small.height), (118.0, 2.0));
        assert!(bar(0).is_none());
    }
}
