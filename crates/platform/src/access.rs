//! Who calls: the admin, another worker, somebody who showed a wrong credential, or anybody.
//!
//! Each credential may be in the course of a change, in which the one before counts as well. Comparisons are the domain's, in
//! constant time. What a caller may do is each worker's to say.
//!
//! [`Visit`] is what is known of one request before its answer: it takes from the address' bucket when no good credential was shown,
//! and afterwards says what the record of access and the log are to keep.

use crate::address_limit::{self, ADDRESS_HEADER, PAGE_COST, WRONG_CREDENTIAL_COST};
use crate::log::{Log, is_action};
use crate::respond::Answer;
use keapsync_domain::ids::AccountId;
use keapsync_domain::secret::{Generation, Rotating, Secret};
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::{AccessEntry, INTERNAL_TOKEN_HEADER, WAKE_TOKEN_HEADER};
use sha2::{Digest as _, Sha256};
use std::net::IpAddr;

/// Said before a token whose name is made, so that the name is no hash of the token alone.
const NAME_PURPOSE: &str = "keapsync-token-name:";

/// The actor whose credential was refused.
pub const REFUSED: &str = "refused";

/// The actor who connects an account with a browser.
pub const BROWSER: &str = "browser";

/// What stands in the record for a path that holds anything but plain characters.
const ODD_PATH: &str = "odd path";

/// Bytes of a token's name: enough to tell a deployment's few tokens apart, far too few to check a guess by.
const NAME_BYTES: usize = 2;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Another worker.
    Worker,
    /// The database, or whoever has the token that it wakes accounts with. Only where that token counts.
    Waker,
    /// Who knows the admin token.
    Admin(Generation),
    /// Who showed a credential that is none.
    Refused,
    /// Who showed no credential.
    Anybody,
}

impl Caller {
    /// Whether it is another worker or the admin, to whom an account's data may be shown.
    #[must_use]
    pub fn is_worker_or_admin(self) -> bool {
        matches!(self, Self::Worker | Self::Admin(_))
    }

    /// The word in the log and in the record of access.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Waker => "waker",
            Self::Admin(Generation::Current) => "admin",
            Self::Admin(Generation::Previous) => "admin_previous",
            Self::Refused => REFUSED,
            Self::Anybody => "anybody",
        }
    }
}

/// The tokens that count for a request.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// `ADMIN_API_TOKEN`.
    pub admin: &'a Rotating,
    /// `INTERNAL_TOKEN`.
    pub internal: &'a Rotating,
    /// `WAKE_TOKEN`, where an account is woken. Everywhere else it is a wrong credential: it passes through a table of the database
    /// that others may read.
    pub wake: Option<&'a Rotating>,
}

/// Tells who calls by the credentials in a request's headers. `header` gives a header's value; two of one name come joined by a
/// comma and so fit nothing.
#[must_use]
pub fn caller(header: impl Fn(&str) -> Option<String>, tokens: Tokens<'_>) -> Caller {
    let internal = header(INTERNAL_TOKEN_HEADER);
    if internal.as_deref().is_some_and(|token| tokens.internal.which(token).is_some()) {
        return Caller::Worker;
    }
    let authorization = header("authorization");
    let by_bearer = authorization.as_deref().and_then(bearer).and_then(|token| tokens.admin.which(token));
    if let Some(generation) = by_bearer {
        return Caller::Admin(generation);
    }
    let wake = header(WAKE_TOKEN_HEADER);
    if let (Some(given), Some(token)) = (&wake, tokens.wake)
        && token.which(given).is_some()
    {
        return Caller::Waker;
    }
    if internal.is_none() && authorization.is_none() && wake.is_none() {
        Caller::Anybody
    } else {
        Caller::Refused
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Whether an `Authorization` header shows a token that is no admin's but opens one door, such as that of the metrics.
#[must_use]
pub fn shows(authorization: Option<&str>, token: Option<&Secret>) -> bool {
    match (authorization.and_then(bearer), token) {
        (Some(given), Some(token)) => token.is(given),
        _ => false,
    }
}

/// A short name of a token, by which the record of access tells which of several was used.
#[must_use]
pub fn token_name(token: &Secret) -> String {
    let digest = Sha256::new().chain_update(NAME_PURPOSE).chain_update(token.reveal()).finalize();
    hex::encode(digest.get(..NAME_BYTES).unwrap_or_default())
}

/// One request, as far as access is concerned.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Who calls.
    pub caller: Caller,
    method: String,
    path: String,
    address: Option<String>,
}

impl Visit {
    /// Looks at a request's headers.
    #[must_use]
    pub fn new(
        method: &str,
        path: &str,
        header: impl Fn(&str) -> Option<String>,
        tokens: Tokens<'_>,
    ) -> Self {
        let address = header(ADDRESS_HEADER);
        let caller = caller(header, tokens);
        Self { caller, method: method.to_owned(), path: path.to_owned(), address }
    }

    /// Takes from the address' bucket, unless a good credential was shown; the answer, when the bucket is empty.
    pub fn admit(&self, now: Timestamp) -> Result<(), Answer> {
        let cost = match self.caller {
            Caller::Worker | Caller::Waker | Caller::Admin(_) => return Ok(()),
            Caller::Refused => WRONG_CREDENTIAL_COST,
            Caller::Anybody => PAGE_COST,
        };
        address_limit::take(self.address.as_deref(), cost, now)
    }

    /// Takes once more from the address' bucket, because a ticket, state or the like was wrong.
    pub fn charge_wrong_credential(&self, now: Timestamp) {
        // What is not there to take is not owed: the next request finds the bucket empty.
        let _ = address_limit::take(self.address.as_deref(), WRONG_CREDENTIAL_COST - PAGE_COST, now);
    }

    /// What the record of access keeps of it: what an admin did, and whose credential was refused. Reading is not recorded.
    #[must_use]
    pub fn entry(
        &self,
        worker: &str,
        admin_token: &Rotating,
        account: Option<AccountId>,
        status: u16,
        at: Timestamp,
    ) -> Option<AccessEntry> {
        let token = match self.caller {
            Caller::Admin(_) if self.method == "GET" => return None,
            Caller::Admin(Generation::Current) => Some(token_name(admin_token.current())),
            Caller::Admin(Generation::Previous) => admin_token.previous().map(token_name),
            Caller::Refused => None,
            Caller::Worker | Caller::Waker | Caller::Anybody => return None,
        };
        Some(self.entry_of(self.caller.as_str(), token, worker, account, status, at))
    }

    /// What the record of access keeps of somebody who connects an account with a browser.
    #[must_use]
    pub fn browser_entry(
        &self,
        worker: &str,
        account: Option<AccountId>,
        status: u16,
        at: Timestamp,
    ) -> AccessEntry {
        self.entry_of(BROWSER, None, worker, account, status, at)
    }

    fn entry_of(
        &self,
        actor: &str,
        token: Option<String>,
        worker: &str,
        account: Option<AccountId>,
        status: u16,
        at: Timestamp,
    ) -> AccessEntry {
        let action = format!("{} {}", self.method, self.path);
        AccessEntry {
            at,
            worker: worker.to_owned(),
            actor: actor.to_owned(),
            token,
            // Parsed, so that nothing else can stand where an address belongs.
            address: self
                .address
                .as_deref()
                .and_then(|text| text.trim().parse::<IpAddr>().ok())
                .map(|ip| ip.to_string()),
            action: if is_action(&action) { action } else { ODD_PATH.to_owned() },
            account,
            status,
        }
    }
}

/// Says an entry in the log, whether or not it can be recorded.
pub fn log_entry(log: Log, entry: &AccessEntry) {
    let line = if entry.actor == REFUSED { log.warn("access") } else { log.info("access") };
    let line = line.id("actor", &entry.actor).action(&entry.action).address(entry.address.as_deref());
    let line = match &entry.account {
        Some(account) => line.account(account),
        None => line,
    };
    let line = match &entry.token {
        Some(token) => line.id("token", token),
        None => line,
    };
    line.count("status", entry.status).emit();
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: &str = "correct horse battery";
    const INTERNAL: &str = "between the workers";
    const WAKE: &str = "good for waking";

    fn called(headers: &[(&str, &str)]) -> Caller {
        called_where(false, headers)
    }

    fn called_where(wakes: bool, headers: &[(&str, &str)]) -> Caller {
        let header = |name: &str| {
            let values: Vec<&str> = headers
                .iter()
                .filter(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| *value)
                .collect();
            (!values.is_empty()).then(|| values.join(", "))
        };
        let admin = Rotating::new(Secret::new(ADMIN), Some(Secret::new("the admin before")));
        let internal = Rotating::new(Secret::new(INTERNAL), Some(Secret::new("the workers before")));
        let wake = Rotating::new(Secret::new(WAKE), Some(Secret::new("the waker before")));
        let wake = wakes.then_some(&wake);
        caller(header, Tokens { admin: &admin, internal: &internal, wake })
    }

    #[test]
    fn only_the_very_tokens_pass() {
        for (headers, expected) in [
            (vec![], Caller::Anybody),
            (vec![("Authorization", "Bearer correct horse battery")], Caller::Admin(Generation::Current)),
            (vec![("Authorization", "bearer  correct horse battery ")], Caller::Admin(Generation::Current)),
            (vec![("Authorization", "Bearer the admin before")], Caller::Admin(Generation::Previous)),
            (vec![("X-Internal-Token", INTERNAL)], Caller::Worker),
            (vec![("X-Internal-Token", "the workers before")], Caller::Worker),
            // Each credential opens its own door only.
            (vec![("X-Internal-Token", ADMIN)], Caller::Refused),
            (vec![("Authorization", "Bearer between the workers")], Caller::Refused),
            // One good credential is enough; two of one name are none.
            (
                vec![("X-Internal-Token", "x"), ("Authorization", "Bearer correct horse battery")],
                Caller::Admin(Generation::Current),
            ),
            (vec![("X-Internal-Token", INTERNAL), ("x-internal-token", INTERNAL)], Caller::Refused),
            (
                vec![("Authorization", "Bearer correct horse battery"), ("Authorization", "Bearer x")],
                Caller::Refused,
            ),
        ] {
            assert_eq!(called(&headers), expected, "{headers:?}");
        }
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Basic correct horse battery",
            ADMIN,
            "Bearer correct horse",
            "Bearer correct horse battery staple",
            "Bearer Correct horse battery",
        ] {
            assert_eq!(called(&[("authorization", wrong)]), Caller::Refused, "{wrong:?}");
        }
    }

    /// The database's token stands in a table that others may read.
    #[test]
    fn the_token_that_wakes_opens_nothing_else() {
        for good in [WAKE, "the waker before"] {
            assert_eq!(called_where(true, &[("X-Wake-Token", good)]), Caller::Waker);
            assert_eq!(called_where(false, &[("X-Wake-Token", good)]), Caller::Refused);
            // Nor does it in another header.
            assert_eq!(called_where(true, &[("X-Internal-Token", good)]), Caller::Refused);
            let bearer = format!("Bearer {good}");
            assert_eq!(called_where(true, &[("Authorization", bearer.as_str())]), Caller::Refused);
        }
        for wrong in ["", ADMIN, INTERNAL, "good for wakin"] {
            assert_eq!(called_where(true, &[("X-Wake-Token", wrong)]), Caller::Refused, "{wrong:?}");
        }
        assert!(!Caller::Waker.is_worker_or_admin());
        assert_eq!(called_where(true, &[("X-Internal-Token", INTERNAL)]), Caller::Worker);
        assert_eq!(called_where(true, &[]), Caller::Anybody);
    }

    #[test]
    fn a_token_for_one_door_opens_only_that() {
        let token = Secret::new("only the metrics");
        assert!(shows(Some("Bearer only the metrics"), Some(&token)));
        for wrong in [None, Some(""), Some("only the metrics"), Some("Bearer only the"), Some("Bearer ")] {
            assert!(!shows(wrong, Some(&token)), "{wrong:?}");
        }
        assert!(!shows(Some("Bearer only the metrics"), None));
        assert_eq!(called(&[("authorization", "Bearer only the metrics")]), Caller::Refused);
    }

    fn visit(method: &str, path: &str, headers: &'static [(&str, &str)]) -> (Visit, Rotating) {
        let header = |name: &str| {
            headers
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| (*value).to_owned())
        };
        let admin = Rotating::new(Secret::new(ADMIN), Some(Secret::new("the admin before")));
        let internal = Rotating::new(Secret::new(INTERNAL), None);
        (Visit::new(method, path, header, Tokens { admin: &admin, internal: &internal, wake: None }), admin)
    }

    #[test]
    fn what_admins_do_and_who_is_refused_is_recorded() {
        let entry = |method, path, headers| {
            let (visit, admin) = visit(method, path, headers);
            visit.entry("sync", &admin, None, 202, Timestamp(5))
        };
        let done = entry(
            "POST",
            "/sync/full",
            &[("authorization", "Bearer correct horse battery"), ("cf-connecting-ip", "203.0.113.7")],
        )
        .unwrap();
        assert_eq!(
            (done.actor.as_str(), done.action.as_str(), done.status),
            ("admin", "POST /sync/full", 202)
        );
        assert_eq!(
            (done.token, done.address.as_deref()),
            (Some(token_name(&Secret::new(ADMIN))), Some("203.0.113.7"))
        );
        let before = entry("POST", "/x", &[("authorization", "Bearer the admin before")]).unwrap();
        assert_eq!(
            (before.actor.as_str(), before.token),
            ("admin_previous", Some(token_name(&Secret::new("the admin before"))))
        );
        let refused =
            entry("GET", "/sync/status", &[("authorization", "Bearer wrong"), ("cf-connecting-ip", "x\n{}")])
                .unwrap();
        assert_eq!((refused.actor.as_str(), refused.token, refused.address), (REFUSED, None, None));
        assert_eq!(entry("GET", "/%0aforged", &[("authorization", "x")]).unwrap().action, ODD_PATH);
        assert_eq!(entry("GET", "/x", &[("authorization", "Bearer correct horse battery")]), None);
        assert_eq!(entry("POST", "/x", &[("x-internal-token", INTERNAL)]), None);
        assert_eq!(entry("POST", "/x", &[]), None);
    }

    #[test]
    fn good_credentials_are_never_limited_and_wrong_ones_soon() {
        let now = Timestamp(0);
        let good = visit(
            "POST",
            "/x",
            &[("authorization", "Bearer correct horse battery"), ("cf-connecting-ip", "198.51.100.20")],
        )
        .0;
        let wrong =
            visit("POST", "/x", &[("authorization", "Bearer wrong"), ("cf-connecting-ip", "198.51.100.20")])
                .0;
        let refused = (0..100).filter(|_| wrong.admit(now).is_err()).count();
        assert_eq!(refused, 80);
        assert!((0..1_000).all(|_| good.admit(now).is_ok()));
        let stranger = visit("GET", "/health", &[("cf-connecting-ip", "198.51.100.21")]).0;
        assert!(stranger.admit(now).is_ok());
        (0..100).for_each(|_| stranger.charge_wrong_credential(now));
        assert_eq!((0..10).find_map(|_| stranger.admit(now).err()).map(|answer| answer.status), Some(429));
    }

    #[test]
    fn names_tell_tokens_apart_and_tell_nothing_else() {
        let name = token_name(&Secret::new(ADMIN));
        assert_eq!(name.len(), 2 * NAME_BYTES);
        assert_eq!(name, token_name(&Secret::new(ADMIN)));
        assert_ne!(name, token_name(&Secret::new(INTERNAL)));
    }
}
