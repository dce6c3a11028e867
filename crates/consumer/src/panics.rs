//! Where a handler panicked. The text of a panic may quote an event, and is never kept.

use std::cell::Cell;
use std::panic::PanicHookInfo;

thread_local! {
    static LAST: Cell<Option<String>> = const { Cell::new(None) };
}

/// Remembers where a panic began. The panic hook of a process calls it; without one, a dead letter does not say where its
/// handler panicked.
pub fn remember_panic(info: &PanicHookInfo<'_>) {
    LAST.set(info.location().map(ToString::to_string));
}

/// What an operator reads of the panic that was just caught on this thread.
pub(crate) fn panicked() -> String {
    match LAST.take() {
        Some(location) => format!("the handler panicked at {location}"),
        None => "the handler panicked".to_owned(),
    }
}
