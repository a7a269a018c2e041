//! The order of things in a refresh, over ports: what is written when, so that its death at any moment loses nothing that
//! Keap has not lost.
//!
//! One at a time, by a lock that dies with whoever holds it. That an attempt begins is durable before Keap hears of it; the
//! token that Keap rotated to is durable before anybody gets it. Whoever comes after a death asks again with the token at
//! hand: when Keap never got the question, that works; when it did, Keap refuses, and the account says that a person has to
//! connect it again and that an answer got lost.

use super::TokenState;
use futures_util::lock::Mutex;
use keapsync_domain::failure::Failure;
use keapsync_domain::secret::Secret;
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::oauth::TokenResponse;

/// What a refresh needs of its surroundings.
pub trait RefreshPorts {
    /// The stored credential.
    fn load(&self) -> Result<TokenState, Failure>;
    /// Writes the credential; durable once [`RefreshPorts::confirm`] returns.
    fn save(&self, state: &TokenState) -> Result<(), Failure>;
    /// Waits until what was written is durable.
    async fn confirm(&self) -> Result<(), Failure>;
    /// Asks Keap for new tokens.
    async fn ask(&self, refresh_token: &Secret) -> Result<TokenResponse, Failure>;
    /// Hears how an attempt ended, once that is durable.
    fn report(&self, next: &TokenState);
    /// The time.
    fn now(&self) -> Timestamp;
}

/// Refreshes, unless `is_done` says of the credential, once it is this caller's turn, that nothing is left to do. Tells the
/// credential as it is then; `entropy` spreads the waits after failures.
pub async fn refresh<P: RefreshPorts>(
    ports: &P,
    turn: &Mutex<()>,
    entropy: u32,
    is_done: impl Fn(&TokenState, Timestamp) -> bool,
) -> Result<TokenState, Failure> {
    let _guard = turn.lock().await;
    let state = ports.load()?;
    if is_done(&state, ports.now()) {
        return Ok(state);
    }
    let Some(refresh_token) = &state.refresh_token else { return Ok(state) };
    ports.save(&state.refresh_begun())?;
    ports.confirm().await?;
    let answer = ports.ask(refresh_token).await;
    // The account may have been connected anew meanwhile: then the answer belongs to an older generation.
    let next = ports.load()?.settle_refresh(state.generation, answer, ports.now(), entropy);
    ports.save(&next)?;
    ports.confirm().await?;
    ports.report(&next);
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Cause, ConnectionState, Decision};
    use futures_util::FutureExt as _;
    use keapsync_domain::failure::FailureClass;
    use proptest::prelude::*;
    use std::cell::{Cell, RefCell};
    use std::collections::{BTreeSet, VecDeque};
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    const LIFE_S: i64 = 86_400;
    const DUE_MS: i64 = LIFE_S * 1000 / 8 * 7;

    /// What Keap does with one question.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Keap {
        Answers,
        IsDownBefore,
        LosesTheAnswer,
        AsksToWait,
        HasWithdrawn,
    }

    const FATES: [Keap; 5] =
        [Keap::Answers, Keap::IsDownBefore, Keap::LosesTheAnswer, Keap::AsksToWait, Keap::HasWithdrawn];

    /// Keap, a storage whose writes are durable only once confirmed, and a clock.
    struct World {
        durable: RefCell<TokenState>,
        written: RefCell<TokenState>,
        /// Refresh tokens that were durable once.
        known: RefCell<BTreeSet<String>>,
        /// The refresh token that Keap takes.
        good: RefCell<Option<String>>,
        fates: RefCell<VecDeque<Keap>>,
        grants: Cell<u32>,
        asked: Cell<u32>,
        now: Cell<i64>,
    }

    impl World {
        fn new(fates: &[Keap]) -> Self {
            let world = Self {
                durable: RefCell::default(),
                written: RefCell::default(),
                known: RefCell::default(),
                good: RefCell::default(),
                fates: RefCell::new(fates.iter().copied().collect()),
                grants: Cell::new(0),
                asked: Cell::new(0),
                now: Cell::new(0),
            };
            let state = TokenState::default().connected(world.grant(), Timestamp(0));
            world.written.replace(state);
            world.make_durable();
            world.now.set(DUE_MS);
            world
        }

        fn grant(&self) -> TokenResponse {
            let number = self.grants.get() + 1;
            self.grants.set(number);
            self.good.replace(Some(format!("r-{number}")));
            TokenResponse {
                access_token: Secret::new(format!("a-{number}")),
                refresh_token: Secret::new(format!("r-{number}")),
                expires_in: LIFE_S,
                scope: None,
            }
        }

        /// The object dies; what was written and not confirmed is there afterwards or not.
        fn die(&self, is_kept: bool) {
            if is_kept {
                self.make_durable();
            } else {
                self.written.replace(self.durable.borrow().clone());
            }
        }

        fn make_durable(&self) {
            let state = self.state();
            self.known.borrow_mut().extend(state.refresh_token.iter().map(|token| token.reveal().to_owned()));
            self.durable.replace(state);
        }

        fn state(&self) -> TokenState {
            self.written.borrow().clone()
        }
    }

    impl RefreshPorts for World {
        fn load(&self) -> Result<TokenState, Failure> {
            Ok(self.state())
        }

        fn save(&self, state: &TokenState) -> Result<(), Failure> {
            self.written.replace(state.clone());
            Ok(())
        }

        async fn confirm(&self) -> Result<(), Failure> {
            pause().await;
            self.make_durable();
            pause().await;
            Ok(())
        }

        async fn ask(&self, refresh_token: &Secret) -> Result<TokenResponse, Failure> {
            pause().await;
            self.asked.set(self.asked.get() + 1);
            assert!(self.durable.borrow().unanswered > 0, "Keap was asked before that was durable");
            let fate = self.fates.borrow_mut().pop_front().unwrap_or(Keap::Answers);
            let failure = |class| Err(Failure::new(class, "no"));
            let is_good = self.good.borrow().as_deref() == Some(refresh_token.reveal());
            let answer = match fate {
                Keap::IsDownBefore => failure(FailureClass::Unavailable),
                Keap::AsksToWait => failure(FailureClass::RateLimited),
                Keap::HasWithdrawn => {
                    self.good.replace(None);
                    failure(FailureClass::Unauthorized)
                }
                _ if !is_good => failure(FailureClass::Unauthorized),
                Keap::LosesTheAnswer => {
                    drop(self.grant());
                    failure(FailureClass::Unavailable)
                }
                Keap::Answers => Ok(self.grant()),
            };
            pause().await;
            answer
        }

        fn report(&self, next: &TokenState) {
            assert_eq!(*next, *self.durable.borrow(), "told of before it was durable");
        }

        fn now(&self) -> Timestamp {
            Timestamp(self.now.get())
        }
    }

    /// Gives others a turn, once.
    async fn pause() {
        let mut is_second = false;
        std::future::poll_fn(|context| {
            if is_second {
                return Poll::Ready(());
            }
            is_second = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn is_fresh(state: &TokenState, now: Timestamp) -> bool {
        state.decide(now) != Decision::Refresh
    }

    type Task<'a> = Pin<Box<dyn Future<Output = Result<TokenState, Failure>> + 'a>>;

    fn poll(task: &mut Task<'_>) -> bool {
        task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// One life of the object: a refresh that dies after so many awaits. Says whether it had ended before.
    fn live(world: &World, awaits: usize, is_kept: bool) -> bool {
        let turn = Mutex::new(());
        let mut task: Task<'_> = Box::pin(refresh(world, &turn, 0, is_fresh));
        let is_over = (0..awaits).any(|_| poll(&mut task));
        drop(task);
        world.die(is_kept);
        is_over
    }

    /// Lives on without deaths until nothing is left to do: as the alarm does.
    fn recover(world: &World) {
        for _ in 0..10 {
            let turn = Mutex::new(());
            let mut task: Task<'_> = Box::pin(refresh(world, &turn, 0, is_fresh));
            while !poll(&mut task) {}
            let state = world.state();
            match state.next_refresh_at() {
                Some(due_at) if state.retry_at.is_some() => world.now.set(due_at.0),
                _ => return,
            }
        }
        panic!("no end of refreshes");
    }

    /// Connected with the token that Keap takes, or in need of a person exactly when there is none we could know.
    fn check(world: &World, story: &str) {
        let state = world.state();
        let known = state.refresh_token.as_ref().map(|token| token.reveal().to_owned());
        match state.state {
            ConnectionState::Connected => {
                assert_eq!(known, *world.good.borrow(), "{story}: connected with a token that Keap refuses");
                assert_eq!(state.decide(world.now()), Decision::Use, "{story}");
                assert_eq!(state.unanswered, 0, "{story}");
            }
            ConnectionState::NeedsReauthorization => {
                assert!(known.is_none(), "{story}");
                let good = world.good.borrow();
                let is_ours = good.as_ref().is_some_and(|token| world.known.borrow().contains(token));
                assert!(
                    !is_ours,
                    "{story}: a person is called although the token that Keap takes was stored"
                );
                let is_withdrawn = good.is_none();
                assert_eq!(
                    state.cause,
                    Some(if is_withdrawn && state.unanswered <= 1 {
                        Cause::Withdrawn
                    } else {
                        Cause::AnswerLost
                    }),
                    "{story}"
                );
            }
            other => panic!("{story}: {other:?}"),
        }
    }

    /// Awaits of one refresh, with some to spare.
    const AWAITS_MAX: usize = 8;

    #[test]
    fn whoever_dies_at_whatever_await_the_account_ends_connected_or_says_why_not() {
        let (mut stories, mut gone, mut ended) = (0, 0, 0);
        for first in FATES {
            for second in FATES {
                for deaths in 0..(AWAITS_MAX * 2).pow(2) {
                    let (one, two) = (deaths % (AWAITS_MAX * 2), deaths / (AWAITS_MAX * 2));
                    let world = World::new(&[first, second]);
                    for death in [one, two] {
                        ended += u32::from(live(&world, death / 2, death % 2 == 0));
                        let due_at = world.state().next_refresh_at().map_or(0, |due_at| due_at.0);
                        world.now.set(world.now.get().max(due_at.min(world.now.get() + 60_000)));
                    }
                    recover(&world);
                    check(&world, &format!("{first:?}, {second:?}, deaths {one} and {two}"));
                    let is_gone = world.state().state == ConnectionState::NeedsReauthorization;
                    stories += 1;
                    gone += u32::from(is_gone);
                }
            }
        }
        assert!(
            gone > stories / 10 && gone < stories * 9 / 10,
            "{gone} of {stories} stories ended without a grant"
        );
        assert!(ended > 0, "no life was long enough to end a refresh");
    }

    #[test]
    fn an_answer_for_an_account_that_was_connected_anew_changes_nothing() {
        let world = World::new(&[]);
        let turn = Mutex::new(());
        let mut task: Task<'_> = Box::pin(refresh(&world, &turn, 0, is_fresh));
        while world.asked.get() == 0 {
            assert!(!poll(&mut task));
        }
        let anew = world.state().connected(world.grant(), world.now());
        world.save(&anew).unwrap();
        while !poll(&mut task) {}
        assert_eq!(world.state(), anew);
        assert!(world.confirm().now_or_never().is_none());
    }

    proptest! {
        /// Whoever of a crowd runs when: one question to Keap, one new token for all.
        #[test]
        fn a_crowd_in_any_order_refreshes_once(
            size in 1_usize..30,
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..400),
        ) {
            let world = World::new(&[]);
            let turn = Mutex::new(());
            let mut crowd: Vec<Task<'_>> =
                (0..size).map(|_| Box::pin(refresh(&world, &turn, 0, is_fresh)) as Task<'_>).collect();
            let mut tokens = Vec::new();
            let mut step = |crowd: &mut Vec<Task<'_>>, position: usize| {
                let task = &mut crowd[position];
                if let Poll::Ready(state) = task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    tokens.push(state.unwrap().access_token.unwrap().reveal().to_owned());
                    drop(crowd.swap_remove(position));
                }
            };
            for index in order {
                if crowd.is_empty() { break; }
                let position = index.index(crowd.len());
                step(&mut crowd, position);
            }
            while !crowd.is_empty() {
                for position in (0..crowd.len()).rev() { step(&mut crowd, position); }
            }
            prop_assert_eq!(world.asked.get(), 1);
            prop_assert_eq!(tokens, vec!["a-2".to_owned(); size]);
        }
    }
}
