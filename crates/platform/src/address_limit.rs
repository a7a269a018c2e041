//! How often one address may ask without a good credential.
//!
//! Whoever shows a good credential is never limited here: neither Keap's hooks, however many come, nor an admin who shares an
//! address with somebody else. Everything else (public pages, wrong paths, wrong credentials) takes from its address' bucket,
//! which fills up again by the second; a wrong credential takes as much as several pages. An empty bucket answers 429, and the
//! refusals behind it are not logged one by one.
//!
//! The buckets are the isolate's own, so the limit holds for each of a worker's isolates; a rule at Cloudflare's edge can be
//! stricter. Memory is bounded: addresses are kept in two generations, and when the newer one is full it becomes the older, whose
//! addresses are forgotten. An IPv6 network of 64 bits counts as one address, because one person has as many as that.

use crate::respond::Answer;
use keapsync_domain::timestamp::Timestamp;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;

/// Header in which Cloudflare's edge names the client; what a client sends itself is overwritten there.
pub const ADDRESS_HEADER: &str = "CF-Connecting-IP";

/// What a full bucket holds: a browser that connects an account needs about three, a monitor one a minute.
pub const BURST: u32 = 120;

/// What is added each second.
pub const REFILL_PER_SECOND: u32 = 4;

/// What a public page, a wrong path or a request without any credential takes.
pub const PAGE_COST: u32 = 1;

/// What a wrong credential takes: twenty at once, then one every 1.5 seconds.
pub const WRONG_CREDENTIAL_COST: u32 = 6;

/// Addresses in one of the two generations: about 100 kB.
const ADDRESSES_MAX: usize = 2_048;

/// Thousandths, in which buckets are counted: what is added in a millisecond is a whole number of them.
const PER_UNIT: u64 = 1_000;

/// An address as far as it counts: IPv4 as it is, IPv6 by its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Network(u64);

impl Network {
    /// None for what is no address, and for this machine itself, which only happens in development.
    fn of(address: &str) -> Option<Self> {
        let address = address.trim().parse::<IpAddr>().ok()?.to_canonical();
        match address {
            _ if address.is_loopback() => None,
            IpAddr::V4(address) => Some(Self(u64::from(address.to_bits()))),
            // The lower half of the address is the client's own to choose.
            IpAddr::V6(address) => Some(Self(u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX))),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u64,
    at: Timestamp,
}

impl Bucket {
    fn full(now: Timestamp) -> Self {
        Self { left: u64::from(BURST) * PER_UNIT, at: now }
    }

    fn refilled(self, now: Timestamp) -> Self {
        // A clock that went back adds nothing.
        let passed_ms = u64::try_from(now.since_ms(self.at)).unwrap_or(0);
        let added = passed_ms.saturating_mul(u64::from(REFILL_PER_SECOND));
        Self { left: self.left.saturating_add(added).min(u64::from(BURST) * PER_UNIT), at: now }
    }
}

/// The buckets of one isolate.
#[derive(Debug, Default)]
struct Buckets {
    newer: HashMap<Network, Bucket>,
    older: HashMap<Network, Bucket>,
}

impl Buckets {
    /// Takes `cost`, or says how long to wait until so much is there, in milliseconds.
    fn take(&mut self, network: Network, cost: u32, now: Timestamp) -> Result<(), i64> {
        let known = self.newer.get(&network).or_else(|| self.older.get(&network)).copied();
        let bucket = known.map_or_else(|| Bucket::full(now), |bucket| bucket.refilled(now));
        let cost = u64::from(cost) * PER_UNIT;
        let (left, outcome) = if let Some(left) = bucket.left.checked_sub(cost) {
            (left, Ok(()))
        } else {
            let wait_ms = (cost - bucket.left).div_ceil(u64::from(REFILL_PER_SECOND));
            (bucket.left, Err(i64::try_from(wait_ms).unwrap_or(i64::MAX)))
        };
        if self.newer.len() >= ADDRESSES_MAX && !self.newer.contains_key(&network) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(network, Bucket { left, at: now });
        outcome
    }
}

thread_local! {
    static BUCKETS: RefCell<Buckets> = RefCell::default();
}

/// Takes `cost` from the bucket of the client that `address` names; the answer, when it does not hold so much. Calls between
/// workers name no client and are not limited.
pub fn take(address: Option<&str>, cost: u32, now: Timestamp) -> Result<(), Answer> {
    let Some(network) = address.and_then(Network::of) else { return Ok(()) };
    BUCKETS.with_borrow_mut(|buckets| buckets.take(network, cost, now)).map_err(Answer::too_many_requests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(address: &str) -> Network {
        Network::of(address).unwrap()
    }

    #[test]
    fn an_address_has_its_burst_and_then_what_comes_back() {
        let mut buckets = Buckets::default();
        let (one, other) = (network("203.0.113.7"), network("203.0.113.8"));
        let now = Timestamp(1_000);
        for _ in 0..BURST / WRONG_CREDENTIAL_COST {
            assert_eq!(buckets.take(one, WRONG_CREDENTIAL_COST, now), Ok(()));
        }
        let wait_ms = i64::from(WRONG_CREDENTIAL_COST * 1_000 / REFILL_PER_SECOND);
        assert_eq!(buckets.take(one, WRONG_CREDENTIAL_COST, now), Err(wait_ms));
        assert_eq!(buckets.take(other, WRONG_CREDENTIAL_COST, now), Ok(()));
        assert_eq!(buckets.take(one, WRONG_CREDENTIAL_COST, now.plus_ms(wait_ms - 1)), Err(1));
        assert_eq!(buckets.take(one, WRONG_CREDENTIAL_COST, now.plus_ms(wait_ms)), Ok(()));
        // A clock that goes back neither fills nor panics.
        assert!(buckets.take(one, WRONG_CREDENTIAL_COST, Timestamp(0)).is_err());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_this_machine_none() {
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff:1:2:3"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:203.0.113.7"), network("203.0.113.7"));
        for none in
            ["127.0.0.1", "::1", "::ffff:127.0.0.1", "", "unknown", "203.0.113.7, 203.0.113.8", "1.2.3"]
        {
            assert_eq!(Network::of(none), None, "{none}");
        }
        for _ in 0..2 * BURST {
            assert!(
                take(None, PAGE_COST, Timestamp(0)).is_ok()
                    && take(Some("::1"), PAGE_COST, Timestamp(0)).is_ok()
            );
        }
    }

    #[test]
    fn says_how_long_to_wait() {
        let refused =
            (0..=BURST).find_map(|_| take(Some("198.51.100.1"), PAGE_COST, Timestamp(0)).err()).unwrap();
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_nobody_gets_more_than_their_share(
            visits in prop::collection::vec((0_u64..5_000, 1_u32..10, 0_i64..50), 1..400)
        ) {
            let mut buckets = Buckets::default();
            let (mut now, mut spent) = (Timestamp(0), HashMap::new());
            for (address, cost, pause_ms) in visits {
                now = now.plus_ms(pause_ms);
                // Few addresses, so that their share is what decides.
                if buckets.take(Network(address % 3), cost, now).is_ok() {
                    *spent.entry(address % 3).or_insert(0_u64) += u64::from(cost);
                }
                let _ = buckets.take(Network(10 + address), 1, now);
                prop_assert!(buckets.newer.len() <= ADDRESSES_MAX && buckets.older.len() <= ADDRESSES_MAX);
            }
            let share = u64::from(BURST) + u64::try_from(now.0).unwrap() * u64::from(REFILL_PER_SECOND) / 1_000;
            for cost in spent.into_values() {
                prop_assert!(cost <= share, "{cost} of {share}");
            }
        }
    }

    #[test]
    fn a_flood_of_addresses_takes_no_memory() {
        let mut buckets = Buckets::default();
        for address in 0..100_000 {
            let _ = buckets.take(Network(address), PAGE_COST, Timestamp(0));
        }
        assert!(buckets.newer.len() + buckets.older.len() <= 2 * ADDRESSES_MAX);
    }
}
