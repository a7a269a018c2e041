//! Values as they are compared, merged and stored: what a row, a base or a queued edit may hold.

use super::{Target, text, texts};
use keapsync_domain::canonical::{canonical, content_hash, record_hash, same};
use keapsync_domain::certificate::Comparison;
use keapsync_domain::ids::{AccountId, EntityType, is_keap_id, is_uuid};
use keapsync_domain::merge::{Sides, reconcile};
use keapsync_domain::policy::Policies;
use keapsync_domain::record::Record;
use keapsync_domain::run::Cursor;
use keapsync_domain::schema::{FieldKind, SlotKind};
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::tree::HashTree;
use keapsync_keap::money::{decimal_of_double, double_of_decimal, minor_of_decimal};
use serde_json::{Map, Value, from_slice};

pub(super) const TARGETS: &[Target] = &[
    Target { name: "timestamp", examples: timestamps, check: timestamp },
    Target { name: "ids", examples: ids, check: id },
    Target { name: "canonical-form", examples: values, check: canonical_form },
    Target { name: "amount", examples: amounts, check: amount },
    Target { name: "merge", examples: records, check: merge },
    Target { name: "stored-json", examples: stored, check: stored_json },
];

/// The first and the last millisecond that can be written as a time.
const MOMENTS: std::ops::RangeInclusive<i64> = -377_705_023_201_000..=253_402_207_200_999;

fn timestamps() -> Vec<Vec<u8>> {
    texts(&[
        "2026-03-01T10:00:00.123456+02:00",
        "2024-03-15T10:30:00Z",
        "1969-12-31T23:59:59.999Z",
        "2024-02-29 00:00:00-11:30",
    ])
}

fn timestamp(input: &[u8]) {
    if let Some(moment) = Timestamp::parse_rfc3339(&text(input)) {
        assert!(MOMENTS.contains(&moment.0), "{}", moment.0);
        let written = moment.to_rfc3339();
        assert_eq!(Timestamp::parse_rfc3339(&written), Some(moment), "{written}");
    }
}

fn ids() -> Vec<Vec<u8>> {
    texts(&["demo-1", "9223372036854775807", "018f3f6e-0000-4000-8000-00000000abcd"])
}

fn id(input: &[u8]) {
    let given = text(input);
    if let Ok(account) = AccountId::parse(&given) {
        assert!(account.as_str().len() <= 64 && account.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    }
    assert!(!is_keap_id(&given) || given.parse::<u64>().is_ok());
    assert!(!is_uuid(&given) || given.len() == 36);
}

/// Every kind of field.
const KINDS: [FieldKind; 14] = [
    FieldKind::Text,
    FieldKind::Email,
    FieldKind::Phone,
    FieldKind::Date,
    FieldKind::Instant,
    FieldKind::Integer,
    FieldKind::Money,
    FieldKind::Boolean,
    FieldKind::Address,
    FieldKind::Set,
    FieldKind::Map,
    FieldKind::Slots(SlotKind::Email),
    FieldKind::Slots(SlotKind::Phone),
    FieldKind::Slots(SlotKind::Address),
];

fn values() -> Vec<Vec<u8>> {
    texts(&[
        r#"" Ann@EXAMPLE.com ""#,
        r#""+1 (480) 555-0100 ext. 7""#,
        r#""2024-03-15T00:00:00Z""#,
        r#""0012.500""#,
        "12.50",
        "true",
        r#"["9","10",9,null]"#,
        r#"{"line1":"1 Main St","country_code":"USA","postal_code":null}"#,
        r#"{"5":["a","b"],"6":1.0}"#,
        r#"[{"email":"z@acme.io","field":"EMAIL1","is_opt_in":true},{"email":"","field":"EMAIL2"}]"#,
        r#"[{"number":"(480) 555-0100","field":"PHONE1","type":"Work"},{"number":"1","field":"PHONE3"}]"#,
    ])
}

fn canonical_form(input: &[u8]) {
    // What is no JSON is a text.
    let value: Value = from_slice(input).unwrap_or_else(|_| text(input).into_owned().into());
    assert_eq!(content_hash(&value).len(), 32);
    for kind in KINDS {
        let form = canonical(kind, &value);
        assert!(same(kind, &value, &value), "{kind:?}");
        // A date is cut at its T before it is known to be one: what is none is refused where it is stored.
        if !matches!(kind, FieldKind::Slots(_) | FieldKind::Date) {
            assert_eq!(canonical(kind, &form), form, "{kind:?}: {value}");
        }
    }
}

fn amounts() -> Vec<Vec<u8>> {
    texts(&["12.50", "-0.01", "1e2", "92233720368547758.07", "10.5", "0"])
}

fn amount(input: &[u8]) {
    let given = text(input);
    for exponent in [0, 2, 3] {
        let _ = minor_of_decimal(&given, exponent);
        let _ = double_of_decimal(&given.as_ref().into(), exponent);
    }
    if let Ok(Value::Number(number)) = from_slice::<Value>(input) {
        let _ = decimal_of_double(&number);
    }
}

/// Three objects in a list: base, Keap, row.
fn records() -> Vec<Vec<u8>> {
    texts(&[
        r#"[{"first_name":"Ann","email":"a@x.example","tags":["1","2"]},{"first_name":"Anna","tags":["1"]},{"first_name":"Ann","email":"b@x.example","tags":["1","2","3"]}]"#,
        r#"[{"name":"Gold"},{"name":"Gold","description":"x"},{"name":"Silver"}]"#,
        r#"[{"title":"T","total":"1.00","lines":{"1":{"name":"Tea"}}},{"title":"U","lines":{"1":{"name":"Tea","quantity":2}}},{"title":"T","lines":{}}]"#,
    ])
}

fn merge(input: &[u8]) {
    let Ok(Value::Array(sides)) = from_slice::<Value>(input) else { return };
    let mut sides = sides.into_iter().map(|side| match side {
        Value::Object(object) => object,
        _ => Map::new(),
    });
    let mut next = || sides.next().unwrap_or_default();
    let objects = [next(), next(), next()];
    for entity in EntityType::ALL {
        let [base, keap, supabase] = objects.clone().map(|object| Record::from_object(entity, object));
        let sides = Sides {
            base: &base,
            keap: &keap,
            supabase: &supabase,
            keap_changed_at: Some(Timestamp(1)),
            supabase_changed_at: Some(Timestamp(2)),
        };
        let merged = reconcile(&sides, &Policies::default());
        assert_eq!(reconcile(&sides, &Policies::default()), merged);
        assert_eq!(record_hash(&keap), record_hash(&keap.clone()));
        // What did not change on either side is left alone.
        let still = Sides { base: &keap, keap: &keap, supabase: &keap, ..sides };
        assert!(reconcile(&still, &Policies::default()).to_supabase.is_empty());
    }
}

fn stored() -> Vec<Vec<u8>> {
    let comparison = serde_json::to_vec(&Comparison::new()).unwrap_or_default();
    let tree = serde_json::to_vec(&HashTree::default()).unwrap_or_default();
    let mut examples =
        texts(&[r#"{"since":1700000000000,"after_id":"7","page_token":"abc"}"#, r#"{"after_id":null}"#]);
    examples.extend([comparison, tree]);
    examples
}

fn stored_json(input: &[u8]) {
    if let Ok(cursor) = from_slice::<Cursor>(input) {
        let written = serde_json::to_vec(&cursor).unwrap_or_default();
        assert!(from_slice::<Cursor>(&written).is_ok_and(|read| read == cursor));
    }
    let _ = (from_slice::<Comparison>(input), from_slice::<HashTree>(input), from_slice::<Policies>(input));
}
