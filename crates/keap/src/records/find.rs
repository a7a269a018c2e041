//! What a create whose answer was lost may have made: looked for before it is sent again.

use super::{RecordsApi, no_such_call};
use crate::capability::{CreateKey, capability};
use crate::transport::Transport;
use crate::wire::plain_text;
use keapsync_domain::canonical::same;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::schema::FieldKind;
use keapsync_domain::timestamp::Timestamp;

impl<T: Transport> RecordsApi<'_, T> {
    /// The record that an earlier create of the row `row_id` made in Keap, found by the entity's
    /// [`CreateKey`]. Where the key fits several a person is asked, because a second create could only add one more.
    pub async fn find_created(
        &self,
        row_id: &str,
        record: &Record,
        observed_at: Timestamp,
    ) -> Result<Option<RemoteRecord>, Failure> {
        let entity = record.entity();
        let (found, advice) = match capability(entity).create_key {
            CreateKey::RowLink => (
                self.find_linked(entity, row_id, observed_at).await?,
                "carry this row's id: merge or delete one of them in Keap, then replay this item",
            ),
            CreateKey::Name => (
                self.find_named(record, observed_at).await?,
                "have this row's name: rename or delete one of them in Keap, then replay this item",
            ),
            CreateKey::ContactPlanStart => (
                self.find_subscribed(record, observed_at).await?,
                "have this row's contact, plan and start: end one of them in Keap and change its start or plan, then \
                 replay this item",
            ),
        };
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => {
                Err(Failure::new(FailureClass::Invalid, format!("two {} in Keap {advice}", entity.plural())))
            }
            (first, _) => Ok(first),
        }
    }

    pub(super) async fn find_linked(
        &self,
        entity: EntityType,
        row_id: &str,
        observed_at: Timestamp,
    ) -> Result<Vec<RemoteRecord>, Failure> {
        let mut found = match entity {
            EntityType::Contact => self.contacts().list_by_row_id(row_id, observed_at).await?.contacts,
            EntityType::Order => self.orders().list_by_row_id(row_id, observed_at).await?.records,
            EntityType::Tag | EntityType::Subscription => {
                return Err(no_such_call(&format!("finds no {} by their rows' ids", entity.plural())));
            }
        };
        // A filter compares as it likes; the row's id is compared here.
        found.retain(|remote| remote.row_id.as_deref() == Some(row_id));
        Ok(found)
    }

    async fn find_named(
        &self,
        record: &Record,
        observed_at: Timestamp,
    ) -> Result<Vec<RemoteRecord>, Failure> {
        match plain_text(record.get_by_name("name")) {
            Some(name) => self.tags().list_named(&name, observed_at).await,
            None => Ok(Vec::new()),
        }
    }

    async fn find_subscribed(
        &self,
        record: &Record,
        observed_at: Timestamp,
    ) -> Result<Vec<RemoteRecord>, Failure> {
        let start = record.get_by_name("start_date");
        let key = ["keap_contact_id", "plan_id"].map(|name| plain_text(record.get_by_name(name)));
        // Without all three a create is refused before any call, so there is nothing to find.
        let ([Some(contact_id), Some(plan_id)], Some(_)) = (key, plain_text(start)) else {
            return Ok(Vec::new());
        };
        let mut found =
            self.subscriptions().list_of_contact(&contact_id, &plan_id, observed_at).await?.records;
        found.retain(|remote| same(FieldKind::Date, remote.record.get_by_name("start_date"), start));
        Ok(found)
    }
}
