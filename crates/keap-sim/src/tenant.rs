//! A tenant: one Keap app with its own data, hooks, faults, quotas and counters.
//!
//! Each part has its own lock, taken for short steps only and never across an await.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::data::Data;
use crate::faults::Faults;
use crate::hooks::Hooks;
use crate::meter::Meter;
use crate::query::page::PageTokens;
use crate::quota::{Limits, Usage};

/// Takes a lock. A thread that panicked while holding it has at worst left one record half-counted, which is no
/// reason to fail every later test.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a tenant's own limits are.
#[derive(Debug, Default)]
pub(crate) struct TenantQuota {
    pub(crate) usage: Usage,
    /// Limits of the credential for this tenant alone, set by a test in place of those shared by all.
    pub(crate) credential_limits: Option<Limits>,
    /// What has been used of them.
    pub(crate) credential_usage: Usage,
}

/// One Keap app.
#[derive(Debug)]
pub(crate) struct Tenant {
    name: String,
    data: Mutex<Data>,
    hooks: Mutex<Hooks>,
    meter: Mutex<Meter>,
    faults: Mutex<Faults>,
    quota: Mutex<TenantQuota>,
    access_token_ttl_s: Mutex<Option<u64>>,
    page_tokens: PageTokens,
    /// Wakes retries that wait for their time.
    pub(crate) hooks_flushed: Notify,
}

impl Tenant {
    /// A tenant that holds the data.
    pub(crate) fn new(name: String, data: Data, seed: u64, page_tokens: PageTokens) -> Self {
        Self {
            name,
            data: Mutex::new(data),
            hooks: Mutex::new(Hooks::new(seed)),
            meter: Mutex::default(),
            faults: Mutex::new(Faults::new(seed)),
            quota: Mutex::default(),
            access_token_ttl_s: Mutex::default(),
            page_tokens,
            hooks_flushed: Notify::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What the page tokens of its lists are made of.
    pub(crate) const fn page_tokens(&self) -> PageTokens {
        self.page_tokens
    }

    pub(crate) fn data(&self) -> MutexGuard<'_, Data> {
        lock(&self.data)
    }

    pub(crate) fn hooks(&self) -> MutexGuard<'_, Hooks> {
        lock(&self.hooks)
    }

    pub(crate) fn meter(&self) -> MutexGuard<'_, Meter> {
        lock(&self.meter)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(crate) fn quota(&self) -> MutexGuard<'_, TenantQuota> {
        lock(&self.quota)
    }

    /// The lifetime of access tokens when it differs from the server's.
    pub(crate) fn access_token_ttl_s(&self) -> Option<u64> {
        *lock(&self.access_token_ttl_s)
    }

    /// Sets the lifetime of access tokens issued from now on.
    pub(crate) fn set_access_token_ttl_s(&self, ttl_s: Option<u64>) {
        *lock(&self.access_token_ttl_s) = ttl_s;
    }
}

/// Whether the text can name a tenant.
pub(crate) fn is_tenant_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}
