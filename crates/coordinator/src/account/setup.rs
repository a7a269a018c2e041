//! What has to be done once after connecting: durable, retried by the alarm, visible in status.
//!
//! Every step is idempotent: it looks for what is there before it makes anything, so that a lost answer makes nothing twice.

use super::credential::Live;
use super::lease::Want;
use super::{Account, time_now};
use crate::database::Database;
use crate::registry::{self, AccountEntry};
use crate::storage::values;
use keapsync_domain::application::KeapApplication;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::EntityType;
use keapsync_domain::secret::Secret;
use keapsync_domain::wire::LinkFields;
use keapsync_engine::quota::Priority;
use keapsync_engine::token::ConnectionState;
use keapsync_keap::caller::Caller;
use keapsync_keap::hooks::HooksApi;
use keapsync_keap::records::{Links, RecordsApi};
use keapsync_keap::transport::Transport;
use keapsync_platform::kv::Cache;
use keapsync_store::Store;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;

/// How long the cached account list in KV lives, in seconds.
const CACHE_TTL_SECONDS: u64 = 3_600;

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Tell the registry (and its cache) about the account.
    Registry,
    /// Mirror the account and its settings to Postgres: its records refer to that row.
    AccountRow,
    /// Find or make the custom fields in Keap that carry row ids: creates in Keap rest on them.
    #[serde(alias = "link_field")]
    LinkFields,
    /// Have the hooks verified by Keap: see `account::hooks`.
    Hooks,
}

/// What is still to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// These, in this order.
    pub open: BTreeSet<Step>,
}

impl Setup {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self { open: BTreeSet::from([Step::Registry, Step::AccountRow, Step::LinkFields, Step::Hooks]) }
    }
}

impl Account<'_> {
    /// What is still to be done.
    pub(super) fn setup(&self) -> Result<Setup, Failure> {
        Ok(self.sql().get(values::SETUP)?.unwrap_or_default())
    }

    /// Asks for steps to be done (again).
    pub(super) fn reopen(&self, steps: &[Step]) -> Result<(), Failure> {
        let mut setup = self.setup()?;
        setup.open.extend(steps);
        self.sql().put(values::SETUP, &setup)
    }

    /// The open steps that can be done here: the hooks are a part of their own, a paused account writes nothing to Keap, and
    /// without a connection Keap cannot be asked.
    pub(super) fn steps_to_do(&self) -> Result<Vec<Step>, Failure> {
        let can_ask_keap = self.is_connected() && !self.is_paused()?;
        let is_doable = |step: &Step| match step {
            Step::Registry | Step::AccountRow => true,
            Step::LinkFields => can_ask_keap,
            Step::Hooks => false,
        };
        Ok(self.setup()?.open.into_iter().filter(is_doable).collect())
    }

    /// Does what is open. Each step stands alone; the first failure is reported after all were tried.
    pub(super) async fn run_setup(&self, database: &Database) -> Result<(), Failure> {
        let mut outcome = Ok(());
        for step in self.steps_to_do()? {
            let done = match step {
                Step::Registry => self.tell_registry().await,
                Step::AccountRow => self.mirror_account(database).await,
                Step::LinkFields => self.ensure_link_fields().await,
                // Closed by the look that finds them verified.
                Step::Hooks => continue,
            };
            match done {
                Ok(()) => self.close(step)?,
                Err(failure) => outcome = outcome.and(Err(failure)),
            }
        }
        outcome
    }

    /// Notes that a step is done.
    pub(super) fn close(&self, step: Step) -> Result<(), Failure> {
        let mut setup = self.setup()?;
        if setup.open.remove(&step) {
            self.sql().put(values::SETUP, &setup)?;
            self.log().info("setup_step_done").account(self.id).word("step", word(step)).emit();
        }
        Ok(())
    }

    async fn tell_registry(&self) -> Result<(), Failure> {
        let (now, token) = (time_now(), self.load_token()?);
        let entry = AccountEntry {
            account_id: self.id.clone(),
            state: connection_word(token.state).to_owned(),
            created_at: now,
            updated_at: now,
            application: self.application_name()?,
            sealed_with: self.sealing_key()?.map(|(name, _)| name),
        };
        registry::register(&self.object.env, entry.clone()).await?;
        // The cache serves only speed: a failure of KV is no reason to try all of this again.
        if let Ok(cache) = Cache::open(&self.object.env) {
            let config = json!({"account": entry, "settings": self.settings()?});
            if let Err(failure) =
                cache.put(&format!("sync_config:{}", self.id), &config, CACHE_TTL_SECONDS).await
            {
                self.log().warn("account_not_cached").account(self.id).failure(&failure).emit();
            }
        }
        Ok(())
    }

    async fn mirror_account(&self, database: &Database) -> Result<(), Failure> {
        let state = connection_word(self.load_token()?.state);
        let settings = crate::storage::to_json(&self.settings()?)?;
        let client = database.client().await?;
        Store::new(&client).upsert_account(self.id, self.id.as_str(), state, &settings).await
    }

    async fn ensure_link_fields(&self) -> Result<(), Failure> {
        let credential = self.credential().await?;
        let found = self
            .leased(&credential, person(8), async |paced| {
                let none = LinkFields::default();
                let api = self.records(paced, &credential, &none);
                Ok::<_, Failure>(LinkFields {
                    contact: Some(api.ensure_link_field(EntityType::Contact).await?),
                    order: Some(api.ensure_link_field(EntityType::Order).await?),
                })
            })
            .await?;
        let fields = self.heed(&credential, found)?;
        self.sql().put(values::LINK_FIELDS, &fields)
    }

    /// The custom fields that carry row ids, as far as they are known.
    pub(super) fn link_fields(&self) -> Result<LinkFields, Failure> {
        Ok(self.sql().get(values::LINK_FIELDS)?.unwrap_or_default())
    }

    /// Calls to Keap for any entity.
    pub(super) fn records<'a, T: Transport>(
        &'a self,
        transport: &'a T,
        credential: &'a Live,
        links: &'a LinkFields,
    ) -> RecordsApi<'a, T> {
        let base_url = &self.config.keap_api_base_url;
        RecordsApi::new(Caller { transport, base_url, access_token: &credential.token }, Links::of(links))
    }

    /// Passes an outcome on; a refusal of the token is noted, so that the next attempt has a fresh one.
    pub(super) fn heed<R>(&self, credential: &Live, outcome: Result<R, Failure>) -> Result<R, Failure> {
        if let Err(failure) = &outcome
            && failure.class == keapsync_domain::failure::FailureClass::Unauthorized
        {
            self.note_rejection(credential.generation)?;
        }
        outcome
    }

    /// Checks a token by one harmless call, and tells which application answers to it.
    pub(super) async fn application_of(
        &self,
        token: &Secret,
        credential: &Live,
    ) -> Result<KeapApplication, Failure> {
        let base_url = &self.config.keap_api_base_url;
        let (checked, application) = self
            .leased_unchecked(credential, person(1), async |paced| {
                HooksApi { transport: paced, base_url, access_token: token }.list().await.map(drop)
            })
            .await?;
        checked.map(|()| application)
    }
}

fn person(calls_max: u32) -> Want {
    Want { priority: Priority::Person, calls_max, calls_per_second_max: 5 }
}

fn word(step: Step) -> &'static str {
    match step {
        Step::Registry => "registry",
        Step::AccountRow => "account_row",
        Step::LinkFields => "link_fields",
        Step::Hooks => "hooks",
    }
}

/// The connection's state in words.
pub(super) fn connection_word(state: ConnectionState) -> &'static str {
    match state {
        ConnectionState::Connected => "connected",
        ConnectionState::NeedsReauthorization => "needs_reauthorization",
        ConnectionState::Revoked => "revoked",
        ConnectionState::Disconnected => "disconnected",
    }
}
