//! A record as Keap holds it, in our terms.

use crate::extra::Extra;
use crate::record::Record;
use crate::timestamp::Timestamp;

/// One of Keap's records, read at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteRecord {
    /// Keap's id.
    pub keap_id: String,
    /// The mapped fields.
    pub record: Record,
    /// What Keap sent and no field holds. Together with `record` it rebuilds what Keap sent.
    pub extra: Extra,
    /// The row that made this record, when it carries its id.
    pub row_id: Option<String>,
    /// Hash of all that Keap sent but the times: 32 hexadecimal digits.
    pub content_hash: String,
    /// When Keap made it.
    pub created_at: Option<Timestamp>,
    /// When Keap last changed it.
    pub updated_at: Option<Timestamp>,
    /// When the request was sent whose answer this is.
    pub observed_at: Timestamp,
}

/// A record that could not be read or stored, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Keap's id, when the record told it.
    pub keap_id: Option<String>,
    /// What is wrong and what to do; holds no value of the record.
    pub reason: String,
}
