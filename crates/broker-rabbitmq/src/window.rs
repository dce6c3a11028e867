//! What one publishing task has in flight: a set of futures, polled only when one was woken.
//!
//! Promises what plain sets of futures do not: when [`Window::poll_settled`] reports an outcome, every outcome
//! that was resolved before it has been reported with it or earlier. Wake-ups queue in the order they happen, and
//! the queue is emptied before anything is reported. A slot is made when it is first needed and then reused, so that a
//! publish allocates nothing here. Knows nothing of AMQP.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Futures in flight, each with what it is about.
pub(crate) struct Window<T, F: Future> {
    slots: Vec<Slot<T, F>>,
    free: Vec<usize>,
    woken: Arc<Woken>,
    inserted: u64,
}

struct Slot<T, F> {
    /// Its number in the order of insertion.
    occupant: Option<(u64, T)>,
    future: Pin<Box<Option<F>>>,
    waker: Waker,
}

/// The slots that were woken, in that order, and the task to wake for them.
#[derive(Default)]
struct Woken {
    queue: Mutex<VecDeque<usize>>,
    task: AtomicWaker,
}

impl Woken {
    fn queue(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct SlotWaker {
    slot: usize,
    woken: Arc<Woken>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.queue().push_back(self.slot);
        self.woken.task.wake();
    }
}

impl<T, F: Future> Window<T, F> {
    /// An empty window.
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), woken: Arc::default(), inserted: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a future; it is first polled, in the order of insertion, by the next [`Window::poll_settled`].
    pub(crate) fn insert(&mut self, occupant: T, future: F) {
        let slot = self.free.pop().unwrap_or_else(|| self.grow());
        self.slots[slot].occupant = Some((self.inserted, occupant));
        self.slots[slot].future.set(Some(future));
        self.inserted += 1;
        self.woken.queue().push_back(slot);
    }

    /// One more slot.
    fn grow(&mut self) -> usize {
        let slot = self.slots.len();
        let waker = Waker::from(Arc::new(SlotWaker { slot, woken: self.woken.clone() }));
        self.slots.push(Slot { occupant: None, future: Box::pin(None), waker });
        slot
    }

    /// Appends what has settled to `outcomes`; ready when that is anything.
    pub(crate) fn poll_settled(
        &mut self,
        cx: &mut Context<'_>,
        outcomes: &mut Vec<(T, F::Output)>,
    ) -> Poll<()> {
        self.woken.task.register(cx.waker());
        let before = outcomes.len();
        loop {
            // The lock is not held while polling: a poll may wake.
            let Some(slot) = self.woken.queue().pop_front() else { break };
            let Slot { occupant, future, waker } = &mut self.slots[slot];
            // A slot may be woken after it was emptied, or twice.
            let Some(running) = future.as_mut().as_pin_mut() else { continue };
            if let Poll::Ready(output) = running.poll(&mut Context::from_waker(waker)) {
                future.set(None);
                let (_, occupant) = occupant.take().expect("a slot with a future has an occupant");
                self.free.push(slot);
                outcomes.push((occupant, output));
            }
        }
        if outcomes.len() > before { Poll::Ready(()) } else { Poll::Pending }
    }

    /// What has been in flight longest.
    pub(crate) fn oldest(&self) -> Option<&T> {
        let occupants = self.slots.iter().filter_map(|slot| slot.occupant.as_ref());
        occupants.min_by_key(|(number, _)| *number).map(|(_, occupant)| occupant)
    }

    /// Drops every future; what they were about, in the order of insertion.
    pub(crate) fn into_occupants(self) -> impl Iterator<Item = T> {
        let mut occupants: Vec<_> = self.slots.into_iter().filter_map(|slot| slot.occupant).collect();
        occupants.sort_by_key(|(number, _)| *number);
        occupants.into_iter().map(|(_, occupant)| occupant)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::oneshot;

    use super::*;

    async fn settled<F: Future>(window: &mut Window<u32, F>) -> Vec<(u32, F::Output)> {
        let mut outcomes = Vec::new();
        poll_fn(|cx| window.poll_settled(cx, &mut outcomes)).await;
        outcomes
    }

    #[tokio::test]
    async fn outcomes_are_reported_in_the_order_they_happen() {
        let mut window = Window::new();
        let mut senders = Vec::new();
        for number in 0..3 {
            let (sender, receiver) = oneshot::channel();
            senders.push(sender);
            window.insert(number, receiver);
        }
        let mut outcomes = Vec::new();
        // The first poll lets every future register its waker.
        assert!(poll_fn(|cx| Poll::Ready(window.poll_settled(cx, &mut outcomes))).await.is_pending());
        for (sender, value) in senders.into_iter().rev().zip([10, 20, 30]) {
            sender.send(value).unwrap();
        }
        let outcomes = settled(&mut window).await;
        assert_eq!(outcomes, [(2, Ok(10)), (1, Ok(20)), (0, Ok(30))]);
        assert!(window.is_empty());
    }

    #[tokio::test]
    async fn a_slot_is_used_again_and_the_rest_leaves_in_order() {
        let mut window = Window::new();
        let (first, receiver) = oneshot::channel::<()>();
        window.insert(1, receiver);
        let (_second, receiver) = oneshot::channel();
        window.insert(2, receiver);
        first.send(()).unwrap();
        assert_eq!(settled(&mut window).await, [(1, Ok(()))]);
        assert_eq!((window.slots.len(), window.len()), (2, 1));
        let (_third, receiver) = oneshot::channel();
        window.insert(3, receiver);
        assert_eq!((window.slots.len(), window.len(), window.oldest()), (2, 2, Some(&2)));
        assert_eq!(window.into_occupants().collect::<Vec<_>>(), [2, 3]);
    }
}
