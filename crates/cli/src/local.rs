//! Times as the person at the terminal reads them: on the clocks of `TZ`, or of this machine, or with `--utc` in UTC.
//!
//! What programs read, JSON, has every time in UTC.

use std::fs;
use std::sync::OnceLock;

use event::{Timestamp, UTC, Zone};
use serde_json::Value;
use view::Form;

use crate::report;

static ZONE: OnceLock<Zone> = OnceLock::new();

/// Shows times in UTC, if the person wants that. Before any is shown.
pub fn choose(utc: bool) {
    if utc {
        ZONE.get_or_init(utc_zone);
    }
}

/// The zone whose clocks are shown.
pub fn zone() -> &'static Zone {
    ZONE.get_or_init(|| {
        // What tests expect does not depend on the machine.
        if cfg!(test) {
            return utc_zone();
        }
        let given = std::env::var("TZ").ok().filter(|name| !name.is_empty());
        named(given.as_deref()).unwrap_or_else(|| {
            if let Some(name) = given {
                report::note(unreadable(&name));
            }
            utc_zone()
        })
    })
}

/// What is said of a `TZ` that is no name of a zone.
fn unreadable(name: &str) -> String {
    format!("TZ={name:?} is not the name of a time zone such as America/Sao_Paulo; times are shown in UTC")
}

/// A time on the clocks of the zone.
pub fn time(time: Timestamp) -> String {
    zone().clock(time)
}

/// A value in its form.
pub fn written(form: Form, value: &Value) -> String {
    match (form, value.as_str().and_then(|text| text.parse().ok())) {
        (Form::Time, Some(found)) => time(found),
        _ => view::written(form, value),
    }
}

/// The zone of this name as `TZ` has it, else that of the machine.
fn named(given: Option<&str>) -> Option<Zone> {
    match given {
        Some(name) => Zone::new(name.strip_prefix(':').unwrap_or(name)).ok(),
        None => {
            let place = fs::read_link("/etc/localtime").ok()?;
            Zone::new(place.to_str()?.split_once("zoneinfo/")?.1).ok()
        }
    }
}

fn utc_zone() -> Zone {
    Zone::new(UTC).expect("the time zone database is part of the program")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tz_names_a_zone_with_or_without_a_colon() {
        let check = |given: &str, expect: Option<&str>| {
            assert_eq!(named(Some(given)).as_ref().map(Zone::name), expect, "{given}");
        };
        check("America/Sao_Paulo", Some("America/Sao_Paulo"));
        check(":Europe/Lisbon", Some("Europe/Lisbon"));
        check("<-03>3", None);
    }
}
