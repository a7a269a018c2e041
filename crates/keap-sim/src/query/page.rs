//! Order and paging.
//!
//! Whether Keap's page tokens are stable is unverified, so both kinds are served. By default a token is the position behind its page:
//! what is added, deleted or moved within the order in between shifts the rest, and a row may lie on two pages or on none. A stable one
//! names the last row given out by its sort key and id, and the following page begins right after that row whatever happened meanwhile.
//! A token is bound to the filter and order it was made for; used with others it is a 400.

use std::cmp::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// Keap's largest page.
pub(crate) const PAGE_SIZE_MAX: usize = 1000;

/// What a request without a page size, or with 0, gets. The contract names no default; a small one finds out a client
/// that does not follow the tokens.
pub(crate) const PAGE_SIZE_DEFAULT: usize = 100;

/// The query parameters of a request, in order and with repetitions.
pub(crate) type Parameters = Vec<(String, String)>;

/// The last value of a parameter.
pub(crate) fn parameter<'parameters>(
    parameters: &'parameters Parameters,
    name: &str,
) -> Option<&'parameters str> {
    parameters.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// What a row is sorted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SortKey {
    Number(i64),
    Text(String),
}

/// What page tokens are made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PageTokens {
    /// The position behind the page, in the list as it is when the token comes back.
    #[default]
    Positions,
    /// The place of the page's last row.
    Places,
}

/// A row's place in the order: its key, then its id.
pub(crate) type Place = (SortKey, u64);

/// How one list is to be cut: order, size and where to begin.
#[derive(Debug, Clone)]
pub(crate) struct PageRequest {
    /// The field to order by, one of those the list allows.
    pub(crate) order: &'static str,
    pub(crate) is_descending: bool,
    pub(crate) page_size: usize,
    /// The place of the last row of the page before, where the token names it.
    pub(crate) after: Option<Place>,
    /// How many of the rows that follow belong to pages before, where the token says that.
    pub(crate) skipped: usize,
    tokens: PageTokens,
    fingerprint: u64,
}

impl PageRequest {
    /// Reads `order_by`, `page_size` and `page_token`. The first of the orders is the one used when none is asked for.
    pub(crate) fn read(
        parameters: &Parameters,
        orders: &'static [&'static str],
        tokens: PageTokens,
    ) -> Result<Self, Failure> {
        let (order, is_descending) = read_order(parameter(parameters, "order_by"), orders)?;
        let page_size = match parameter(parameters, "page_size") {
            None => PAGE_SIZE_DEFAULT,
            Some(text) => match text.parse() {
                Ok(0) => PAGE_SIZE_DEFAULT,
                Ok(size) if size <= PAGE_SIZE_MAX => size,
                _ => return Err(Failure::bad_request("page_size must be a number from 0 to 1000")),
            },
        };
        let filter = parameter(parameters, "filter").unwrap_or_default();
        let fingerprint = fingerprint(&[filter, order, if is_descending { "desc" } else { "asc" }]);
        let begin = match parameter(parameters, "page_token").filter(|token| !token.is_empty()) {
            None => Begin::default(),
            Some(token) => read_token(token, fingerprint)
                .ok_or_else(|| Failure::bad_request("page_token is not valid for this filter and order"))?,
        };
        let Begin { after, skipped } = begin;
        Ok(Self { order, is_descending, page_size, after, skipped, tokens, fingerprint })
    }

    /// The token that continues behind a full page, of which this is the last row.
    pub(crate) fn token_after(&self, (key, id): &Place) -> String {
        let behind = match (self.tokens, key) {
            (PageTokens::Positions, _) => format!("p{}", self.skipped + self.page_size),
            (PageTokens::Places, SortKey::Number(number)) => format!("n{number}"),
            (PageTokens::Places, SortKey::Text(text)) => format!("t{text}"),
        };
        URL_SAFE_NO_PAD.encode(format!("{:x}.{id}.{behind}", self.fingerprint))
    }

    /// How two places stand in the asked order.
    pub(crate) fn compare(&self, left: &Place, right: &Place) -> Ordering {
        if self.is_descending { right.cmp(left) } else { left.cmp(right) }
    }

    /// Whether a row comes after the page before.
    pub(crate) fn is_due(&self, place: &Place) -> bool {
        self.after.as_ref().is_none_or(|after| self.compare(place, after) == Ordering::Greater)
    }

    /// Sorts small rows and cuts one page of them, as the JSON of the answer.
    pub(crate) fn cut(&self, name: &str, rows: Vec<(Place, Value)>) -> Value {
        let mut rows: Vec<_> = rows.into_iter().filter(|(place, _)| self.is_due(place)).collect();
        rows.sort_by(|(left, _), (right, _)| self.compare(left, right));
        rows.drain(..self.skipped.min(rows.len()));
        let has_more = rows.len() > self.page_size;
        rows.truncate(self.page_size);
        let mut answer = Map::new();
        if has_more && let Some((place, _)) = rows.last() {
            answer.insert("next_page_token".to_owned(), self.token_after(place).into());
        }
        answer.insert(name.to_owned(), rows.into_iter().map(|(_, row)| row).collect());
        Value::Object(answer)
    }
}

fn read_order(text: Option<&str>, orders: &'static [&'static str]) -> Result<(&'static str, bool), Failure> {
    let refuse =
        || Failure::bad_request(format!("order_by must be one of {} and asc or desc", orders.join(", ")));
    let mut words = text.unwrap_or_default().split_whitespace();
    let order = match words.next() {
        None => orders.first(),
        Some(word) => orders.iter().find(|order| **order == word),
    };
    let is_descending = match words.next() {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(refuse()),
    };
    match (order, words.next()) {
        (Some(order), None) => Ok((order, is_descending)),
        _ => Err(refuse()),
    }
}

/// Where a page begins.
#[derive(Debug, Default)]
struct Begin {
    after: Option<Place>,
    skipped: usize,
}

fn read_token(token: &str, expected_fingerprint: u64) -> Option<Begin> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (fingerprint, rest) = text.split_once('.')?;
    let (id, key) = rest.split_once('.')?;
    if u64::from_str_radix(fingerprint, 16).ok()? != expected_fingerprint {
        return None;
    }
    let key = match key.split_at_checked(1)? {
        ("p", position) => return Some(Begin { after: None, skipped: position.parse().ok()? }),
        ("n", number) => SortKey::Number(number.parse().ok()?),
        ("t", text) => SortKey::Text(text.to_owned()),
        _ => return None,
    };
    Some(Begin { after: Some((key, id.parse().ok()?)), skipped: 0 })
}

/// FNV-1a over the parts; it only has to tell a client's own queries apart.
fn fingerprint(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: &[&str] = &["id", "name"];

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_token_continues_after_its_row_and_only_for_its_query() {
        let rows = |names: &[&str]| {
            (1_u64..)
                .zip(names)
                .map(|(id, name)| ((SortKey::Text((*name).to_owned()), id), Value::from(*name)))
                .collect::<Vec<_>>()
        };
        for tokens in [PageTokens::Positions, PageTokens::Places] {
            let asked = parameters(&[("order_by", "name desc"), ("page_size", "2")]);
            let page = PageRequest::read(&asked, ORDERS, tokens).unwrap().cut("rows", rows(&["a", "c", "b"]));
            assert_eq!(page["rows"], serde_json::json!(["c", "b"]));
            let token = page["next_page_token"].as_str().unwrap();
            let next = parameters(&[("order_by", "name desc"), ("page_token", token)]);
            let next = PageRequest::read(&next, ORDERS, tokens).unwrap();
            assert_eq!(next.cut("rows", rows(&["a", "c", "b"])), serde_json::json!({ "rows": ["a"] }));
            // "c" goes in between, and a position is then that of no row.
            let rest = next.cut("rows", vec![((SortKey::Text("a".to_owned()), 1), "a".into())]);
            let expected: &[&str] = if tokens == PageTokens::Places { &["a"] } else { &[] };
            assert_eq!(rest, serde_json::json!({ "rows": expected }));
            let other = parameters(&[("order_by", "name asc"), ("page_token", token)]);
            assert!(PageRequest::read(&other, ORDERS, tokens).is_err());
        }
    }

    #[test]
    fn bad_orders_sizes_and_tokens_are_refused() {
        for (name, value) in [
            ("order_by", "age"),
            ("order_by", "id up"),
            ("order_by", "id asc desc"),
            ("page_size", "1001"),
            ("page_size", "-1"),
            ("page_token", "%%%"),
            ("page_token", "bm9uc2Vuc2U"),
        ] {
            let asked = parameters(&[(name, value)]);
            assert!(PageRequest::read(&asked, ORDERS, PageTokens::default()).is_err(), "{name}={value}");
        }
    }
}
