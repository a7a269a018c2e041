//! The blast guard: how much may be destroyed within an hour before a person says that it is meant.
//!
//! Destroyed is a row or a record of Keap that is deleted, or one of whose values is replaced or cleared. What is only added, to a
//! blank field, a set or a free slot, destroys nothing.
//!
//! Invariant: what was destroyed of a class within an hour, without a person's word, is never more than the limit, by whatever ways
//! and however many at once: it is noted, all or nothing, before it is written. What was noted and then not written counts even so,
//! which stops too early at worst.

use crate::ports::proof::{GuardLedger, Held, Taking};
use keapsync_domain::canonical::{canonical, same, set_elements};
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::AccountId;
use keapsync_domain::record::Record;
use keapsync_domain::schema::{FieldKind, fields};
use keapsync_domain::settings::BlastGuard;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::Approval;
use serde_json::{Map, Value};
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};

/// How long what was destroyed counts, in milliseconds.
const WINDOW_MS: i64 = 3_600_000;

/// What a pass may destroy.
#[derive(Debug)]
pub struct Allowance {
    guard: Option<BlastGuard>,
    approval: Option<Approval>,
    used: Cell<u64>,
}

impl Allowance {
    /// Anything: a person approved it, or it was counted already.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { guard: None, approval: None, used: Cell::new(0) }
    }

    /// What the settings let through within an hour, and what somebody approved.
    #[must_use]
    pub fn of(guard: BlastGuard, approval: Option<Approval>) -> Self {
        Self { guard: Some(guard), approval, used: Cell::new(0) }
    }

    /// How many records were taken.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.get()
    }

    /// Counts as not taken what was not destroyed in the end. What was noted of it stays noted.
    pub fn give_back(&self, records: u64) {
        self.used.set(self.used.get().saturating_sub(records));
    }

    /// Takes the right to destroy these rows; all or nothing.
    pub async fn take<S: GuardLedger>(
        &self,
        store: &S,
        account: &AccountId,
        class: Held,
        row_ids: &[String],
    ) -> Result<bool, Failure> {
        let is_taken = self.ask(store, account, class, row_ids, false).await?;
        if is_taken {
            self.used.set(self.used.get() + row_ids.len() as u64);
        }
        Ok(is_taken)
    }

    /// Whether these rows could be taken now.
    pub async fn would_take<S: GuardLedger>(
        &self,
        store: &S,
        account: &AccountId,
        class: Held,
        row_ids: &[String],
    ) -> Result<bool, Failure> {
        self.ask(store, account, class, row_ids, true).await
    }

    async fn ask<S: GuardLedger>(
        &self,
        store: &S,
        account: &AccountId,
        class: Held,
        row_ids: &[String],
        only_looks: bool,
    ) -> Result<bool, Failure> {
        let Some(guard) = self.guard.filter(|_| !row_ids.is_empty()) else { return Ok(true) };
        let approval = self.approval.as_ref();
        store.take(account, &Taking { class, row_ids, guard, approval, only_looks }).await
    }
}

/// What was destroyed lately, in memory: the rule that `keapsync_guard_take` has in SQL.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    destroyed: BTreeMap<(Held, String), (Timestamp, Option<String>)>,
}

impl Ledger {
    /// See [`GuardLedger::take`]. `live` is how many rows of the kind there are.
    pub fn take(&mut self, taking: &Taking<'_>, live: u64, now: Timestamp) -> bool {
        let rows: HashSet<&String> = taking.row_ids.iter().collect();
        let others = self.destroyed.iter().filter(|((_, row), _)| !rows.contains(row));
        let (mut recent, mut approved) = (0_u64, 0_u64);
        for ((class, _), (at, approval)) in others {
            match (approval, taking.approval) {
                (Some(id), Some(approval)) if *id == approval.id => approved += 1,
                (None, _) if *class == taking.class && now.since_ms(*at) < WINDOW_MS => recent += 1,
                _ => {}
            }
        }
        let left = taking.approval.map_or(0, |approval| approval.records.saturating_sub(approved));
        let by_approval = left.min(rows.len() as u64);
        let by_limit = rows.len() as u64 - by_approval;
        if by_limit > 0 && recent + by_limit > taking.guard.limit(live) {
            return false;
        }
        if !taking.only_looks {
            for (number, row) in (0_u64..).zip(taking.row_ids) {
                let approval = taking.approval.filter(|_| number < by_approval);
                let noted = (now, approval.map(|approval| approval.id.clone()));
                self.destroyed.insert((taking.class, row.clone()), noted);
            }
        }
        true
    }
}

/// A class of edits that waits for a person's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// Which.
    pub held: Held,
    /// How many records they would overwrite or delete in Keap.
    pub edits: u64,
    /// How many rows Keap's deletions would delete here.
    pub hooks: u64,
    /// When the last of the edits was held, by the database's clock.
    pub edits_until: Timestamp,
}

impl HeldBack {
    /// How many records in all.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.edits + self.hooks
    }

    /// What waits, and what to do.
    #[must_use]
    pub fn message(&self) -> String {
        let (records, plural) = (self.records(), self.held.entity.plural());
        let what = match (self.held.deletes, self.edits, self.hooks) {
            (false, ..) => format!("changes of {records} {plural} in Keap"),
            (true, edits, 0) => format!("deletes of {edits} {plural} in Keap"),
            (true, 0, hooks) => format!("deletes of {hooks} {plural} here, whose records are gone from Keap"),
            (true, edits, hooks) => format!("deletes of {edits} {plural} in Keap and of {hooks} here"),
        };
        format!(
            "the blast guard holds back {what}: more within an hour than the settings let through. See the rows that are paused, and take back what is not meant; then approve this run with {{\"number\": {records}}}. Everything else goes on"
        )
    }
}

/// What a row says while Keap's deletion of its record waits.
pub const HELD_HOOK_WORD: &str = "blast_guard: the record was deleted in Keap, and so were many others within an hour: the row stays until somebody approves that (GET /sync/status says how), or cancels it, and then Keap is asked again";

/// What a row says while its delete waits for its way to Keap.
pub const HELD_DELETE_WORD: &str = "blast_guard: this delete is not carried to Keap yet, because more were made within an hour than the settings let through: an admin approves it (GET /sync/status says how), or set deleted_at to null to take it back";

/// What a row says while its changes wait for their way to Keap.
pub const HELD_CHANGE_WORD: &str = "blast_guard: this change is not carried to Keap yet, because more were made within an hour than the settings let through: an admin approves it (GET /sync/status says how), or change it back here first";

/// Whether something that `before` holds is not in `after` any more.
#[must_use]
pub fn destroys(before: &Record, after: &Record) -> bool {
    fields(before.entity()).iter().enumerate().any(|(position, field)| {
        let (before, after) = (before.get(position), after.get(position));
        before != after && !same(field.kind, before, after) && !holds_all_of(field.kind, after, before)
    })
}

fn holds_all_of(kind: FieldKind, after: &Value, before: &Value) -> bool {
    match kind {
        FieldKind::Set => set_elements(before).is_subset(&set_elements(after)),
        FieldKind::Slots(_) | FieldKind::Map => {
            let (before, after) = (parts_of(kind, before), parts_of(kind, after));
            before.iter().all(|(name, part)| after.get(name) == Some(part))
        }
        _ => same(kind, before, &Value::Null),
    }
}

fn parts_of(kind: FieldKind, value: &Value) -> Map<String, Value> {
    match canonical(kind, value) {
        Value::Object(parts) => parts,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keapsync_domain::ids::EntityType;
    use serde_json::json;

    const DELETES: Held = Held { entity: EntityType::Contact, deletes: true };

    fn rows(numbers: std::ops::Range<u32>) -> Vec<String> {
        numbers.map(|number| number.to_string()).collect()
    }

    fn taken(ledger: &mut Ledger, class: Held, rows: &[String], now: i64) -> bool {
        let guard = BlastGuard { records_max: 10, percent_max: 5 };
        let taking = Taking { class, row_ids: rows, guard, approval: None, only_looks: false };
        ledger.take(&taking, 100, Timestamp(now))
    }

    #[test]
    fn an_hour_lets_the_limit_through_in_whatever_steps() {
        let mut ledger = Ledger::default();
        let mut let_through = 0;
        for number in 0..60_u32 {
            let one = rows(number..number + 1);
            let_through += u32::from(taken(&mut ledger, DELETES, &one, i64::from(number) * 1_000));
        }
        assert_eq!(let_through, 10, "a slow loop");
        assert!(taken(&mut ledger, DELETES, &rows(0..10), 60_000), "what is noted counts once");
        assert!(!taken(&mut ledger, DELETES, &rows(5..11), 60_000));
        let changes = Held { deletes: false, ..DELETES };
        let orders = Held { entity: EntityType::Order, ..DELETES };
        for other in [changes, orders] {
            assert!(!taken(&mut ledger, other, &rows(100..111), 60_000), "whole or not at all");
            assert!(taken(&mut ledger, other, &rows(100..110), 60_000), "each class by its own number");
        }
        assert!(!taken(&mut ledger, DELETES, &rows(50..51), 60_000 + WINDOW_MS - 1));
        assert!(taken(&mut ledger, DELETES, &rows(50..60), 60_000 + WINDOW_MS));
    }

    #[test]
    fn a_lost_unit_uses_the_approval_up_all_the_same() {
        let mut ledger = Ledger::default();
        let approval = Approval { id: "a".to_owned(), records: 100 };
        let guard = BlastGuard { records_max: 5, percent_max: 0 };
        let mut take = |rows: &[String]| {
            let taking =
                Taking { class: DELETES, row_ids: rows, guard, approval: Some(&approval), only_looks: false };
            ledger.take(&taking, 1_000, Timestamp(0))
        };
        assert!(take(&rows(0..90)) && take(&rows(0..90)), "repeated after it was lost");
        assert!(!take(&rows(90..106)), "ten are left, and five by the limit");
        assert!(take(&rows(90..105)) && !take(&rows(200..201)));
    }

    #[test]
    fn what_is_only_added_destroys_nothing() {
        let contact = |values: Value| {
            Record::from_object(EntityType::Contact, values.as_object().cloned().unwrap_or_default())
        };
        let email = |slot: &str, address: &str| json!({"field": slot, "email": address});
        let before = contact(json!({
            "first_name": "Ann", "tags": ["1"], "emails": [email("EMAIL2", "a@x.io")], "custom_fields": {"7": "x"},
        }));
        let with = |name: &str, value: Value| {
            let mut after = before.clone();
            after.set_by_name(name, value);
            after
        };
        for (name, value) in [
            ("last_name", json!("Lee")),
            ("first_name", json!(" Ann ")),
            ("tags", json!(["2", "1"])),
            ("emails", json!([email("EMAIL3", "b@x.io"), email("EMAIL2", "a@x.io")])),
            ("custom_fields", json!({"8": "y", "7": "x"})),
        ] {
            assert!(!destroys(&before, &with(name, value.clone())), "{name}: {value}");
        }
        for (name, value) in [
            ("first_name", json!("Anna")),
            ("first_name", Value::Null),
            ("tags", json!(["2"])),
            ("emails", json!([email("EMAIL3", "b@x.io")])),
            ("custom_fields", json!({"7": "y"})),
        ] {
            assert!(destroys(&before, &with(name, value.clone())), "{name}: {value}");
        }
    }
}
