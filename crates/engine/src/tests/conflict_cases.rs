//! The lines of docs/merge.md that are about deletions, each as a story with both sides in memory. Contacts go both ways,
//! whichever pass comes first; what comes from Keap is the same for every kind of record, and is applied to each.

use super::{Stage, on_stage};
use crate::inbound::{DELETED_AT, Origin, Told, apply, apply_delete};
use crate::ports::{Clock as _, LocalRow, WriteSource};
use keapsync_domain::canonical::{content_hash, same};
use keapsync_domain::extra::Extra;
use keapsync_domain::ids::EntityType;
use keapsync_domain::policy::{Policies, Policy};
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::schema::fields;
use keapsync_keap::contacts::convert::{contact_from_wire, contact_to_wire};
use merge_table::document::{Line, Taken, lines};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

#[path = "../../../domain/tests/merge_table/mod.rs"]
mod merge_table;

/// Rounds of passes after which both sides are at rest.
const ROUNDS: usize = 4;

#[test]
fn every_line_about_a_deletion_comes_out_as_it_says() {
    let mut stories = 0;
    for line in lines().iter().filter(|line| line.is_about_deletion()) {
        assert_eq!(line.later, "", "{}: deletions do not ask which side changed later", line.id);
        for policies in policies_of(line) {
            for delete_in_keap in line.delete_in_keap.map_or(vec![false, true], |named| vec![named]) {
                let mut tell = |story: &dyn Fn(&Stage<'_>)| {
                    stories += 1;
                    on_stage(|stage| {
                        stage.settings.policies = policies.clone();
                        stage.settings.delete_in_keap = delete_in_keap;
                        story(stage);
                    });
                };
                if line.entity != EntityType::Contact {
                    tell(&|stage| play_inbound(stage, line));
                    continue;
                }
                for (keap_first, hook_first) in [(true, true), (true, false), (false, true), (false, false)] {
                    tell(&|stage| play_both_ways(stage, line, keap_first, hook_first));
                }
            }
        }
    }
    assert!(stories > 300, "{stories}");
}

fn policies_of(line: &Line) -> Vec<Policies> {
    let all = [Policy::NewestWins, Policy::KeapWins, Policy::SupabaseWins, Policy::Manual];
    match &line.policies {
        Some(policies) => vec![policies.clone()],
        None => all.map(|default| Policies { default, ..Policies::default() }).to_vec(),
    }
}

fn record(line: &Line, values: &Value) -> Record {
    Record::from_object(line.entity, values.as_object().cloned().unwrap())
}

/// The columns in which a side differs from the base, with its values.
fn changes(line: &Line, values: &Value) -> Vec<(&'static str, Value)> {
    let known = fields(line.entity).iter().map(|field| field.name);
    known.filter(|name| values[*name] != line.base[*name]).map(|name| (name, values[name].clone())).collect()
}

fn edit_row(stage: &Stage<'_>, line: &Line, row_id: &str) {
    for (column, value) in changes(line, &line.supabase.values) {
        stage.mirror.edit(row_id, column, &value);
    }
    if line.supabase.is_deleted {
        stage.mirror.delete(row_id);
    }
}

fn edit_contact(stage: &Stage<'_>, line: &Line, id: u64) {
    if line.keap.is_deleted {
        stage.keap.contacts.borrow_mut().remove(&id);
    } else if !changes(line, &line.keap.values).is_empty() {
        let wire = contact_to_wire(&record(line, &line.keap.values), &Map::new());
        stage.keap.edit(id, &Value::Object(wire));
    }
}

fn play_both_ways(stage: &Stage<'_>, line: &Line, keap_first: bool, hook_first: bool) {
    let (id, row_id) = stage.linked(&Value::Object(contact_to_wire(&record(line, &line.base), &Map::new())));
    if keap_first {
        edit_contact(stage, line, id);
    }
    edit_row(stage, line, &row_id);
    if !keap_first {
        edit_contact(stage, line, id);
    }
    let before = stage.mirror.linked(id).row;
    if !hook_first {
        stage.drain();
    }
    for _ in 0..ROUNDS {
        stage.hook(&[id]);
        stage.drain();
    }
    let story = format!("{} with {:?}, {keap_first} {hook_first}", line.id, stage.settings);
    assert_row(line, &before, &stage.mirror.linked(id).row, &story);
    assert_conflicts(stage, line, &story);

    let held = stage.keap.contacts.borrow().get(&id).cloned();
    let held = held.map(|wire| {
        let sent = serde_json::to_string(&wire).unwrap();
        let wire = serde_json::from_str(&sent).unwrap();
        contact_from_wire(id.to_string(), wire, None, stage.clock.now()).unwrap().record
    });
    match (&line.to_keap, line.keap.is_deleted) {
        (Taken::Values(values), false) => {
            let wanted = record(line, &line.keap.values).overlaid(values);
            let held = held.unwrap_or_else(|| panic!("{story}: Keap's record is gone"));
            assert_same(&held, &wanted, &story);
        }
        (Taken::Values(values), true) => {
            assert!(values.is_empty() && held.is_none(), "{story}: Keap has a record again");
        }
        (Taken::Deletion, _) => assert_eq!(held, None, "{story}: Keap's record is still there"),
    }
    stage.assert_silent(&[id]);
}

/// What Keap tells of a record of any kind, applied to its row.
fn play_inbound(stage: &Stage<'_>, line: &Line) {
    let origin = Origin { source: WriteSource::Hook, run_id: None, told: Told::default() };
    let told = |values: &Value| {
        let observed_at = stage.clock.tick();
        RemoteRecord {
            keap_id: "7".to_owned(),
            record: record(line, values),
            extra: Extra::default(),
            row_id: None,
            content_hash: content_hash(values),
            created_at: None,
            updated_at: Some(observed_at),
            observed_at,
        }
    };
    let tell = |values: &Value| {
        let remotes = vec![told(values)];
        stage.in_world(async |world| {
            apply(world, line.entity, &origin, remotes, Vec::new()).await.unwrap();
        });
    };
    tell(&line.base);
    let row_id = stage.mirror.linked(7).row.id;
    edit_row(stage, line, &row_id);
    let before = stage.mirror.linked(7).row;
    for _ in 0..ROUNDS {
        if line.keap.is_deleted {
            let observed_at = stage.clock.tick();
            stage.in_world(async |world| {
                apply_delete(world, line.entity, &origin, "7", observed_at).await.unwrap();
            });
        } else {
            tell(&line.keap.values);
        }
    }
    let story = format!("{} with {:?}", line.id, stage.settings);
    assert_row(line, &before, &stage.mirror.linked(7).row, &story);
    assert_conflicts(stage, line, &story);
    assert_eq!(
        line.to_keap,
        Taken::Values(Map::new()),
        "{story}: only what Keap tells is played for this kind"
    );
}

fn assert_row(line: &Line, before: &LocalRow, after: &LocalRow, story: &str) {
    let (values, is_deleted) = match &line.to_supabase {
        Taken::Deletion => (Map::new(), true),
        Taken::Values(values) => {
            let comes_back = values.get(DELETED_AT).is_some_and(Value::is_null);
            (values.clone(), before.deleted_at.is_some() && !comes_back)
        }
    };
    assert_eq!(after.deleted_at.is_some(), is_deleted, "{story}: deleted in Supabase");
    assert_same(&after.record, &before.record.overlaid(&values), story);
}

fn assert_same(found: &Record, wanted: &Record, story: &str) {
    for (position, field) in fields(wanted.entity()).iter().enumerate() {
        let (found, wanted) = (found.get(position), wanted.get(position));
        assert!(same(field.kind, found, wanted), "{story}: {} is {found}, not {wanted}", field.name);
    }
}

fn assert_conflicts(stage: &Stage<'_>, line: &Line, story: &str) {
    let recorded: BTreeSet<(String, Option<&str>)> =
        stage.mirror.conflicts.borrow().iter().map(|(_, field, winner)| (field.clone(), *winner)).collect();
    let expected = line.conflicts().map(|(path, winner)| (path.to_owned(), winner)).collect();
    assert_eq!(recorded, expected, "{story}");
}
