//! `sync_accounts`: the mirror of the registry.

use crate::Store;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::AccountId;
use tokio_postgres::types::Type;

const UPSERT: &str = "
    insert into public.sync_accounts as known (account_id, name, status, settings)
    values ($1, $2, $3, $4::jsonb)
    on conflict (account_id) do update
    set name = excluded.name, status = excluded.status, settings = excluded.settings, updated_at = now()
    where (known.name, known.status, known.settings) is distinct from (excluded.name, excluded.status, excluded.settings)";

impl Store<'_> {
    /// Mirrors an account, so that its records have something to refer to. Writes nothing when nothing changed.
    pub async fn upsert_account(
        &self,
        account: &AccountId,
        name: &str,
        status: &str,
        settings_json: &str,
    ) -> Result<(), Failure> {
        self.query(
            UPSERT,
            &[
                (&account.as_str(), Type::TEXT),
                (&name, Type::TEXT),
                (&status, Type::TEXT),
                (&settings_json, Type::TEXT),
            ],
        )
        .await
        .map(|_| ())
    }
}
