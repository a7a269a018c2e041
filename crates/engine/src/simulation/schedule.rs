//! The scheduler: one thread, virtual time, and one event at a time.
//!
//! Whatever happens is an entry of one heap, ordered by its virtual moment; among those of one moment the seed's numbers
//! choose. Each await of a port waits for an entry with a latency of the seed's choosing, so that any other entry may come
//! between any two awaits. A task that is ended is dropped where it stands: its future is gone, its entries find nobody.

use super::random::Random;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// What a task belongs to: everything of one group is ended together.
pub(super) type Group = u64;

/// Somebody who waits.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    fired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Waiter {
    /// Ends the wait.
    pub(super) fn fire(&self) {
        self.fired.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// The wait itself.
pub(super) struct Wait(pub(super) Rc<Waiter>);

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0.fired.get() {
            return Poll::Ready(());
        }
        *self.0.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

/// An entry of the heap; `E` is what happens besides waits that end.
enum Happening<E> {
    Wake(Rc<Waiter>),
    Event(E),
}

struct Entry<E> {
    at_ms: i64,
    tie: u64,
    number: u64,
    what: Happening<E>,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl<E> Eq for Entry<E> {}
impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.tie, self.number).cmp(&(other.at_ms, other.tie, other.number))
    }
}

struct TaskWaker {
    task: u64,
    woken: Arc<Mutex<Vec<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(self.task);
    }
}

struct Task {
    group: Group,
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

/// What the scheduler hands to its caller.
pub(super) enum Step<E> {
    /// An event of the caller's own.
    Event(E),
    /// A wait ended, and the tasks that it let go on were polled.
    Polled,
}

/// Virtual time, the heap and the tasks.
pub(super) struct Schedule<E> {
    now_ms: Cell<i64>,
    random: RefCell<Random>,
    heap: RefCell<BinaryHeap<Reverse<Entry<E>>>>,
    numbers: Cell<u64>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    woken: Arc<Mutex<Vec<u64>>>,
}

impl<E> Schedule<E> {
    /// An empty schedule that begins at `now_ms`.
    pub(super) fn new(now_ms: i64, random: Random) -> Self {
        Self {
            now_ms: Cell::new(now_ms),
            random: RefCell::new(random),
            heap: RefCell::default(),
            numbers: Cell::new(0),
            tasks: RefCell::default(),
            woken: Arc::default(),
        }
    }

    /// The virtual moment, true time.
    pub(super) fn now_ms(&self) -> i64 {
        self.now_ms.get()
    }

    /// Draws from the schedule's numbers.
    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.borrow_mut())
    }

    fn push(&self, delay_ms: i64, what: Happening<E>) {
        let number = self.numbers.get() + 1;
        self.numbers.set(number);
        let tie = self.draw(Random::next);
        let at_ms = self.now_ms.get() + delay_ms.max(0);
        self.heap.borrow_mut().push(Reverse(Entry { at_ms, tie, number, what }));
    }

    /// Lets `event` happen after a delay.
    pub(super) fn after(&self, delay_ms: i64, event: E) {
        self.push(delay_ms, Happening::Event(event));
    }

    /// Fires `waiter` after a delay.
    pub(super) fn fire_after(&self, delay_ms: i64, waiter: Rc<Waiter>) {
        self.push(delay_ms, Happening::Wake(waiter));
    }

    /// Waits.
    pub(super) async fn sleep(&self, delay_ms: i64) {
        let waiter = Rc::new(Waiter::default());
        self.fire_after(delay_ms, Rc::clone(&waiter));
        Wait(waiter).await;
    }

    /// Starts a task; it runs for the first time when the current event is over.
    pub(super) fn spawn(&self, group: Group, future: impl Future<Output = ()> + 'static) {
        let task = self.numbers.get() + 1;
        self.numbers.set(task);
        let waker = Waker::from(Arc::new(TaskWaker { task, woken: Arc::clone(&self.woken) }));
        self.tasks.borrow_mut().insert(task, Task { group, future: Box::pin(future), waker });
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Ends all tasks of a group where they stand. Says how many there were. Not to be called by a task of the group.
    pub(super) fn end(&self, group: Group) -> usize {
        let ended: Vec<u64> =
            self.tasks.borrow().iter().filter(|(_, task)| task.group == group).map(|(id, _)| *id).collect();
        for id in &ended {
            let task = self.tasks.borrow_mut().remove(id);
            drop(task);
        }
        ended.len()
    }

    /// Lets the next thing happen; `None` when nothing is left.
    pub(super) fn step(&self) -> Option<Step<E>> {
        if self.run_woken() {
            return Some(Step::Polled);
        }
        let Reverse(entry) = self.heap.borrow_mut().pop()?;
        self.now_ms.set(entry.at_ms.max(self.now_ms.get()));
        match entry.what {
            Happening::Event(event) => Some(Step::Event(event)),
            Happening::Wake(waiter) => {
                waiter.fire();
                self.run_woken();
                Some(Step::Polled)
            }
        }
    }

    fn run_woken(&self) -> bool {
        let mut any = false;
        loop {
            let woken = std::mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner));
            if woken.is_empty() {
                return any;
            }
            any = true;
            for id in woken {
                let Some(mut task) = self.tasks.borrow_mut().remove(&id) else { continue };
                let waker = task.waker.clone();
                if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                    self.tasks.borrow_mut().insert(id, task);
                }
            }
        }
    }
}
