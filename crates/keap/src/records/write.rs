//! Creates and updates of any entity.

use super::RecordsApi;
use super::units::{Unit, properties_of, taken, with_units};
use crate::caller::Caller;
use crate::capability::{CreateKey, FieldCapability, SubResource, capability};
use crate::checks::before_create;
use crate::contacts::{self, convert::States};
use crate::custom_fields::Link;
use crate::edits::{Refusal, Settled, settle};
use crate::orders::{
    self,
    line_steps::{self, LineStep},
};
use crate::subscriptions::{self, convert::INACTIVE};
use crate::tags::{self, TagChange, change_tag};
use crate::transport::Transport;
use crate::wire::{is_blank, plain_text};
use keapsync_domain::canonical::{same, set_elements, slot_entries};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{EntityType, is_keap_id};
use keapsync_domain::limits::READING_AGE_MAX_MS;
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::schema::{SlotKind, fields, position};
use keapsync_domain::timestamp::Timestamp;
use serde_json::Value;

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
    /// When that answer had arrived.
    pub read_at: Timestamp,
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
    /// What Keap does not take, each with the reason. All else was carried.
    pub refused: Vec<Refusal>,
    /// Whether calls are left, because what was read of the record had become too old for them. They are planned again from
    /// `remote`.
    pub is_cut_short: bool,
}

impl From<RemoteRecord> for Written {
    fn from(remote: RemoteRecord) -> Self {
        Self {
            remote,
            made_lines: Vec::new(),
            gone_tags: Vec::new(),
            refused: Vec::new(),
            is_cut_short: false,
        }
    }
}

impl<T: Transport> RecordsApi<'_, T> {
    /// Makes a record, with all of the row that Keap has a place for. `now` is asked before each call whose answer is a record.
    pub async fn create(
        &self,
        row_id: &str,
        record: &Record,
        now: &impl Fn() -> Timestamp,
    ) -> Result<Written, Failure> {
        let Some(settled) = settled_for_create(record) else {
            return self.create_settled(row_id, record, now).await;
        };
        let made = self.create_settled(row_id, &settled.row, now).await?;
        Ok(Written { refused: settled.refused, ..made })
    }

    async fn create_settled(
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
                let body = contacts::convert::create_body(record, link);
                let made = self.contacts().create(body, now()).await?;
                let none = Record::empty(EntityType::Contact);
                return self.carry_tags(record, &none, made, &mut Window::opened(now()), now).await;
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
                let api = self.subscriptions();
                let made = api.create(body, now()).await?;
                // At once, and nothing is looked up in between: somebody may change it as soon as it is there.
                if properties.is_empty() {
                    api.joined(made).await
                } else {
                    api.update(&made.keap_id, &properties, rest, now()).await
                }
            }
        };
        made.map(Written::from)
    }

    /// Changes a record. `now` is asked before each call whose answer is a record.
    ///
    /// What Keap does not take keeps nothing else back: it is told, and the rest is carried. Where Keap refuses a call, the
    /// edits in it are tried in halves, until the ones that it refuses stand alone.
    ///
    /// A failure after a call that Keap took cuts the write short: the record is read again, so that what Keap made of that
    /// call is not taken for somebody's edit later.
    pub async fn update(
        &self,
        change: &Change<'_>,
        now: &impl Fn() -> Timestamp,
    ) -> Result<Written, Failure> {
        let mut written = Written::from(change.remote.clone());
        let mut is_stale = false;
        match self.carry_all(change, &mut written, &mut is_stale, now).await {
            Ok(()) => {}
            Err(failure) if is_stale || written.remote.content_hash != change.remote.content_hash => {
                // What it failed of tells more than that it can't be read either.
                let again = self.read_again(&written.remote, change.wanted.entity(), now()).await;
                written.remote = again.map_err(|_| failure)?;
                written.is_cut_short = true;
            }
            Err(failure) => return Err(failure),
        }
        Ok(written)
    }

    /// All calls of an update. `is_stale` tells that Keap took a call which `written` knows nothing of.
    async fn carry_all(
        &self,
        change: &Change<'_>,
        written: &mut Written,
        is_stale: &mut bool,
        now: &impl Fn() -> Timestamp,
    ) -> Result<(), Failure> {
        let units = taken(change, now(), &mut written.refused);
        let (ending, units): (Vec<Unit>, Vec<Unit>) = units.into_iter().partition(|unit| {
            // The end takes the reason along.
            let wanted = change.wanted.get_by_name("status").as_str().map(str::trim);
            let is_end = |unit: &Unit| unit.field == "status" && wanted == Some(INACTIVE);
            is_end(unit)
                || (unit.field == "cancel_reason"
                    && change.changed.contains(&"status")
                    && wanted == Some(INACTIVE))
        });
        let mut window = Window::opened(change.read_at);
        self.carry_units(change, units, written, &mut window, now).await?;
        if !ending.is_empty() && window.takes_call(now()) {
            let reason = plain_text(change.wanted.get_by_name("cancel_reason"));
            let ended = self.subscriptions().deactivate(&written.remote.keap_id, reason.as_deref()).await;
            match ended {
                Err(failure) if failure.class == FailureClass::Invalid => {
                    written.refused.extend(ending.into_iter().map(|unit| unit.refused(&failure)));
                }
                ended => {
                    ended?;
                    *is_stale = true;
                }
            }
        }
        let calls = capability(change.wanted.entity()).update_calls(change.changed.iter().copied());
        if calls.sub_resources.contains(&SubResource::OrderItems) {
            self.carry_lines(change, written, &mut window, is_stale, now).await?;
        }
        if calls.sub_resources.contains(&SubResource::TagApplications) {
            let (merged, remote) = (&change.remote.record, written.remote.clone());
            let carried = self.carry_tags(change.wanted, merged, remote, &mut window, now).await?;
            written.remote = carried.remote;
            written.gone_tags = carried.gone_tags;
            written.refused.extend(carried.refused);
        }
        if *is_stale {
            written.remote = self.read_again(&written.remote, change.wanted.entity(), now()).await?;
        }
        written.is_cut_short = window.is_over;
        Ok(())
    }

    /// Carries what goes by the properties of an update: in one call, where Keap takes all of it.
    async fn carry_units(
        &self,
        change: &Change<'_>,
        units: Vec<Unit>,
        written: &mut Written,
        window: &mut Window,
        now: &impl Fn() -> Timestamp,
    ) -> Result<(), Failure> {
        let mut open = vec![units];
        while let Some(mut units) = open.pop() {
            let properties = properties_of(change.wanted.entity(), &units);
            if properties.is_empty() {
                continue;
            }
            if !window.takes_call(now()) {
                return Ok(());
            }
            let wanted = with_units(&written.remote.record, &units);
            match self.patch(change, &wanted, &written.remote, &properties, now()).await {
                Ok(remote) => {
                    written.remote = remote;
                    *window = Window { read_at: now(), ..*window };
                }
                Err(failure) if failure.class == FailureClass::Invalid => {
                    if units.len() > 1 {
                        let rest = units.split_off(units.len() / 2);
                        open.extend([rest, units]);
                    } else {
                        written.refused.extend(units.into_iter().map(|unit| unit.refused(&failure)));
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Carries the lines of an order, one by one.
    async fn carry_lines(
        &self,
        change: &Change<'_>,
        written: &mut Written,
        window: &mut Window,
        is_stale: &mut bool,
        now: &impl Fn() -> Timestamp,
    ) -> Result<(), Failure> {
        let held = &change.remote.record;
        let [base, wanted, held_lines] =
            [change.base, change.wanted, held].map(|record| record.get_by_name("line_items"));
        let plan = line_steps::plan(base, wanted, held_lines, held.get_by_name("currency").as_str());
        written.refused.extend(plan.refused);
        // What somebody changed meanwhile shows in the answer to what was written before, and the steps are planned without it.
        window.is_over |=
            !plan.steps.is_empty() && !has_same_lines(&written.remote.record, &change.remote.record);
        for step in plan.steps {
            if !window.takes_call(now()) {
                break;
            }
            let (key, is_gone) = match &step {
                LineStep::Create { key, .. } => (key.clone(), false),
                LineStep::Update { id, .. } => (id.clone(), false),
                LineStep::Delete { id } => (id.clone(), true),
            };
            match self.orders().take(&written.remote.keap_id, step).await {
                Ok(made) => {
                    *is_stale = true;
                    written.made_lines.extend(made);
                }
                Err(failure) if failure.class == FailureClass::Invalid => {
                    let line = slot_entries(SlotKind::Item, wanted).find(|(name, _)| *name == key);
                    let sent = line.filter(|_| !is_gone).map(|(_, line)| line.clone()).unwrap_or_default();
                    written.refused.push(line_steps::refusal(&key, None, sent, failure.message));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    async fn patch(
        &self,
        change: &Change<'_>,
        wanted: &Record,
        remote: &RemoteRecord,
        properties: &[&'static str],
        observed_at: Timestamp,
    ) -> Result<RemoteRecord, Failure> {
        let id = &remote.keap_id;
        let entity = wanted.entity();
        let link = self.link(entity, change.row_id);
        match entity {
            EntityType::Contact => {
                let extra = &remote.extra.to_object();
                let states = States { base: change.base, wanted, held: &remote.record, extra };
                let body = contacts::convert::write_body(&states, properties, link);
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
        window: &mut Window,
        now: &impl Fn() -> Timestamp,
    ) -> Result<Written, Failure> {
        let tags_of = |record: &Record| set_elements(record.get_by_name("tags"));
        let (wanted, merged, held) = (tags_of(wanted), tags_of(merged), tags_of(&remote.record));
        let added = wanted.difference(&merged).filter(|id| !held.contains(*id));
        let taken = merged.difference(&wanted).filter(|id| held.contains(*id));
        // What is no id was never Keap's: it makes no call.
        let added = added.filter(|id| is_keap_id(id));
        let changes: Vec<(&String, TagChange)> =
            added.map(|id| (id, TagChange::Apply)).chain(taken.map(|id| (id, TagChange::Remove))).collect();
        if changes.is_empty() {
            return Ok(remote.into());
        }
        let (mut gone_tags, mut refused): (Vec<String>, Vec<Refusal>) = (Vec::new(), Vec::new());
        for (tag_id, change) in changes {
            if !window.takes_call(now()) {
                break;
            }
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
                Err(failure) if failure.class == FailureClass::Invalid => {
                    let sent = if change == TagChange::Apply { tag_id.as_str().into() } else { Value::Null };
                    refused.push(Refusal {
                        field: "tags",
                        part: Some(tag_id.clone()),
                        key: None,
                        sent: Some(sent),
                        reason: failure.message,
                    });
                }
                outcome => outcome?,
            }
        }
        let remote = self.read_again(&remote, EntityType::Contact, now()).await?;
        Ok(Written { gone_tags, refused, is_cut_short: window.is_over, ..remote.into() })
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

/// The time in which a record may be written by what was read of it. The first call may always go: whoever planned it has just
/// looked.
#[derive(Clone, Copy, Debug)]
struct Window {
    read_at: Timestamp,
    calls: u32,
    is_over: bool,
}

impl Window {
    /// A window after an answer that arrived at `read_at`.
    fn opened(read_at: Timestamp) -> Self {
        Self { read_at, calls: 0, is_over: false }
    }

    /// Whether another call may go at `now`; counts it. Once one may not, none may.
    fn takes_call(&mut self, now: Timestamp) -> bool {
        self.is_over |= self.calls > 0 && now.since_ms(self.read_at) > READING_AGE_MAX_MS;
        if !self.is_over {
            self.calls += 1;
        }
        !self.is_over
    }
}

fn has_same_lines(left: &Record, right: &Record) -> bool {
    let field = position(EntityType::Order, "line_items")
        .and_then(|position| fields(EntityType::Order).get(position))
        .map(|field| field.kind);
    let [left, right] = [left, right].map(|record| record.get_by_name("line_items"));
    field.is_some_and(|kind| same(kind, left, right))
}

/// The record as a create of it makes it: without what Keap has no place for.
#[must_use]
pub fn as_created(record: &Record) -> Record {
    settled_for_create(record).map_or_else(|| record.clone(), |settled| settled.row)
}

fn settled_for_create(record: &Record) -> Option<Settled> {
    let nothing = Record::empty(record.entity());
    settle(&nothing, record, &nothing)
}

/// The properties of what the record has and a create does not take.
fn only_by_update(record: &Record) -> Vec<&'static str> {
    let fields = capability(record.entity()).fields.iter();
    fields
        .filter(|field| !is_blank(record.get_by_name(field.name)))
        .filter_map(FieldCapability::set_after_create)
        .collect()
}
