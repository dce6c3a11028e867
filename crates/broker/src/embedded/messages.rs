//! Which messages there are, and how many queues hold each: the last one to let go of a message has it deleted.
//!
//! Two bytes a message, in pieces that are dropped with their last message: the memory follows what waits, not how far the
//! oldest and the newest are apart.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::file::MessageId;

/// Messages of a piece.
const PIECE: i64 = 1_024;

pub(super) struct Messages {
    next: MessageId,
    pieces: BTreeMap<i64, Piece>,
}

struct Piece {
    /// How many queues hold each of its messages.
    queues: Box<[u16]>,
    /// How many messages any queue holds.
    held: usize,
}

impl Messages {
    /// No messages yet; those that come have ids above this one.
    pub fn above(highest: MessageId) -> Self {
        Self { next: highest + 1, pieces: BTreeMap::new() }
    }

    /// The id of a new message.
    pub fn next_id(&mut self) -> MessageId {
        self.next += 1;
        self.next - 1
    }

    /// This many more queues hold a message.
    pub fn hold(&mut self, id: MessageId, queues: usize) {
        let piece = self
            .pieces
            .entry(id / PIECE)
            .or_insert_with(|| Piece { queues: vec![0; PIECE as usize].into_boxed_slice(), held: 0 });
        let held = &mut piece.queues[(id % PIECE) as usize];
        piece.held += usize::from(*held == 0 && queues > 0);
        *held = held.saturating_add(u16::try_from(queues).unwrap_or(u16::MAX));
    }

    /// One queue fewer holds a message. Whether that was the last.
    pub fn release(&mut self, id: MessageId) -> bool {
        let Entry::Occupied(mut piece) = self.pieces.entry(id / PIECE) else { return false };
        let held = &mut piece.get_mut().queues[(id % PIECE) as usize];
        *held = held.saturating_sub(1);
        if *held > 0 {
            return false;
        }
        piece.get_mut().held -= 1;
        if piece.get().held == 0 {
            piece.remove();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_queue_lets_a_message_go_and_nothing_stays_of_it() {
        let mut messages = Messages::above(PIECE - 2);
        let (one, two) = (messages.next_id(), messages.next_id());
        assert_eq!((one, two), (PIECE - 1, PIECE));
        messages.hold(one, 2);
        messages.hold(two, 1);
        messages.hold(two, 1);
        assert_eq!(messages.pieces.len(), 2);
        assert_eq!([one, one, two, two].map(|id| messages.release(id)), [false, true, false, true]);
        assert!(messages.pieces.is_empty());
        assert!(!messages.release(one));
    }
}
