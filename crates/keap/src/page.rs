//! Lists of records: what a page holds, and how it is read.
//!
//! Records are read one by one: a broken one is reported and the others pass. Each is taken apart as soon as its text was read, while it
//! is in the processor's caches, and a page is never held as a whole in any other form than its text and its records.

mod list;

use crate::wire::{WireObject, WireValue};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{EntityType, is_keap_id};
use keapsync_domain::json_number::{inexact, may_hold_long_number};
use keapsync_domain::remote::{RejectedRecord, RemoteRecord};
use keapsync_domain::run::Cursor;
use keapsync_domain::timestamp::Timestamp;
use list::read_list;
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::value::RawValue;

/// A page of a list.
#[derive(Debug, Default)]
pub struct RecordPage {
    /// Records that could be read.
    pub records: Vec<RemoteRecord>,
    /// Records that could not.
    pub rejected: Vec<RejectedRecord>,
    /// How many records the page held, readable or not.
    pub length: usize,
    /// The largest id on the page.
    pub last_id: Option<String>,
    /// Keap's token of the next page; none on the last.
    pub next_page_token: Option<String>,
    /// Where to go on behind this page; `None` when it was the last. Set by the calls that take a cursor.
    pub next: Option<Cursor>,
}

impl RecordPage {
    /// The ids of all its records, of those too that could not be read.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let read = self.records.iter().map(|remote| remote.keap_id.as_str());
        read.chain(self.rejected.iter().filter_map(|rejected| rejected.keap_id.as_deref()))
    }

    /// The same with the times of change, of those that could be read and of which Keap tells it.
    pub(crate) fn met(&self) -> impl Iterator<Item = (&str, Option<Timestamp>)> {
        let read = self.records.iter().map(|remote| (remote.keap_id.as_str(), remote.updated_at));
        let rejected = self.rejected.iter().filter_map(|rejected| rejected.keap_id.as_deref());
        read.chain(rejected.map(|id| (id, None)))
    }
}

/// Reads one record's JSON object; the error names the property that has another shape than the contract says.
type ReadRecord<'a> = dyn Fn(String, WireObject<'_>) -> Result<RemoteRecord, String> + 'a;

/// How the records of one answer are read.
pub(crate) struct Reading<'a> {
    /// What they are.
    pub(crate) entity: EntityType,
    /// Reads one.
    pub(crate) record: &'a ReadRecord<'a>,
}

impl<'a> Reading<'a> {
    /// Reads records of `entity` by `record`.
    pub(crate) fn new(
        entity: EntityType,
        record: &'a impl Fn(String, WireObject<'_>) -> Result<RemoteRecord, String>,
    ) -> Self {
        Self { entity, record }
    }
}

/// Reads a list; fails only when the list itself is broken.
pub(crate) fn parse_page(body: &[u8], reading: &Reading<'_>) -> Result<RecordPage, serde_json::Error> {
    // What is no UTF-8 cannot be cut into records, and is refused as a whole.
    let text = std::str::from_utf8(body).map_err(serde_json::Error::custom)?;
    // Nearly every list is read in one go. One that is not, or may hold what Postgres cannot store, is cut into its records, so that
    // only those are refused which cannot be read.
    if !may_hold_nul(text)
        && !may_hold_long_number(text)
        && let Ok(page) = read_list(text, &|value| read_record(value, false, reading))
    {
        return Ok(page);
    }
    read_list(text, &|raw: &RawValue| parse_record(raw.get(), reading))
}

/// Whether a text of the JSON is written with a NUL character, `\u0000`, whatever stands before it.
fn may_hold_nul(text: &str) -> bool {
    // A search for one character goes by words of memory, and hardly a text holds any.
    text.split('\\').skip(1).any(|rest| rest.starts_with("u0000"))
}

/// Reads the only record of an answer.
pub(crate) fn parse_single(body: &[u8], reading: &Reading<'_>, what: &str) -> Result<RemoteRecord, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| {
        Failure::new(FailureClass::Unexpected, format!("Keap's answer to {what} is not UTF-8 text"))
    })?;
    parse_record(text, reading).map_err(|rejected| {
        Failure::new(FailureClass::Unexpected, format!("Keap's answer to {what}: {}", rejected.reason))
    })
}

/// Reads one record's JSON.
pub(crate) fn parse_record(text: &str, reading: &Reading<'_>) -> Result<RemoteRecord, RejectedRecord> {
    let name = reading.entity.as_str();
    if inexact(text) {
        return Err(RejectedRecord {
            keap_id: id_of(text),
            reason: format!(
                "the {name} holds a number of more digits than can be mirrored exactly: write it as a text in Keap"
            ),
        });
    }
    let value: WireValue<'_> = serde_json::from_str(text).map_err(|error| RejectedRecord {
        keap_id: id_of(text),
        reason: format!("the {name} is not valid JSON (line {}, column {})", error.line(), error.column()),
    })?;
    // The search of the text spares the walk in all but the rarest case.
    read_record(value, text.contains("\\u0000"), reading)
}

/// The id of a record that cannot be read otherwise.
fn id_of(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let named: Named<'_> = serde_json::from_str(text).ok()?;
    Some(named.id.get().trim_matches('"').to_owned()).filter(|id| is_keap_id(id))
}

/// Reads one record; `is_doubtful` when some text of it may hold a NUL character.
fn read_record(
    value: WireValue<'_>,
    is_doubtful: bool,
    reading: &Reading<'_>,
) -> Result<RemoteRecord, RejectedRecord> {
    let name = reading.entity.as_str();
    let holds_nul = is_doubtful && value.holds_nul();
    let (object, id) = match value {
        WireValue::Object(mut object) => {
            let id = object.remove("id");
            (Some(object), id)
        }
        _ => (None, None),
    };
    let keap_id = match id {
        Some(WireValue::Text(id)) => Some(id.into_owned()),
        Some(WireValue::Number(id)) => Some(id.to_string()),
        _ => None,
    };
    let keap_id = keap_id.filter(|id| is_keap_id(id));
    let rejected = |reason: String| RejectedRecord { keap_id: keap_id.clone(), reason };
    // Postgres stores no NUL.
    if holds_nul {
        return Err(rejected(
            "a text holds a NUL character, which Postgres cannot store: remove it in Keap".to_owned(),
        ));
    }
    let Some(object) = object else {
        return Err(rejected(format!("the {name} is not a JSON object")));
    };
    let Some(id) = keap_id.clone() else { return Err(rejected(format!("the {name} has no numeric id"))) };
    (reading.record)(id, object).map_err(rejected)
}
