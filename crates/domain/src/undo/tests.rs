use super::*;
use serde_json::json;

fn map(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn record(entity: EntityType, values: &Value) -> Record {
    Record::from_object(entity, map(values))
}

/// Undo of a change of a contact.
fn undo(operation: Operation, old: &Value, after: &Value, now: &Value, is_deleted: bool) -> UndoPlan {
    undo_noted(operation, old, after, &json!({}), now, is_deleted)
}

fn undo_noted(
    operation: Operation,
    old: &Value,
    after: &Value,
    note: &Value,
    now: &Value,
    is_deleted: bool,
) -> UndoPlan {
    let (old, after, note) = (map(old), map(after), map(note));
    let record = record(EntityType::Contact, now);
    plan_undo(
        &Change { entity: EntityType::Contact, operation, old: &old, after: &after, note: &note },
        &Current { record: &record, is_deleted },
    )
}

fn left(plan: &UndoPlan) -> Vec<(&str, LeftReason)> {
    plan.left.iter().map(|left| (left.field.as_str(), left.reason)).collect()
}

#[test]
fn a_field_that_nobody_changed_since_gets_its_old_value_back() {
    let plan = undo(
        Operation::Update,
        &json!({"first_name": " Ann", "job_title": null}),
        &json!({"first_name": "Anna", "job_title": "Boss"}),
        &json!({"first_name": "Anna ", "job_title": "Boss", "last_name": "Lee"}),
        false,
    );
    assert_eq!(plan.values, map(&json!({"first_name": " Ann", "job_title": null})));
    assert_eq!((plan.deleted, plan.left), (None, vec![]));
}

#[test]
fn a_field_that_was_changed_since_is_left_and_reported() {
    let plan = undo(
        Operation::Update,
        &json!({"first_name": "Ann", "job_title": "Clerk"}),
        &json!({"first_name": "Anna", "job_title": "Boss"}),
        &json!({"first_name": "Anne", "job_title": "Boss"}),
        false,
    );
    assert_eq!(plan.values, map(&json!({"job_title": "Clerk"})));
    assert_eq!(left(&plan), [("first_name", LeftReason::ChangedSince)]);
}

#[test]
fn what_is_as_it_was_already_needs_nothing() {
    let plan = undo(
        Operation::Update,
        &json!({"email": "a@x.io"}),
        &json!({"email": "b@x.io"}),
        &json!({"email": "a@X.io "}),
        false,
    );
    assert_eq!(plan, UndoPlan::default());
    assert!(plan.is_empty());
}

#[test]
fn elements_of_a_set_are_taken_back_one_by_one() {
    let plan = undo(
        Operation::Update,
        &json!({"tags": ["1", "2"]}),
        &json!({"tags": ["1", "3"]}),
        &json!({"tags": ["1", "3", "4"]}),
        false,
    );
    assert_eq!(plan.values, map(&json!({"tags": ["1", "2", "4"]})));
    assert_eq!(plan.left, []);
}

#[test]
fn slots_are_taken_back_one_by_one() {
    let slot = |name: &str, line: &str| json!({"field": name, "line1": line});
    let plan = undo(
        Operation::Update,
        &json!({"addresses": [slot("BILLING", "1"), slot("OTHER", "1")]}),
        &json!({"addresses": [slot("BILLING", "2"), slot("OTHER", "2")]}),
        &json!({"addresses": [slot("BILLING", "2"), slot("OTHER", "3"), slot("SHIPPING", "1")]}),
        false,
    );
    assert_eq!(
        plan.values,
        map(&json!({"addresses": [slot("BILLING", "1"), slot("OTHER", "3"), slot("SHIPPING", "1")]}))
    );
    assert_eq!(left(&plan), [("addresses.OTHER", LeftReason::ChangedSince)]);
}

#[test]
fn entries_are_taken_back_one_by_one() {
    let plan = undo(
        Operation::Update,
        &json!({"custom_fields": {"7": "a"}}),
        &json!({"custom_fields": {"7": "b", "8": "c"}}),
        &json!({"custom_fields": {"7": "b", "8": "d", "9": "e"}}),
        false,
    );
    assert_eq!(plan.values, map(&json!({"custom_fields": {"7": "a", "8": "d", "9": "e"}})));
    assert_eq!(left(&plan), [("custom_fields.8", LeftReason::ChangedSince)]);
}

#[test]
fn lines_that_keap_numbered_since_are_left() {
    let plan_of = |now: &Value| {
        let (old, after) = (map(&json!({"line_items": []})), map(&json!({"line_items": [{"name": "Tea"}]})));
        let record = record(EntityType::Order, now);
        plan_undo(
            &Change {
                entity: EntityType::Order,
                operation: Operation::Update,
                old: &old,
                after: &after,
                note: &Map::new(),
            },
            &Current { record: &record, is_deleted: false },
        )
    };
    let numbered = plan_of(&json!({"line_items": [{"id": "7", "name": "Tea"}]}));
    assert!(numbered.is_empty());
    assert_eq!(left(&numbered), [("line_items", LeftReason::ChangedSince)]);
    let unchanged = plan_of(&json!({"line_items": [{"name": "Tea"}]}));
    assert_eq!(unchanged.values, map(&json!({"line_items": []})));
}

#[test]
fn what_keap_does_not_take_is_left_with_its_reason() {
    let plan = undo(
        Operation::Update,
        &json!({"company": "Acme", "first_name": "Ann", "extra": {"a": 1}}),
        &json!({"company": "Other", "first_name": "Anna", "extra": {}}),
        &json!({"company": "Other", "first_name": "Anna"}),
        false,
    );
    assert_eq!(plan.values, map(&json!({"first_name": "Ann"})));
    assert_eq!(left(&plan), [("extra", LeftReason::NotSynced), ("company", LeftReason::ReadOnly)]);
    assert!(plan.left[1].explanation.contains("company record"));
    // Keap restored it already.
    let restored = undo(
        Operation::Update,
        &json!({"company": "Acme"}),
        &json!({"company": "Mine"}),
        &json!({"company": "Acme"}),
        false,
    );
    assert_eq!(restored, UndoPlan::default());
}

#[test]
fn a_create_is_undone_by_a_delete() {
    let made = json!({"email": "a@x.io"});
    let plan = undo(Operation::Create, &json!({}), &made, &made, false);
    assert_eq!(plan, UndoPlan { deleted: Some(true), ..UndoPlan::default() });
    assert!(!plan.is_empty());
    let edited =
        undo(Operation::Create, &json!({}), &made, &json!({"email": "b@x.io", "company": "A"}), false);
    assert_eq!((edited.deleted, edited.changed_since), (Some(true), vec!["email".to_owned()]));
    assert_eq!(undo(Operation::Create, &json!({}), &made, &made, true), UndoPlan::default());
    let unknown = undo(Operation::Create, &json!({}), &json!({}), &made, false);
    assert_eq!(unknown, UndoPlan { deleted: Some(true), ..UndoPlan::default() });
}

#[test]
fn a_delete_is_undone_by_bringing_the_record_back() {
    let (old, after) = (json!({"deleted_at": null}), json!({"deleted_at": "2026-03-01T10:00:00Z"}));
    let now = json!({"email": "a@x.io"});
    let plan = undo(Operation::Delete, &old, &after, &now, true);
    assert_eq!(plan, UndoPlan { deleted: Some(false), ..UndoPlan::default() });
    assert_eq!(undo(Operation::Delete, &old, &after, &now, false), UndoPlan::default());
    let back = undo(Operation::Undelete, &after, &old, &now, false);
    assert_eq!(back.deleted, Some(true));
    assert_eq!(undo(Operation::Undelete, &after, &old, &now, true), UndoPlan::default());
}

#[test]
fn a_change_that_brought_the_record_back_is_undone_with_its_values() {
    for operation in [Operation::Conflict, Operation::Resolve, Operation::Revert, Operation::Update] {
        let plan = undo(
            operation,
            &json!({"deleted_at": "2026-03-01T10:00:00Z", "email": "a@x.io"}),
            &json!({"deleted_at": null, "email": "b@x.io"}),
            &json!({"email": "b@x.io"}),
            false,
        );
        assert_eq!(plan.deleted, Some(true));
        assert_eq!(plan.values, map(&json!({"email": "a@x.io"})));
    }
}

#[test]
fn fields_of_a_record_that_was_deleted_since_are_left() {
    let (old, after) = (json!({"email": "a@x.io"}), json!({"email": "b@x.io"}));
    let plan = undo(Operation::Update, &old, &after, &after, true);
    assert!(plan.is_empty());
    assert_eq!(left(&plan), [("email", LeftReason::DeletedSince)]);
    // Unless the undo brings the record back.
    let plan = undo(
        Operation::Delete,
        &json!({"deleted_at": null, "email": "a@x.io"}),
        &json!({"deleted_at": "2026-03-01T10:00:00Z", "email": "b@x.io"}),
        &after,
        true,
    );
    assert_eq!((plan.deleted, plan.values), (Some(false), map(&old)));
}

#[test]
fn a_value_nobody_knows_of_is_left() {
    let plan =
        undo(Operation::Update, &json!({"email": "a@x.io"}), &json!({}), &json!({"email": "b@x.io"}), false);
    assert!(plan.is_empty());
    assert_eq!(left(&plan), [("email", LeftReason::UnknownAfter)]);
}

#[test]
fn a_resolution_is_undone_whoever_won() {
    // Keap won: the row changed.
    let plan = undo_noted(
        Operation::Resolve,
        &json!({"email": "s@x.io"}),
        &json!({"email": "k@x.io"}),
        &json!({"email": {"supabase": "s@x.io"}}),
        &json!({"email": "k@x.io"}),
        false,
    );
    assert_eq!(plan.values, map(&json!({"email": "s@x.io"})));
    // Supabase won: the row stayed, and Keap's value was overridden.
    let slot = |name: &str, line: &str| json!({"field": name, "line1": line});
    let row = json!({"email": "s@x.io", "addresses": [slot("BILLING", "s"), slot("OTHER", "1")]});
    let note = json!({"email": {"keap": "k@x.io"}, "addresses.BILLING": {"keap": slot("BILLING", "k")}});
    let plan = undo_noted(Operation::Resolve, &json!({}), &row, &note, &row, false);
    let wanted = json!({"email": "k@x.io", "addresses": [slot("BILLING", "k"), slot("OTHER", "1")]});
    assert_eq!(plan.values, map(&wanted));
    // The same note of another operation says nothing.
    assert_eq!(undo_noted(Operation::Update, &json!({}), &row, &note, &row, false), UndoPlan::default());
    // What the row held right after is not known, so nobody can say whether it was changed since.
    let plan = undo_noted(Operation::Resolve, &json!({}), &json!({}), &note, &row, false);
    assert!(plan.is_empty());
    assert_eq!(left(&plan), [("email", LeftReason::UnknownAfter), ("addresses", LeftReason::UnknownAfter)]);
}

#[test]
fn operations_have_the_audit_logs_names() {
    for operation in Operation::ALL {
        assert_eq!(Operation::from_name(operation.as_str()), Some(operation));
        assert_eq!(serde_json::to_value(operation).unwrap(), operation.as_str());
    }
    assert_eq!(Operation::from_name("sync"), None);
}
