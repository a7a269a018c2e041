//! Creates and updates of any entity.

use super::RecordsApi;
use crate::caller::Caller;
use crate::capability::{Carrier, CreateKey, SubResource, capability};
use crate::checks::{before_create, before_update};
use crate::contacts;
use crate::custom_fields::Link;
use crate::orders::{self, line_steps};
use crate::subscriptions::{self, convert::INACTIVE};
use crate::tags::{self, TagChange, change_tag};
use crate::transport::Transport;
use crate::wire::{is_blank, plain_text};
use keapsync_domain::canonical::set_elements;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{EntityType, is_keap_id};
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::timestamp::Timestamp;

/// What an update is to do.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Our row's id.
    pub row_id: &'a str,
    /// What both sides last agreed on.
    pub base: &'a Record,
    /// What Keap is to hold.
    pub wanted: &'a Record,
    /// What Keap holds now.
    pub remote: &'a RemoteRecord,
    /// Names of the fields in which they differ and that Keap is to take.
    pub changed: &'a [&'static str],
}

/// What a write did.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// What Keap holds now.
    pub remote: RemoteRecord,
    /// Lines that were made: the row's name of each (`#2` by position), and Keap's id. For
    /// [`aligned`](line_steps::aligned), before `remote` is merged into the row.
    pub made_lines: Vec<(String, String)>,
    /// Tags that were to be put on the contact and that Keap has not got any more.
    pub gone_tags: Vec<String>,
}

impl From<RemoteRecord> for Written {
    fn from(remote: RemoteRecord) -> Self {
        Self { remote, made_lines: Vec::new(), gone_tags: Vec::new() }
    }
}

impl<T: Transport> RecordsApi<'_, T> {
    /// Makes a record, with all that the row says. `now` is asked before each call whose answer is a record.
    pub async fn create(
        &self,
        row_id: &str,
        record: &Record,
        now: &impl Fn() -> Timestamp,
    ) -> Result<Written, Failure> {
        let entity = record.entity();
        before_create(record, now())?;
        let link = self.link(entity, row_id);
        if capability(entity).create_key == CreateKey::RowLink && link.is_none() {
            return Err(Failure::new(
                FailureClass::Unavailable,
                format!(
                    "the custom field that carries row ids does not exist on Keap's {} yet; it is made right after \
                     connecting",
                    entity.plural()
                ),
            ));
        }
        let made = match entity {
            EntityType::Contact => {
                check_tags(record)?;
                let body = contacts::convert::create_body(record, link);
                let made = self.contacts().create(body, now()).await?;
                let none = Record::empty(EntityType::Contact);
                return self.carry_tags(record, &none, made, now).await;
            }
            EntityType::Order => {
                self.orders().create(orders::convert::create_body(record, link)?, now()).await
            }
            EntityType::Tag => self.tags().create(tags::convert::create_body(record), now()).await,
            EntityType::Subscription => {
                // Both bodies are made before any call, so that a value that Keap refuses makes no half a record.
                let body = subscriptions::convert::create_body(record)?;
                let properties = only_by_update(record);
                let rest = subscriptions::convert::write_body(record, record, &properties)?;
                let made = self.subscriptions().create(body, now()).await?;
                if properties.is_empty() {
                    return Ok(made.into());
                }
                self.subscriptions().update(&made.keap_id, &properties, rest, now()).await
            }
        };
        made.map(Written::from)
    }

    /// Changes a record. `now` is asked before each call whose answer is a record.
    pub async fn update(
        &self,
        change: &Change<'_>,
        now: &impl Fn() -> Timestamp,
    ) -> Result<Written, Failure> {
        let entity = change.wanted.entity();
        before_update(change.wanted, change.changed, now())?;
        let calls = capability(entity).update_calls(change.changed.iter().copied());
        let mut properties = calls.properties;
        let ends = calls.sub_resources.contains(&SubResource::Deactivation)
            && subscriptions::convert::status_of(change.wanted)? == INACTIVE;
        if ends {
            // The end takes the reason along.
            properties.retain(|property| *property != "reason_stopped");
        } else if calls.sub_resources.contains(&SubResource::Deactivation) {
            properties.push("active");
        }
        let steps = if calls.sub_resources.contains(&SubResource::OrderItems) {
            let held = &change.remote.record;
            let [base, wanted, held_lines] =
                [change.base, change.wanted, held].map(|record| record.get_by_name("line_items"));
            line_steps::plan(base, wanted, held_lines, held.get_by_name("currency").as_str())?
        } else {
            Vec::new()
        };
        if calls.sub_resources.contains(&SubResource::TagApplications) {
            check_tags(change.wanted)?;
        }
        let (mut remote, mut gone_tags) = (change.remote.clone(), Vec::new());
        if !properties.is_empty() {
            remote = self.patch(change, &properties, now()).await?;
        }
        let mut made_lines = Vec::new();
        let mut is_stale = false;
        for step in steps {
            made_lines.extend(self.orders().take(&remote.keap_id, step).await?);
            is_stale = true;
        }
        if ends {
            let reason = plain_text(change.wanted.get_by_name("cancel_reason"));
            self.subscriptions().deactivate(&remote.keap_id, reason.as_deref()).await?;
            is_stale = true;
        }
        if calls.sub_resources.contains(&SubResource::TagApplications) {
            Written { remote, gone_tags, .. } =
                self.carry_tags(change.wanted, &change.remote.record, remote, now).await?;
        }
        if is_stale {
            remote = self.read_again(&remote, entity, now()).await?;
        }
        Ok(Written { remote, made_lines, gone_tags })
    }

    async fn patch(
        &self,
        change: &Change<'_>,
        properties: &[&'static str],
        observed_at: Timestamp,
    ) -> Result<RemoteRecord, Failure> {
        let (wanted, remote) = (change.wanted, change.remote);
        let id = &remote.keap_id;
        let entity = wanted.entity();
        let link = self.link(entity, change.row_id);
        match entity {
            EntityType::Contact => {
                let body = contacts::convert::write_body(wanted, &remote.extra.to_object(), properties, link);
                self.contacts().update(id, properties, body, observed_at).await
            }
            EntityType::Order => {
                let body = orders::convert::write_body(wanted, &remote.record, properties, link)?;
                self.orders().update(id, properties, body, observed_at).await
            }
            EntityType::Tag => {
                let body = tags::convert::write_body(wanted, properties);
                self.tags().update(id, properties, body, observed_at).await
            }
            EntityType::Subscription => {
                let body = subscriptions::convert::write_body(wanted, &remote.record, properties)?;
                self.subscriptions().update(id, properties, body, observed_at).await
            }
        }
    }

    /// Applies and removes the tags in which `wanted` differs from `merged`, which it was merged with. What somebody applied to Keap's
    /// contact after that is not among them, and stays. Nor does a tag that is gone keep the others back: Keap took it off everybody.
    async fn carry_tags(
        &self,
        wanted: &Record,
        merged: &Record,
        remote: RemoteRecord,
        now: &impl Fn() -> Timestamp,
    ) -> Result<Written, Failure> {
        let tags_of = |record: &Record| set_elements(record.get_by_name("tags"));
        let (wanted, merged, held) = (tags_of(wanted), tags_of(merged), tags_of(&remote.record));
        let added = wanted.difference(&merged).filter(|id| !held.contains(*id));
        let taken = merged.difference(&wanted).filter(|id| held.contains(*id));
        let changes: Vec<(&String, TagChange)> =
            added.map(|id| (id, TagChange::Apply)).chain(taken.map(|id| (id, TagChange::Remove))).collect();
        if changes.is_empty() {
            return Ok(remote.into());
        }
        let mut gone_tags: Vec<String> = Vec::new();
        for (tag_id, change) in changes {
            let Caller { transport, base_url, access_token } = self.caller;
            match change_tag(transport, base_url, access_token, tag_id, &remote.keap_id, change).await {
                Err(failure) if failure.class == FailureClass::NotFound => {
                    // It may be the contact that is gone: only a 404 for the tag itself says so of the tag.
                    if self.get(EntityType::Tag, tag_id, now()).await?.is_some() {
                        return Err(Failure { class: FailureClass::Conflict, ..failure });
                    }
                    if change == TagChange::Apply {
                        gone_tags.push(tag_id.clone());
                    }
                }
                outcome => outcome?,
            }
        }
        let remote = self.read_again(&remote, EntityType::Contact, now()).await?;
        Ok(Written { gone_tags, ..remote.into() })
    }

    async fn read_again(
        &self,
        remote: &RemoteRecord,
        entity: EntityType,
        observed_at: Timestamp,
    ) -> Result<RemoteRecord, Failure> {
        self.get(entity, &remote.keap_id, observed_at).await?.ok_or_else(|| {
            Failure::new(
                FailureClass::Unexpected,
                format!("the {} vanished from Keap while it was written", entity.as_str()),
            )
        })
    }

    fn link<'b>(&'b self, entity: EntityType, row_id: &'b str) -> Option<Link<'b>> {
        let field = match entity {
            EntityType::Contact => self.links.contact,
            EntityType::Order => self.links.order,
            EntityType::Tag | EntityType::Subscription => None,
        };
        field.map(|field| Link { field_id: &field.id, row_id })
    }
}

/// The properties of what the record has and a create does not take.
fn only_by_update(record: &Record) -> Vec<&'static str> {
    let fields = capability(record.entity()).fields.iter();
    fields
        .filter(|field| field.create == Carrier::Refused && !is_blank(record.get_by_name(field.name)))
        .filter_map(|field| match field.update {
            Carrier::Property(property) => Some(property),
            Carrier::SubResource(_) | Carrier::Refused => None,
        })
        .collect()
}

fn check_tags(wanted: &Record) -> Result<(), Failure> {
    match set_elements(wanted.get_by_name("tags")).iter().find(|id| !is_keap_id(id)) {
        None => Ok(()),
        Some(odd) => {
            let shown: String = odd.chars().filter(|c| !c.is_control()).take(20).collect();
            Err(Failure::new(
                FailureClass::Invalid,
                format!("tags holds '{shown}', which is no Keap tag id: remove it"),
            ))
        }
    }
}
