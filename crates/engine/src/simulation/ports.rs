//! The ports through which the engine sees the stage: a worker's clock, the network to Keap, the database.

use super::cells::Cells;
use super::keap_side::answer;
use super::mirror_side::{MirrorSide, RowChange, Written};
use super::mutation::Mutation;
use super::schedule::Wait;
use super::stage::{Event, Flight, Reply, Stage};
use super::verdict::{Invariant, Violation};
use crate::ports::history::{AuditEntry, HistoryStore, PersonEdit};
use crate::ports::proof::{GuardLedger, Taking};
use crate::ports::{
    Clock, KnownRow, LocalRow, MirrorStore, OutboxDepth, OutboxItem, OutboxStore, RejectedRecord, RemoteKey,
    RowWrite, WriteBatch, WriteOutcome, WriteSource,
};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::transport::{Method, Request, Response, Transport};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// The clock of one worker.
pub(super) struct SimulatedClock {
    pub stage: Rc<Stage>,
    pub skew_ms: i64,
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.stage.schedule.now_ms() + self.skew_ms)
    }

    async fn sleep_ms(&self, delay_ms: i64) {
        self.stage.schedule.sleep(delay_ms).await;
    }
}

/// The network to Keap.
pub(super) struct SimulatedTransport {
    stage: Rc<Stage>,
    pass: Cell<u64>,
    /// What lists told of records in this pass, for an engine that does not look again; `None` for one that does.
    listed: Option<RefCell<HashMap<String, Value>>>,
}

impl SimulatedTransport {
    pub(super) fn new(stage: &Rc<Stage>) -> Self {
        let transport = Self { stage: Rc::clone(stage), pass: Cell::new(0), listed: None };
        transport.begin_pass();
        transport
    }

    /// What carries edits: this is where a stale reading would be written by.
    pub(super) fn carrying(stage: &Rc<Stage>) -> Self {
        let listed = (stage.mutation == Mutation::StaleReading).then(RefCell::default);
        Self { listed, ..Self::new(stage) }
    }

    /// What is read from now on belongs together.
    pub(super) fn begin_pass(&self) {
        let pass = self.stage.passes.get() + 1;
        self.stage.passes.set(pass);
        self.pass.set(pass);
        if let Some(listed) = &self.listed {
            listed.borrow_mut().clear();
        }
    }
}

/// What a list told of the record that is asked for.
fn listed_before(listed: &RefCell<HashMap<String, Value>>, request: &Request) -> Option<Response> {
    let path = path_of(request)?;
    if request.method != Method::Get {
        // What is written is another record after that.
        listed.borrow_mut().retain(|told, _| !path.starts_with(told.as_str()));
        if path.starts_with("tags/") {
            listed.borrow_mut().retain(|told, _| !told.starts_with("contacts/"));
        }
        return None;
    }
    listed.borrow().get(path).map(|record| answer(200, record.to_string()))
}

fn note_listed(listed: &RefCell<HashMap<String, Value>>, request: &Request, response: &Response) {
    let Some(plural) = path_of(request).filter(|path| !path.contains('/')) else { return };
    let Ok(Value::Object(body)) = serde_json::from_slice(&response.body) else { return };
    for record in body.get(plural).and_then(Value::as_array).into_iter().flatten() {
        if let Some(id) = record["id"].as_str() {
            listed.borrow_mut().insert(format!("{plural}/{id}"), record.clone());
        }
    }
}

/// Notes when the engine asks for a request, whose turn may come later.
pub(super) struct AskedTransport<'a, T> {
    pub stage: &'a Stage,
    pub inner: &'a T,
}

impl<T: Transport> Transport for AskedTransport<'_, T> {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let name = name_of(&request);
        self.stage.asked.borrow_mut().push((name.clone(), self.stage.schedule.now_ms()));
        let outcome = self.inner.send(request).await;
        // One that never had its turn is not asked for any more.
        self.stage.asked.borrow_mut().retain(|(asked, _)| *asked != name);
        outcome
    }
}

fn name_of(request: &Request) -> String {
    format!("{} {}", request.method.as_str(), request.url)
}

fn asked_ms(stage: &Stage, request: &Request) -> i64 {
    let name = name_of(request);
    let asked = stage.asked.borrow();
    asked.iter().find(|(asked, _)| *asked == name).map_or_else(|| stage.schedule.now_ms(), |(_, at)| *at)
}

/// What a request is about.
fn path_of(request: &Request) -> Option<&str> {
    request.url.split('?').next()?.strip_prefix("http://keap/rest/v2/")
}

impl Transport for SimulatedTransport {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let stage = &self.stage;
        stage.count_call();
        // Filtered by a time of change, and by nothing else.
        let is_poll = request.url.contains("_time%3D%3D") && !request.url.contains("page_token=");
        if is_poll && stage.mutation == Mutation::PositionTokens {
            return self.poll_by_position(request).await;
        }
        let Some(listed) = &self.listed else { return self.deliver(request).await };
        if let Some(response) = listed_before(listed, &request) {
            stage.pause().await;
            return Ok(response);
        }
        let response = self.deliver(request.clone()).await?;
        note_listed(listed, &request, &response);
        Ok(response)
    }
}

impl SimulatedTransport {
    /// Answers a poll with all that Keap lists in the order of change, from page to page by its tokens.
    async fn poll_by_position(&self, request: Request) -> Result<Response, Failure> {
        let first = request.url.replace("order_by=id%20asc", "order_by=update_time%20asc");
        let mut url = first.clone();
        let mut records = Vec::new();
        loop {
            let response = self.deliver(Request { url, ..request.clone() }).await?;
            if response.status != 200 {
                return Ok(response);
            }
            let mut page: HashMap<String, Value> = serde_json::from_slice(&response.body).unwrap_or_default();
            let token = page.remove("next_page_token").unwrap_or_default();
            for held in page.values_mut().filter_map(Value::as_array_mut) {
                records.append(held);
            }
            match token.as_str().filter(|token| !token.is_empty()) {
                Some(token) => url = format!("{first}&page_token={token}"),
                None => return Ok(answer(200, serde_json::json!({"items": records}).to_string())),
            }
        }
    }

    /// Carries a request to Keap, and its answer back.
    async fn deliver(&self, request: Request) -> Result<Response, Failure> {
        let stage = &self.stage;
        let reply = Rc::new(Reply::default());
        let asked_ms = asked_ms(stage, &request);
        let flight = Flight { request, pass: self.pass.get(), asked_ms, reply: Rc::clone(&reply) };
        stage.in_flight.set(stage.in_flight.get() + 1);
        stage.schedule.after(stage.latency_ms(), Event::Request(Box::new(flight)));
        Wait(Rc::clone(&reply.waiter)).await;
        let response = reply.response.borrow_mut().take();
        response.unwrap_or_else(|| Err(Failure::new(FailureClass::Unavailable, "no answer")))
    }
}

/// The database, as the engine sees it.
pub(super) struct SimulatedStore {
    pub stage: Rc<Stage>,
}

impl GuardLedger for SimulatedStore {
    async fn take(&self, _: &AccountId, taking: &Taking<'_>) -> Result<bool, Failure> {
        self.stage.statement(9, |mirror, now| mirror.take(taking, now)).await
    }
}

impl MirrorStore for SimulatedStore {
    async fn read_known(
        &self,
        _: &AccountId,
        entity: EntityType,
        keys: &[RemoteKey],
    ) -> Result<Vec<KnownRow>, Failure> {
        let known = self.stage.statement(2, |mirror, _| mirror.read_known(entity, keys)).await?;
        Ok(known.into_iter().map(|known| self.stage.mutation.of_known(known)).collect())
    }

    async fn read_rows(
        &self,
        _: &AccountId,
        entity: EntityType,
        ids: &[String],
    ) -> Result<Vec<LocalRow>, Failure> {
        let stage = &self.stage;
        let rows = stage
            .statement(3, |mirror, _| {
                let rows = mirror.read_rows(entity, ids);
                stage.ledger.borrow_mut().rows_were_read(&rows, stage.steps.get());
                rows
            })
            .await?;
        Ok(rows.into_iter().map(|row| self.stage.mutation.of_row(row)).collect())
    }

    async fn write(
        &self,
        _: &AccountId,
        entity: EntityType,
        batch: &WriteBatch,
    ) -> Result<WriteOutcome, Failure> {
        let stage = &self.stage;
        stage
            .statement(4, |mirror, now| {
                let Written { outcome, changes } = mirror.write(entity, batch, now, stage.mutation);
                stage.coverage.borrow_mut().add("row merged again", outcome.skipped.len() as u64);
                for (position, change) in &changes {
                    if let Some(write) = batch.rows.get(*position) {
                        look_at(stage, mirror, batch.source, write, change);
                    }
                }
                outcome
            })
            .await
    }

    async fn record_rejections(
        &self,
        _: &AccountId,
        entity: EntityType,
        rejected: &[RejectedRecord],
    ) -> Result<(), Failure> {
        self.stage.coverage.borrow_mut().add("record that the mirror refuses", rejected.len() as u64);
        let ids = rejected.iter().filter_map(|rejected| rejected.keap_id.clone());
        let records: Vec<(EntityType, String)> = ids.map(|id| (entity, id)).collect();
        self.stage.statement(5, |mirror, _| mirror.rejected.extend(records)).await
    }
}

/// What a write is judged by, at the moment it takes effect.
fn look_at(stage: &Stage, mirror: &MirrorSide, source: WriteSource, write: &RowWrite, change: &RowChange) {
    let entity = change.after.record.entity();
    for conflict in &write.conflicts {
        stage.coverage.borrow_mut().conflict(conflict);
    }
    stage.tell(|| {
        format!(
            "  row of {} {} written ({source:?}): {} delta {:?} deleted {:?}",
            entity.as_str(),
            write.keap_id,
            Cells::of_record(&change.after.record),
            change.after.base_delta.keys().collect::<Vec<_>>(),
            change.after.deleted_at.is_some(),
        )
    });
    let id: u64 = write.keap_id.parse().unwrap_or(0);
    let there = stage.keap.borrow().cells(entity, id);
    let step = stage.steps.get();
    stage.judge(stage.ledger.borrow_mut().engine_wrote_row(change, write, there.as_ref(), step));
    if change.before.is_none() {
        stage.judge(check_new_row(stage, mirror, entity, id));
    }
}

/// A record that was made from a row is that row's alone.
fn check_new_row(stage: &Stage, mirror: &MirrorSide, entity: EntityType, id: u64) -> Result<(), Violation> {
    let keap = stage.keap.borrow();
    let link = keap.records(entity).get(&id).and_then(|record| record.link.clone());
    let rows = mirror.rows(entity);
    match link.filter(|row| rows.get(row).is_some_and(|row| row.row.keap_id.is_none())) {
        None => Ok(()),
        Some(row) => Err(Violation::new(
            Invariant::OneEffect,
            format!("{} {id} was made from row {row}, and became a second row", entity.as_str()),
        )),
    }
}

impl HistoryStore for SimulatedStore {
    async fn read_audit(&self, _: &AccountId, id: i64) -> Result<Option<AuditEntry>, Failure> {
        self.stage.statement(15, |mirror, _| mirror.read_audit(id)).await
    }

    async fn list_audit(
        &self,
        _: &AccountId,
        entity: EntityType,
        entity_id: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, Failure> {
        let of_row = |mirror: &mut MirrorSide| {
            let numbers = (0_i64..).zip(&mirror.audit).filter(|(id, entry)| {
                (entry.entity, entry.row_id.as_str()) == (entity, entity_id)
                    && before.is_none_or(|before| *id < before)
            });
            let numbers: Vec<i64> = numbers.map(|(id, _)| id).collect();
            numbers.into_iter().rev().take(limit).filter_map(|id| mirror.read_audit(id)).collect()
        };
        self.stage.statement(16, |mirror, _| of_row(mirror)).await
    }

    async fn list_run_audit(
        &self,
        _: &AccountId,
        run_id: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, Failure> {
        self.stage.statement(17, |mirror, _| mirror.list_run_audit(run_id, before, limit)).await
    }

    async fn edit(&self, _: &AccountId, entity: EntityType, edit: &PersonEdit) -> Result<bool, Failure> {
        let stage = &self.stage;
        let stays_here = edit.stays_here && stage.mutation != Mutation::UndoInKeap;
        let edit = PersonEdit { stays_here, ..edit.clone() };
        stage
            .statement(18, |mirror, now| {
                let Ok(change) = mirror.edit_for_person(entity, &edit, now) else { return false };
                if let Some(change) = change {
                    stage.tell(|| format!("  row {} of {} is undone", edit.row_id, entity.as_str()));
                    stage.coverage.borrow_mut().count("change undone");
                    stage.undo_wrote_row(&change);
                }
                true
            })
            .await
    }
}

impl OutboxStore for SimulatedStore {
    async fn claim(
        &self,
        _: &AccountId,
        limit: usize,
        lease_ms: i64,
        _: &str,
    ) -> Result<Vec<OutboxItem>, Failure> {
        let items = self.stage.statement(6, |mirror, now| mirror.claim(limit, lease_ms, now)).await?;
        let again = items.iter().filter(|item| item.claims > 1).count() as u64;
        self.stage.coverage.borrow_mut().add("edit claimed again", again);
        Ok(items.into_iter().map(|item| self.stage.mutation.of_item(item)).collect())
    }

    async fn complete(&self, _: &AccountId, ids: &[String]) -> Result<(), Failure> {
        self.stage.statement(7, |mirror, _| mirror.complete(ids)).await
    }

    async fn retry_later(
        &self,
        _: &AccountId,
        ids: &[String],
        delay_ms: i64,
        _: &Failure,
        counts: bool,
    ) -> Result<(), Failure> {
        self.stage.statement(8, |mirror, now| mirror.retry_later(ids, delay_ms, counts, now)).await
    }

    async fn fail(&self, _: &AccountId, ids: &[String], failure: &Failure) -> Result<(), Failure> {
        self.stage.coverage.borrow_mut().count("dead letter");
        self.stage.tell(|| format!("outbox: dead letter: {failure}"));
        self.stage.statement(9, |mirror, _| mirror.fail(ids, &failure.message)).await
    }

    async fn depth(&self, _: &AccountId) -> Result<OutboxDepth, Failure> {
        // A look that finds nothing is no operation worth counting, and nothing to interleave with.
        Ok(self.stage.mirror.borrow().depth())
    }
}
