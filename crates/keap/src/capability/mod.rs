//! What Keap lets us do with each entity: one entry per operation and field, as data.
//!
//! The engine asks here and knows no entity by itself. Each entry names the schema of Keap's v2 contract that it rests on.
//! What moves money (`:invoice`, payments, refunds, `:applyCommission`) has no entry, and no function in this crate.
//!
//! | | contacts | orders | tags | subscriptions |
//! |---|---|---|---|---|
//! | full run | by id | by id | by page token, in order of name | by id |
//! | what changed | `start_update_time` | `modified_since_time` | `since_update_time` | newest first, to the watermark |
//! | many by id | `ids` | `ids` | `tag_ids` | `ids` |
//! | found after a lost create by | custom field with the row's id | custom field with the row's id | name | contact, plan and start |
//! | delete | yes | without transactions | yes | no: set `status` |
//! | custom fields | yes | yes | none | yes |

mod contact;
mod order;
mod subscription;
mod tag;

use keapsync_domain::ids::EntityType;

/// How a value gets into Keap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// By that property of the create's or update's body; for updates also its name in `update_mask`.
    Property(&'static str),
    /// By calls of its own.
    SubResource(SubResource),
    /// Not at all; the reason is in the field's [`WriteAccess`](keapsync_domain::schema::WriteAccess).
    Refused,
}

/// Calls of their own that carry a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubResource {
    /// `POST /tags/{id}/contacts:applyTags` and `:removeTags`, a call per tag.
    TagApplications,
    /// `POST`, `PATCH` and `DELETE` of `/orders/{id}/items`, a call per line.
    OrderItems,
    /// `POST /subscriptions/{id}:deactivate` ends one; the property `active` of an update resumes it.
    Deactivation,
}

/// What Keap lets us do with one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldCapability {
    /// The field's name in the schema.
    pub name: &'static str,
    /// Where Keap's answers tell it; `None` where the name is joined from elsewhere or Keap has no such thing.
    pub read: Option<&'static str>,
    /// The name in filters, where it can be filtered by.
    pub filter: Option<&'static str>,
    /// How a create carries it.
    pub create: Carrier,
    /// How an update carries it.
    pub update: Carrier,
    /// Whether a create is refused without it.
    pub required: bool,
}

/// How a full run goes through all records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullPages {
    /// Filtered by ids above the last one, under that filter name: can go on after any pause, and nothing moves it.
    ByKey(&'static str),
    /// By Keap's page token in that order, again until two passes have met the same records: what is renamed or goes while it runs
    /// shifts the rest. Only for lists that can be filtered by no id.
    ByToken(&'static str),
}

/// How a poll finds what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// By a filter of that name on the time of change, inclusive, in the pages of a full run. In order of change a record that is edited
    /// between two pages would move, and where page tokens are positions shift another one over the border.
    Filter(&'static str),
    /// Keap has no such filter: newest first in that order. Where one page does not reach back to the watermark, all are read as a full
    /// run reads them: a deletion between two pages would hide a record.
    NewestFirst(&'static str),
}

/// What tells, after a lost answer, which record a create made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateKey {
    /// A custom field that holds our row's id.
    RowLink,
    /// The name, which Keap keeps unique.
    Name,
    /// The contact, the plan and the day it starts: Keap refuses a second one that is identical.
    ContactPlanStart,
}

/// Whether Keap deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteSupport {
    /// Yes.
    Always,
    /// Unless money was taken for it.
    WithoutTransactions,
    /// Never; the text is for people.
    Never(&'static str),
}

/// What Keap lets us do with one entity.
#[derive(Debug)]
pub struct Capability {
    /// Which.
    pub entity: EntityType,
    /// Reading everything.
    pub full: FullPages,
    /// Reading what changed.
    pub changes: Changes,
    /// The filter that takes many ids, comma-joined.
    pub ids_filter: &'static str,
    /// Finding what a lost create made.
    pub create_key: CreateKey,
    /// Deleting.
    pub delete: DeleteSupport,
    /// The fields, in the order of the schema.
    pub fields: &'static [FieldCapability],
}

/// The calls that a set of changed fields takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Properties of one update, sorted, each once.
    pub properties: Vec<&'static str>,
    /// Sub-resources, sorted, each once.
    pub sub_resources: Vec<SubResource>,
}

/// What Keap lets us do with `entity`.
#[must_use]
pub fn capability(entity: EntityType) -> &'static Capability {
    match entity {
        EntityType::Contact => &contact::CONTACT,
        EntityType::Order => &order::ORDER,
        EntityType::Tag => &tag::TAG,
        EntityType::Subscription => &subscription::SUBSCRIPTION,
    }
}

impl Capability {
    /// Whether lists can be filtered by the time of change.
    #[must_use]
    pub fn has_update_filter(&self) -> bool {
        matches!(self.changes, Changes::Filter(_))
    }

    /// Whether what changed is read from the newest backwards.
    #[must_use]
    pub fn pages_newest_first(&self) -> bool {
        matches!(self.changes, Changes::NewestFirst(_))
    }

    /// Whether Keap deletes any of them at all.
    #[must_use]
    pub fn supports_delete(&self) -> bool {
        !matches!(self.delete, DeleteSupport::Never(_))
    }

    /// The field called `name`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static FieldCapability> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Whether the call that makes a record carries the field called `name`, so that the record has the value from its
    /// beginning: not so for what takes calls of its own, each of which may be the one that got lost.
    #[must_use]
    pub fn is_carried_by_create(&self, name: &str) -> bool {
        self.field(name).is_some_and(FieldCapability::is_carried_by_create)
    }

    /// What an update of the named fields takes. Fields that Keap refuses, and names of no field, take nothing.
    #[must_use]
    pub fn update_calls<'a>(&self, changed: impl IntoIterator<Item = &'a str>) -> Calls {
        let mut calls = Calls::default();
        for field in changed.into_iter().filter_map(|name| self.field(name)) {
            match field.update {
                Carrier::Property(property) => calls.properties.push(property),
                Carrier::SubResource(sub_resource) => calls.sub_resources.push(sub_resource),
                Carrier::Refused => {}
            }
        }
        calls.properties.sort_unstable();
        calls.properties.dedup();
        calls.sub_resources.sort_unstable();
        calls.sub_resources.dedup();
        calls
    }
}

impl FieldCapability {
    /// Whether the call that makes a record carries the field.
    #[must_use]
    pub fn is_carried_by_create(&self) -> bool {
        matches!(self.create, Carrier::Property(_))
    }

    /// The property by which the call after a create sets the field, where the create itself does not take it.
    #[must_use]
    pub fn set_after_create(&self) -> Option<&'static str> {
        match (self.create, self.update) {
            (Carrier::Refused, Carrier::Property(property)) => Some(property),
            _ => None,
        }
    }

    /// A property of the same name in answers, creates and updates.
    const fn same(name: &'static str) -> Self {
        Self::renamed(name, name)
    }

    /// A property of another name in answers, creates and updates.
    const fn renamed(name: &'static str, property: &'static str) -> Self {
        Self::written(name, property, property)
    }

    /// A property that writes call otherwise than answers do.
    const fn written(name: &'static str, read: &'static str, property: &'static str) -> Self {
        Self {
            name,
            read: Some(read),
            filter: None,
            create: Carrier::Property(property),
            update: Carrier::Property(property),
            required: false,
        }
    }

    /// What is read and never written.
    const fn read_only(name: &'static str, read: Option<&'static str>) -> Self {
        Self { name, read, filter: None, create: Carrier::Refused, update: Carrier::Refused, required: false }
    }

    /// What only an update takes.
    const fn update_only(name: &'static str) -> Self {
        Self { create: Carrier::Refused, ..Self::same(name) }
    }

    const fn filtered(self, filter: &'static str) -> Self {
        Self { filter: Some(filter), ..self }
    }

    const fn required(self) -> Self {
        Self { required: true, ..self }
    }
}

#[cfg(test)]
mod tests;
