//! One small account: what happens in it, round by round, and what is found when it has come to rest.

use crate::grammar::{Catalogue, Edit, Takes, Writer};
use crate::judge::Fate;
use crate::keap::{BASE_URL, Fault, Keap, Plain, control_call};
use crate::mutation::Mutation;
use crate::parts::{is_same, parts_of, set_part, unit_of};
use crate::store::{StandingClock, Store};
use crate::verdict::{Case, InKeap};
use anyhow::{Context, Result, anyhow};
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::policy::{Policies, Policy};
use keapsync_domain::record::Record;
use keapsync_domain::run::Cursor;
use keapsync_domain::schema::fields;
use keapsync_domain::secret::Secret;
use keapsync_domain::settings::AccountSettings;
use keapsync_domain::wire::LinkFields;
use keapsync_engine::inbound::{Origin, Told, apply, refetch};
use keapsync_engine::outbox::drain;
use keapsync_engine::ports::{Clock as _, OutboxStore as _, WriteSource};
use keapsync_engine::simulation::mirror_side::MirrorSide;
use keapsync_engine::simulation::random::Random;
use keapsync_engine::world::World;
use keapsync_keap::caller::Caller;
use keapsync_keap::records::{Links, RecordsApi};
use keapsync_keap_sim::{InProcess, Options};
use serde_json::{Map, Value};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

/// 2026-03-02T09:00:00Z.
const BEGIN_MS: i64 = 1_772_442_000_000;

/// Rounds of one account.
const ROUNDS: u64 = 60;

/// The most parts that one statement edits.
const EDITS_MAX: u64 = 16;

/// Passes after which everything must have come to rest.
const PASSES_MAX: u32 = 14;

/// Days that lie ahead of the account's time.
const LATER_DAYS: [&str; 3] = ["2027-01-01", "2028-02-29", "2026-12-31"];

/// What happens in a round.
#[derive(Clone, Debug)]
pub enum Step {
    /// A person updates a row.
    Update {
        /// Kind of record.
        entity: EntityType,
        /// Keap's id of its record.
        keap_id: String,
        /// What is set, in one statement.
        edits: Vec<Edit>,
    },
    /// A person inserts a row.
    Insert {
        /// Kind of record.
        entity: EntityType,
        /// What it holds.
        edits: Vec<Edit>,
    },
    /// A person in Keap sets a part.
    InKeap {
        /// Kind of record.
        entity: EntityType,
        /// Keap's id.
        keap_id: String,
        /// What is set.
        edit: Edit,
    },
    /// Hooks of what changed in Keap arrive.
    Hooks,
    /// The outbox is drained, and perhaps one of its calls fails.
    Drain(Option<(u32, Fault)>),
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |edits: &[Edit]| {
            let told: Vec<String> =
                edits.iter().map(|edit| format!("{} = {}", edit.path, edit.json)).collect();
            told.join(", ")
        };
        match self {
            Self::Update { entity, keap_id, edits } => {
                write!(formatter, "the row of {} {keap_id}: {}", entity.as_str(), told(edits))
            }
            Self::Insert { entity, edits } => {
                write!(formatter, "a new row, {}: {}", entity.as_str(), told(edits))
            }
            Self::InKeap { entity, keap_id, edit } => {
                write!(formatter, "in Keap, {} {keap_id}: {} = {}", entity.as_str(), edit.path, edit.json)
            }
            Self::Hooks => write!(formatter, "hooks arrive"),
            Self::Drain(None) => write!(formatter, "the outbox is drained"),
            Self::Drain(Some((after, fault))) => {
                write!(formatter, "the outbox is drained, and write {after} ends as {fault:?}")
            }
        }
    }
}

/// Something that must not be.
#[derive(Clone, Debug)]
pub struct Problem {
    /// What kind, so that a smaller case can be told to show the same: entity, part without its names, and what is wrong.
    pub kind: String,
    /// All of it, for people.
    pub told: String,
    /// The round in which it was found.
    pub round: usize,
}

/// What a seed came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Edits that were looked for.
    pub edits: u64,
    /// Where they ended.
    pub fates: BTreeMap<Fate, u64>,
    /// What must not be.
    pub problems: Vec<Problem>,
    /// What happened, by rounds.
    pub story: Vec<Vec<Step>>,
    /// Calls of Keap.
    pub calls: u64,
    /// The round that is played.
    pub(crate) round: usize,
}

/// An account under test.
struct Account {
    keap: Keap,
    store: Store,
    settings: AccountSettings,
    id: AccountId,
    catalogue: Catalogue,
    clock: Rc<Cell<i64>>,
    /// Records whose rows take part, in the order of their ids.
    records: Vec<(EntityType, String)>,
    changed: BTreeSet<(EntityType, String)>,
    /// What people wrote in this round, by row: in order.
    written: BTreeMap<String, (EntityType, Vec<Edit>)>,
    in_keap: Vec<InKeap>,
}

fn policies_of(seed: u64) -> Policies {
    let default = match seed % 4 {
        0 => Policy::KeapWins,
        1 => Policy::SupabaseWins,
        2 => Policy::Manual,
        _ => Policy::NewestWins,
    };
    Policies { default, overrides: BTreeMap::new() }
}

impl Account {
    async fn new(seed: u64, mutation: Mutation) -> Result<Self> {
        let options = Options {
            contacts: 9,
            orders: Some(7),
            subscriptions: Some(5),
            seed,
            no_quota: true,
            ..Options::default()
        };
        let process = InProcess::new(options, BEGIN_MS)?;
        let key = Secret::new(process.service_key());
        let clock = Rc::new(Cell::new(BEGIN_MS));
        let mut keap = Keap {
            plain: Plain(process),
            key,
            links: LinkFields::default(),
            sent: RefCell::default(),
            fault: Cell::default(),
            now_ms: Cell::new(BEGIN_MS),
            mutation,
            calls: Cell::default(),
            seen: RefCell::default(),
        };
        let links = {
            let api = RecordsApi::new(caller(&keap), Links::default());
            let contact =
                api.ensure_link_field(EntityType::Contact).await.map_err(|failure| told_of(&failure))?;
            let order =
                api.ensure_link_field(EntityType::Order).await.map_err(|failure| told_of(&failure))?;
            LinkFields { contact: Some(contact), order: Some(order) }
        };
        keap.links = links;
        keap.sent.borrow_mut().clear();
        let store = Store {
            mirror: RefCell::new(MirrorSide::of_any_values()),
            clock: StandingClock(Rc::clone(&clock)),
            noted: RefCell::default(),
            mutation,
        };
        let settings = AccountSettings { policies: policies_of(seed), ..AccountSettings::default() };
        let id = AccountId::parse("accounting").map_err(|_| anyhow!("no account id"))?;
        let mut account = Self {
            keap,
            store,
            settings,
            id,
            catalogue: Catalogue::default(),
            clock,
            records: Vec::new(),
            changed: BTreeSet::new(),
            written: BTreeMap::new(),
            in_keap: Vec::new(),
        };
        account.load().await?;
        Ok(account)
    }

    /// The first load, and what values can refer to.
    async fn load(&mut self) -> Result<()> {
        let api = RecordsApi::new(caller(&self.keap), Links::of(&self.keap.links));
        let world = self.world(&api);
        let mut records = Vec::new();
        for entity in [EntityType::Tag, EntityType::Contact, EntityType::Order, EntityType::Subscription] {
            let page = api
                .list_after(entity, &Cursor::default(), self.store.clock.now())
                .await
                .map_err(|failure| told_of(&failure))?;
            let ids: Vec<String> = page.records.iter().map(|record| record.keap_id.clone()).collect();
            let origin = Origin { source: WriteSource::FullSync, run_id: None, told: Told::default() };
            apply(&world, entity, &origin, page.records, page.rejected)
                .await
                .map_err(|failure| told_of(&failure))?;
            match entity {
                EntityType::Tag => records.extend(ids.into_iter().take(4).map(|id| (entity, id))),
                _ => records.extend(ids.into_iter().map(|id| (entity, id))),
            }
        }
        self.records = records;
        let fields_of = async |entity: EntityType| -> Result<Vec<String>> {
            let path = format!("/crm/rest/v2/{}/model", entity.plural());
            let answer = self.keap.plain.0.send("GET", &path, self.keap.key.reveal(), None).await;
            let model: Value = serde_json::from_slice(&answer.context("no model")?.body)?;
            let fields = model.get("custom_fields").and_then(Value::as_array).into_iter().flatten();
            let own =
                fields.filter(|field| field.get("label").and_then(Value::as_str) != Some("keapsync row id"));
            Ok(own.filter_map(|field| field.get("id")?.as_str().map(str::to_owned)).collect())
        };
        let custom_fields = [
            fields_of(EntityType::Contact).await?,
            fields_of(EntityType::Order).await?,
            fields_of(EntityType::Subscription).await?,
        ];
        let ids_of = |entity: EntityType| -> Vec<String> {
            self.records.iter().filter(|(known, _)| *known == entity).map(|(_, id)| id.clone()).collect()
        };
        let mut plans: BTreeSet<String> = BTreeSet::new();
        for entry in self.store.mirror.borrow().rows(EntityType::Subscription).values() {
            plans.extend(entry.row.record.get_by_name("plan_id").as_str().map(str::to_owned));
        }
        let (tags, contacts) = (ids_of(EntityType::Tag), ids_of(EntityType::Contact));
        self.catalogue = Catalogue {
            custom_fields,
            tags,
            contacts,
            plans: plans.into_iter().collect(),
            categories: Vec::new(),
        };
        self.store.noted.borrow_mut().clear();
        Ok(())
    }

    fn world<'a>(&'a self, api: &'a RecordsApi<'a, Keap>) -> World<'a, Keap, Store, StandingClock> {
        World {
            keap: api,
            store: &self.store,
            clock: &self.store.clock,
            account: &self.id,
            settings: &self.settings,
            entropy: 0,
        }
    }

    fn advance(&self, delta_ms: i64) {
        let now = self.clock.get() + delta_ms;
        self.clock.set(now);
        self.keap.now_ms.set(now);
        self.keap.plain.0.tell_time(now);
    }

    fn row_of(&self, entity: EntityType, keap_id: &str) -> Option<(String, Record)> {
        let number = keap_id.parse().ok()?;
        let mirror = self.store.mirror.borrow();
        let row = &mirror.linked(entity, number)?.row;
        Some((row.id.clone(), row.record.clone()))
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        self.advance(1_000);
        match step {
            Step::Update { entity, keap_id, edits } => {
                let Some((row_id, before)) = self.row_of(*entity, keap_id) else { return Ok(()) };
                let held = parts_of(&before);
                for one in
                    self.in_keap.iter_mut().filter(|one| one.entity == *entity && one.keap_id == *keap_id)
                {
                    let path = &one.edit.path;
                    let has_arrived =
                        held.get(path).is_some_and(|value| is_same(*entity, path, value, &one.edit.value()));
                    one.is_replaced |=
                        has_arrived && edits.iter().any(|edit| unit_of(&edit.path) == unit_of(path));
                }
                let mut after = before.clone();
                for edit in edits {
                    set_part(&mut after, &edit.path, &edit.value());
                }
                let columns: Map<String, Value> = fields(*entity)
                    .iter()
                    .enumerate()
                    .filter(|(place, _)| before.get(*place) != after.get(*place))
                    .map(|(place, field)| (field.name.to_owned(), after.get(place).clone()))
                    .collect();
                let now = self.store.clock.now();
                self.store.mirror.borrow_mut().edit_columns(*entity, &row_id, columns, now);
                let written = self.written.entry(row_id).or_insert((*entity, Vec::new()));
                written.1.extend(edits.iter().cloned());
            }
            Step::Insert { entity, edits } => {
                let mut record = Record::empty(*entity);
                for edit in edits {
                    set_part(&mut record, &edit.path, &edit.value());
                }
                let now = self.store.clock.now();
                let contact = record.get_by_name("keap_contact_id").as_str().and_then(|id| id.parse().ok());
                let contact_row = contact.and_then(|id| {
                    let mirror = self.store.mirror.borrow();
                    mirror.linked(EntityType::Contact, id).map(|entry| entry.row.id.clone())
                });
                let change = self.store.mirror.borrow_mut().insert_record(record, contact_row, now);
                self.written.insert(change.after.id, (*entity, edits.clone()));
            }
            Step::InKeap { entity, keap_id, edit } => {
                let Some(held) = self.keap.held(*entity, keap_id).await else { return Ok(()) };
                let before = parts_of(&held.record).remove(&edit.path).unwrap_or_default();
                if is_same(*entity, &edit.path, &before, &edit.value()) {
                    return Ok(());
                }
                let (method, path, body) =
                    control_call(*entity, keap_id, &edit.path, &edit.value(), &held.record);
                if self.keap.person(method, &path, Some(&body)).await.is_some() {
                    self.changed.insert((*entity, keap_id.clone()));
                    self.in_keap.push(InKeap {
                        entity: *entity,
                        keap_id: keap_id.clone(),
                        edit: edit.clone(),
                        is_replaced: false,
                    });
                }
            }
            Step::Hooks => self.hooks().await?,
            Step::Drain(fault) => {
                self.keap.fault.set(*fault);
                self.drain().await?;
                self.keap.fault.set(None);
            }
        }
        Ok(())
    }

    async fn hooks(&mut self) -> Result<()> {
        let changed = std::mem::take(&mut self.changed);
        let api = RecordsApi::new(caller(&self.keap), Links::of(&self.keap.links));
        for entity in EntityType::ALL {
            let ids: Vec<String> =
                changed.iter().filter(|(known, _)| *known == entity).map(|(_, id)| id.clone()).collect();
            if !ids.is_empty() {
                refetch(&self.world(&api), entity, &ids).await.map_err(|failure| told_of(&failure))?;
            }
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<()> {
        let before = self.keap.sent.borrow().len();
        let api = RecordsApi::new(caller(&self.keap), Links::of(&self.keap.links));
        drain(&self.world(&api), "oracle").await.map_err(|failure| told_of(&failure))?;
        // Keap tells of the engine's own writes as of anybody's.
        for sent in self.keap.sent.borrow().iter().skip(before).filter(|sent| !sent.keap_id.is_empty()) {
            self.changed.insert((sent.entity, sent.keap_id.clone()));
        }
        Ok(())
    }

    /// Everything comes to rest, or does not.
    async fn settle(&mut self) -> Result<bool> {
        for _ in 0..PASSES_MAX {
            let depth = self.store.depth(&self.id).await.map_err(|failure| told_of(&failure))?;
            if depth.open == 0 && self.changed.is_empty() {
                return Ok(true);
            }
            let until_due = depth.next_due_at.map_or(0, |due| due.since_ms(self.store.clock.now()));
            self.advance(until_due.max(0) + 1_000);
            self.drain().await?;
            self.hooks().await?;
        }
        Ok(false)
    }

    /// What a round's edits and writes came to.
    async fn judge(&mut self, is_settled: bool, outcome: &mut Outcome) {
        let written = std::mem::take(&mut self.written);
        let in_keap = std::mem::take(&mut self.in_keap);
        let (sent, noted) = (self.keap.sent.take(), self.store.noted.take());
        let mut touched: BTreeSet<(EntityType, String)> = BTreeSet::new();
        touched.extend(written.iter().map(|(row_id, (entity, _))| (*entity, row_id.clone())));
        for one in &in_keap {
            touched.extend(self.row_of(one.entity, &one.keap_id).map(|(row_id, _)| (one.entity, row_id)));
        }
        let mut retired = BTreeSet::new();
        for (entity, row_id) in touched {
            let entry = self.store.mirror.borrow().rows(entity).get(&row_id).cloned();
            let Some(entry) = entry else { continue };
            let held = match &entry.row.keap_id {
                Some(keap_id) => self.keap.held(entity, keap_id).await,
                None => None,
            };
            let keap_id = entry.row.keap_id.as_deref();
            let case = Case {
                entity,
                row_id: &row_id,
                name: keap_id.map_or_else(|| format!("row {row_id}"), str::to_owned),
                here: parts_of(&entry.row.record),
                there: held.as_ref().map(|held| parts_of(&held.record)).unwrap_or_default(),
                has_record: held.is_some(),
                state: entry.state,
                word: entry.sync_error.as_deref(),
                edits: written.get(&row_id).map(|(_, edits)| edits.as_slice()).unwrap_or_default(),
                in_keap: in_keap
                    .iter()
                    .filter(|one| one.entity == entity && Some(one.keap_id.as_str()) == keap_id)
                    .collect(),
                noted: noted.iter().filter(|noted| noted.row_id == row_id).cloned().collect(),
                sent: sent
                    .iter()
                    .filter(|sent| sent.entity == entity && Some(sent.keap_id.as_str()) == keap_id)
                    .collect(),
            };
            if !is_settled {
                case.problem("", "it does not come to rest", "it does not come to rest", outcome);
            }
            if case.judge(outcome) {
                retired.insert((entity, keap_id.unwrap_or_default().to_owned()));
            }
        }
        self.records.retain(|record| !retired.contains(record));
    }

    /// The steps of a round, from chance.
    async fn plan(&self, random: &mut Random, number: &mut u64) -> Vec<Step> {
        let mut writer = Writer { random, catalogue: &self.catalogue, number, later_days: LATER_DAYS };
        let mut steps = Vec::new();
        let count = 2 + writer.random.below(4);
        let mut chosen: BTreeSet<(EntityType, String)> = BTreeSet::new();
        for _ in 0..count {
            let place = usize::try_from(writer.random.below(self.records.len() as u64)).unwrap_or(0);
            chosen.extend(self.records.get(place).cloned());
        }
        for (entity, keap_id) in &chosen {
            let Some((_, row)) = self.row_of(*entity, keap_id) else { continue };
            for _ in 0..=u64::from(writer.random.chance(15)) {
                let edits = writer.edits(&row, EDITS_MAX);
                if !edits.is_empty() {
                    steps.push(Step::Update { entity: *entity, keap_id: keap_id.clone(), edits });
                }
            }
            if writer.random.chance(25)
                && let Some(held) = self.keap.held(*entity, keap_id).await
            {
                let edit = writer.edit_in_keap(*entity, &parts_of(&held.record));
                steps.push(Step::InKeap { entity: *entity, keap_id: keap_id.clone(), edit });
            }
        }
        if writer.random.chance(12) {
            let subscribers: BTreeSet<String> = {
                let mirror = self.store.mirror.borrow();
                let rows = mirror.rows(EntityType::Subscription).values();
                rows.filter_map(|row| {
                    row.row.record.get_by_name("keap_contact_id").as_str().map(str::to_owned)
                })
                .collect()
            };
            let free = self.catalogue.contacts.iter().find(|contact| !subscribers.contains(*contact));
            steps.extend(insert(&mut writer, &self.catalogue, free));
        }
        // Any order, and looks in between.
        for place in (1..steps.len()).rev() {
            let other = usize::try_from(writer.random.below(place as u64 + 1)).unwrap_or(0);
            steps.swap(place, other);
        }
        if writer.random.chance(40) {
            let place = usize::try_from(writer.random.below(steps.len() as u64 + 1)).unwrap_or(0);
            steps.insert(place.min(steps.len()), Step::Hooks);
        }
        if writer.random.chance(25) {
            let place = usize::try_from(writer.random.below(steps.len() as u64 + 1)).unwrap_or(0);
            steps.insert(place.min(steps.len()), Step::Drain(None));
        }
        let fault = writer.random.chance(20).then(|| {
            let after = u32::try_from(writer.random.below(4)).unwrap_or(0);
            (after, if writer.random.chance(50) { Fault::Refused } else { Fault::AnswerLost })
        });
        steps.push(Step::Drain(fault));
        steps
    }
}

/// A row that a person makes, with what Keap needs for it.
fn insert(writer: &mut Writer<'_>, catalogue: &Catalogue, free: Option<&String>) -> Option<Step> {
    *writer.number += 1;
    let number = *writer.number;
    let yes = |path: &str, value: Value| Edit {
        path: path.to_owned(),
        json: value.to_string(),
        takes: Takes::Yes,
        respells: false,
    };
    let contact = writer.random.pick(&[0, 1, 2, 3]).and_then(|place: usize| catalogue.contacts.get(place))?;
    Some(match writer.random.below(4) {
        0 => Step::Insert {
            entity: EntityType::Contact,
            edits: vec![
                yes("first_name", format!("v{number}").into()),
                yes("email", format!("u{number}@x.example").into()),
                yes("emails.EMAIL2.email", format!("w{number}@x.example").into()),
                yes("addresses.BILLING.line1", format!("{number} Main St").into()),
            ],
        },
        1 => Step::Insert {
            entity: EntityType::Order,
            edits: vec![
                yes("keap_contact_id", contact.clone().into()),
                yes("title", format!("v{number}").into()),
                yes("order_date", "2026-03-01T10:00:00+00:00".into()),
                yes("order_type", "ONLINE".into()),
                yes("notes", format!("n{number}").into()),
            ],
        },
        2 => Step::Insert {
            entity: EntityType::Tag,
            edits: vec![
                yes("name", format!("Tag {number}").into()),
                yes("description", format!("d{number}").into()),
            ],
        },
        _ => {
            let place = usize::try_from(writer.random.below(catalogue.plans.len() as u64)).unwrap_or(0);
            Step::Insert {
                entity: EntityType::Subscription,
                edits: vec![
                    yes("keap_contact_id", free?.clone().into()),
                    yes("plan_id", catalogue.plans.get(place)?.clone().into()),
                    yes("start_date", LATER_DAYS.get(place % 3).copied()?.into()),
                    yes("billing_cycle", "YEAR".into()),
                    yes("billing_frequency", (2 + number % 5).into()),
                    yes("quantity", (1 + number % 9).into()),
                ],
            }
        }
    })
}

fn caller(keap: &Keap) -> Caller<'_, Keap> {
    Caller { transport: keap, base_url: BASE_URL, access_token: &keap.key }
}

fn told_of(failure: &Failure) -> anyhow::Error {
    anyhow!("the engine failed: {failure}")
}

/// Plays a seed: with chance, until the account has had its rounds, or until something is found unless it `goes_on`.
pub async fn play(seed: u64, goes_on: bool, mutation: Mutation) -> Result<Outcome> {
    let mut account = Account::new(seed, mutation).await?;
    let mut outcome = Outcome::default();
    let mut number = 0;
    for round in 0..ROUNDS {
        if account.records.len() < 6 || !(goes_on || outcome.problems.is_empty()) {
            break;
        }
        let mut random = Random::new(seed, round);
        let steps = account.plan(&mut random, &mut number).await;
        outcome.round = outcome.story.len();
        outcome.story.push(steps.clone());
        for step in &steps {
            account.step(step).await?;
        }
        let is_settled = account.settle().await?;
        account.judge(is_settled, &mut outcome).await;
    }
    outcome.calls = account.keap.calls.get();
    Ok(outcome)
}

/// Plays a story again.
pub async fn replay(seed: u64, story: &[Vec<Step>], mutation: Mutation) -> Result<Outcome> {
    let mut account = Account::new(seed, mutation).await?;
    let mut outcome = Outcome { story: story.to_vec(), ..Outcome::default() };
    for (round, steps) in story.iter().enumerate() {
        outcome.round = round;
        for step in steps {
            account.step(step).await?;
        }
        let is_settled = account.settle().await?;
        account.judge(is_settled, &mut outcome).await;
    }
    Ok(outcome)
}

/// A shorter story with a problem of the same kind.
pub async fn shrink(
    seed: u64,
    story: &[Vec<Step>],
    kind: &str,
    mutation: Mutation,
) -> Result<(Vec<Vec<Step>>, Problem)> {
    let shows = async |story: &[Vec<Step>]| -> Result<Option<Problem>> {
        let outcome = replay(seed, story, mutation).await?;
        Ok(outcome.problems.into_iter().find(|problem| problem.kind == kind))
    };
    let mut best = story.to_vec();
    let mut found = shows(&best).await?.context("the story does not show it again")?;
    if let Some(last) = story.last()
        && let Some(problem) = shows(std::slice::from_ref(last)).await?
    {
        best = vec![last.clone()];
        found = problem;
    }
    let mut is_shorter = true;
    while is_shorter {
        is_shorter = false;
        for candidate in shorter(&best) {
            if let Some(problem) = shows(&candidate).await? {
                (best, found, is_shorter) = (candidate, problem, true);
                break;
            }
        }
    }
    Ok((best, found))
}

/// Stories without one round, step or edit.
fn shorter(story: &[Vec<Step>]) -> Vec<Vec<Vec<Step>>> {
    let mut candidates = Vec::new();
    let without = |round: usize, step: usize| {
        let mut shorter = story.to_vec();
        if let Some(steps) = shorter.get_mut(round) {
            steps.remove(step);
        }
        shorter
    };
    for (round, steps) in story.iter().enumerate() {
        if story.len() > 1 {
            let mut shorter = story.to_vec();
            shorter.remove(round);
            candidates.push(shorter);
        }
        for (place, step) in steps.iter().enumerate() {
            candidates.push(without(round, place));
            let (Step::Update { edits, .. } | Step::Insert { edits, .. }) = step else { continue };
            for edit in (0..edits.len()).filter(|_| edits.len() > 1) {
                let mut shorter = story.to_vec();
                let step = shorter.get_mut(round).and_then(|steps| steps.get_mut(place));
                if let Some(Step::Update { edits, .. } | Step::Insert { edits, .. }) = step {
                    edits.remove(edit);
                }
                candidates.push(shorter);
            }
        }
    }
    candidates
}
