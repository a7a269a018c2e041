//! The lines of a story, carried out: what people do on both sides, and what goes wrong.

use super::cells::{Cells, FIRST_KEAP_VALUE, Line};
use super::keap_side::KeapChange;
use super::mirror_side::MirrorSide;
use super::stage::{Event, Stage};
use super::story::{Action, Deed, Doing, Fault, NEWEST};
use super::unit_orders::{begin_runs, undo_change, undo_run};
use keapsync_domain::ids::EntityType;
use keapsync_domain::merge::Side;
use keapsync_domain::run::RunKind;
use std::rc::Rc;

/// More lines than this nobody adds to an order.
const LINES_ADDED_MAX: usize = 4;

/// Tags that there are at the beginning: those that contacts carry.
const TAGS: u32 = 3;

/// What Keap holds at the beginning.
pub(super) fn populate(stage: &Stage) {
    let mut value = FIRST_KEAP_VALUE;
    let setting = &stage.setting;
    for (entity, count) in [
        (EntityType::Tag, TAGS),
        (EntityType::Contact, setting.contacts),
        (EntityType::Order, setting.orders),
        (EntityType::Subscription, setting.subscriptions),
    ] {
        for contact in 0..count {
            make_in_keap(stage, entity, contact, value);
            value += 20;
        }
    }
}

/// Carries a line out.
pub(super) fn act(stage: &Rc<Stage>, action: Action) {
    match action {
        Action::Person(deed) => match deed.side {
            Side::Keap => act_in_keap(stage, deed),
            Side::Supabase => act_in_supabase(stage, deed),
        },
        Action::Fault(fault) => go_wrong(stage, fault),
    }
}

fn person_wrote_keap(stage: &Stage, change: Option<KeapChange>) {
    let Some(change) = change else { return };
    stage.ledger.borrow_mut().person_wrote_keap(&change, stage.steps.get());
    stage.send_hook(change.entity, change.id);
}

/// The one at a position, or the last.
fn at<T>(mut all: impl ExactSizeIterator<Item = T> + DoubleEndedIterator, position: u32) -> Option<T> {
    if position == NEWEST {
        return all.next_back();
    }
    let count = all.len().max(1);
    all.nth(position as usize % count)
}

/// The record at a position among those that exist.
fn record_at(stage: &Stage, entity: EntityType, position: u32) -> Option<u64> {
    at(stage.keap.borrow().records(entity).keys().copied(), position)
}

/// The row at a position among those that exist, or among the deleted ones.
fn row_at(mirror: &MirrorSide, entity: EntityType, position: u32, is_deleted: bool) -> Option<String> {
    let rows = mirror.rows(entity).iter();
    let rows: Vec<&String> =
        rows.filter(|(_, row)| row.row.deleted_at.is_some() == is_deleted).map(|(id, _)| id).collect();
    at(rows.into_iter(), position).cloned()
}

fn is_of_contact(entity: EntityType) -> bool {
    matches!(entity, EntityType::Order | EntityType::Subscription)
}

fn make_in_keap(stage: &Stage, entity: EntityType, contact: u32, value: u32) {
    let mut cells = Cells::made(entity, value);
    if entity == EntityType::Contact {
        cells.flags &= !gone_tags(stage);
    }
    if is_of_contact(entity) {
        let Some(contact) = record_at(stage, EntityType::Contact, contact) else { return };
        cells.contact = contact;
    }
    let change = stage.keap.borrow_mut().add(cells, None, stage.keap_now());
    person_wrote_keap(stage, Some(change));
}

fn act_in_keap(stage: &Stage, deed: Deed) {
    let (entity, now) = (deed.entity, stage.keap_now());
    if let Doing::Make { value } = deed.doing {
        return make_in_keap(stage, entity, deed.record, value);
    }
    let Some(id) = record_at(stage, entity, deed.record) else { return };
    let change = match deed.doing {
        Doing::Delete => stage.keap.borrow_mut().delete(entity, id, now),
        Doing::AddLine { value } => {
            let mut keap = stage.keap.borrow_mut();
            let has_room = keap.cells(entity, id).is_some_and(|order| order.lines.len() < LINES_ADDED_MAX);
            if has_room { keap.add_line(id, value, now).map(|(_, change)| change) } else { None }
        }
        doing => {
            let is_tag = entity == EntityType::Contact && matches!(doing, Doing::Toggle { .. });
            let moves_time = !is_tag || stage.setting.tags_move_time;
            let gone = gone_tags(stage);
            stage.keap.borrow_mut().edit(entity, id, now, moves_time, |record| {
                edit(&mut record.cells, doing);
                if is_tag {
                    record.cells.flags &= !gone;
                }
            })
        }
    };
    person_wrote_keap(stage, change);
}

/// Bits of the tags that Keap has not got any more: nobody puts one on there.
fn gone_tags(stage: &Stage) -> u8 {
    super::convergence::gone_tags(&stage.keap.borrow())
}

/// What an edit does to cells.
fn edit(cells: &mut Cells, doing: Doing) {
    match doing {
        Doing::Edit { cell, value } => cells.set(cell, value),
        Doing::Toggle { bit } => cells.flags ^= 1 << bit,
        Doing::AddLine { value } if cells.lines.len() < LINES_ADDED_MAX => {
            cells.lines.push(Line { id: 0, value });
        }
        Doing::EditLine { line, value } => {
            let position = line as usize % cells.lines.len().max(1);
            if let Some(line) = cells.lines.at_mut(position) {
                line.value = value;
            }
        }
        Doing::RemoveLine { line } => {
            let removed = line as usize % cells.lines.len().max(1);
            cells.lines.retain(|position, _| position != removed);
        }
        _ => {}
    }
}

fn act_in_supabase(stage: &Stage, deed: Deed) {
    let (entity, now) = (deed.entity, stage.postgres_now());
    let change = {
        let mut mirror = stage.mirror.borrow_mut();
        let row = |mirror: &MirrorSide, is_deleted| row_at(mirror, entity, deed.record, is_deleted);
        match deed.doing {
            Doing::Make { value } => {
                let contact = is_of_contact(entity)
                    .then(|| row_at(&mirror, EntityType::Contact, deed.record, false))
                    .flatten();
                if is_of_contact(entity) && contact.is_none() {
                    return;
                }
                let change = mirror.insert(Cells::made(entity, value), contact, now);
                stage.ledger.borrow_mut().person_owns(&change.after.id);
                Some(change)
            }
            Doing::Delete | Doing::Undelete => {
                let is_deleted = deed.doing == Doing::Delete;
                if let Some(id) = row(&mirror, !is_deleted) {
                    let _ = mirror.set_deleted(entity, &id, is_deleted, now);
                    if is_deleted {
                        stage.ledger.borrow_mut().person_owns(&id);
                    }
                }
                None
            }
            doing => {
                let id = row(&mirror, false);
                id.and_then(|id| mirror.edit(entity, &id, now, |cells| edit(cells, doing)))
            }
        }
    };
    stage.person_wrote_row(change);
}

fn go_wrong(stage: &Rc<Stage>, fault: Fault) {
    let (now_ms, steps) = (stage.schedule.now_ms(), stage.steps.get());
    match fault {
        Fault::Request { fault, times } => {
            (0..times).for_each(|_| stage.faults.borrow_mut().requests.push_back(fault));
        }
        Fault::KeapDown { status, for_ms } => {
            stage.faults.borrow_mut().keap_down = Some((status, now_ms + for_ms));
        }
        Fault::Statement { fault, times } => {
            (0..times).for_each(|_| stage.faults.borrow_mut().statements.push_back(fault));
        }
        Fault::Hooks { fault, times } => {
            (0..times).for_each(|_| stage.faults.borrow_mut().hooks.push_back(fault));
        }
        Fault::HooksInactive { for_ms } => {
            stage.faults.borrow_mut().hooks_inactive_until_ms = now_ms + for_ms;
        }
        Fault::HookBatch { unknown } => {
            stage.coverage.borrow_mut().count("delivery of 1000 objects");
            let unknown = u64::from(unknown);
            let contact = |id: u64| (EntityType::Contact, id);
            let known: Vec<u64> = stage.keap.borrow().records(EntityType::Contact).keys().copied().collect();
            let ids = (0..unknown)
                .map(|id| contact(90_000 + id))
                .chain(known.iter().copied().map(contact).cycle().take(1_000))
                .take(1_000);
            stage.hooks_in_flight.set(stage.hooks_in_flight.get() + 1);
            stage.schedule.after(100, Event::Hook(ids.collect()));
        }
        Fault::Evict { after_steps, alarm_is_lost } => {
            stage.faults.borrow_mut().evict = Some((steps + after_steps, alarm_is_lost));
        }
        Fault::UnitDies { after_steps } => {
            stage.faults.borrow_mut().units_die = Some(steps + after_steps);
        }
        Fault::ReportLost => stage.faults.borrow_mut().reports_lost += 1,
        Fault::TokenRevoked => "revoked".clone_into(&mut stage.keap.borrow_mut().access_token),
        Fault::GrantRevoked => {
            let mut keap = stage.keap.borrow_mut();
            "revoked".clone_into(&mut keap.access_token);
            "revoked".clone_into(&mut keap.refresh_token);
        }
        Fault::ShortPages { times } => {
            stage.coverage.borrow_mut().count("short page");
            stage.keap.borrow_mut().short_pages += times;
        }
        Fault::UndoRun { back } => undo_run(stage, back),
        Fault::UndoChange { back } => undo_change(stage, back),
        Fault::AccessLost { entity, record, for_ms } => lose_access(stage, entity, record, for_ms),
        Fault::FullRun => begin_runs(stage, RunKind::Full, &EntityType::ALL),
        Fault::Poll => begin_runs(stage, RunKind::Incremental, &EntityType::ALL),
        Fault::Pause { for_ms } => {
            stage.coverage.borrow_mut().count("pause");
            stage.faults.borrow_mut().paused_until_ms = now_ms + for_ms;
        }
    }
}

/// A record goes out of the account's reach. Only one that has a row: of one that is still being made nobody could tell, when it is
/// looked for in vain, that it is there.
fn lose_access(stage: &Rc<Stage>, entity: EntityType, record: u32, for_ms: i64) {
    let Some(id) = record_at(stage, entity, record) else { return };
    if stage.mirror.borrow().linked(entity, id).is_none() || !stage.keap.borrow_mut().hide(entity, id) {
        return;
    }
    stage.coverage.borrow_mut().count("record out of reach");
    stage.tell(|| format!("{} {id} is out of reach", entity.as_str()));
    tell_perhaps(stage, entity, id);
    stage.schedule.after(for_ms, Event::AccessBack(entity, id));
}

/// A record is within the account's reach again, as it was.
pub(super) fn bring_back(stage: &Stage, entity: EntityType, id: u64) {
    if stage.keap.borrow_mut().show_again(entity, id) {
        stage.tell(|| format!("{} {id} is within reach again", entity.as_str()));
        stage.ledger.borrow_mut().came_back(entity, id);
        tell_perhaps(stage, entity, id);
    }
}

/// A change of access is no change of the record: a hook may come, and may not.
fn tell_perhaps(stage: &Stage, entity: EntityType, id: u64) {
    if stage.schedule.draw(|random| random.chance(50)) {
        stage.send_hook(entity, id);
    }
}
