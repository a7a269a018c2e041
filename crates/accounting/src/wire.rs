//! Keap's JSON as a record, read by the client's own conversions.

use anyhow::{Result, anyhow};
use keapsync_domain::ids::EntityType;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::wire::WireObject;
use keapsync_keap::{contacts, orders, subscriptions, tags};
use serde_json::Value;

/// A record from Keap's JSON; what is joined from elsewhere (names of products and categories) is absent.
pub fn record_from(entity: EntityType, json: &Value) -> Result<RemoteRecord> {
    let mut json = json.clone();
    let id = json.as_object_mut().and_then(|object| object.remove("id"));
    let id = id.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
    let text = json.to_string();
    let wire: WireObject<'_> = serde_json::from_str(&text)?;
    let at = Timestamp::default();
    let record = match entity {
        EntityType::Contact => contacts::convert::contact_from_wire(id, wire, None, at),
        EntityType::Order => orders::convert::order_from_wire(id, wire, None, at),
        EntityType::Tag => tags::convert::tag_from_wire(id, wire, at),
        EntityType::Subscription => subscriptions::convert::subscription_from_wire(id, wire, at),
    };
    record.map_err(|fault| anyhow!("a {} of Keap's cannot be read: {fault}", entity.as_str()))
}
