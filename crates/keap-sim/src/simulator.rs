//! The state of a running simulator: its options, tenants, credentials and shared quotas.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::credentials::{Credential, Credentials};
use crate::generate;
use crate::options::Options;
use crate::quota::{Exceeded, Limits, Peaks, Usage};
use crate::tenant::{Tenant, is_tenant_name, lock};

/// The tenant that is there from the start.
pub(crate) const DEFAULT_TENANT: &str = "demo";

/// A handle on the state; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Simulator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    address: SocketAddr,
    client: reqwest::Client,
    stopped: watch::Receiver<bool>,
    tenants: Mutex<BTreeMap<String, Arc<Tenant>>>,
    credentials: Mutex<Credentials>,
    client_usage: Mutex<Usage>,
    client_seen: Mutex<Seen>,
    key_usage: Mutex<HashMap<String, Usage>>,
}

/// What the OAuth client has called over all tenants.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) peaks: Peaks,
    /// Calls that a quota refused, its own or a tenant's.
    pub(crate) refused: u64,
}

/// What the quotas say of a call, for its headers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    pub(crate) limits: Limits,
    pub(crate) used_in_minute: u32,
    pub(crate) used_in_day: u32,
    pub(crate) tenant_limits: Limits,
    pub(crate) tenant_used_in_minute: u32,
    pub(crate) tenant_used_in_day: u32,
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Credential(Exceeded),
    Tenant,
}

impl Simulator {
    pub(crate) fn new(
        options: Options,
        address: SocketAddr,
        client: reqwest::Client,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let data = generate::data(&options.size(), options.currency(), options.seed);
        let demo =
            Arc::new(Tenant::new(DEFAULT_TENANT.to_owned(), data, options.seed, options.page_tokens()));
        Self {
            shared: Arc::new(Shared {
                options,
                address,
                client,
                stopped,
                tenants: Mutex::new(BTreeMap::from([(DEFAULT_TENANT.to_owned(), demo)])),
                credentials: Mutex::default(),
                client_usage: Mutex::default(),
                client_seen: Mutex::default(),
                key_usage: Mutex::default(),
            }),
        }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.shared.client
    }

    /// The root of the API, ending in `/crm`.
    pub(crate) fn api_url(&self) -> String {
        format!("http://{}/crm", self.shared.address)
    }

    /// Turns true when the simulator stops.
    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.shared.stopped.clone()
    }

    pub(crate) fn credentials(&self) -> MutexGuard<'_, Credentials> {
        lock(&self.shared.credentials)
    }

    /// The tenant of that name, made on first use; `None` when the text is no name.
    pub(crate) fn tenant(&self, name: &str) -> Option<Arc<Tenant>> {
        if !is_tenant_name(name) {
            return None;
        }
        let mut tenants = lock(&self.shared.tenants);
        if let Some(tenant) = tenants.get(name) {
            return Some(Arc::clone(tenant));
        }
        let (seed, currency) = (self.options().seed, self.options().currency());
        let data = generate::data(&generate::Size::default(), currency, seed);
        let tenant = Arc::new(Tenant::new(name.to_owned(), data, seed, self.options().page_tokens()));
        tenants.insert(name.to_owned(), Arc::clone(&tenant));
        Some(tenant)
    }

    /// The names of all tenants.
    pub(crate) fn tenant_names(&self) -> Vec<String> {
        lock(&self.shared.tenants).keys().cloned().collect()
    }

    /// What the OAuth client has called over all tenants.
    pub(crate) fn client_seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.shared.client_seen)
    }

    /// Counts a call against its credential and its tenant, or refuses it.
    pub(crate) fn admit(
        &self,
        tenant: &Tenant,
        credential: &Credential,
        now_ms: i64,
    ) -> (Allowance, Result<(), Refusal>) {
        let tenant_limits = Limits::of_tenant(self.options());
        let mut quota = tenant.quota();
        let own_limits = quota.credential_limits;
        // The lock order is always the tenant's quota, then one of the shared counters.
        let mut shared_client;
        let mut shared_keys;
        let (limits, usage) = match (own_limits, credential) {
            (Some(limits), _) => (limits, None),
            (None, Credential::OauthClient) => {
                shared_client = lock(&self.shared.client_usage);
                (Limits::of_client(self.options()), Some(&mut *shared_client))
            }
            (None, Credential::ServiceKey(key)) => {
                shared_keys = lock(&self.shared.key_usage);
                (Limits::of_service_key(), Some(shared_keys.entry(key.clone()).or_default()))
            }
        };
        let crate::tenant::TenantQuota { usage: tenant_usage, credential_usage, .. } = &mut *quota;
        let usage = usage.unwrap_or(credential_usage);
        let verdict = if self.options().no_quota && own_limits.is_none() {
            Ok(())
        } else {
            usage
                .check(&limits, now_ms)
                .map_err(Refusal::Credential)
                .and_then(|()| tenant_usage.check(&tenant_limits, now_ms).map_err(|_| Refusal::Tenant))
        };
        if verdict.is_ok() {
            usage.count(now_ms);
            tenant_usage.count(now_ms);
        }
        if *credential == Credential::OauthClient {
            let mut seen = self.client_seen();
            seen.peaks.note(now_ms);
            seen.refused += u64::from(verdict.is_err());
        }
        let allowance = Allowance {
            limits,
            used_in_minute: usage.used_in_minute(),
            used_in_day: usage.used_in_day(),
            tenant_limits,
            tenant_used_in_minute: tenant_usage.used_in_minute(),
            tenant_used_in_day: tenant_usage.used_in_day(),
        };
        (allowance, verdict)
    }
}
