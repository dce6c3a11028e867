//! Names in filters: one that is neither configured nor on record is a mistake, not an empty list.
//!
//! Configured names are known, and a list with rows proves its names. Only an empty answer costs a query of the record.

use ledger::Name;
use store::{Connection, Page};
use view::View;

use crate::ConsoleState;
use crate::refusal::Refusal;

/// Refuses the first of these parameters of an empty list whose name is unknown. A source with rows only in that list
/// is known.
pub(crate) async fn check(
    state: &ConsoleState,
    connection: &mut Connection,
    given: &[(String, String)],
    list: Option<&View>,
) -> Result<(), Refusal> {
    for (parameter, value) in given {
        if parameter == "subscription" {
            let known = subscriptions::names(connection).await?;
            if known.contains(value) {
                continue;
            }
            return Err(Refusal::Parameter(unknown(parameter, value, &known)));
        }
        let (name, configured): (_, Vec<&str>) = match parameter.as_str() {
            "source" => (Name::Source, state.sources.iter().map(|source| source.source.as_str()).collect()),
            "provider" => (Name::Provider, state.providers.iter().map(String::as_str).collect()),
            "consumer" => (Name::Consumer, state.consumers.iter().map(|(name, _)| *name).collect()),
            "group" => (Name::Group, Vec::new()),
            "topic" if value.contains(['*', '#']) => {
                return Err(Refusal::Parameter(format!(
                    "topic: {value:?} is a pattern; a list takes a whole topic such as order.created, or the parameter \
                     provider for all topics of one"
                )));
            }
            _ => continue,
        };
        if configured.contains(&value.as_str()) || ledger::is_on_record(connection, name, value).await? {
            continue;
        }
        if let (Name::Source, Some(list)) = (name, list) {
            let of_source = [(parameter.clone(), value.clone())];
            if !list.page(connection, &of_source, &Page::first(1)).await?.is_empty {
                continue;
            }
        }
        let mut known = ledger::on_record(connection, name).await?;
        known.extend(configured.into_iter().map(str::to_owned));
        known.sort_unstable();
        known.dedup();
        return Err(Refusal::Parameter(unknown(parameter, value, &known)));
    }
    Ok(())
}

fn unknown(parameter: &str, value: &str, known: &[String]) -> String {
    let mut text = format!("{parameter}: there is no {parameter} {value:?}");
    if let Some(meant) = event::nearest(value, known.iter().map(String::as_str)) {
        text += &format!("; did you mean {meant:?}?");
    }
    match known {
        [] => format!("{text}, nor any other"),
        _ if text.ends_with('?') => format!("{text} Known: {}", known.join(", ")),
        _ => format!("{text}; known: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_told_with_those_that_there_are() {
        let known = ["go".to_owned(), "rec-1".to_owned()];
        assert_eq!(
            unknown("source", "rec-2", &known),
            r#"source: there is no source "rec-2"; did you mean "rec-1"? Known: go, rec-1"#
        );
        assert_eq!(unknown("group", "0a", &[]), r#"group: there is no group "0a", nor any other"#);
    }
}
