//! `SYNC_CACHE`: short-lived caches in Workers KV.
//!
//! KV is eventually consistent, up to a minute behind and one write per second and key: it holds nothing whose staleness
//! could do harm, so never tokens, cursors or what decides about duplicates. A cache that fails is a cache that is empty.

use keapsync_domain::failure::{Failure, FailureClass};
use serde::Serialize;
use serde::de::DeserializeOwned;
use worker::{Env, KvStore};

/// Name of the KV binding.
pub const CACHE_BINDING: &str = "SYNC_CACHE";

/// Shortest life that KV takes, in seconds.
const TTL_SECONDS_MIN: u64 = 60;

/// The cache namespace.
#[derive(Clone, Debug)]
pub struct Cache {
    store: KvStore,
}

impl Cache {
    /// Opens the namespace bound as [`CACHE_BINDING`].
    pub fn open(env: &Env) -> Result<Self, Failure> {
        let store = env.kv(CACHE_BINDING).map_err(|_| {
            let message = format!(
                "the KV binding {CACHE_BINDING} is missing: add it under [[kv_namespaces]] in this worker's wrangler configuration"
            );
            Failure::new(FailureClass::Unavailable, message)
        })?;
        Ok(Self { store })
    }

    /// The value under `key`; `None` when there is none, when it has another shape, or when KV does not answer.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let text = self.store.get(key).text().await.ok().flatten()?;
        serde_json::from_str(&text).ok()
    }

    /// Keeps a value for `ttl_seconds`, a minute at least.
    pub async fn put<T: Serialize>(&self, key: &str, value: &T, ttl_seconds: u64) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|_| Failure::new(FailureClass::Unexpected, format!("the value for {key} is no JSON")))?;
        let unavailable = |_| Failure::new(FailureClass::Unavailable, format!("KV did not take {key}"));
        self.store
            .put(key, text)
            .map_err(unavailable)?
            .expiration_ttl(ttl_seconds.max(TTL_SECONDS_MIN))
            .execute()
            .await
            .map_err(unavailable)
    }

    /// Forgets a value.
    pub async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.store
            .delete(key)
            .await
            .map_err(|_| Failure::new(FailureClass::Unavailable, format!("KV did not delete {key}")))
    }

    /// Whether KV answers at all.
    pub async fn is_accessible(&self) -> bool {
        self.store.get("health").text().await.is_ok()
    }
}
