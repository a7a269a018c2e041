//! Random merges from a seed: values that people and Keap come up with, and values that break naive comparisons.

use super::MergeCase;
use keapsync_domain::ids::EntityType;
use keapsync_domain::policy::{Policies, Policy};
use keapsync_domain::schema::{FieldKind, SlotKind, fields};
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value, json};

const TEXTS: [&str; 22] = [
    "Ann",
    "ann",
    " Ann",
    "Ann\u{2003}",
    "\u{a0}",
    "",
    "\t\n",
    "\u{85}Ann\u{200b}",
    "Änn",
    "A\u{308}nn",
    "😀",
    "O'Neil \"x\\\"",
    "ΣΑΣ",
    "İ",
    "ß",
    "Ⅷ",
    "null",
    "0",
    "a\u{1680}b",
    "\u{feff}Ann",
    "12.50",
    "true",
];
const EMAILS: [&str; 12] = [
    "ann@example.com",
    "ann@EXAMPLE.com",
    "Ann@example.com",
    "a@b@C.ORG",
    "no at",
    "@",
    "x@",
    "@X",
    "i@ÄPFEL.example",
    "i@äpfel.EXAMPLE",
    "s@ΟΔΟΣ.gr",
    " ann@Example.COM ",
];
const PHONES: [&str; 17] = [
    "480 555 0100",
    "(480) 555-0100",
    "+1 480 555 0100",
    "+14805550100",
    "14805550100",
    "480 555 0100 x1",
    "480  555\u{2009}0100 X1",
    "480 555 0100 доб 5",
    "480 555 0100 ДОБ 5",
    "none",
    "NONE",
    "+",
    "٤٨٠",
    "480\u{a0}5550100",
    "1-800-FLOWERS",
    "5 Ⓐ",
    "5 Ⅷ",
];
const DATES: [&str; 9] = [
    "1985-03-15",
    "1985-03-15T00:00:00Z",
    "1985-03-15T23:59:59+14:00",
    "0001-01-01",
    "9999-12-31",
    "2024-02-29",
    " 1985-03-15 ",
    "T",
    "1985-03-16",
];
const INSTANTS: [&str; 30] = [
    "2026-03-01T10:00:00Z",
    "2026-03-01T12:00:00+02:00",
    "2026-03-01t10:00:00.000z",
    "2026-03-01 10:00:00Z",
    "2026-03-01T10:00:00.0009Z",
    "2026-03-01T10:00:00,001Z",
    "2026-03-01T10:00:00.123456789Z",
    "2026-03-01T10:00:00",
    "2026-03-01",
    "20260301",
    "20260301T100000Z",
    "2026-03-01T10Z",
    "2026-03-01T10:00Z",
    "2026-03-01T00:00:00+00",
    "2026-02-30T00:00:00Z",
    "1969-12-31T23:59:59.9995Z",
    "1969-12-31T23:59:59.999Z",
    "1970-01-01",
    "0001-01-02T00:00:00Z",
    "9999-12-30T21:59:59Z",
    "9999-12-31T00:00:00Z",
    "2026-03-01T24:00:00Z",
    "2026-03-01T10:00:60Z",
    "2026-03-01T10:00:59Z",
    "2026-03-01T10:00:00+0200",
    "2026-03-01T10:00:00-23:59",
    "yesterday",
    "+002026-03-01T10:00:00Z",
    "2026-13-01",
    "2026-03-01T10:00:00.1234567890Z",
];
const DECIMALS: [&str; 20] = [
    "12.5",
    "12.50",
    "+12.500",
    "-12.5",
    "0",
    "-0",
    "-0.000",
    ".5",
    "5.",
    "0.5",
    "00012",
    ".",
    "-",
    "1e2",
    "100",
    "12345678901234567890.12",
    "1,5",
    "--1",
    "NaN",
    "٣",
];
const COUNTRIES: [&str; 5] = ["USA", "usa", "DEU", "ß", "DE\u{301}"];

/// Numbers from a seed (xorshift); the same seed gives the same merges anywhere.
pub struct Random {
    state: u64,
    well_formed: bool,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, well_formed: false }
    }

    /// Only values of the shape that their field has, and slots with names.
    pub fn well_formed(seed: u64) -> Self {
        Self { well_formed: true, ..Self::new(seed) }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 33).unwrap_or_default() % bound
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        *choices.get(self.below(choices.len())).expect("a choice is there")
    }

    /// One merge. Values come from small pools, so that sides often agree in meaning and not in spelling.
    pub fn case(&mut self, number: usize) -> MergeCase {
        let entity =
            self.of(&[EntityType::Contact, EntityType::Order, EntityType::Tag, EntityType::Subscription]);
        let base = self.record(entity);
        let mut keap = base.clone();
        let mut supabase = if self.one_in(10) { self.record(entity) } else { base.clone() };
        for side in [&mut keap, &mut supabase] {
            for field in fields(entity) {
                if self.one_in(3) {
                    side.insert(field.name.to_owned(), self.value(field.kind));
                }
            }
        }
        let base = if self.one_in(10) { Map::new() } else { base };
        MergeCase {
            name: format!("random {number}"),
            entity,
            base: Value::Object(base),
            keap: Value::Object(keap),
            supabase: Value::Object(supabase),
            keap_changed_at: self.time(),
            supabase_changed_at: self.time(),
            policies: self.policies(entity),
        }
    }

    fn time(&mut self) -> Option<Timestamp> {
        self.of(&[
            None,
            Some(Timestamp(-1)),
            Some(Timestamp(1_772_000_000_000)),
            Some(Timestamp(1_772_000_000_001)),
        ])
    }

    fn policy(&mut self) -> Policy {
        self.of(&[Policy::NewestWins, Policy::KeapWins, Policy::SupabaseWins, Policy::Manual])
    }

    fn policies(&mut self, entity: EntityType) -> Policies {
        let mut policies = Policies { default: self.policy(), ..Policies::default() };
        if self.one_in(3) {
            policies.overrides.insert(entity.as_str().to_owned(), self.policy());
        }
        for field in fields(entity) {
            if self.one_in(8) {
                policies.overrides.insert(format!("{}.{}", entity.as_str(), field.name), self.policy());
            }
        }
        policies
    }

    fn record(&mut self, entity: EntityType) -> Map<String, Value> {
        let mut record = Map::new();
        for field in fields(entity) {
            if !self.one_in(3) {
                record.insert(field.name.to_owned(), self.value(field.kind));
            }
        }
        record
    }

    /// A value of a field, now and then of another shape than the field has.
    pub fn value(&mut self, kind: FieldKind) -> Value {
        match self.below(40) {
            0 => return Value::Null,
            1 if !self.well_formed => return self.json(2),
            2 if !self.well_formed => return json!(self.of(&TEXTS)),
            _ => {}
        }
        match kind {
            FieldKind::Text => json!(self.text()),
            FieldKind::Email if self.one_in(4) => {
                let (mailbox, domain) = (self.odd_text(), self.odd_text());
                json!(format!("{mailbox}@{domain}"))
            }
            FieldKind::Phone if self.one_in(4) => json!(self.odd_phone()),
            FieldKind::Date if self.one_in(4) => json!(self.odd_day()),
            FieldKind::Instant if self.one_in(3) => json!(self.odd_instant()),
            FieldKind::Email => json!(self.of(&EMAILS)),
            FieldKind::Phone => json!(self.of(&PHONES)),
            FieldKind::Date => json!(self.of(&DATES)),
            FieldKind::Instant => json!(self.of(&INSTANTS)),
            FieldKind::Integer | FieldKind::Money if self.one_in(3) => self.number(),
            FieldKind::Integer | FieldKind::Money if self.one_in(3) => json!(self.odd_decimal()),
            FieldKind::Integer | FieldKind::Money => json!(self.of(&DECIMALS)),
            FieldKind::Boolean => self
                .of(&[json!(true), json!(false), json!("TRUE"), json!("false"), json!("FALSE ")].each_ref())
                .clone(),
            FieldKind::Address => self.slot(SlotKind::Address),
            FieldKind::Set => {
                let length = self.below(5);
                (0..length).map(|_| self.element()).collect()
            }
            FieldKind::Slots(kind) => {
                let length = self.below(5);
                (0..length)
                    .map(
                        |_| if !self.well_formed && self.one_in(20) { self.json(1) } else { self.slot(kind) },
                    )
                    .collect()
            }
            FieldKind::Map => {
                let length = self.below(5);
                let keys = ["7", "8", "10", "9", "ä", "Z", "a.b", ""];
                Value::Object((0..length).map(|_| (self.of(&keys).to_owned(), self.json(3))).collect())
            }
        }
    }

    fn text(&mut self) -> String {
        if self.one_in(4) { self.odd_text() } else { self.of(&TEXTS).to_owned() }
    }

    /// A few characters of any script, case, kind of blank and width.
    fn odd_text(&mut self) -> String {
        let length = self.below(6);
        (0..length)
            .map(|_| {
                let (first, count): (u32, usize) = self.of(&[
                    (0x20, 95),
                    (0x09, 5),
                    (0x80, 0x100),
                    (0x370, 0x90),
                    (0x400, 0x100),
                    (0x5d0, 27),
                    (0x660, 10),
                    (0x2000, 0x10),
                    (0x2028, 8),
                    (0x2150, 0x40),
                    (0x24b6, 0x34),
                    (0x3000, 0x40),
                    (0xac00, 0x40),
                    (0xff10, 0x30),
                    (0x10400, 0x50),
                    (0x1f600, 0x40),
                ]);
                let offset = u32::try_from(self.below(count)).unwrap_or_default();
                char::from_u32(first + offset).unwrap_or('x')
            })
            .collect()
    }

    fn digits(&mut self, length: usize) -> String {
        (0..length).map(|_| self.of(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"])).collect()
    }

    /// Groups of digits with what people put between, before and after them.
    fn odd_phone(&mut self) -> String {
        let mut phone = self.of(&["", "", "+", " +", "++", "(", "tel:"]).to_owned();
        for _ in 0..=self.below(3) {
            let length = self.below(5);
            phone += &self.digits(length);
            phone += self.of(&["", " ", "-", ".", ") ", "/", "\u{a0}", "\u{2011}", "x", " ext. ", "٣", "Ⅷ"]);
        }
        phone
    }

    /// A day of any year and month, most of them in the calendar.
    fn odd_day(&mut self) -> String {
        let year = self.of(&[0, 1, 1600, 1899, 1900, 1969, 1970, 2000, 2023, 2024, 2026, 9999]);
        let (month, day) = (self.below(14), self.below(33));
        match self.below(6) {
            0 => format!("{year:04}{month:02}{day:02}"),
            1 => format!("{year:04}-{month}-{day}"),
            2 => format!("{year:04}-{month:02}-{day:02}T00:00:00.000Z"),
            _ => format!("{year:04}-{:02}-{:02}", month.clamp(1, 12), day.clamp(1, 31)),
        }
    }

    /// A time in one of the spellings that there are, and in some that there are not.
    fn odd_instant(&mut self) -> String {
        let day = self.odd_day();
        let day = day.split('T').next().unwrap_or_default().to_owned();
        let (hour, minute, second) = (self.below(25), self.below(61), self.below(62));
        let between = self.of(&["T", "T", "T", " ", "t", ""]);
        let clock = match self.below(6) {
            0 => format!("{hour:02}"),
            1 => format!("{hour:02}:{minute:02}"),
            2 => format!("{hour:02}{minute:02}{second:02}"),
            3 => format!("{hour}:{minute}:{second}"),
            _ => format!("{:02}:{:02}:{:02}", hour.min(23), minute.min(59), second.min(59)),
        };
        let fraction = if self.one_in(2) {
            let length = self.below(11);
            self.of(&[".", ".", ","]).to_owned() + &self.digits(length)
        } else {
            String::new()
        };
        let (zone_hour, zone_minute) = (self.below(27), self.below(61));
        let sign = self.of(&["+", "-"]);
        let zone = match self.below(7) {
            0 => String::new(),
            1 => "z".to_owned(),
            2 => format!("{sign}{zone_hour:02}"),
            3 => format!("{sign}{zone_hour:02}{zone_minute:02}"),
            4 => format!("{sign}{zone_hour:02}:{zone_minute:02}"),
            _ => "Z".to_owned(),
        };
        format!("{day}{between}{clock}{fraction}{zone}")
    }

    /// A decimal of up to sixty digits, with signs and zeros where they may and may not be.
    fn odd_decimal(&mut self) -> String {
        let (whole, fraction) = (self.below(31), self.below(31));
        let sign = self.of(&["", "", "-", "+", "--", " "]);
        let zeros = self.of(&["", "", "0", "000"]);
        let (whole, fraction) = (self.digits(whole), self.digits(fraction));
        match self.below(5) {
            0 => format!("{sign}{zeros}{whole}"),
            1 => format!("{sign}{zeros}{whole}.{fraction}{zeros}"),
            2 => format!("{sign}{zeros}{whole}e{}", fraction.len()),
            3 => format!("{sign}{zeros}"),
            _ => format!("{sign}{whole}.{fraction}"),
        }
    }

    fn number(&mut self) -> Value {
        if self.one_in(4) {
            return self.odd_number();
        }
        let numbers = [
            json!(0),
            json!(-0.0),
            json!(1),
            json!(1.0),
            json!(12.5),
            json!(-3),
            json!(0.1),
            json!(1e20),
            json!(1.5e-7),
            json!(123_456_789.125),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(0.300_000_000_000_000_04),
        ];
        self.of(&numbers.each_ref()).clone()
    }

    /// A number of any size and sign that JSON has a spelling for.
    fn odd_number(&mut self) -> Value {
        let (whole, fraction) = (self.below(24), self.below(12));
        let (whole, fraction) = (self.digits(whole), self.digits(fraction));
        let sign = self.of(&["", "-"]);
        let whole = format!("{}{whole}", self.of(&[1, 2, 7, 9]));
        let text = match self.below(4) {
            0 => format!("{sign}{whole}"),
            1 => format!("{sign}{whole}.{fraction}0"),
            2 => format!("{sign}0.{fraction}5"),
            _ => {
                format!("{sign}{}.{fraction}0e{}", self.below(10), self.of(&["-30", "-7", "+3", "15", "21"]))
            }
        };
        serde_json::from_str(&text).expect("a number of JSON")
    }

    fn element(&mut self) -> Value {
        match self.below(8) {
            0 => self.number(),
            1 => self.json(1),
            _ => json!(self.of(&["1", "2", " 2", "10", "9", "ä", "Z", ""])),
        }
    }

    fn slot(&mut self, kind: SlotKind) -> Value {
        let mut slot = Map::new();
        let names: &[&str] = match kind {
            SlotKind::Email => &["EMAIL2", "EMAIL3"],
            SlotKind::Phone => &["PHONE2", "PHONE3"],
            SlotKind::Address => &["BILLING", "SHIPPING", "OTHER"],
            SlotKind::Item => &["1", "2", "10", "ä"],
        };
        match self.below(10) {
            0 if !self.well_formed => {}
            1 if !self.well_formed => drop(slot.insert(kind.key().to_owned(), json!(self.below(3)))),
            // A line's id is also spelled as a number.
            2 if kind == SlotKind::Item => {
                let id = if self.one_in(2) { json!(1) } else { json!(2.0) };
                slot.insert("id".to_owned(), id);
            }
            _ => drop(slot.insert(kind.key().to_owned(), json!(self.of(names)))),
        }
        let keys: &[&str] = match kind {
            SlotKind::Email => &["email", "email_opt_status", "field", "id"],
            SlotKind::Phone => &["number", "number_e164", "extension", "type"],
            SlotKind::Address => &[
                "line1",
                "country_code",
                "country",
                "region_code",
                "region",
                "postal_code",
                "zip_code",
                "zip_four",
                "field",
                "id",
            ],
            SlotKind::Item => &[
                "name",
                "quantity",
                "price_per_unit",
                "cost_per_unit",
                "discount",
                "product_id",
                "subscription_plan_id",
                "item_type",
                "field",
            ],
        };
        for key in keys.iter().filter(|key| **key != kind.key()) {
            if self.one_in(2) {
                continue;
            }
            let value = match *key {
                "email" => self.value(FieldKind::Email),
                "number" => self.value(FieldKind::Phone),
                "country_code" => json!(self.of(&COUNTRIES)),
                "quantity" | "price_per_unit" | "cost_per_unit" | "discount" => self.value(FieldKind::Money),
                "product_id" | "subscription_plan_id" => self.element(),
                _ if self.one_in(30) => self.json(3),
                _ => json!(self.text()),
            };
            slot.insert((*key).to_owned(), value);
        }
        Value::Object(slot)
    }

    /// Any JSON of a depth.
    fn json(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.one_in(2)),
            2 => self.number(),
            3 | 4 => json!(self.of(&TEXTS)),
            5 => json!([]),
            6 => (0..self.below(3)).map(|_| self.json(depth - 1)).collect(),
            _ => {
                let length = self.below(3);
                Value::Object(
                    (0..length).map(|_| (self.of(&["a", "b"]).to_owned(), self.json(depth - 1))).collect(),
                )
            }
        }
    }
}
