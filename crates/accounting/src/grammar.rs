//! What people write: odd values for every part of every kind of record, and whether Keap takes them.
//!
//! An edit names a part and the value as JSON text, because a number's digits are lost once they are read as a double. The
//! simulated and the real database are edited by this one grammar.

use crate::parts::{Parts, field_of, is_blank, is_same, parts_of, set_part};
use keapsync_domain::ids::EntityType;
use keapsync_domain::json_number;
use keapsync_domain::record::Record;
use keapsync_domain::schema::{FieldKind, fields};
use keapsync_engine::simulation::random::Random;
use serde_json::{Value, json};

/// Whether Keap takes a value by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// It does: nothing but a conflict may keep the value from Keap.
    Yes,
    /// It does not: the value must end refused or restored, with a word.
    No,
    /// That depends on what else the record holds.
    Perhaps,
}

/// A part that somebody sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The part.
    pub path: String,
    /// The value as JSON text; `null` takes the part out.
    pub json: String,
    /// Whether Keap takes it.
    pub takes: Takes,
    /// Whether it only spells what stood there otherwise.
    pub respells: bool,
}

impl Edit {
    fn new(path: impl Into<String>, value: &Value, takes: Takes) -> Self {
        Self { path: path.into(), json: value.to_string(), takes, respells: false }
    }

    /// The value as the store reads it.
    #[must_use]
    pub fn value(&self) -> Value {
        json_number::read(&self.json).unwrap_or_default()
    }
}

/// What of Keap the values refer to.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Ids of custom fields: of contacts, orders and subscriptions.
    pub custom_fields: [Vec<String>; 3],
    /// Ids of tags.
    pub tags: Vec<String>,
    /// Ids of contacts.
    pub contacts: Vec<String>,
    /// Ids of plans.
    pub plans: Vec<String>,
    /// Ids of categories of tags.
    pub categories: Vec<String>,
}

impl Catalogue {
    /// The ids of the custom fields of a kind of record.
    #[must_use]
    pub fn custom_fields_of(&self, entity: EntityType) -> &[String] {
        let [contacts, orders, subscriptions] = &self.custom_fields;
        match entity {
            EntityType::Contact => contacts,
            EntityType::Order => orders,
            EntityType::Subscription => subscriptions,
            EntityType::Tag => &[],
        }
    }
}

/// Numbers whose digits a double does not keep, and other spellings of numbers.
const NUMBERS: [&str; 9] = [
    "89014103211118510720",
    "0.1234567890123456789",
    "9007199254740993",
    "12.50",
    "1e3",
    "-0",
    "0",
    "12345678901234567890123",
    "7",
];

/// Makes edits from chance.
pub struct Writer<'a> {
    /// Chance.
    pub random: &'a mut Random,
    /// What values refer to.
    pub catalogue: &'a Catalogue,
    /// Numbers the values, so that no two are alike.
    pub number: &'a mut u64,
    /// The day of the database, as `YYYY-MM-DD`.
    pub later_days: [&'static str; 3],
}

impl Writer<'_> {
    fn next(&mut self) -> u64 {
        *self.number += 1;
        *self.number
    }

    fn one_of(&mut self, choices: &[String]) -> Option<String> {
        let place = usize::try_from(self.random.below(choices.len() as u64)).unwrap_or(0);
        choices.get(place).cloned()
    }

    fn pick<T: Copy>(&mut self, choices: &[T], otherwise: T) -> T {
        self.random.pick(choices).unwrap_or(otherwise)
    }

    /// Edits of one row, at most so many, no two of one part.
    pub fn edits(&mut self, row: &Record, most: u64) -> Vec<Edit> {
        let count = 1 + self.random.below(most);
        let parts = parts_of(row);
        let mut edits: Vec<Edit> = Vec::new();
        for _ in 0..count {
            let edit = self.edit(row.entity(), &parts);
            let is_new = edits.iter().all(|known| known.path != edit.path);
            let before = parts.get(&edit.path).cloned().unwrap_or_default();
            let is_change = !(is_blank(&before) && is_blank(&edit.value())) && before != edit.value();
            if is_new && is_change {
                let respells = is_same(row.entity(), &edit.path, &before, &edit.value());
                edits.push(Edit { respells, ..edit });
            }
        }
        edits
    }

    fn edit(&mut self, entity: EntityType, parts: &Parts) -> Edit {
        match entity {
            EntityType::Contact => self.of_contact(parts),
            EntityType::Order => self.of_order(parts),
            EntityType::Tag => self.of_tag(),
            EntityType::Subscription => self.of_subscription(),
        }
    }

    /// A text of at most so many characters, or a longer one that Keap refuses; 0 is without a limit.
    fn text(&mut self, path: &str, limit: usize) -> Edit {
        let number = self.next();
        let (text, takes) = match self.random.below(14) {
            0 => (String::new(), Takes::Yes),
            1 => (format!("  v{number}  "), Takes::Yes),
            2 => (format!("Zo\u{eb} \u{1f980} {number}"), Takes::Yes),
            3 => (format!("O'N \"{number}\" \\ <b>&"), Takes::Yes),
            4 if limit > 0 => (format!("{number:0>limit$}"), Takes::Yes),
            5 if limit > 0 => (format!("{number:0>width$}", width = limit + 1), Takes::No),
            6 => (format!("{number}"), Takes::Yes),
            7 => (format!("v{number}\tx"), Takes::Yes),
            _ => (format!("v{number}"), Takes::Yes),
        };
        let value = if text.is_empty() { Value::Null } else { text.into() };
        Edit::new(path, &value, takes)
    }

    fn email(&mut self, path: &str) -> Edit {
        let number = self.next();
        let (text, takes) = match self.random.below(10) {
            0 => (format!(" u{number}@x.example"), Takes::Yes),
            1 => (format!("U{number}@X.EXAMPLE"), Takes::Yes),
            2 => (format!("u{number}"), Takes::No),
            3 => (format!("{number:0>110}@x.example"), Takes::No),
            4 => (format!("u {number}@x.example"), Takes::No),
            _ => (format!("u{number}@x.example"), Takes::Yes),
        };
        Edit::new(path, &text.into(), takes)
    }

    fn phone(&mut self, path: &str) -> Edit {
        let number = self.next() % 10_000_000;
        let text = match self.random.below(6) {
            0 => format!("(480) {number:07}"),
            1 => format!("+44 20 {number:07}"),
            2 => format!("480{number:07} x12"),
            3 => format!(" 480{number:07} "),
            _ => format!("480{number:07}"),
        };
        Edit::new(path, &text.into(), Takes::Yes)
    }

    fn content(&mut self, entity: EntityType) -> Edit {
        let number = self.next();
        let ids = self.catalogue.custom_fields_of(entity).to_vec();
        let Some(id) = self.one_of(&ids) else { return self.text("notes", 0) };
        let path = format!("custom_fields.{id}");
        match self.random.below(12) {
            0 => Edit::new(path, &Value::Null, Takes::Yes),
            1 | 2 => Edit {
                path,
                json: self.pick(&NUMBERS, "7").to_owned(),
                takes: Takes::Perhaps,
                respells: false,
            },
            3 => Edit::new(path, &json!([format!("a{number}"), "b"]), Takes::Yes),
            4 => Edit::new(path, &Value::Bool(number.is_multiple_of(2)), Takes::Yes),
            5 => Edit::new(format!("custom_fields.9{number:06}"), &"nowhere".into(), Takes::No),
            6 => Edit::new(path, &"".into(), Takes::Yes),
            7 => Edit::new(path, &format!(" v{number} ").into(), Takes::Yes),
            _ => Edit::new(path, &format!("v{number}").into(), Takes::Yes),
        }
    }

    fn of_address(&mut self, prefix: &str, parts: &Parts) -> Edit {
        let number = self.next();
        let path = |key: &str| format!("{prefix}.{key}");
        let holds = |key: &str| parts.get(&path(key)).is_some_and(|value| !is_blank(value));
        let has_country = if holds("country_code") { Takes::Yes } else { Takes::Perhaps };
        match self.random.below(14) {
            0 => Edit::new(path("line2"), &format!("Suite {number}").into(), Takes::Yes),
            1 => Edit::new(path("locality"), &format!("Town {number}").into(), Takes::Yes),
            2 => Edit::new(path("postal_code"), &format!("{:05}", number % 100_000).into(), Takes::Yes),
            3 => {
                let region = self.pick(&["Arizona", "Nevada", "Nowhere", ""], "Arizona");
                Edit::new(path("region"), &region.into(), Takes::Perhaps)
            }
            4 => {
                let code = self.pick(&["US-AZ", "US-NV", "us-ca"], "US-AZ");
                // An order's address is written without codes: one that Keap does not know becomes a name.
                let is_name = code == "us-ca" && prefix == "shipping_address";
                let takes = if is_name { Takes::Perhaps } else { has_country };
                Edit::new(path("region_code"), &code.into(), takes)
            }
            5 => {
                let country = self.pick(&["Nowhere", "Canada", "", "United States"], "Nowhere");
                Edit::new(path("country"), &country.into(), Takes::Perhaps)
            }
            6 => {
                let code = self.pick(&["USA", "CAN", " USA "], "USA");
                Edit::new(path("country_code"), &code.into(), Takes::Yes)
            }
            7 => Edit::new(path("country_code"), &"XX1".into(), Takes::No),
            8 => Edit::new(path("zip_code"), &format!("{:05}", number % 100_000).into(), Takes::Perhaps),
            9 => Edit::new(path("zip_four"), &format!("{:04}", number % 10_000).into(), Takes::Perhaps),
            10 => Edit::new(path("note"), &format!("n{number}").into(), Takes::No),
            11 => Edit::new(path("line2"), &Value::Null, Takes::Yes),
            _ => Edit::new(path("line1"), &format!(" {number} Main St").into(), Takes::Yes),
        }
    }

    fn of_contact(&mut self, parts: &Parts) -> Edit {
        let number = self.next();
        match self.random.below(34) {
            0..4 => {
                let (name, limit) = self.pick(
                    &[
                        ("first_name", 40),
                        ("last_name", 40),
                        ("middle_name", 100),
                        ("job_title", 255),
                        ("website", 100),
                    ],
                    ("first_name", 40),
                );
                self.text(name, limit)
            }
            4..7 => self.email("email"),
            7 | 8 => self.phone("phone"),
            9 => Edit::new("company", &format!("Company {number}").into(), Takes::No),
            10 => Edit::new("opt_in_status", &"SINGLE_OPT_IN".into(), Takes::No),
            11 => {
                let day = self.pick(&["1985-03-15", "2000-02-29", "1901-01-01"], "1985-03-15");
                Edit::new("birth_date", &day.into(), Takes::Yes)
            }
            12 => Edit::new("owner_id", &format!("{}", number % 50).into(), Takes::Perhaps),
            13 => Edit::new("lead_source_id", &"abc".into(), Takes::No),
            14..19 => self.of_email_slot(parts),
            19..22 => self.of_phone_slot(parts),
            22..27 => {
                let slot = self.pick(&["BILLING", "SHIPPING", "OTHER"], "BILLING");
                self.of_address(&format!("addresses.{slot}"), parts)
            }
            27..31 => self.content(EntityType::Contact),
            31 => Edit::new("tags.987654321", &Value::Bool(true), Takes::No),
            _ => {
                let tags = self.catalogue.tags.clone();
                let Some(tag) = self.one_of(&tags) else { return self.text("last_name", 40) };
                let path = format!("tags.{tag}");
                let value = if parts.contains_key(&path) { Value::Null } else { Value::Bool(true) };
                Edit::new(path, &value, Takes::Yes)
            }
        }
    }

    fn of_email_slot(&mut self, parts: &Parts) -> Edit {
        let number = self.next();
        let slot = self.pick(&["EMAIL2", "EMAIL3"], "EMAIL2");
        let path = format!("emails.{slot}");
        if !parts.contains_key(&format!("{path}.email")) {
            return self.email(&format!("{path}.email"));
        }
        match self.random.below(9) {
            0 | 1 => {
                Edit::new(format!("{path}.opt_in_reason"), &format!("asked {number}").into(), Takes::Perhaps)
            }
            2 => Edit::new(format!("{path}.email_opt_status"), &"CONFIRMED".into(), Takes::No),
            3 => Edit::new(format!("{path}.is_opt_in"), &Value::Bool(number.is_multiple_of(2)), Takes::No),
            4 => Edit::new(format!("{path}.note"), &format!("n{number}").into(), Takes::No),
            _ => self.email(&format!("{path}.email")),
        }
    }

    fn of_phone_slot(&mut self, parts: &Parts) -> Edit {
        let number = self.next();
        let slot = self.pick(&["PHONE2", "PHONE3"], "PHONE2");
        let path = format!("phones.{slot}");
        if !parts.contains_key(&format!("{path}.number")) {
            return self.phone(&format!("{path}.number"));
        }
        match self.random.below(7) {
            0 => Edit::new(format!("{path}.extension"), &format!("{}", number % 1000).into(), Takes::Yes),
            1 => Edit::new(
                format!("{path}.type"),
                &self.pick(&["WORK", "HOME", "MOBILE"], "WORK").into(),
                Takes::Yes,
            ),
            2 => Edit::new(format!("{path}.number_e164"), &format!("+1480{number:07}").into(), Takes::No),
            3 => Edit::new(format!("{path}.label"), &format!("n{number}").into(), Takes::No),
            _ => self.phone(&format!("{path}.number")),
        }
    }

    fn of_order(&mut self, parts: &Parts) -> Edit {
        let number = self.next();
        match self.random.below(26) {
            0 | 1 => match self.text("title", 0) {
                edit if edit.json == "null" => Edit { takes: Takes::No, ..edit },
                edit => edit,
            },
            2 => self.text("order_number", 0),
            3 | 4 => self.text("notes", 0),
            5 | 6 => {
                let time = format!("2026-03-{:02}T10:{:02}:00+00:00", 1 + number % 28, number % 60);
                Edit::new("order_date", &time.into(), Takes::Yes)
            }
            7 => Edit::new("order_type", &self.pick(&["ONLINE", "OFFLINE"], "ONLINE").into(), Takes::Yes),
            8 => Edit::new("order_type", &"PHONE".into(), Takes::No),
            9 => {
                let name = self
                    .pick(&["total_amount", "paid_amount", "due_amount", "refund_amount"], "total_amount");
                Edit::new(name, &format!("{}.5", number % 1000).into(), Takes::No)
            }
            10 => Edit::new("status", &format!("S{number}").into(), Takes::No),
            11 => Edit::new("currency", &"KWD".into(), Takes::No),
            12 => Edit::new("billing_address.line1", &format!("{number} Road").into(), Takes::No),
            13 => Edit::new("order_date", &Value::Null, Takes::No),
            14..17 => self.of_address("shipping_address", parts),
            17..20 => self.content(EntityType::Order),
            _ => self.of_line(parts),
        }
    }

    fn of_line(&mut self, parts: &Parts) -> Edit {
        let number = self.next();
        let mut lines: Vec<String> = parts
            .keys()
            .filter(|path| field_of(path) == "line_items")
            .filter_map(|path| path.split('.').nth(1).map(str::to_owned))
            .collect();
        lines.dedup();
        let Some(line) = self.one_of(&lines) else { return self.text("notes", 0) };
        let path = |key: &str| format!("line_items.{line}.{key}");
        match self.random.below(11) {
            0 | 1 => Edit::new(path("quantity"), &json!(1 + number % 90), Takes::Yes),
            2 => Edit::new(path("quantity"), &format!("{}", 1 + number % 90).into(), Takes::Yes),
            3 => Edit::new(path("price_per_unit"), &format!("{}.5", 1 + number % 900).into(), Takes::Yes),
            4 => Edit {
                path: path("price_per_unit"),
                json: format!("{}.50", 1 + number % 900),
                takes: Takes::Yes,
                respells: false,
            },
            5 => Edit::new(path("discount"), &format!("{}.5", number % 9).into(), Takes::No),
            6 => Edit::new(path("color"), &format!("n{number}").into(), Takes::No),
            7 => Edit::new(path("quantity"), &"many".into(), Takes::No),
            8 => Edit::new(path("notes"), &format!("note {number}").into(), Takes::Yes),
            _ => Edit::new(path("description"), &format!("line {number}").into(), Takes::Yes),
        }
    }

    fn of_tag(&mut self) -> Edit {
        let number = self.next();
        match self.random.below(8) {
            0 | 1 => Edit::new("name", &format!("Tag {number}").into(), Takes::Yes),
            2 => Edit::new("category", &format!("C{number}").into(), Takes::No),
            3 => Edit::new("category_id", &format!("77{number:06}").into(), Takes::No),
            4 => Edit::new("name", &Value::Null, Takes::No),
            _ => self.text("description", 0),
        }
    }

    fn of_subscription(&mut self) -> Edit {
        let number = self.next();
        let day = self.pick(&self.later_days.clone(), "2027-01-01");
        match self.random.below(24) {
            0 | 1 => Edit::new("end_date", &day.into(), Takes::Perhaps),
            2 => Edit::new("end_date", &Value::Null, Takes::No),
            3 => Edit::new("next_bill_date", &day.into(), Takes::Perhaps),
            4 => Edit::new("next_bill_date", &Value::Null, Takes::No),
            5 | 6 => Edit::new("status", &self.pick(&["active", "inactive"], "inactive").into(), Takes::Yes),
            7 => Edit::new("status", &"paused".into(), Takes::No),
            8 => Edit::new("start_date", &day.into(), Takes::No),
            9 => {
                Edit::new("billing_cycle", &self.pick(&["YEAR", "MONTH", "WEEK"], "YEAR").into(), Takes::Yes)
            }
            10 => Edit::new("billing_cycle", &"FORTNIGHT".into(), Takes::No),
            11 => Edit::new("billing_frequency", &json!(1 + number % 11), Takes::Yes),
            12 => Edit::new("billing_frequency", &json!(0), Takes::No),
            13 | 14 => Edit::new("amount", &format!("{}.5", 1 + number % 900).into(), Takes::Yes),
            15 => Edit::new("amount", &"-1".into(), Takes::No),
            16 => Edit::new("currency", &"KWD".into(), Takes::No),
            17 => Edit::new("quantity", &json!(1 + number % 90), Takes::Yes),
            18 => Edit::new("quantity", &Value::Null, Takes::No),
            19 => Edit::new("auto_charge", &Value::Bool(number.is_multiple_of(2)), Takes::Yes),
            20 => self.text("cancel_reason", 0),
            21 => Edit::new("product_name", &format!("P{number}").into(), Takes::No),
            _ => self.content(EntityType::Subscription),
        }
    }

    /// A part that a person sets in Keap's own screens; always something that Keap takes.
    pub fn edit_in_keap(&mut self, entity: EntityType, there: &Parts) -> Edit {
        let number = self.next();
        let yes = |path: &str, value: Value| Edit::new(path, &value, Takes::Yes);
        match (entity, self.random.below(8)) {
            (EntityType::Contact, 0) => yes("first_name", format!("k{number}").into()),
            (EntityType::Contact, 1) => yes("email", format!("k{number}@x.example").into()),
            (EntityType::Contact, 2) => yes("emails.EMAIL2.email", format!("k{number}@x.example").into()),
            (EntityType::Contact, 3) => yes("emails.EMAIL3.email", format!("k{number}@x.example").into()),
            (EntityType::Contact, 4) => yes("addresses.BILLING.line1", format!("k{number} Street").into()),
            (EntityType::Contact, 5) => yes("phones.PHONE2.number", format!("602{number:07}").into()),
            (EntityType::Order, 0..3) => yes("title", format!("k{number}").into()),
            (EntityType::Order, 3..5) => yes("notes", format!("k{number}").into()),
            (EntityType::Subscription, 0..3) => yes("cancel_reason", format!("k{number}").into()),
            (EntityType::Subscription, 3..5) => yes("quantity", json!(1 + number % 90)),
            (EntityType::Tag, _) => yes("description", format!("k{number}").into()),
            (EntityType::Order, 5) => {
                let line = there.keys().find(|path| field_of(path) == "line_items");
                match line.and_then(|path| path.split('.').nth(1)) {
                    Some(line) => yes(&format!("line_items.{line}.notes"), format!("k{number}").into()),
                    None => yes("notes", format!("k{number}").into()),
                }
            }
            _ => {
                let ids = self.catalogue.custom_fields_of(entity).to_vec();
                match self.one_of(&ids) {
                    Some(id) => yes(&format!("custom_fields.{id}"), format!("k{number}").into()),
                    None => yes("notes", format!("k{number}").into()),
                }
            }
        }
    }
}

/// The columns that edits of a row touch, by name, and what they are to hold as one JSON object, in which numbers have all their digits.
#[must_use]
pub fn columns_json(row: &Record, edits: &[Edit]) -> (Vec<&'static str>, String) {
    let mut after = row.clone();
    for edit in edits {
        set_part(&mut after, &edit.path, &edit.value());
    }
    let touched = fields(row.entity())
        .iter()
        .filter(|field| edits.iter().any(|edit| field_of(&edit.path) == field.name));
    let (mut names, mut columns) = (Vec::new(), Vec::new());
    for field in touched {
        let value = after.get_by_name(field.name);
        let text = match value.as_object().filter(|_| field.kind == FieldKind::Map) {
            Some(entries) => {
                let entries = entries.iter().map(|(id, content)| {
                    let path = format!("{}.{id}", field.name);
                    let edit = edits.iter().find(|edit| edit.path == path);
                    let text = edit.map_or_else(|| content.to_string(), |edit| edit.json.clone());
                    format!("{}:{text}", Value::from(id.as_str()))
                });
                format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
            }
            None => value.to_string(),
        };
        columns.push(format!("\"{}\":{text}", field.name));
        names.push(field.name);
    }
    (names, format!("{{{}}}", columns.join(",")))
}
