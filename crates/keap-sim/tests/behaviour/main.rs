//! What the simulator does, seen from outside: each test starts its own server and speaks HTTP to it.
//!
//! Answers are validated against the schemas in `fixtures/`, and, when `KEAP_OPENAPI` names Keap's official contract,
//! against that as well.

#[cfg(test)]
mod contacts;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod control;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod filters;
#[cfg(test)]
mod hooks;
#[cfg(test)]
mod oauth;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod paging;
#[cfg(test)]
mod products;
#[cfg(test)]
mod quota;
#[cfg(test)]
mod receiver;
#[cfg(test)]
mod sales;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod subscriptions;
#[cfg(test)]
mod tags;
