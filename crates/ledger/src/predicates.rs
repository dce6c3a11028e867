//! When a dead letter, a mark or an event is open, dead, pending, discarded or routed: the only place that defines it
//! in SQL.
//!
//! Each predicate takes the alias of its row and is true or false for every row, never null: it can be negated, and
//! joined with `AND` and `OR`. The aliases within are its own.
//!
//! ```text
//! a row of dead_letters     open_letter | discarded_letter | resent_letter     exactly one
//!                           replaced_letter                                    of the discarded ones
//!                           awaited | handed_back                              of a resent one that is not handled
//!                           dead_at, discarded_at                              at the letter's consumer
//! a row of unrouted_events  open_mark, discarded_mark                          or neither: sent again
//! a row of rejected_bodies  open_body
//! a row of unsettled_events pending_at                                         at the row's consumer
//! a row of either           is_duplicate
//! a row of jobs             unfinished, at_work
//! an event                  duplicate, unrouted, dead, pending, discarded_by_…, routed
//! ```
//!
//! The predicates of an event do not exclude each other. An event has the state of the first that is true, in the order of
//! [`crate::EventState::combined`]; where none is true, it is handled.

/// A predicate of a row with this alias.
pub(crate) type Predicate = fn(&str) -> String;

/// A consumer has handled the event: `claims` has one with `row`'s event and consumer.
pub(crate) fn handled(row: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM claims i WHERE i.event_id = {row}.event_id AND i.consumer = {row}.consumer)"
    )
}

/// A dead letter is open while no operator has closed it or sent it again, or once it has come back from the job that
/// sent it last.
pub(crate) fn open_letter(letter: &str) -> String {
    format!("(NOT {} AND NOT {})", discarded_letter(letter), is_resent(letter, "died_in"))
}

/// A dead letter is discarded when an operator closed it without sending it again, or sent an edited event in its place.
pub(crate) fn discarded_letter(letter: &str) -> String {
    format!("({letter}.discarded_in IS NOT NULL OR {})", replaced_letter(letter))
}

/// A dead letter is replaced when an edited event was sent in its place: for good, even if the original dies again.
pub(crate) fn replaced_letter(letter: &str) -> String {
    format!("({letter}.replaced_by IS NOT NULL)")
}

/// A dead letter is resent when a job sent it again and it has not come back.
pub(crate) fn resent_letter(letter: &str) -> String {
    format!("(NOT {} AND {})", discarded_letter(letter), is_resent(letter, "died_in"))
}

/// An event is dead at a consumer whose letter is open, unless that consumer has handled the event after all.
pub(crate) fn dead_at(letter: &str) -> String {
    format!("({} AND NOT {})", open_letter(letter), handled(letter))
}

/// An event is discarded at a consumer whose letter is, unless that consumer has handled the event after all. The claim of one
/// that was replaced has no effect behind it: it keeps the original from having any.
pub(crate) fn discarded_at(letter: &str) -> String {
    format!("({} AND ({} OR NOT {}))", discarded_letter(letter), replaced_letter(letter), handled(letter))
}

/// A claim has an effect behind it unless the letter of its event and consumer was replaced.
pub(crate) fn has_effect(claim: &str) -> String {
    format!("(NOT {})", has_letter(claim, &replaced_letter("d")))
}

/// A mark is open while no operator has discarded it or sent its event again, or once the event has come back unrouted
/// from the job that sent it last.
pub(crate) fn open_mark(mark: &str) -> String {
    format!("({mark}.discarded_in IS NULL AND NOT {})", is_resent(mark, "marked_in"))
}

/// A mark is discarded when an operator closed it without sending its event again.
pub(crate) fn discarded_mark(mark: &str) -> String {
    format!("({mark}.discarded_in IS NOT NULL)")
}

/// A rejected body is open while no operator has discarded it or sent it again.
pub(crate) fn open_body(body: &str) -> String {
    format!("({body}.resent_in IS NULL AND {body}.discarded_in IS NULL)")
}

/// An event is pending at a consumer while `unsettled_events` names both, the consumer has not handled it, it is no duplicate, and
/// its letter, if there is one, is not discarded.
pub(crate) fn pending_at(unsettled: &str) -> String {
    format!(
        "(NOT {} AND NOT {} AND NOT {})",
        handled(unsettled),
        is_duplicate(unsettled),
        has_letter(unsettled, &discarded_letter("d"))
    )
}

/// The event of `row` is on record as a duplicate, which is not delivered.
pub(crate) fn is_duplicate(row: &str) -> String {
    format!("EXISTS (SELECT 1 FROM events o WHERE o.id = {row}.event_id AND {})", duplicate("o"))
}

/// The consumer of `row` has given up its event, and that letter is open.
pub(crate) fn given_up(row: &str) -> String {
    has_letter(row, &open_letter("d"))
}

/// The consumer of `row` has given up what this job sent.
pub(crate) fn given_up_in(row: &str, job: &str) -> String {
    has_letter(row, &format!("d.died_in = {job}"))
}

/// The consumer of `row` has given up what this job or a later one sent.
pub(crate) fn given_up_since(row: &str, job: &str) -> String {
    has_letter(row, &format!("d.died_in >= {job}"))
}

/// An event is a duplicate if its sender had sent the same fact before.
pub(crate) fn duplicate(event: &str) -> String {
    format!("({event}.duplicate_of IS NOT NULL)")
}

/// An event is unrouted while its mark is open.
pub(crate) fn unrouted(event: &str) -> String {
    has_mark(event, &open_mark("u"))
}

/// An event is dead while it is dead at one consumer at least.
pub(crate) fn dead(event: &str) -> String {
    format!("EXISTS (SELECT 1 FROM dead_letters d WHERE d.event_id = {event}.id AND {})", dead_at("d"))
}

/// An event is pending while it is pending at one consumer at least.
pub(crate) fn pending(event: &str) -> String {
    format!("EXISTS (SELECT 1 FROM unsettled_events s WHERE s.event_id = {event}.id AND {})", pending_at("s"))
}

/// An event is discarded when its mark is; see [`discarded_by_letter`] for the other way.
pub(crate) fn discarded_by_mark(event: &str) -> String {
    has_mark(event, &discarded_mark("u"))
}

/// An event is discarded when it is discarded at one consumer at least.
pub(crate) fn discarded_by_letter(event: &str) -> String {
    format!("EXISTS (SELECT 1 FROM dead_letters d WHERE d.event_id = {event}.id AND {})", discarded_at("d"))
}

/// A dead letter is handed back when it was sent again to the queue of another service: its outcome there is unknown. What is
/// sent to a consumer of ours has a row in `unsettled_events` until it is handled.
fn handed_back(letter: &str) -> String {
    format!("({} AND NOT {} AND NOT {})", resent_letter(letter), awaited(letter), handled(letter))
}

/// A dead letter is awaited when it was sent again to a consumer of ours, which may not have handled it yet.
pub(crate) fn awaited(letter: &str) -> String {
    format!(
        "({} AND EXISTS (SELECT 1 FROM unsettled_events s WHERE s.event_id = {letter}.event_id \
         AND s.consumer = {letter}.consumer))",
        resent_letter(letter)
    )
}

/// An event is routed when none of our consumers takes it, or ever handled or gave it up: only other queues hold it.
pub(crate) fn routed(event: &str) -> String {
    format!(
        "({event}.consumers = '' AND NOT EXISTS (SELECT 1 FROM claims i WHERE i.event_id = {event}.id) \
         AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.event_id = {event}.id AND NOT {}))",
        handed_back("d")
    )
}

/// Every consumer of the event has handled it, counted by claims: positive evidence instead of the absence of another
/// state.
pub(crate) fn handled_by_all(event: &str) -> String {
    let names = format!("{event}.consumers");
    format!(
        "((SELECT count(*) FROM claims i WHERE i.event_id = {event}.id \
         AND ' ' || {names} || ' ' LIKE '% ' || i.consumer || ' %') \
         = CASE {names} WHEN '' THEN 0 ELSE length({names}) - length(replace({names}, ' ', '')) + 1 END)"
    )
}

/// A job is unfinished until it is done, cancelled or failed: a console works on it, or will.
pub(crate) fn unfinished(job: &str) -> String {
    format!("({job}.state IN ('waiting', 'running', 'paused'))")
}

/// An unfinished job is at work, or waits for its turn, unless an operator has paused it.
pub(crate) fn at_work(job: &str) -> String {
    format!("({job}.state <> 'paused')")
}

/// The letter or mark comes from a later job than the one on record, which may have none.
pub(crate) fn is_later(excluded: &str, on_record: &str) -> String {
    format!("{excluded} > coalesce({on_record}, '')")
}

/// A job sent the event of the row again, and it has not come back since. Ids of jobs sort by time.
fn is_resent(row: &str, came_back_in: &str) -> String {
    format!("({row}.resent_in IS NOT NULL AND coalesce({row}.{came_back_in}, '') < {row}.resent_in)")
}

/// The consumer of `row` has a letter `d` of its event that satisfies the condition.
fn has_letter(row: &str, fits: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM dead_letters d WHERE d.event_id = {row}.event_id AND d.consumer = {row}.consumer \
         AND {fits})"
    )
}

/// The event has a mark `u` that satisfies the condition.
fn has_mark(event: &str, fits: &str) -> String {
    format!("EXISTS (SELECT 1 FROM unrouted_events u WHERE u.event_id = {event}.id AND {fits})")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use store::Row;
    use store::many::fetch;

    use super::*;
    use crate::tests::fresh;

    #[tokio::test]
    async fn a_letter_is_open_discarded_or_resent_and_never_two_of_them_or_none() {
        let (store, _folder) = fresh().await;
        let jobs = "(SELECT NULL AS job UNION ALL SELECT '1' UNION ALL SELECT '2')";
        let one_if = |condition: &str| format!("CASE WHEN {condition} THEN 1 ELSE 0 END");
        let states = [open_letter("s"), discarded_letter("s"), resent_letter("s")];
        let [open, discarded, resent] = states.each_ref().map(|state| one_if(state));
        let negated = states.map(|state| one_if(&format!("NOT {state}"))).join(" + ");
        let text = format!(
            "SELECT count(*), CAST(sum({open}) AS BIGINT), CAST(sum({discarded}) AS BIGINT), \
             CAST(sum({resent}) AS BIGINT), CAST(min({open} + {discarded} + {resent}) AS BIGINT), \
             CAST(max({open} + {discarded} + {resent}) AS BIGINT), CAST(min({negated}) AS BIGINT) \
             FROM (SELECT r.job AS resent_in, d.job AS died_in, c.job AS discarded_in, x.id AS replaced_by \
             FROM {jobs} r CROSS JOIN {jobs} d CROSS JOIN {jobs} c \
             CROSS JOIN (SELECT NULL AS id UNION ALL SELECT '3') x) s"
        );
        let rows = fetch(&mut store.read().await.unwrap(), text, []).await.unwrap();
        let counts: Vec<i64> = (0..7).map(|column| rows[0].get(column)).collect();
        // Resent are those sent in 1 that never died, and those sent in 2 that never died or died in 1; replaced is half.
        assert_eq!(counts, [54, 6, 45, 3, 1, 1, 2]);
    }

    #[test]
    fn no_other_file_of_this_crate_spells_a_predicate() {
        let spellings = [
            "discarded_in IS",
            "replaced_by IS",
            "resent_in IS",
            "duplicate_of IS",
            "died_in >",
            "marked_in >",
            " d.died_in",
            "'waiting', 'running', 'paused')",
            "<> 'paused'",
            "SELECT 1 FROM claims",
            "SELECT 1 FROM dead_letters",
            "SELECT 1 FROM unrouted_events",
            "SELECT 1 FROM unsettled_events",
        ];
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut read = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap();
                if path.is_dir() {
                    folders.push(path);
                } else if name.ends_with(".rs") && !["predicates.rs", "tests.rs"].contains(&name) {
                    let text = std::fs::read_to_string(&path).unwrap();
                    for spelling in spellings {
                        assert!(
                            !text.contains(spelling),
                            "{}: {spelling:?} belongs to predicates.rs",
                            path.display()
                        );
                    }
                    read += 1;
                }
            }
        }
        assert!(read > 20, "only {read} files were read");
    }
}
