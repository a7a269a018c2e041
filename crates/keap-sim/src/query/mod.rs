//! How lists are asked for: filter terms, order, page size and page token, as Keap's v2 contract words them.

pub(crate) mod contacts;
pub(crate) mod custom;
pub(crate) mod orders;
pub(crate) mod page;
pub(crate) mod rows;
pub(crate) mod subscriptions;
pub(crate) mod term;
