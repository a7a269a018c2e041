use super::convert::{Link, States, contact_to_wire, create_body, write_body};
use super::*;
use crate::page::{parse_page, parse_record};
use crate::transport::{Request, Response};
use keapsync_domain::json_text::JSON_DEPTH_MAX;
use serde_json::json;
use std::cell::RefCell;

const LINK: &str = "77";
const ROW: &str = "0b8f7a1c-3f52-4d1e-9a53-1c2d3e4f5a6b";

fn wire() -> Value {
    json!({
        "id": "12", "given_name": "Zoë", "family_name": "O’Neil", "company": {"id": "3", "company_name": "Acme"},
        "email_addresses": [
            {"email": "z@acme.io", "field": "EMAIL1", "is_opt_in": true, "opt_in_reason": "form", "email_opt_status": "CONFIRMED"},
            {"email": "zoe@home.io", "field": "EMAIL2", "is_opt_in": false}],
        "phone_numbers": [
            {"number": "(480) 555-0100", "field": "PHONE1", "type": "Work", "number_e164": "+14805550100"},
            {"number": "1", "field": "PHONE3"}],
        "addresses": [{"field": "BILLING", "line1": "1 Main St", "country_code": "USA", "region_code": "US-AZ", "country": "United States"}],
        "custom_fields": [{"id": "5", "content": ["a", "b"]}, {"id": LINK, "content": ROW}],
        "tag_ids": ["9", "10"], "birth_date": "1985-03-15", "leadsource_id": "4", "owner_id": "1",
        "score_value": "85", "fax_numbers": [{"number": "2", "field": "FAX1"}],
        "create_time": "2024-01-10T08:00:00Z", "update_time": "2024-03-15T10:30:00.250Z",
    })
}

fn link_field() -> LinkField {
    LinkField { id: LINK.to_owned(), field_name: "keapsyncrowid".to_owned() }
}

/// A contact that Keap holds as it is in the base.
fn states_of<'a>(
    held: &'a RemoteRecord,
    wanted: &'a keapsync_domain::record::Record,
    extra: &'a Map<String, Value>,
) -> States<'a> {
    States { base: &held.record, wanted, held: &held.record, extra }
}

fn parse(value: &Value) -> Result<RemoteRecord, RejectedRecord> {
    let link_field = link_field();
    let read = reader(Some(&link_field), Timestamp(7));
    parse_record(&value.to_string(), &Reading::new(EntityType::Contact, &read))
}

#[test]
fn a_contact_becomes_a_record() {
    let contact = parse(&wire()).unwrap();
    assert_eq!(contact.row_id.as_deref(), Some(ROW));
    assert_eq!(contact.updated_at, Timestamp::parse_rfc3339("2024-03-15T10:30:00.25Z"));
    insta::assert_json_snapshot!(
        "contact_as_record",
        json!({"record": contact.record.to_object(), "extra": contact.extra.to_object()})
    );
}

#[test]
fn record_and_extra_rebuild_what_keap_sent() {
    let contact = parse(&wire()).unwrap();
    let mut expected = wire();
    for times in ["id", "create_time", "update_time"] {
        expected.as_object_mut().unwrap().remove(times);
    }
    expected["custom_fields"] = json!([{"id": "5", "content": ["a", "b"]}]);
    expected["tag_ids"] = json!(["10", "9"]);
    assert_eq!(Value::Object(contact_to_wire(&contact.record, &contact.extra.to_object())), expected);
}

#[test]
fn the_content_hash_ignores_order_and_times() {
    let mut other = wire();
    other["tag_ids"] = json!(["10", "9"]);
    other["update_time"] = json!("2025-01-01T00:00:00Z");
    other["email_addresses"].as_array_mut().unwrap().reverse();
    assert_eq!(parse(&wire()).unwrap().content_hash, parse(&other).unwrap().content_hash);
    other["score_value"] = json!("86");
    assert_ne!(parse(&wire()).unwrap().content_hash, parse(&other).unwrap().content_hash);
}

#[test]
fn a_broken_contact_is_named_and_the_page_passes() {
    let body = json!({"contacts": [
        wire(), {"id": "13", "given_name": {"first": "x"}}, "nonsense", {"given_name": "no id"},
        {"id": "14", "family_name": "nul\u{0}"}, {"id": "15", "custom_fields": {"5": "x"}}, {"id": "16"},
    ], "next_page_token": ""});
    let read = reader(None, Timestamp(0));
    let page = ContactPage::from(
        parse_page(body.to_string().as_bytes(), &Reading::new(EntityType::Contact, &read)).unwrap(),
    );
    assert_eq!(page.length, 7);
    assert_eq!(page.next_page_token, None);
    assert_eq!(page.last_id.as_deref(), Some("16"));
    assert_eq!(
        page.contacts.iter().map(|contact| contact.keap_id.as_str()).collect::<Vec<_>>(),
        ["12", "16"]
    );
    insta::assert_debug_snapshot!("rejected_contacts", page.rejected);
}

#[test]
fn what_nests_too_deep_to_be_kept_is_refused_alone() {
    let nested = |depth: usize| (1..depth).fold(json!([]), |inner, _| json!([inner]));
    let deepest = JSON_DEPTH_MAX - 1;
    let body = json!({"contacts": [
        {"id": "1", "anything": nested(deepest)}, {"id": "2", "anything": nested(deepest + 1)}, {"id": "3"},
    ]});
    let read = reader(None, Timestamp(0));
    let page = parse_page(body.to_string().as_bytes(), &Reading::new(EntityType::Contact, &read)).unwrap();
    let kept: Vec<&str> = page.records.iter().map(|contact| contact.keap_id.as_str()).collect();
    assert_eq!(kept, ["1", "3"]);
    let [RejectedRecord { keap_id, reason }] = page.rejected.as_slice() else {
        panic!("{:?}", page.rejected)
    };
    assert_eq!(keap_id.as_deref(), Some("2"));
    assert!(reason.contains("what no column holds nests more than"), "{reason}");
}

#[test]
fn an_answer_that_is_no_list_is_no_empty_page() {
    let read = reader(None, Timestamp(0));
    let parse = |body: &str| parse_page(body.as_bytes(), &Reading::new(EntityType::Contact, &read));
    for body in [
        "",
        "[]",
        "null",
        "\"contacts\"",
        r#"{"contacts": null}"#,
        r#"{"contacts": {}}"#,
        r#"{"contacts": []} x"#,
    ] {
        assert!(parse(body).is_err(), "{body}");
    }
    for twice in [r#"{"contacts": [], "items": []}"#, r#"{"next_page_token": "a", "next_page_token": "b"}"#] {
        assert!(parse(twice).is_err(), "{twice}");
    }
    assert_eq!(parse(r#"{"odd": [1], "contacts": [], "next_page_token": null}"#).unwrap().length, 0);
}

#[test]
fn an_update_carries_whole_lists_and_nothing_read_only() {
    let contact = parse(&wire()).unwrap();
    let mut record = contact.record.clone();
    record.set_by_name("email", json!("new@acme.io"));
    record.set_by_name("middle_name", Value::Null);
    let link = Some(Link { field_id: LINK, row_id: ROW });
    let properties = ["email_addresses", "phone_numbers", "addresses", "custom_fields", "middle_name"];
    insta::assert_json_snapshot!(
        "update_body",
        write_body(&states_of(&contact, &record, &contact.extra.to_object()), &properties, link)
    );
    insta::assert_json_snapshot!("create_body", create_body(&record, link));
}

#[test]
fn dates_that_postgres_cannot_hold_stay_beside_the_columns() {
    for odd in ["0000-00-00", "1985-13-45", "soon"] {
        let contact = parse(&json!({"id": "1", "birth_date": odd})).unwrap();
        assert!(contact.record.get_by_name("birth_date").is_null());
        assert_eq!(contact.extra.to_object().get("birth_date"), Some(&json!(odd)));
    }
}

/// Answers every request with an empty page and keeps what was asked.
#[derive(Default)]
struct Canned(RefCell<Vec<String>>);

impl Transport for Canned {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        self.0.borrow_mut().push(format!("{} {}", request.method.as_str(), request.url));
        Ok(Response { status: 200, headers: Vec::new(), body: br#"{"contacts":[],"id":"1"}"#.to_vec() })
    }
}

#[test]
fn requests_are_what_the_contract_says() {
    let transport = Canned::default();
    let secret = Secret::new("t");
    let link_field = link_field();
    let api = ContactsApi {
        transport: &transport,
        base_url: "http://k/crm",
        access_token: &secret,
        link_field: Some(&link_field),
    };
    let now = Timestamp(1_767_225_600_000);
    let run = async {
        api.list_after(Range { after_id: Some("41"), since: None }, now).await.unwrap();
        api.list_after(Range { after_id: Some("41"), since: Some(now) }, now).await.unwrap();
        api.list_ids(&["1".to_owned(), "2".to_owned()], now).await.unwrap();
        api.list_by_row_id(ROW, now).await.unwrap();
        api.update("5", &["given_name", "email_addresses"], Map::new(), now).await.unwrap();
        api.delete("5").await.unwrap();
    };
    futures_util::FutureExt::now_or_never(run).unwrap();
    let asked: Vec<String> =
        transport.0.borrow().iter().map(|url| url.replace(&FIELDS.replace(',', "%2C"), "…")).collect();
    insta::assert_json_snapshot!("requests", asked);
}

/// What a write of `property` sends of a contact that Keap holds as [`wire`] tells, with `edits` made in the row.
fn sent(property: &str, edits: &Value) -> Value {
    let contact = parse(&wire()).unwrap();
    let mut record = contact.record.clone();
    for (name, value) in edits.as_object().unwrap() {
        record.set_by_name(name, value.clone());
    }
    let extra = contact.extra.to_object();
    write_body(&states_of(&contact, &record, &extra), &[property], None).remove(property).unwrap()
}

#[test]
fn consent_is_sent_only_where_a_person_wrote_it_for_that_address() {
    let second = json!({"field": "EMAIL2", "email": "zoe@home.io"});
    // A new first address does not take the reason of the old one along, nor does another slot send it again.
    assert_eq!(
        sent("email_addresses", &json!({"email": "new@acme.io"})),
        json!([{"field": "EMAIL1", "email": "new@acme.io"}, second])
    );
    assert_eq!(
        sent("email_addresses", &json!({"emails": [second, {"field": "EMAIL3", "email": "z3@home.io"}]})),
        json!([{"field": "EMAIL1", "email": "z@acme.io"}, second, {"field": "EMAIL3", "email": "z3@home.io"}])
    );
    // What a person writes for that address goes.
    let written = json!({"field": "EMAIL2", "email": "zoe@home.io", "opt_in_reason": "asked by phone"});
    assert_eq!(
        sent("email_addresses", &json!({"emails": [written]})),
        json!([{"field": "EMAIL1", "email": "z@acme.io"}, written])
    );
}

#[test]
fn a_reason_stays_with_the_address_that_it_was_given_for() {
    let mut held = parse(&wire()).unwrap();
    let slot = |name: &str, email: &str| json!({"field": name, "email": email, "opt_in_reason": "form"});
    held.record.set_by_name("emails", json!([slot("EMAIL2", "zoe@home.io")]));
    let extra = held.extra.to_object();
    for (emails, expected) in [
        // The reason of the former address, and the same address in another slot: nobody wrote them anew.
        (json!([slot("EMAIL2", "other@home.io")]), json!([{"field": "EMAIL2", "email": "other@home.io"}])),
        (json!([slot("EMAIL3", "zoe@HOME.io")]), json!([{"field": "EMAIL3", "email": "zoe@HOME.io"}])),
        // Another slot and another address: written for it.
        (
            json!([slot("EMAIL2", "zoe@home.io"), slot("EMAIL3", "other@home.io")]),
            json!([{"field": "EMAIL2", "email": "zoe@home.io"}, slot("EMAIL3", "other@home.io")]),
        ),
    ] {
        let mut record = held.record.clone();
        record.set_by_name("emails", emails.clone());
        let body = write_body(&states_of(&held, &record, &extra), &["email_addresses"], None);
        let sent = body["email_addresses"].as_array().unwrap();
        assert_eq!(Value::from(&sent[1..]), expected, "{emails}");
    }
}

#[test]
fn an_extension_and_a_type_stay_with_their_number() {
    let third = json!({"field": "PHONE3", "number": "1"});
    assert_eq!(
        sent("phone_numbers", &json!({"phone": "480 555 0199"})),
        json!([{"field": "PHONE1", "number": "480 555 0199"}, third])
    );
    assert_eq!(
        sent("phone_numbers", &json!({"phone": "480.555.0100", "phones": []})),
        json!([{"field": "PHONE1", "number": "480.555.0100", "type": "Work"}])
    );
    let mut held = parse(&wire()).unwrap();
    held.record.set_by_name("phone", Value::Null);
    held.record
        .set_by_name("phones", json!([{"field": "PHONE2", "number": "1", "extension": "5", "type": "Home"}]));
    for (phone, expected) in [
        (json!({"number": "2", "extension": "5", "type": "Home"}), json!({"number": "2"})),
        (json!({"number": "2", "extension": "6", "type": "Home"}), json!({"number": "2", "extension": "6"})),
        (json!({"number": " 1 ", "extension": "5"}), json!({"number": "1", "extension": "5"})),
    ] {
        let [phone, expected] = [phone, expected].map(|mut slot| {
            slot["field"] = json!("PHONE2");
            slot
        });
        let mut record = held.record.clone();
        record.set_by_name("phones", json!([phone]));
        let body = write_body(&states_of(&held, &record, &Map::new()), &["phone_numbers"], None);
        assert_eq!(body["phone_numbers"], json!([expected]));
    }
}
