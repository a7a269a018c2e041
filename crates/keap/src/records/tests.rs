use super::*;
use crate::capability::Changes;
use crate::edits::Refusal;
use crate::recorded::{Recorded, at_once};
use crate::transport::{Request, Response};
use keapsync_domain::extra::Extra;
use keapsync_domain::record::Record;
use keapsync_domain::secret::Secret;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::cell::RefCell;

/// 2026-01-01T00:00:00Z
const NOW: Timestamp = Timestamp(1_767_225_600_000);
const ROW: &str = "0b8f7a1c-3f52-4d1e-9a53-1c2d3e4f5a6b";

fn now() -> Timestamp {
    NOW
}

fn link_field() -> LinkField {
    LinkField { id: "77".to_owned(), field_name: "_Row".to_owned() }
}

fn record(entity: EntityType, object: &Value) -> Record {
    Record::from_object(entity, object.as_object().cloned().unwrap_or_default())
}

fn listing(entity: EntityType, items: &Value, token: &str) -> Value {
    json!({entity.plural(): items, "next_page_token": token})
}

/// Runs `work` on an API whose requests are answered in order; what it asked is the second part of the answer.
fn with_answers<const N: usize, R>(
    answers: [(u16, Value); N],
    work: impl AsyncFnOnce(&RecordsApi<'_, Recorded>) -> R,
) -> (R, Vec<String>) {
    let transport = Recorded::answering(answers);
    let field = link_field();
    let links = Links { contact: Some(&field), order: Some(&field) };
    let api = RecordsApi::new(transport.caller(), links);
    let outcome = at_once(work(&api));
    (outcome, transport.asked())
}

#[test]
fn lists_ask_what_the_table_says() {
    for entity in EntityType::ALL {
        let answer = || (200, listing(entity, &json!([]), ""));
        let cursor = Cursor { after_id: Some("41".to_owned()), ..Cursor::default() };
        let since = Cursor { since: Some(NOW), ..Cursor::default() };
        let later = Cursor { since: Some(NOW), ..cursor.clone() };
        let ((), asked) = with_answers([answer(), answer(), answer(), answer()], async |api| {
            api.list_after(entity, &cursor, NOW).await.unwrap();
            api.list_changed(entity, &since, NOW).await.unwrap();
            api.list_changed(entity, &later, NOW).await.unwrap();
            api.list_ids(entity, &["1".to_owned(), "2".to_owned()], NOW).await.unwrap();
        });
        let capability = capability(entity);
        let spaced = |order_by: &str| order_by.replace(' ', "%20");
        let (above, order) = match capability.full {
            FullPages::ByKey(name) => (Some(format!("{name}%3E41")), "id%20asc".to_owned()),
            FullPages::ByToken(order_by) => (None, spaced(order_by)),
        };
        let since = match capability.changes {
            Changes::Filter(name) => Some(format!("{name}%3D%3D2026-01-01T00%3A00%3A00.000Z")),
            Changes::NewestFirst(_) => None,
        };
        let filtered = |terms: &[&Option<String>], order: &str| {
            let terms: Vec<&str> = terms.iter().filter_map(|term| term.as_deref()).collect();
            let filter =
                if terms.is_empty() { String::new() } else { format!("filter={}&", terms.join("%3B")) };
            format!("{filter}order_by={order}")
        };
        let changes = match capability.changes {
            Changes::Filter(_) => filtered(&[&since], &order),
            Changes::NewestFirst(order_by) => format!("order_by={}", spaced(order_by)),
        };
        let full = filtered(&[&above], &order);
        let later_changes = filtered(&[&since, &above], &order);
        let by_ids = format!("filter={}%3D%3D1%2C2", capability.ids_filter);
        for (asked, expected) in asked.iter().zip([full, changes, later_changes, by_ids]) {
            let expected = format!("GET /v2/{}?{expected}&page_size=1000", entity.plural());
            assert!(asked.starts_with(&expected), "{asked} instead of {expected}");
        }
    }
}

#[test]
fn a_page_says_where_to_go_on() {
    let thousand: Value = (1..=1000).map(|id| json!({"id": id.to_string()})).collect();
    let after = |entity, items: Value, token: &str| {
        let (page, _) = with_answers([(200, listing(entity, &items, token))], async |api| {
            api.list_after(entity, &Cursor::default(), NOW).await
        });
        page.map(|page| page.next)
    };
    let behind = |id: &str| Some(Cursor { after_id: Some(id.to_owned()), ..Cursor::default() });
    for entity in [EntityType::Contact, EntityType::Order, EntityType::Subscription] {
        assert_eq!(after(entity, thousand.clone(), ""), Ok(behind("1000")));
        assert_eq!(after(entity, json!([{"id": "7"}]), "p2"), Ok(behind("7")));
        assert_eq!(after(entity, json!([{"id": "7"}]), ""), Ok(None));
        assert_eq!(after(entity, json!([]), "p2"), Ok(None));
        assert!(after(entity, json!([{}]), "p2").unwrap_err().message.contains("none tells its id"));
    }
    let token = after(EntityType::Tag, json!([{"id": "7"}]), "p2").unwrap().unwrap();
    assert_eq!(token.page_token.as_deref(), Some("p2"));
    assert_eq!(after(EntityType::Tag, thousand, ""), Ok(None));

    // What the run knows besides stays with it.
    let poll = Cursor { since: Some(NOW), after_id: Some("7".to_owned()), ..Cursor::default() };
    for (id, token, next) in [
        ("9", "p2", Ok(Some("9"))),
        ("9", "", Ok(None)),
        // A list that does not begin above the id would be read for ever.
        ("7", "p2", Err(FailureClass::Unexpected)),
    ] {
        let entity = EntityType::Order;
        let (page, _) = with_answers([(200, listing(entity, &json!([{"id": id}]), token))], async |api| {
            api.list_changed(entity, &poll, NOW).await
        });
        let expected = next.map(|id| id.map(|id| Cursor { after_id: Some(id.to_owned()), ..poll.clone() }));
        assert_eq!(page.map(|page| page.next).map_err(|failure| failure.class), expected);
    }
}

#[test]
fn a_lost_create_is_found_by_its_key() {
    let linked = |id: &str, row: &str| json!({"id": id, "custom_fields": [{"id": "77", "content": row}]});
    let tag = |id: &str, name: &str| json!({"id": id, "name": name});
    let subscription = |id: &str, start: &str| json!({"id": id, "contact_id": "1", "subscription_plan_id": "4", "start_date": start});
    let contact = json!({});
    let of_tag = json!({"name": "VIP"});
    let of_subscription =
        json!({"keap_contact_id": "1", "plan_id": "4", "start_date": "2026-02-01T00:00:00Z"});
    for (entity, row, items, expected) in [
        (EntityType::Contact, &contact, json!([linked("5", ROW), linked("6", "another")]), Ok(Some("5"))),
        (
            EntityType::Contact,
            &contact,
            json!([linked("5", ROW), linked("6", ROW)]),
            Err("merge or delete one"),
        ),
        (EntityType::Order, &contact, json!([linked("5", ROW)]), Ok(Some("5"))),
        (EntityType::Order, &contact, json!([]), Ok(None)),
        (EntityType::Tag, &of_tag, json!([tag("5", "VIP"), tag("6", "VIP 2")]), Ok(Some("5"))),
        (EntityType::Tag, &of_tag, json!([tag("5", "VIP"), tag("6", "VIP")]), Err("rename or delete one")),
        (
            EntityType::Subscription,
            &of_subscription,
            json!([subscription("5", "2026-02-01"), subscription("6", "2026-02-02")]),
            Ok(Some("5")),
        ),
        (
            EntityType::Subscription,
            &of_subscription,
            json!([subscription("5", "2026-02-01"), subscription("6", "2026-02-01")]),
            Err("end one of them"),
        ),
    ] {
        let (found, _) = with_answers([(200, listing(entity, &items, ""))], async |api| {
            api.find_created(ROW, &record(entity, row), NOW).await
        });
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.map(|remote| remote.keap_id).as_deref(), expected),
            (Err(failure), Err(said)) => {
                assert_eq!(failure.class, FailureClass::Invalid);
                assert!(failure.message.contains(said), "{}", failure.message);
            }
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn creates_carry_all_that_the_row_says() {
    let contact = record(EntityType::Contact, &json!({"email": "a@b.c", "tags": ["9", "8"]}));
    let (made, asked) = with_answers(
        [
            (201, json!({"id": "5", "tag_ids": ["8", "7"]})),
            (200, json!({})),
            (200, json!({"id": "5", "tag_ids": ["8", "7", "9"]})),
        ],
        async |api| api.create(ROW, &contact, &now).await,
    );
    // Tag 7 came on by Keap's own doing, and stays.
    assert_eq!(made.unwrap().remote.record.get_by_name("tags"), &json!(["7", "8", "9"]));
    let short: Vec<&str> = asked.iter().map(|asked| asked.split(['?']).next().unwrap()).collect();
    assert_eq!(
        short,
        [
            "POST /v2/contacts",
            "POST /v2/tags/9/contacts:applyTags {\"contact_ids\":[\"5\"]}",
            "GET /v2/contacts/5"
        ]
    );

    let order = record(
        EntityType::Order,
        &json!({"keap_contact_id": "1", "title": "x", "order_date": "2026-01-01",
        "order_type": "ONLINE", "line_items": [{"product_id": "3", "quantity": 1}]}),
    );
    let subscription = record(
        EntityType::Subscription,
        &json!({"keap_contact_id": "1", "plan_id": "4",
        "start_date": "2026-01-01", "end_date": "2027-01-01", "billing_cycle": "MONTH", "status": "inactive"}),
    );
    let tag = record(EntityType::Tag, &json!({"name": "VIP"}));
    let mut all = Vec::new();
    for (record, answers) in [
        (order, vec![(201, json!({"id": "6"}))]),
        (subscription, vec![(201, json!({"id": "7"})), (200, json!({"id": "7"}))]),
        (tag, vec![(201, json!({"id": "8"}))]),
    ] {
        let count = answers.len();
        let answers: [(u16, Value); 2] = [answers[0].clone(), answers[count - 1].clone()];
        let asked = if count == 1 {
            let [first, _] = answers;
            with_answers([first], async |api| api.create(ROW, &record, &now).await.map(drop)).1
        } else {
            with_answers(answers, async |api| api.create(ROW, &record, &now).await.map(drop)).1
        };
        all.extend(asked);
    }
    insta::assert_json_snapshot!("creates", all);
}

#[test]
fn nothing_is_posted_that_keap_would_refuse_or_that_could_not_be_found_again() {
    let order =
        json!({"keap_contact_id": "1", "title": "x", "order_date": "2026-01-01", "order_type": "ONLINE"});
    let with = |key: &str, value: Value| {
        let mut order = order.clone();
        order[key] = value;
        record(EntityType::Order, &order)
    };
    let subscription = json!({"keap_contact_id": "1", "plan_id": "4", "start_date": "2026-01-01", "billing_cycle": "MONTHLY"});
    for record in [
        with("title", Value::Null),
        with("line_items", json!([{"quantity": 1}])),
        record(EntityType::Contact, &json!({"first_name": "Ann"})),
        record(EntityType::Tag, &json!({})),
        record(EntityType::Subscription, &subscription),
    ] {
        let (outcome, asked) = with_answers([], async |api| api.create(ROW, &record, &now).await);
        assert_eq!(outcome.unwrap_err().class, FailureClass::Invalid);
        assert!(asked.is_empty());
    }
    let transport = Recorded::default();
    let api = RecordsApi::new(transport.caller(), Links::default());
    let order = with("title", json!("x"));
    assert_eq!(at_once(api.create(ROW, &order, &now)).unwrap_err().class, FailureClass::Unavailable);
    assert_eq!(at_once(api.find_created(ROW, &order, NOW)).unwrap_err().class, FailureClass::Unavailable);
    assert!(transport.asked().is_empty());
}

#[test]
fn only_a_404_for_the_tag_itself_says_that_it_is_gone() {
    let (held, wanted) = (json!({"tags": ["1"]}), json!({"tags": ["7"]}));
    let no = || (404, json!({"message": "not found"}));
    let contact = || (200, json!({"id": "5"}));
    // Tag 7 can not be put on, and tag 1 is taken off already.
    let answers = [no(), no(), no(), no(), contact()];
    let (written, asked) = update(EntityType::Contact, &held, &wanted, &["tags"], answers);
    assert_eq!(written.unwrap().gone_tags, ["7"]);
    assert_eq!(asked.len(), 5);
    let answers = [no(), (200, json!({"id": "7", "name": "VIP"}))];
    let (written, _) = update(EntityType::Contact, &held, &wanted, &["tags"], answers);
    assert_eq!(
        written.unwrap_err().class,
        FailureClass::Conflict,
        "the contact is gone, so it is read again"
    );
}

fn remote(entity: EntityType, object: &Value) -> RemoteRecord {
    RemoteRecord {
        keap_id: "5".to_owned(),
        record: record(entity, object),
        extra: Extra::default(),
        row_id: None,
        content_hash: String::new(),
        created_at: None,
        updated_at: None,
        observed_at: NOW,
    }
}

fn update<const N: usize>(
    entity: EntityType,
    held: &Value,
    wanted: &Value,
    changed: &[&'static str],
    answers: [(u16, Value); N],
) -> (Result<Written, Failure>, Vec<String>) {
    let (held, wanted) = (remote(entity, held), record(entity, wanted));
    with_answers(answers, async |api| {
        let change =
            Change { row_id: ROW, base: &held.record, wanted: &wanted, remote: &held, read_at: NOW, changed };
        api.update(&change, &now).await
    })
}

#[test]
fn updates_send_what_changed_and_read_again_what_they_cannot_know() {
    let order = |lines: Value, title: &str| json!({"title": title, "currency": "USD", "line_items": lines});
    let tea = json!({"id": "1", "product_id": "3", "quantity": 2});
    let (written, mut asked) = update(
        EntityType::Order,
        &order(json!([tea, {"id": "2"}]), "old"),
        &order(
            json!([{"id": "1", "product_id": "3", "quantity": 3}, {"product_id": "4", "quantity": 1}]),
            "new",
        ),
        &["title", "line_items"],
        [
            (
                200,
                json!({"id": "5", "order_items": [{"id": "1", "product": {"id": "3"}, "quantity": 2}, {"id": "2"}]}),
            ),
            (200, json!({"id": "1"})),
            (201, json!({"id": "9"})),
            (204, json!(null)),
            (200, json!({"id": "5", "title": "new"})),
        ],
    );
    let written = written.unwrap();
    assert_eq!(written.made_lines, [("#1".to_owned(), "9".to_owned())]);
    assert_eq!(written.remote.record.get_by_name("title"), "new");

    for (status, fields, answers) in [
        ("inactive", &["status", "cancel_reason", "quantity"][..], 3),
        ("inactive", &["status"][..], 2),
        ("active", &["status", "cancel_reason"][..], 1),
    ] {
        let wanted = json!({"status": status, "cancel_reason": "too dear", "quantity": 1});
        let held = json!({"status": "active"});
        let one = || (200, json!({"id": "5"}));
        let changed: Vec<&'static str> = fields.to_vec();
        let (_, more) = match answers {
            1 => update(EntityType::Subscription, &held, &wanted, &changed, [one()]),
            2 => update(EntityType::Subscription, &held, &wanted, &changed, [one(), one()]),
            _ => update(EntityType::Subscription, &held, &wanted, &changed, [one(), one(), one()]),
        };
        asked.extend(more);
    }
    let (written, more) = update(
        EntityType::Tag,
        &json!({"name": "a", "category_id": "3"}),
        &json!({"name": "a"}),
        &["category_id"],
        [(200, json!({"id": "5", "name": "a"}))],
    );
    assert!(written.unwrap().made_lines.is_empty());
    asked.extend(more);
    insta::assert_json_snapshot!("updates", asked);
}

/// A clock that each look moves on by that much.
fn slow(step_ms: i64) -> impl Fn() -> Timestamp {
    let time = std::cell::Cell::new(NOW);
    move || {
        time.set(time.get().plus_ms(step_ms));
        time.get()
    }
}

#[test]
fn what_takes_several_calls_is_cut_short_when_its_reading_is_old() {
    let line = |id: &str, quantity: i32| json!({"id": id, "product_id": "3", "quantity": quantity});
    let lines = |quantity: i32| json!({"line_items": [line("1", quantity), line("2", quantity), line("3", quantity)]});
    let (held, wanted) = (remote(EntityType::Order, &lines(1)), record(EntityType::Order, &lines(2)));
    let changed = &["line_items"];
    let change =
        Change { row_id: ROW, base: &held.record, wanted: &wanted, remote: &held, read_at: NOW, changed };
    let answers = [(200, json!({})), (200, json!({})), (200, json!({"id": "5"}))];
    let (written, asked) = with_answers(answers, async |api| api.update(&change, &slow(150)).await);
    assert!(written.unwrap().is_cut_short, "two lines were written within the moment, and the third was not");
    assert_eq!(asked.len(), 3, "two lines, and the record read again: {asked:?}");

    let answers = [
        (201, json!({"id": "5"})),
        (200, json!({})),
        (200, json!({})),
        (200, json!({"id": "5", "tag_ids": ["1", "2"]})),
    ];
    let contact = record(EntityType::Contact, &json!({"email": "a@x.io", "tags": ["1", "2", "3"]}));
    let (made, asked) = with_answers(answers, async |api| api.create(ROW, &contact, &slow(200)).await);
    assert!(made.unwrap().is_cut_short);
    assert_eq!(asked.len(), 4, "the contact, two of three tags, and the record read again: {asked:?}");
}

#[test]
fn lines_that_somebody_changed_before_the_properties_were_written_are_planned_again() {
    let held =
        remote(EntityType::Order, &json!({"title": "old", "line_items": [{"id": "1", "quantity": 1}]}));
    let wanted =
        record(EntityType::Order, &json!({"title": "new", "line_items": [{"id": "1", "quantity": 2}]}));
    let changed = &["title", "line_items"];
    let change =
        Change { row_id: ROW, base: &held.record, wanted: &wanted, remote: &held, read_at: NOW, changed };
    // The answer tells of somebody's 9, which the step would overwrite.
    let answers = [(200, json!({"id": "5", "title": "new", "order_items": [{"id": "1", "quantity": 9}]}))];
    let (written, asked) = with_answers(answers, async |api| api.update(&change, &now).await);
    assert!(written.unwrap().is_cut_short);
    assert_eq!(asked.len(), 1, "no line was written: {asked:?}");
}

#[test]
fn nothing_is_asked_of_one_kind_that_is_meant_for_another() {
    for entity in [EntityType::Tag, EntityType::Subscription] {
        let (found, asked) = with_answers([], async |api| api.find_linked(entity, ROW, NOW).await);
        assert!(found.is_err() && asked.is_empty(), "{asked:?}");
    }
    let (deleted, asked) = with_answers([], async |api| api.delete(EntityType::Subscription, "5").await);
    assert!(deleted.is_err() && asked.is_empty(), "{asked:?}");
}

#[test]
fn what_keap_would_refuse_makes_no_call_and_keeps_nothing_back() {
    let saved = || (200, json!({"id": "5"}));
    let held = json!({"keap_contact_id": "1", "plan_id": "4", "status": "active", "end_date": "2027-01-01", "quantity": 2});
    let ended = json!({"keap_contact_id": "1", "plan_id": "4", "status": "inactive", "end_date": null, "quantity": 0});
    let (written, asked) = update(
        EntityType::Subscription,
        &held,
        &ended,
        &["status", "end_date", "quantity"],
        [(200, json!({})), (200, json!({"id": "5", "active": false}))],
    );
    let said: Vec<String> = written.unwrap().refused.iter().map(Refusal::said).collect();
    assert_eq!(
        said,
        [
            "end_date is empty, and Keap can't clear it on a subscription: give the row a value",
            "quantity is no whole number of 1 or more: correct it"
        ]
    );
    assert!(asked[0].starts_with("POST /v2/subscriptions/5:deactivate"), "{asked:?}");

    for (entity, wanted, changed, calls, refused) in [
        (
            EntityType::Order,
            json!({"title": "x", "line_items": [{"quantity": 1}]}),
            vec!["title", "line_items"],
            1,
            vec!["line_items.#0"],
        ),
        (EntityType::Order, json!({}), vec!["title"], 0, vec!["title"]),
        (EntityType::Subscription, json!({"status": "paused"}), vec!["status"], 0, vec!["status"]),
        (EntityType::Contact, json!({"website": "w"}), vec!["email", "website"], 1, vec!["email"]),
        (
            EntityType::Contact,
            json!({"email": "a@b.c", "last_name": "x".repeat(41), "addresses": [
                {"field": "OTHER", "line1": "1"}, {"field": "BILLING", "region": "Sonora"}]}),
            vec!["last_name", "addresses"],
            1,
            vec!["last_name", "addresses.BILLING"],
        ),
    ] {
        let answers = std::iter::repeat_with(saved).take(calls);
        let transport = Recorded::answering(answers.collect::<Vec<_>>());
        let field = link_field();
        let api = RecordsApi::new(transport.caller(), Links { contact: Some(&field), order: Some(&field) });
        let (held, wanted) = (remote(entity, &json!({})), record(entity, &wanted));
        let change = Change {
            row_id: ROW,
            base: &held.record,
            wanted: &wanted,
            remote: &held,
            read_at: NOW,
            changed: &changed,
        };
        let written = at_once(api.update(&change, &now)).unwrap();
        let paths: Vec<String> = written.refused.iter().map(Refusal::path).collect();
        assert_eq!(paths, refused, "{wanted:?}");
        assert_eq!(transport.asked().len(), calls);
    }
}

#[test]
fn one_field_that_keap_refuses_is_found_among_several() {
    let no = || (400, json!({"message": "website is odd"}));
    let yes = || (200, json!({"id": "5"}));
    let wanted = json!({"email": "a@b.c", "first_name": "A", "last_name": "B", "job_title": "C", "website": "D",
        "custom_fields": {"5": "x", "6": "y"}});
    let changed = ["first_name", "last_name", "job_title", "website", "custom_fields"];
    // Six edits: the first three, then the last three, of which the first is the one.
    let (written, asked) =
        update(EntityType::Contact, &json!({}), &wanted, &changed, [no(), yes(), no(), no(), yes()]);
    let refused = written.unwrap().refused;
    assert_eq!(refused.iter().map(Refusal::path).collect::<Vec<_>>(), ["website"]);
    assert!(refused[0].reason.contains("website is odd"));
    let masks: Vec<String> =
        asked.iter().map(|asked| asked.matches("update_mask=").count().to_string()).collect();
    assert_eq!(masks, ["5", "3", "2", "1", "1"]);
    // A failure that is none of the edits' own ends the update.
    let (written, asked) =
        update(EntityType::Contact, &json!({}), &wanted, &changed, [no(), (503, json!({}))]);
    assert_eq!(written.unwrap_err().class, FailureClass::Unavailable);
    assert_eq!(asked.len(), 2);
}

#[test]
fn deletes_go_where_keap_has_them() {
    for (entity, path) in [
        (EntityType::Contact, "DELETE /v2/contacts/5"),
        (EntityType::Order, "DELETE /v2/orders/5"),
        (EntityType::Tag, "DELETE /v2/tags/5"),
    ] {
        let (outcome, asked) = with_answers([(204, json!(null))], async |api| api.delete(entity, "5").await);
        assert_eq!((outcome, asked), (Ok(()), vec![path.to_owned()]));
    }
    let (outcome, asked) = with_answers([], async |api| api.delete(EntityType::Subscription, "5").await);
    assert!(outcome.unwrap_err().message.contains("set status to inactive"));
    assert!(asked.is_empty());
}

#[test]
fn the_field_that_carries_row_ids_is_looked_for_before_it_is_made() {
    let field = json!({"id": "77", "label": crate::model::LINK_FIELD_LABEL, "field_name": "_Row"});
    let (found, asked) = with_answers([(200, json!({"custom_fields": [field]}))], async |api| {
        api.ensure_link_field(EntityType::Order).await
    });
    assert_eq!((found, asked), (Ok(link_field()), vec!["GET /v2/orders/model".to_owned()]));
    let (found, asked) = with_answers([(200, json!({})), (201, field)], async |api| {
        api.ensure_link_field(EntityType::Order).await
    });
    assert_eq!(found, Ok(link_field()));
    assert_eq!(
        asked[1],
        "POST /v2/orders/model/customFields {\"field_type\":\"TEXT\",\"label\":\"keapsync row id\"}"
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        r"[^\x00]{0,6}".prop_map(Value::from),
        (1_u32..99).prop_map(|id| id.to_string().into()),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(known_key(), inner, 0..6)
                .prop_map(|object| object.into_iter().collect()),
        ]
    })
}

/// Keys that the conversions look at, and one that they do not.
fn known_key() -> impl Strategy<Value = String> {
    proptest::sample::select(vec![
        "id",
        "field",
        "email",
        "number",
        "content",
        "amount",
        "currency_code",
        "category",
        "name",
        "contact",
        "company",
        "company_name",
        "email_addresses",
        "phone_numbers",
        "addresses",
        "custom_fields",
        "tag_ids",
        "order_items",
        "price_per_unit",
        "product",
        "quantity",
        "total",
        "order_time",
        "shipping_information",
        "address",
        "active",
        "billing_amount",
        "start_date",
        "auto_charge",
        "update_time",
        "other",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn whatever_keap_sends_is_read_or_rejected(
        items in proptest::collection::vec(any_json(), 0..6),
        entity in proptest::sample::select(EntityType::ALL.to_vec()),
    ) {
        let names = json!({"tag_categories": [], "products": []});
        let transport = Recorded::answering([(200, listing(entity, &Value::from(items.clone()), "")), (200, names)]);
        let api = RecordsApi::new(transport.caller(), Links::default());
        let page = at_once(api.list_ids(entity, &[], NOW)).unwrap();
        prop_assert_eq!(page.length, items.len());
        prop_assert_eq!(page.records.len() + page.rejected.len(), items.len());
        for remote in &page.records {
            prop_assert_eq!(remote.record.entity(), entity);
            prop_assert_eq!(remote.content_hash.len(), 32);
        }
    }

    #[test]
    fn whatever_a_row_holds_is_sent_or_refused(
        row in proptest::collection::btree_map(0_usize..20, any_json(), 0..12),
        entity in proptest::sample::select(EntityType::ALL.to_vec()),
    ) {
        let fields = capability(entity).fields;
        let row: serde_json::Map<String, Value> =
            row.into_iter().map(|(index, value)| (fields[index % fields.len()].name.to_owned(), value)).collect();
        let row = Record::from_object(entity, row);
        // The first call fails; what matters is that the checks before it end in a call or in a reason.
        let transport = Recorded::answering([(503, json!({}))]);
        let field = link_field();
        let api = RecordsApi::new(transport.caller(), Links { contact: Some(&field), order: Some(&field) });
        let failure = at_once(api.create(ROW, &row, &now)).unwrap_err();
        prop_assert!(matches!(failure.class, FailureClass::Invalid | FailureClass::Unavailable));
        let held = remote(entity, &json!({}));
        let changed: Vec<&'static str> = fields.iter().map(|field| field.name).collect();
        let change = Change { row_id: ROW, base: &row, wanted: &row, remote: &held, read_at: NOW, changed: &changed };
        let transport = Recorded::answering([(503, json!({}))]);
        let api = RecordsApi::new(transport.caller(), Links { contact: Some(&field), order: Some(&field) });
        if let Err(failure) = at_once(api.update(&change, &now)) {
            prop_assert!(matches!(failure.class, FailureClass::Invalid | FailureClass::Unavailable));
        }
    }
}

/// A list as Keap pages it by position: what stands at the token's position when it is asked, a page of two.
fn page_of_two(records: &[(&str, &str)], from: usize) -> (u16, Value) {
    let items: Value =
        records.iter().skip(from).take(2).map(|(id, time)| json!({"id": id, "update_time": time})).collect();
    let token = if records.len() > from + 2 { (from + 2).to_string() } else { String::new() };
    (200, json!({"items": items, "next_page_token": token}))
}

/// Keap with pages of two, whose tokens are positions, and contacts that change between the pages.
struct Moving<'a> {
    /// What it holds at each call, in order of change.
    held: &'a [Vec<(&'a str, &'a str)>],
    asked: RefCell<Vec<String>>,
}

impl Transport for Moving<'_> {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let url = request.url;
        let mut held = self.held[self.asked.borrow().len().min(self.held.len() - 1)].clone();
        if url.contains("order_by=id") {
            held.sort_by_key(|(id, _)| id.parse::<u64>().unwrap());
        }
        let number =
            |name: &str| -> Option<usize> { url.split(name).nth(1)?.split('&').next()?.parse().ok() };
        let above = number("contact_id%3E").unwrap_or(0);
        held.retain(|(id, _)| id.parse::<usize>().unwrap() > above);
        let (status, page) = page_of_two(&held, number("page_token=").unwrap_or(0));
        self.asked.borrow_mut().push(url);
        Ok(Response { status, headers: Vec::new(), body: page.to_string().into_bytes() })
    }
}

/// The ids that a poll meets, and what it asked.
fn polled(held: &[Vec<(&str, &str)>]) -> (Vec<String>, Vec<String>) {
    let transport = Moving { held, asked: RefCell::default() };
    let access_token = Secret::new("t");
    let caller = Caller { transport: &transport, base_url: "http://k/crm", access_token: &access_token };
    let api = RecordsApi::new(caller, Links::default());
    let ids = at_once(async {
        let (mut next, mut ids) = (Some(Cursor { since: Some(NOW), ..Cursor::default() }), Vec::new());
        while let Some(cursor) = next {
            let page = api.list_changed(EntityType::Contact, &cursor, NOW).await.unwrap();
            ids.extend(page.ids().map(str::to_owned));
            next = page.next;
        }
        ids
    });
    (ids, transport.asked.take())
}

#[test]
fn an_edit_between_two_pages_hides_no_record_from_a_poll() {
    let time = |second: u32| format!("2026-01-01T00:00:{second:02}.000Z");
    let (one, two, three, later) = (time(1), time(2), time(3), time(9));
    // Between the pages the first changes, and the third slides over the border.
    let before = vec![("1", one.as_str()), ("2", &two), ("3", &three)];
    let after = vec![("2", two.as_str()), ("3", &three), ("1", &later)];
    let (ids, asked) = polled(&[before, after]);
    assert_eq!(ids, ["1", "2", "3"]);
    assert!(asked.iter().all(|asked| !asked.contains("page_token")), "{asked:?}");
}

#[test]
fn an_edit_among_records_of_one_time_hides_none_from_a_poll() {
    // A bulk edit gave all of them one time, so that no filter by time tells them apart.
    let (bulk, later) = ("2026-01-01T00:00:01.000Z", "2026-01-01T00:00:09.000Z");
    let before = vec![("1", bulk), ("2", bulk), ("3", bulk), ("4", bulk), ("5", bulk)];
    let after = vec![("2", bulk), ("3", bulk), ("4", bulk), ("5", bulk), ("1", later)];
    let (mut ids, _) = polled(&[before.clone(), before, after]);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, ["1", "2", "3", "4", "5"]);
}

#[test]
fn tags_are_gone_through_until_two_passes_met_the_same() {
    let time = "2026-01-01T00:00:01.000Z";
    let (all, fewer) = ([("1", time), ("2", time), ("3", time)], [("2", time), ("3", time)]);
    let answers = [
        page_of_two(&all, 0),
        // The first tag was deleted between the pages: the third slid over the border.
        page_of_two(&fewer, 2),
        page_of_two(&all, 0),
        page_of_two(&all, 2),
        page_of_two(&all, 0),
        page_of_two(&all, 2),
    ];
    let (passes, _) = with_answers(answers, async |api| {
        let mut next = Some(Cursor::default());
        let mut passes = 0;
        while let Some(cursor) = next {
            passes = cursor.pass.unwrap_or_default().number + 1;
            next = api.list_after(EntityType::Tag, &cursor, NOW).await.unwrap().next;
        }
        passes
    });
    assert_eq!(passes, 3);
}

#[test]
fn subscriptions_that_changed_beyond_one_page_are_read_in_order_of_id() {
    let listed =
        |id: &str, token: &str| (200, json!({"subscriptions": [{"id": id}], "next_page_token": token}));
    let cursor = Cursor { since: Some(NOW), ..Cursor::default() };
    let (next, asked) = with_answers([listed("9", "t"), listed("1", "")], async |api| {
        let first = api.list_changed(EntityType::Subscription, &cursor, NOW).await.unwrap();
        api.list_changed(EntityType::Subscription, &first.next.unwrap(), NOW).await.unwrap().next
    });
    assert_eq!(next, None);
    assert!(asked[1].contains("filter=id%3E0&order_by=id%20asc"), "{}", asked[1]);
}
