//! The life of an account's hooks: what to subscribe to, what to mend, and what was missed meanwhile.
//!
//! Keap delivers only through a Verified subscription, makes one Inactive after four attempts that failed, and never makes up
//! for what happened until it is verified again. So what Keap lists is looked at again and again. A subscription that was not
//! found Verified leaves a gap: from the last look that found it so until the one that does again. What changed in a gap has to be
//! read, see [`crate::catch_up`].
//!
//! Nothing here calls Keap: a look is a list, [`actions`] to carry out, a second list, and [`HookBook::looked`].

use keapsync_domain::ids::EntityType;
use keapsync_domain::run::RunKind;
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::hooks::RestHook;
use serde::{Deserialize, Serialize};

/// State of a subscription that delivers.
pub const VERIFIED: &str = "Verified";

/// Said of a subscription that Keap does not list.
pub const MISSING: &str = "Missing";

/// Events of the kinds that are synced, as far as they are known: what is subscribed to when Keap does not say what it offers.
pub const KNOWN_KEYS: [&str; 14] = [
    "contact.add",
    "contact.delete",
    "contact.edit",
    "contactGroup.add",
    "contactGroup.applied",
    "contactGroup.delete",
    "contactGroup.edit",
    "contactGroup.removed",
    "order.add",
    "order.delete",
    "order.edit",
    "subscription.add",
    "subscription.delete",
    "subscription.edit",
];

/// Keys that are heeded of one list: Keap offers about fifty.
const KEYS_MAX: usize = 200;

/// What Keap offers, sorted by what it is to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// To be subscribed to: events of the kinds that are synced, those that are new to us among them.
    pub wanted: Vec<String>,
    /// Events of other kinds.
    pub not_synced: Vec<String>,
    /// Events that are known here and that Keap does not offer.
    pub withdrawn: Vec<String>,
}

impl Offer {
    /// Sorts the keys that Keap lists; `None` or nothing when it does not say.
    #[must_use]
    pub fn of(listed: Option<Vec<String>>) -> Self {
        let known = || KNOWN_KEYS.map(str::to_owned).to_vec();
        let mut listed = listed.filter(|keys| !keys.is_empty()).unwrap_or_else(known);
        listed.sort_unstable();
        listed.dedup();
        listed.truncate(KEYS_MAX);
        let withdrawn: Vec<String> =
            known().into_iter().filter(|key| listed.binary_search(key).is_err()).collect();
        let (wanted, not_synced) = listed.into_iter().partition(|key| entity_of(key).is_some());
        Self { wanted, not_synced, withdrawn }
    }
}

/// The kind of record that an event is about; `None` where that is not synced.
fn entity_of(event_key: &str) -> Option<EntityType> {
    match event_key.split_once('.')? {
        ("contact", _) | ("contactGroup", "applied" | "removed") => Some(EntityType::Contact),
        ("contactGroup", _) => Some(EntityType::Tag),
        ("order", _) => Some(EntityType::Order),
        ("subscription", _) => Some(EntityType::Subscription),
        _ => None,
    }
}

/// The run that finds what such events would have told: Keap's polls tell neither what is gone nor which tags a contact has, so
/// that takes reading everything.
#[must_use]
pub fn run_instead_of(event_key: &str) -> Option<(EntityType, RunKind)> {
    let kind = match event_key.rsplit('.').next() {
        Some("add" | "edit") => RunKind::Incremental,
        _ => RunKind::Full,
    };
    entity_of(event_key).map(|entity| (entity, kind))
}

/// Where an account's hooks lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address that is in force.
    pub url: String,
    /// What every address of the account begins with, those of earlier secrets too.
    pub prefix: String,
}

/// Something to do about a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Subscribe to an event.
    Create {
        /// Which.
        event_key: String,
    },
    /// Have a subscription verified again.
    Verify {
        /// Keap's id of it.
        key: String,
    },
    /// End a subscription.
    Delete {
        /// Keap's id of it.
        key: String,
    },
}

/// What has to be done so that every wanted event is delivered once. Only subscriptions to the account's own addresses are
/// touched; what is new comes before what is old is ended, so that nothing is missed in between.
#[must_use]
pub fn actions(listed: &[RestHook], address: &Address, wanted: &[String]) -> Vec<Action> {
    let mut made = Vec::new();
    let mut ended = Vec::new();
    for event_key in wanted {
        let mut ours: Vec<&RestHook> = listed
            .iter()
            .filter(|hook| hook.event_key == *event_key && hook.hook_url == address.url)
            .collect();
        // The one that delivers stays; of equals, the oldest.
        ours.sort_by_key(|hook| (hook.status != VERIFIED, hook.key.len(), hook.key.clone()));
        match ours.split_first() {
            None => made.push(Action::Create { event_key: event_key.clone() }),
            Some((kept, twice)) => {
                if kept.status != VERIFIED {
                    made.push(Action::Verify { key: kept.key.clone() });
                }
                ended.extend(twice.iter().map(|hook| Action::Delete { key: hook.key.clone() }));
            }
        }
    }
    let stale = listed
        .iter()
        .filter(|hook| hook.hook_url.starts_with(&address.prefix) && hook.hook_url != address.url);
    ended.extend(stale.map(|hook| Action::Delete { key: hook.key.clone() }));
    made.extend(ended);
    made
}

/// A subscription as it was last seen: without its address, which is a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookSeen {
    /// What it is for.
    pub event_key: String,
    /// `Unverified`, `Verified`, `Inactive`, or `Missing` when Keap does not list it.
    pub status: String,
    /// Since when, as far as looks tell.
    pub since: Timestamp,
    /// The last look that found it Verified.
    pub verified_at: Option<Timestamp>,
    /// Since when its events may have been missed; until it is Verified again.
    pub gap_since: Option<Timestamp>,
}

/// What is known of an account's hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookBook {
    /// Wanted subscriptions, and others of ours that Keap lists.
    pub hooks: Vec<HookSeen>,
    /// What Keap offers of kinds that are not synced.
    pub not_synced_keys: Vec<String>,
    /// Known events that Keap does not offer.
    pub withdrawn_keys: Vec<String>,
    /// The first look since connecting.
    pub began_at: Option<Timestamp>,
    /// The last look.
    pub checked_at: Option<Timestamp>,
    /// Looks in a row after which not everything was Verified.
    pub attempts: u32,
    /// Whether the next look is due at once.
    pub is_due: bool,
}

/// Events of one kind that may have been missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Which.
    pub event_key: String,
    /// From when on.
    pub since: Timestamp,
}

impl HookBook {
    /// The book after a look: what was found, what there was after mending it, and the gaps that have ended by it.
    #[must_use]
    pub fn looked(
        &self,
        offer: &Offer,
        url: &str,
        found: &[RestHook],
        mended: &[RestHook],
        now: Timestamp,
    ) -> (Self, Vec<Gap>) {
        let began_at = self.began_at.unwrap_or(now);
        let others = mended.iter().filter(|hook| hook.hook_url == url).map(|hook| &hook.event_key);
        let mut keys: Vec<&String> = offer.wanted.iter().chain(others).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut gaps = Vec::new();
        let hooks: Vec<HookSeen> = keys
            .into_iter()
            .map(|event_key| {
                let known = self.hooks.iter().find(|hook| hook.event_key == *event_key);
                let was_verified = status_of(found, url, event_key) == VERIFIED;
                let status = status_of(mended, url, event_key);
                let is_verified = status == VERIFIED;
                let mut gap_since = known.and_then(|hook| hook.gap_since);
                if !was_verified {
                    let last = known.and_then(|hook| hook.verified_at).unwrap_or(began_at);
                    gap_since = gap_since.or(Some(last));
                }
                if is_verified && let Some(since) = gap_since.take() {
                    gaps.push(Gap { event_key: event_key.clone(), since });
                }
                HookSeen {
                    event_key: event_key.clone(),
                    status: status.to_owned(),
                    since: known.filter(|hook| hook.status == status).map_or(now, |hook| hook.since),
                    verified_at: if is_verified {
                        Some(now)
                    } else {
                        known.and_then(|hook| hook.verified_at)
                    },
                    gap_since,
                }
            })
            .collect();
        let mut book = Self {
            hooks,
            not_synced_keys: offer.not_synced.clone(),
            withdrawn_keys: offer.withdrawn.clone(),
            began_at: Some(began_at),
            checked_at: Some(now),
            attempts: 0,
            is_due: false,
        };
        book.attempts =
            if book.silent(&offer.wanted).next().is_some() { self.attempts.saturating_add(1) } else { 0 };
        (book, gaps)
    }

    /// The wanted events that Keap does not deliver.
    pub fn silent<'a>(&'a self, wanted: &'a [String]) -> impl Iterator<Item = &'a str> {
        self.hooks
            .iter()
            .filter(|hook| hook.status != VERIFIED && wanted.contains(&hook.event_key))
            .map(|hook| hook.event_key.as_str())
    }

    /// The book after all subscriptions were given up, whether or not Keap has heard of it.
    #[must_use]
    pub fn given_up(&self, now: Timestamp) -> Self {
        let mut book = Self { is_due: true, attempts: 0, ..self.clone() };
        for hook in &mut book.hooks {
            if hook.status == VERIFIED {
                hook.gap_since = hook.gap_since.or(Some(now));
            }
            MISSING.clone_into(&mut hook.status);
            hook.since = now;
        }
        book
    }

    /// When the next look is due.
    #[must_use]
    pub fn due_at(&self, interval_minutes: u32, now: Timestamp) -> Timestamp {
        match self.checked_at {
            Some(checked_at) if !self.is_due => checked_at.plus_ms(i64::from(interval_minutes) * 60_000),
            _ => now,
        }
    }
}

fn status_of<'a>(listed: &'a [RestHook], url: &str, event_key: &str) -> &'a str {
    let ours = || listed.iter().filter(|hook| hook.event_key == event_key && hook.hook_url == url);
    let delivering = ours().find(|hook| hook.status == VERIFIED);
    delivering.or_else(|| ours().next()).map_or(MISSING, |hook| hook.status.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const URL: &str = "https://hooks.example/webhook/demo/new";

    fn address() -> Address {
        Address { url: URL.to_owned(), prefix: "https://hooks.example/webhook/demo/".to_owned() }
    }

    fn hook(key: &str, event_key: &str, url: &str, status: &str) -> RestHook {
        RestHook {
            key: key.to_owned(),
            event_key: event_key.to_owned(),
            hook_url: url.to_owned(),
            status: status.to_owned(),
        }
    }

    fn offer() -> Offer {
        Offer { wanted: vec!["contact.edit".to_owned()], ..Offer::default() }
    }

    #[test]
    fn what_keap_offers_is_sorted_and_what_is_new_is_wanted() {
        let listed = ["task.add", "contact.redact", "contact.edit", "contact.edit", "invoice.payment.add"];
        let offer = Offer::of(Some(listed.map(str::to_owned).to_vec()));
        assert_eq!(offer.wanted, ["contact.edit", "contact.redact"]);
        assert_eq!(offer.not_synced, ["invoice.payment.add", "task.add"]);
        assert_eq!(offer.withdrawn.len(), KNOWN_KEYS.len() - 1);
        for nothing in [None, Some(Vec::new())] {
            assert_eq!(Offer::of(nothing).wanted, KNOWN_KEYS);
        }
    }

    #[test]
    fn deletes_and_tags_take_a_full_run() {
        let run = |key| run_instead_of(key).unwrap();
        assert_eq!(run("contact.edit"), (EntityType::Contact, RunKind::Incremental));
        assert_eq!(run("contact.redact"), (EntityType::Contact, RunKind::Full));
        assert_eq!(run("contactGroup.removed"), (EntityType::Contact, RunKind::Full));
        assert_eq!(run("contactGroup.delete"), (EntityType::Tag, RunKind::Full));
        assert_eq!(run("order.delete"), (EntityType::Order, RunKind::Full));
        assert_eq!(run("subscription.add"), (EntityType::Subscription, RunKind::Incremental));
        assert_eq!(run_instead_of("task.add"), None);
    }

    #[test]
    fn makes_mends_and_ends_only_what_is_ours() {
        let wanted = ["contact.add", "contact.delete", "contact.edit"].map(str::to_owned);
        let listed = [
            hook("1", "contact.edit", "https://hooks.example/webhook/demo/old", VERIFIED),
            hook("2", "contact.edit", URL, "Inactive"),
            hook("10", "contact.edit", URL, VERIFIED),
            hook("9", "contact.edit", URL, VERIFIED),
            hook("3", "contact.delete", URL, "Unverified"),
            hook("4", "contact.delete", "https://other.example/hook", "Inactive"),
            hook("5", "task.add", URL, VERIFIED),
            hook("6", "contact.edit", "https://hooks.example/webhook/demo-2/new", VERIFIED),
        ];
        let delete = |key: &str| Action::Delete { key: key.to_owned() };
        assert_eq!(
            actions(&listed, &address(), &wanted),
            [
                Action::Create { event_key: "contact.add".to_owned() },
                Action::Verify { key: "3".to_owned() },
                delete("10"),
                delete("2"),
                delete("1"),
            ]
        );
    }

    #[test]
    fn a_gap_begins_with_the_last_look_that_found_it_verified() {
        let verified = [hook("1", "contact.edit", URL, VERIFIED)];
        let inactive = [hook("1", "contact.edit", URL, "Inactive")];
        let (book, gaps) = HookBook::default().looked(&offer(), URL, &[], &verified, Timestamp(10));
        // What happened before the first look is a gap of no length: the first run may have begun before.
        assert_eq!(gaps, [Gap { event_key: "contact.edit".to_owned(), since: Timestamp(10) }]);
        let (book, gaps) = book.looked(&offer(), URL, &verified, &verified, Timestamp(20));
        assert!(gaps.is_empty());
        let (book, gaps) = book.looked(&offer(), URL, &inactive, &inactive, Timestamp(30));
        assert!(gaps.is_empty());
        assert_eq!((book.hooks[0].gap_since, book.attempts), (Some(Timestamp(20)), 1));
        assert_eq!((book.hooks[0].status.as_str(), book.hooks[0].since), ("Inactive", Timestamp(30)));
        let (book, gaps) = book.looked(&offer(), URL, &inactive, &verified, Timestamp(40));
        assert_eq!(gaps, [Gap { event_key: "contact.edit".to_owned(), since: Timestamp(20) }]);
        assert_eq!((book.hooks[0].gap_since, book.attempts), (None, 0));
    }

    #[test]
    fn giving_up_opens_a_gap_that_ends_with_the_next_connection() {
        let verified = [hook("1", "contact.edit", URL, VERIFIED)];
        let (book, _) = HookBook::default().looked(&offer(), URL, &[], &verified, Timestamp(10));
        let book = book.given_up(Timestamp(20));
        assert_eq!(book.due_at(60, Timestamp(25)), Timestamp(25));
        let (book, gaps) = book.looked(&offer(), URL, &[], &verified, Timestamp(30));
        assert_eq!(gaps[0].since, Timestamp(20));
        assert_eq!(book.due_at(60, Timestamp(31)), Timestamp(30 + 3_600_000));
    }

    proptest! {
        /// Whatever Keap lists, carrying the actions out leaves one subscription for each wanted event, and a second look finds
        /// nothing to do.
        #[test]
        fn carried_out_the_actions_leave_nothing_to_do(
            listed in prop::collection::vec((0_usize..4, 0_usize..3, 0_usize..3), 0..12)
        ) {
            let keys = ["contact.add", "contact.edit", "order.edit", "task.add"];
            let urls = [URL, "https://hooks.example/webhook/demo/old", "https://other.example/"];
            let statuses = [VERIFIED, "Inactive", "Unverified"];
            let mut listed: Vec<RestHook> = (1_u32..)
                .zip(listed)
                .map(|(number, (key, url, status))| hook(&number.to_string(), keys[key], urls[url], statuses[status]))
                .collect();
            let foreign = listed.iter().filter(|hook| hook.hook_url == urls[2]).count();
            let wanted = ["contact.add", "contact.edit", "order.edit"].map(str::to_owned);
            for action in actions(&listed, &address(), &wanted) {
                match action {
                    Action::Create { event_key } => listed.push(hook("99", &event_key, URL, VERIFIED)),
                    Action::Verify { key } => {
                        let found = listed.iter_mut().find(|hook| hook.key == key).unwrap();
                        found.status = VERIFIED.to_owned();
                    }
                    Action::Delete { key } => listed.retain(|hook| hook.key != key),
                }
            }
            prop_assert!(actions(&listed, &address(), &wanted).is_empty());
            for key in &wanted {
                prop_assert_eq!(listed.iter().filter(|hook| hook.event_key == *key && hook.hook_url == URL).count(), 1);
            }
            prop_assert_eq!(listed.iter().filter(|hook| hook.hook_url == urls[2]).count(), foreign);
        }

        /// However looks find a subscription, every moment in which one found it not Verified lies in a gap that is told once it
        /// is Verified again.
        #[test]
        fn no_gap_is_forgotten(looks in prop::collection::vec((any::<bool>(), any::<bool>()), 1..20)) {
            let listed = |is_verified| [hook("1", "contact.edit", URL, if is_verified { VERIFIED } else { "Inactive" })];
            let mut book = HookBook::default();
            let (mut open_since, mut last_verified): (Option<i64>, Option<i64>) = (None, None);
            for (moment, (found, mended)) in (1_i64..).zip(looks) {
                if !found {
                    open_since = open_since.or(last_verified).or(Some(1));
                }
                let (next, gaps) = book.looked(&offer(), URL, &listed(found), &listed(mended), Timestamp(moment));
                if mended {
                    prop_assert_eq!(gaps.first().map(|gap| gap.since.0), open_since.take());
                    last_verified = Some(moment);
                } else {
                    prop_assert!(gaps.is_empty());
                }
                book = next;
            }
        }
    }
}
