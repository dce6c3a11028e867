//! Metrics of the spool, in total and per lane.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use metrics::{Counter, Gauge, counter, gauge};

use super::{Inner, SpoolState};

/// The maximum number of series of single lanes: further lanes are in the totals only.
const SERIES: usize = 512;

pub(super) struct Metrics {
    events: Gauge,
    bytes: Gauge,
    oldest: Gauge,
    lanes: Gauge,
    set_aside: Gauge,
    set_aside_oldest: Gauge,
    pub stored: Counter,
    pub drained: Counter,
    pub refused: Counter,
    /// Publishes of the drain that the broker refused: each leaves one more copy in the queues that accepted it.
    pub refused_tries: Counter,
    series: Mutex<BTreeMap<Series, Gauge>>,
}

/// A metric of a lane: its name, the lane, the reason.
type Series = (&'static str, String, String);

impl Metrics {
    pub(super) fn new(limit_bytes: u64) -> Self {
        gauge!("spool_limit_bytes").set(limit_bytes as f64);
        Self {
            events: gauge!("spool_events"),
            bytes: gauge!("spool_bytes"),
            oldest: gauge!("spool_oldest_seconds"),
            lanes: gauge!("spool_lanes"),
            set_aside: gauge!("spool_set_aside_events"),
            set_aside_oldest: gauge!("spool_set_aside_oldest_seconds"),
            stored: counter!("spool_stored_total"),
            drained: counter!("spool_drained_total"),
            refused: counter!("spool_refused_total"),
            refused_tries: counter!("spool_refused_tries_total"),
            series: Mutex::default(),
        }
    }

    /// Sets the series of single lanes; those that have ended are 0.
    fn show_series(&self, values: BTreeMap<Series, f64>) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, gauge) in series.iter() {
            gauge.set(values.get(key).copied().unwrap_or(0.0));
        }
        for (key, value) in values {
            if series.len() < SERIES && !series.contains_key(&key) {
                let (name, lane, why) = key.clone();
                let (exchange, routing_key) = lane.split_once(' ').unwrap_or_default();
                let labels = [
                    ("exchange", exchange.to_owned()),
                    ("routing_key", routing_key.to_owned()),
                    ("why", why),
                ];
                let gauge = gauge!(name, &labels);
                gauge.set(value);
                series.insert(key, gauge);
            }
        }
    }
}

/// The age in seconds.
fn age(time: Option<u64>) -> f64 {
    let now = u64::try_from(event::now().as_second()).unwrap_or_default();
    time.map_or(0.0, |time| now.saturating_sub(time) as f64)
}

fn series(state: &SpoolState) -> BTreeMap<Series, f64> {
    let mut values = BTreeMap::new();
    for (name, lane) in &state.lanes.in_use {
        let mut show = |metric, value| {
            values.insert((metric, name.clone(), lane.trouble.kind.to_owned()), value);
        };
        show("spool_lane_events", lane.messages as f64);
        show("spool_lane_oldest_seconds", age(lane.oldest));
    }
    for group in state.aside.groups() {
        let key = ("spool_set_aside_lane_events", group.lane.to_owned(), group.reason.to_owned());
        values.insert(key, group.events as f64);
    }
    values
}

impl Inner {
    /// Shows how full the spool is.
    pub(super) fn show(&self) {
        let state = self.state();
        self.metrics.events.set(state.messages as f64);
        self.metrics.bytes.set(state.bytes as f64);
        self.metrics.oldest.set(age(state.lanes.in_use.values().filter_map(|lane| lane.oldest).min()));
        self.metrics.lanes.set(state.lanes.in_use.len() as f64);
        self.metrics.set_aside.set(state.aside.events() as f64);
        self.metrics.set_aside_oldest.set(age(state.aside.oldest()));
        self.metrics.show_series(series(&state));
    }
}
