//! The account's subscriptions to hooks: made on connecting, looked at every hour, mended, and ended on revoke.
//!
//! What to do is decided in [`keapsync_engine::hook_life`]; this carries it out. A look that mended a subscription leaves a debt in
//! [`keapsync_engine::catch_up`], in the step in which its end is noted, so that nothing that Keap did not deliver is forgotten.

use super::credential::Live;
use super::lease::{LeasedTransport, Want};
use super::setup::Step;
use super::{Account, time_now};
use crate::storage::values;
use futures_util::future::{Either, select};
use keapsync_domain::backoff::delay_ms;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::secret::Secret;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::catch_up::Reason;
use keapsync_engine::hook_life::{Action, Address, HookBook, Offer, actions, run_instead_of};
use keapsync_engine::quota::Priority;
use keapsync_keap::hooks::{HooksApi, RestHook};
use keapsync_keap::transport::Transport;
use keapsync_platform::clock::sleep_ms;
use keapsync_platform::entropy::random_u32;
use keapsync_platform::hook_auth::hook_path;
use keapsync_platform::respond::Answer;
use serde::Serialize;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::pin::pin;

/// Calls of one look: three lists, and an action for each event and for what an earlier address left.
const CALLS_MAX: u32 = 60;

/// Longest wait between two looks while Keap does not verify, in milliseconds: each asks for every subscription.
const UNVERIFIED_DELAY_MAX_MS: i64 = 900_000;

/// How long ending the subscriptions may hold up a revoke, in milliseconds.
const UNSUBSCRIBE_LIMIT_MS: i64 = 15_000;

/// What became of the subscriptions on a revoke.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Unsubscribed {
    /// Ended.
    pub ended: u32,
    /// Left at Keap; none when it could not be asked.
    pub left: Option<u32>,
    /// Why not all were ended, and what to do.
    pub problem: Option<String>,
}

/// What one look saw.
struct Look {
    offer: Offer,
    found: Vec<RestHook>,
    mended: Vec<RestHook>,
    /// The first action that Keap refused.
    refused: Option<Failure>,
}

impl Account<'_> {
    /// What is known of the hooks.
    pub(super) fn hook_book(&self) -> Result<HookBook, Failure> {
        Ok(self.sql().get(values::HOOK_BOOK)?.unwrap_or_default())
    }

    fn hook_address(&self) -> Address {
        let origin = &self.config.webhook_public_url;
        Address {
            url: format!("{origin}{}", hook_path(&self.config.webhook_secret, self.id)),
            prefix: format!("{origin}/webhook/{}/", self.id),
        }
    }

    fn hooks_api<'a, T: Transport>(&'a self, transport: &'a T, access_token: &'a Secret) -> HooksApi<'a, T> {
        HooksApi { transport, base_url: &self.config.keap_api_base_url, access_token }
    }

    /// When the next look is due.
    pub(super) fn next_hooks_at(&self) -> Result<Timestamp, Failure> {
        Ok(self.hook_book()?.due_at(self.settings()?.hook_watch_interval_minutes, time_now()))
    }

    /// Makes the next look due at once.
    pub(super) fn look_at_hooks_soon(&self) -> Result<(), Failure> {
        let book = HookBook { is_due: true, ..self.hook_book()? };
        self.sql().put(values::HOOK_BOOK, &book)
    }

    /// `POST …/hooks/check`: somebody asks for a look.
    pub(super) async fn check_hooks(&self) -> Result<Answer, Failure> {
        self.look_at_hooks_soon()?;
        self.retry_all_parts()?;
        self.object.arm(time_now()).await;
        Ok(Answer::json(202, &json!({"due": true})))
    }

    /// Looks at the subscriptions, mends them, and notes what was missed. The failure says what Keap did not verify.
    pub(super) async fn look_at_hooks(&self) -> Result<(), Failure> {
        // What a revoke ends must not be made again by a look that began before.
        let _guard = self.object.hooks_lock.lock().await;
        if !self.is_connected() {
            return Ok(());
        }
        let credential = self.credential().await?;
        let address = self.hook_address();
        let want = Want { priority: Priority::Person, calls_max: CALLS_MAX, calls_per_second_max: 5 };
        let outcome = self
            .leased(&credential, want, async |paced| self.look(paced, &credential, &address).await)
            .await?;
        let look = self.heed(&credential, outcome)?;
        let now = time_now();
        // Read now: the account may have been revoked meanwhile, which is not to be overwritten.
        let (book, gaps) =
            self.hook_book()?.looked(&look.offer, &address.url, &look.found, &look.mended, now);
        let mut owed = self.catch_up()?;
        for gap in &gaps {
            if let Some((entity, kind)) = run_instead_of(&gap.event_key) {
                owed.owe(entity, kind, Reason::HookGap, (gap.since, now));
            }
        }
        self.sql().put(values::HOOK_BOOK, &book)?;
        self.sql().put(values::CATCH_UP, &owed)?;
        if !gaps.is_empty() {
            self.object.wake_parts();
            self.log().info("hooks_verified").account(self.id).count("events", gaps.len() as u64).emit();
        }
        let silent: Vec<&str> = book.silent(&look.offer.wanted).collect();
        if silent.is_empty() {
            return self.close(Step::Hooks);
        }
        let why = match look.refused {
            Some(failure) => format!("Keap answered: {failure}"),
            None => format!("see that {} is reachable from the internet", self.config.webhook_public_url),
        };
        let wait_ms = delay_ms(book.attempts, random_u32()?, UNVERIFIED_DELAY_MAX_MS, None);
        let message = format!("Keap has not verified the hooks for {}; {why}", silent.join(", "));
        Err(Failure::new(FailureClass::Unavailable, message).with_retry_after_ms(Some(wait_ms)))
    }

    async fn look(
        &self,
        paced: &LeasedTransport<'_>,
        credential: &Live,
        address: &Address,
    ) -> Result<Look, Failure> {
        let api = self.hooks_api(paced, &credential.token);
        let found = api.list().await?;
        let offer = match api.event_keys().await {
            Ok(keys) => Offer::of(Some(keys)),
            Err(failure) if failure.class.counts_against_item() => {
                self.log().warn("event_keys_unknown").account(self.id).failure(&failure).emit();
                Offer::of(None)
            }
            Err(failure) => return Err(failure),
        };
        let todo = actions(&found, address, &offer.wanted);
        if todo.is_empty() {
            return Ok(Look { offer, mended: found.clone(), found, refused: None });
        }
        let mut refused = None;
        for action in &todo {
            let outcome = match action {
                Action::Create { event_key } => api.create(event_key, &address.url).await.map(drop),
                Action::Verify { key } => api.verify(key).await.map(drop),
                Action::Delete { key } => gone(api.delete(key).await),
            };
            match outcome {
                // One event that Keap refuses is no reason to miss the others.
                Err(failure) if failure.class.counts_against_item() => {
                    refused.get_or_insert(failure);
                }
                outcome => outcome?,
            }
        }
        let mended = api.list().await?;
        Ok(Look { offer, found, mended, refused })
    }

    /// Ends the account's subscriptions while the credential still serves for it. Never longer than its limit, and never a reason
    /// not to revoke: Keap makes a subscription inactive by itself when nobody takes its deliveries.
    pub(super) async fn unsubscribe(&self) -> Unsubscribed {
        let (ended, listed, problem) = (Cell::new(0_u32), Cell::new(None), RefCell::new(None));
        let ending = async {
            let _guard = self.object.hooks_lock.lock().await;
            let credential = self.credential().await?;
            let prefix = self.hook_address().prefix;
            let want = Want { priority: Priority::Person, calls_max: CALLS_MAX, calls_per_second_max: 10 };
            self.leased(&credential, want, async |paced| {
                let api = self.hooks_api(paced, &credential.token);
                let ours: Vec<RestHook> =
                    api.list().await?.into_iter().filter(|hook| hook.hook_url.starts_with(&prefix)).collect();
                listed.set(u32::try_from(ours.len()).ok());
                for hook in ours {
                    gone(api.delete(&hook.key).await)?;
                    ended.set(ended.get() + 1);
                }
                Ok::<(), Failure>(())
            })
            .await?
        };
        match select(pin!(ending), pin!(sleep_ms(UNSUBSCRIBE_LIMIT_MS))).await {
            Either::Left((Ok(()), _)) => {}
            Either::Left((Err(failure), _)) => drop(problem.replace(Some(failure.message))),
            Either::Right(_) => drop(problem.replace(Some("Keap took too long".to_owned()))),
        }
        let (ended, listed) = (ended.get(), listed.get());
        let problem = problem.into_inner().map(|why| {
            format!("{why}. Keap ends what is left by itself when nobody takes its deliveries; or delete it in Keap")
        });
        if problem.is_some() {
            self.log().warn("hooks_left").account(self.id).count("ended", ended).emit();
        }
        Unsubscribed { ended, left: listed.map(|listed| listed.saturating_sub(ended)), problem }
    }

    /// The hooks as status shows them.
    pub(super) fn hooks_status(&self) -> Result<Value, Failure> {
        let book = self.hook_book()?;
        let counts = self.hook_counts()?;
        let shown: Vec<Value> = book
            .hooks
            .iter()
            .map(|hook| {
                let counted = counts.get(&hook.event_key).cloned().unwrap_or_default();
                json!({
                    "event_key": hook.event_key,
                    "status": hook.status,
                    "since": hook.since,
                    "seen_at": book.checked_at,
                    "gap_since": hook.gap_since,
                    "last_delivery_at": counted.last_at,
                    "today": {
                        "deliveries": counted.deliveries,
                        "objects": counted.objects,
                        "refused": counted.refused,
                        "given_up": counted.given_up,
                    },
                })
            })
            .collect();
        Ok(Value::Array(shown))
    }

    /// What is seen besides the subscriptions themselves.
    pub(super) fn hook_watch_status(&self) -> Result<Value, Failure> {
        let book = self.hook_book()?;
        Ok(json!({
            "checked_at": book.checked_at,
            "next_check_at": self.next_hooks_at()?,
            "not_synced_keys": book.not_synced_keys,
            "withdrawn_keys": book.withdrawn_keys,
            "catching_up": self.catch_up()?,
        }))
    }
}

/// What is gone already needs no end.
fn gone(outcome: Result<(), Failure>) -> Result<(), Failure> {
    match outcome {
        Err(failure) if failure.class == FailureClass::NotFound => Ok(()),
        outcome => outcome,
    }
}
