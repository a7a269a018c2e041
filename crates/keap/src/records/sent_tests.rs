//! Every byte of a request is somebody's edit, or what Keap holds for that very value: random states of a contact go through
//! the real merge and the real conversion, and each key that is sent is accounted for.

use super::*;
use crate::edits::settle;
use crate::recorded::at_once;
use crate::transport::{Body, Request, Response};
use keapsync_domain::canonical::same;
use keapsync_domain::extra::Extra;
use keapsync_domain::merge::{Sides, reconcile};
use keapsync_domain::policy::{Policies, Policy};
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::schema::{FieldKind, fields};
use keapsync_domain::secret::Secret;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// 2026-01-01T00:00:00Z
const NOW: Timestamp = Timestamp(1_767_225_600_000);
const LISTS: [(&str, &str, &str); 3] = [
    ("emails", "email_addresses", "email"),
    ("phones", "phone_numbers", "number"),
    ("addresses", "addresses", ""),
];

/// Takes every call and keeps its body.
#[derive(Default)]
struct Taking(RefCell<Vec<Map<String, Value>>>);

impl Transport for Taking {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        if let Body::Json(text) = request.body
            && let Ok(Value::Object(body)) = serde_json::from_str(&text)
            && request.url.contains("/contacts/")
        {
            self.0.borrow_mut().push(body);
        }
        Ok(Response { status: 200, headers: Vec::new(), body: br#"{"id":"5"}"#.to_vec() })
    }
}

fn pick(values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::sample::select(values.to_vec()).prop_map(Value::from)
}

fn slot(
    names: &'static [&'static str],
    keys: &'static [(&'static str, &'static [&'static str])],
) -> impl Strategy<Value = Value> {
    let entries: Vec<_> = keys
        .iter()
        .map(|(key, values)| {
            prop::option::weighted(0.6, pick(values)).prop_map(move |value| Some(((*key).to_owned(), value?)))
        })
        .collect();
    (pick(names), entries).prop_map(|(name, entries)| {
        let mut slot: Map<String, Value> = entries.into_iter().flatten().collect();
        slot.insert("field".to_owned(), name);
        Value::Object(slot)
    })
}

fn slots(
    names: &'static [&'static str],
    keys: &'static [(&'static str, &'static [&'static str])],
) -> impl Strategy<Value = Value> {
    prop::collection::vec(slot(names, keys), 0..4).prop_map(Value::Array)
}

const EMAILS: &[&str] = &["a@x.io", " a@X.io", "b@x.io", "c@x.io ", "B@x.io", ""];
const REASONS: &[&str] = &["form", " form ", "asked by phone", ""];

/// A contact as anybody may leave it; with `odd`, in ways that only a row can be.
fn contact(odd: bool) -> impl Strategy<Value = Map<String, Value>> {
    let emails = slots(
        if odd { &["EMAIL2", "EMAIL3", "EMAIL1", " email2", "EMAIL7"] } else { &["EMAIL2", "EMAIL3"] },
        if odd {
            &[
                ("email", EMAILS),
                ("opt_in_reason", REASONS),
                ("email_opt_status", &["CONFIRMED"]),
                ("note", &["n"]),
            ]
        } else {
            &[
                ("email", EMAILS),
                ("opt_in_reason", REASONS),
                ("email_opt_status", &["NON_MARKETABLE", "CONFIRMED"]),
            ]
        },
    );
    let phones = slots(
        &["PHONE2", "PHONE3"],
        &[
            ("number", &["1", " 1", "2", "3"]),
            ("extension", &["5", "6"]),
            ("type", &["Work", "Home"]),
            ("number_e164", &["+1", "+2"]),
        ],
    );
    let addresses = slots(
        &["BILLING", "OTHER"],
        &[
            ("line1", &["1 Main", "1 Main ", "2 Main"]),
            ("region", &["Arizona", "Sonora", "California"]),
            ("region_code", &["US-AZ", "US-CA"]),
            ("country", &["United States", "Germany", "Nowhere"]),
            ("country_code", &["USA", "usa", "DEU", " de", "x1"]),
            ("postal_code", &["85001", "85001-1234", "90001"]),
            ("zip_code", &["85001", "90001"]),
            ("zip_four", &["1234", "9999"]),
            ("note", &["n"]),
        ],
    );
    let custom = prop::collection::btree_map("[5-8]", pick(&["x", " x", "y", ""]), 0..3)
        .prop_map(|entries| Value::Object(entries.into_iter().collect()));
    (
        prop::option::of(pick(EMAILS)),
        prop::option::of(pick(&["1", " 1", "2"])),
        prop::option::of(pick(&["Ann", " Ann", "Bo"])),
        emails,
        phones,
        addresses,
        custom,
    )
        .prop_map(|(email, phone, name, emails, phones, addresses, custom)| {
            let mut contact = Map::new();
            for (key, value) in [("email", email), ("phone", phone), ("first_name", name)] {
                contact.insert(key.to_owned(), value.unwrap_or_default());
            }
            for (key, value) in
                [("emails", emails), ("phones", phones), ("addresses", addresses), ("custom_fields", custom)]
            {
                contact.insert(key.to_owned(), value);
            }
            contact
        })
}

/// A state that differs from another one in some fields.
fn changed(odd: bool) -> impl Strategy<Value = Map<String, Value>> {
    (contact(odd), prop::collection::vec(prop::bool::weighted(0.5), 7)).prop_map(|(contact, kept)| {
        contact.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(entry, _)| entry).collect()
    })
}

fn by_name(list: &Value) -> BTreeMap<String, &Value> {
    let slots = list.as_array().into_iter().flatten();
    slots.filter_map(|slot| Some((slot.get("field")?.as_str()?.trim().to_uppercase(), slot))).collect()
}

fn at<'a>(slots: &BTreeMap<String, &'a Value>, name: &str, key: &str) -> &'a Value {
    slots.get(name).and_then(|slot| slot.get(key)).unwrap_or(&Value::Null)
}

/// A key that the row does not spell as it is sent, because it follows from another key that was edited.
fn leads(key: &str) -> &'static [&'static str] {
    match key {
        "country_code" => &["country", "country_code"],
        "postal_code" => &["zip_code", "zip_four", "postal_code"],
        _ => &[],
    }
}

/// Why a key of a slot may be sent; the error tells what cannot be accounted for.
fn account(
    list: (&str, &str, &str),
    name: &str,
    key: &str,
    item: &Value,
    [base, held, row]: [&Record; 3],
) -> Result<(), String> {
    let (field, _, value_key) = list;
    let sent = &item[key];
    let kind = match key {
        "email" => FieldKind::Email,
        "number" => FieldKind::Phone,
        _ => FieldKind::Text,
    };
    let [base, held, row] = [base, held, row].map(|record| by_name(record.get_by_name(field)));
    let is = |slots: &BTreeMap<String, &Value>, key: &str| {
        let value = at(slots, name, key);
        let is_code = key == "country_code"
            && value.as_str().is_some_and(|code| sent == &json!(code.trim().to_uppercase()));
        is_code || same(kind, value, sent)
    };
    let is_edited = !same(kind, at(&row, name, key), at(&base, name, key));
    let is_row = is(&row, key);
    let value_kind = if value_key == "email" { FieldKind::Email } else { FieldKind::Phone };
    let alike = |left: &BTreeMap<String, &Value>, right: &BTreeMap<String, &Value>| {
        value_key.is_empty() || same(value_kind, at(left, name, value_key), at(right, name, value_key))
    };
    if key == "opt_in_reason" {
        let is_new = is_row && is_edited && !(is(&held, key) && alike(&held, &row));
        return if is_new { Ok(()) } else { Err("consent that nobody wrote".to_owned()) };
    }
    // Somebody's edit; what Keap holds of that value; or the row's slot, which won over Keap's as a whole.
    // What Keap holds is that of the value which is sent.
    let is_of_held = value_key.is_empty() || same(value_kind, &item[value_key], at(&held, name, value_key));
    let is_held = is(&held, key) && is_of_held;
    let won = is_row && alike(&row, &base) && base.get(name) != held.get(name);
    let follows =
        leads(key).iter().any(|lead| !same(FieldKind::Text, at(&row, name, lead), at(&base, name, lead)));
    if (is_row && is_edited) || is_held || won || follows {
        Ok(())
    } else {
        Err("neither an edit nor what Keap holds".to_owned())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1000), ..ProptestConfig::default() })]

    #[test]
    fn every_byte_that_is_sent_is_an_edit_or_what_keap_holds_for_that_value(
        base in contact(false), keap in prop::option::weighted(0.4, changed(false)), edits in changed(true),
        policy in prop::sample::select(vec![Policy::KeapWins, Policy::SupabaseWins]),
    ) {
        let record = |object: Map<String, Value>| Record::from_object(EntityType::Contact, object);
        let with = |edits: Map<String, Value>| {
            let mut object = base.clone();
            object.extend(edits);
            record(object)
        };
        let extra = json!({"email1": {"opt_in_reason": "form", "email_opt_status": "CONFIRMED"}, "phone1": {"extension": "9", "type": "Work"}});
        let remote = RemoteRecord {
            keap_id: "5".to_owned(),
            record: with(keap.unwrap_or_default()),
            extra: Extra::new(extra.as_object().unwrap()).unwrap(),
            row_id: None,
            content_hash: String::new(),
            created_at: None,
            updated_at: None,
            observed_at: NOW,
        };
        let (row, base) = (with(edits), record(base.clone()));
        let meant = settle(&base, &row, &remote.record).map_or_else(|| row.clone(), |settled| settled.row);
        let policies = Policies { default: policy, ..Policies::default() };
        let sides = Sides { base: &base, keap: &remote.record, supabase: &meant, keap_changed_at: None, supabase_changed_at: None };
        let merge = reconcile(&sides, &policies);
        let schema = fields(EntityType::Contact);
        let changed: Vec<&'static str> = merge.to_keap.iter().map(|change| schema[change.position].name).collect();
        let wanted = merge.keap_after(&remote.record);
        let change = Change { row_id: "row", base: &base, wanted: &wanted, remote: &remote, read_at: NOW, changed: &changed };
        let transport = Taking::default();
        let token = Secret::new("t");
        let caller = Caller { transport: &transport, base_url: "http://k/crm", access_token: &token };
        at_once(RecordsApi::new(caller, Links::default()).update(&change, &|| NOW)).unwrap();

        let bodies = transport.0.into_inner();
        let states = [&base, &remote.record, &row];
        for body in &bodies {
            for list @ (_, property, _) in LISTS {
                for item in body.get(property).and_then(Value::as_array).into_iter().flatten() {
                    let name = item["field"].as_str().unwrap_or_default();
                    for (key, sent) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "field") {
                        let outcome = match name {
                            "EMAIL1" if key == "email" => Ok(()),
                            "PHONE1" if key == "number" => Ok(()),
                            "PHONE1" => {
                                let kept = same(FieldKind::Phone, &json!(item["number"]), remote.record.get_by_name("phone"));
                                if kept && extra["phone1"][key] == *sent { Ok(()) } else { Err("of a former number".to_owned()) }
                            }
                            "EMAIL1" => Err("consent that nobody wrote".to_owned()),
                            _ => account(list, name, key, item, states),
                        };
                        prop_assert!(outcome.is_ok(), "{property} {name}.{key} = {sent}: {outcome:?}\n base {:?}\n keap {:?}\n row {:?}\n meant {:?}",
                            base.get_by_name(list.0), remote.record.get_by_name(list.0), row.get_by_name(list.0), meant.get_by_name(list.0));
                        let text = sent.as_str().unwrap_or_default();
                        prop_assert!(text.trim() == text && !text.is_empty(), "{sent} is not as Keap takes it");
                    }
                }
            }
            for (field, property, kind) in [("first_name", "given_name", FieldKind::Text)] {
                if let Some(sent) = body.get(property) {
                    prop_assert!(same(kind, sent, row.get_by_name(field)) && !same(kind, sent, base.get_by_name(field)));
                }
            }
            for entry in body.get("custom_fields").and_then(Value::as_array).into_iter().flatten() {
                let id = entry["id"].as_str().unwrap();
                let of = |record: &Record| record.get_by_name("custom_fields").get(id).cloned().unwrap_or_default();
                let is = |value: &Value| same(FieldKind::Text, value, &entry["content"]);
                let is_edit = is(&of(&row)) && !same(FieldKind::Text, &of(&row), &of(&base));
                prop_assert!(is_edit || is(&of(&remote.record)), "custom field {id}");
            }
        }
    }
}
