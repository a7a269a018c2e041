use super::*;
use serde_json::json;

fn contact(object: &Value) -> Record {
    Record::from_object(keapsync_domain::ids::EntityType::Contact, object.as_object().cloned().unwrap())
}

/// A field of a contact after its edits are settled, and what was refused of it.
fn settled(field: &str, was: Value, edited: Value) -> (Value, Vec<String>) {
    let [was, edited] = [was, edited].map(|value| contact(&json!({field: value})));
    match settle(&was, &edited, &was) {
        None => (edited.get_by_name(field).clone(), Vec::new()),
        Some(settled) => {
            (settled.row.get_by_name(field).clone(), settled.refused.iter().map(Refusal::path).collect())
        }
    }
}

#[test]
fn what_belonged_to_a_former_value_leaves_with_it() {
    let was = json!([{"field": "EMAIL2", "email": "a@x.io", "opt_in_reason": "form", "is_opt_in": true}]);
    let edited = json!([{"field": "EMAIL2", "email": "b@x.io", "opt_in_reason": "form", "is_opt_in": true}]);
    let expected = json!([{"field": "EMAIL2", "email": "b@x.io", "is_opt_in": true}]);
    assert_eq!(settled("emails", was, edited), (expected, vec![]));
    let was = json!([{"field": "PHONE2", "number": "1", "extension": "5", "type": "Work"}]);
    let edited = json!([{"field": "PHONE2", "number": "2", "extension": "5", "type": "Home"}]);
    let expected = json!([{"field": "PHONE2", "number": "2", "type": "Home"}]);
    assert_eq!(settled("phones", was, edited), (expected, vec![]));
}

#[test]
fn of_a_name_and_its_code_the_edited_one_counts() {
    let was = json!({"field": "BILLING", "line1": "1 Main", "region": "Arizona", "region_code": "US-AZ",
        "country": "United States", "country_code": "USA", "postal_code": "85001-1234", "zip_code": "85001", "zip_four": "1234"});
    let with = |edits: Value| {
        let mut slot = was.clone();
        for (key, value) in edits.as_object().unwrap() {
            slot[key] = value.clone();
        }
        slot
    };
    for (edits, key, expected) in [
        (json!({"region": "Sonora"}), "region_code", Value::Null),
        (json!({"region_code": "US-CA"}), "region_code", json!("US-CA")),
        (json!({"country": "Germany"}), "country_code", json!("DEU")),
        (json!({"country": "USA"}), "country", json!("United States")),
        (json!({"country_code": "de"}), "country_code", json!("DEU")),
        (json!({"zip_code": "90001"}), "postal_code", json!("90001-1234")),
        (json!({"zip_four": "9999"}), "postal_code", json!("85001-9999")),
        (json!({"zip_four": ""}), "postal_code", json!("85001")),
        (json!({"postal_code": "90001"}), "zip_code", json!("85001")),
    ] {
        let (after, refused) = settled("addresses", json!([was]), json!([with(edits.clone())]));
        assert_eq!((&after[0][key], refused), (&expected, vec![]), "{edits}");
    }
    for (edits, path) in [
        (json!({"country": "Atlantis"}), "addresses.BILLING.country"),
        (json!({"country_code": "Atlantis"}), "addresses.BILLING.country_code"),
        (json!({"region": ""}), "addresses.BILLING.region"),
        (json!({"note": "x"}), "addresses.BILLING.note"),
        (json!({"line1": ["x"]}), "addresses.BILLING.line1"),
    ] {
        let (after, refused) = settled("addresses", json!([was]), json!([with(edits.clone())]));
        assert_eq!((after, refused), (json!([was]), vec![path.to_owned()]), "{edits}");
    }
}

#[test]
fn what_has_no_place_in_keap_is_put_back_and_the_rest_goes_on() {
    let was = json!([{"field": "EMAIL2", "email": "a@x.io", "is_opt_in": false}]);
    for (edited, expected, refused) in [
        (
            json!([{"field": "EMAIL2", "email": "b@x.io", "is_opt_in": true, "note": 7}]),
            json!([{"field": "EMAIL2", "email": "b@x.io", "is_opt_in": false}]),
            vec!["emails.EMAIL2.is_opt_in", "emails.EMAIL2.note"],
        ),
        (json!([was[0], {"field": "EMAIL1", "email": "c@x.io"}]), was.clone(), vec!["emails.EMAIL1"]),
        (
            json!([was[0], {"field": "EMAIL9", "email": "c@x.io"}, "c@x.io"]),
            was.clone(),
            vec!["emails.#2", "emails.EMAIL9"],
        ),
        (json!([{"field": "EMAIL2", "email": "c@x.io"}, was[0]]), was.clone(), vec!["emails.EMAIL2"]),
        (json!([was[0], {"field": "EMAIL3", "opt_in_reason": "asked"}]), was.clone(), vec!["emails.EMAIL3"]),
        (
            json!([was[0], {"email": "c@x.io"}]),
            json!([was[0], {"email": "c@x.io", "field": "EMAIL3"}]),
            vec![],
        ),
        (
            json!([{"field": " email2", "email": "a@x.io"}]),
            json!([{"field": "EMAIL2", "email": "a@x.io"}]),
            vec![],
        ),
        // What was left out is no edit, and an emptied slot goes.
        (
            json!([{"field": "EMAIL2", "email": "a@x.io"}]),
            json!([{"field": "EMAIL2", "email": "a@x.io"}]),
            vec![],
        ),
        (json!([{"field": "EMAIL2", "email": ""}]), json!([{"field": "EMAIL2", "email": ""}]), vec![]),
    ] {
        assert_eq!(
            settled("emails", was.clone(), edited.clone()),
            (expected, refused.into_iter().map(str::to_owned).collect::<Vec<_>>()),
            "{edited}"
        );
    }
    assert_eq!(
        settled("tags", json!(["1"]), json!(["1", 2, "x", true, null])),
        (json!(["1", 2, null]), vec!["tags.x".to_owned(), "tags.true".to_owned()])
    );
    assert_eq!(
        settled("custom_fields", json!({"5": "a"}), json!({"5": "b", "color": "red"})),
        (json!({"5": "b"}), vec!["custom_fields.color".to_owned()])
    );
}

#[test]
fn what_keap_refused_is_put_back_unless_it_was_edited_again() {
    let was = contact(&json!({"website": "w", "custom_fields": {"5": "a"}, "tags": ["1"],
        "emails": [{"field": "EMAIL2", "email": "a@x.io"}]}));
    let row = contact(&json!({"website": "x", "custom_fields": {"5": "b", "6": "c"}, "tags": ["1", "2"],
        "emails": [{"field": "EMAIL2", "email": "b"}, {"field": "EMAIL3", "email": "c@x.io"}]}));
    let refusal = |field, part: Option<&str>, sent| Refusal {
        field,
        part: part.map(str::to_owned),
        key: None,
        sent: Some(sent),
        reason: String::new(),
    };
    let refused = [
        refusal("website", None, json!("x")),
        refusal("custom_fields", Some("5"), json!("b")),
        refusal("tags", Some("2"), json!("2")),
        refusal("emails", Some("EMAIL2"), json!({"field": "EMAIL2", "email": "b"})),
        refusal("emails", Some("EMAIL3"), json!({"field": "EMAIL3", "email": "other@x.io"})),
    ];
    let expected = contact(&json!({"website": "w", "custom_fields": {"5": "a", "6": "c"}, "tags": ["1"],
        "emails": [{"field": "EMAIL2", "email": "a@x.io"}, {"field": "EMAIL3", "email": "c@x.io"}]}));
    assert_eq!(put_back(&was, &row, &refused), expected);
}

#[test]
fn a_number_keeps_its_digits_or_is_refused_by_name() {
    let read = |text: &str| keapsync_domain::json_number::read(text).unwrap();
    let was = json!({"16": 5});
    let edited = read(r#"{"16": 89014103211118510720, "17": 12.50, "18": [0.1234567890123456789]}"#);
    assert_eq!(
        settled("custom_fields", was, edited),
        (json!({"16": 5, "17": 12.5}), vec!["custom_fields.16".to_owned(), "custom_fields.18".to_owned()])
    );
    let edited = read(r#"[{"field": "PHONE2", "number": 89014103211118510720}]"#);
    let expected = json!([{"field": "PHONE2", "number": "89014103211118510720"}]);
    assert_eq!(settled("phones", json!([]), edited), (expected, vec![]));
}

#[test]
fn in_place_of_what_was_refused_goes_what_keap_holds() {
    let after = |field: &str, [was, held, edited]: [&Value; 3]| {
        let [was, held, edited] = [was, held, edited].map(|value| contact(&json!({field: value})));
        let settled = settle(&was, &edited, &held).unwrap();
        let paths: Vec<String> = settled.refused.iter().map(Refusal::path).collect();
        (settled.row.get_by_name(field).clone(), paths)
    };
    let was = json!([{"field": "OTHER", "country": "United States"}]);
    let edited = json!([{"field": "OTHER", "country": "Nowhere", "zip_four": "1234"}]);
    let germany = json!([{"field": "OTHER", "country": "Germany", "country_code": "DEU"}]);
    let country = vec!["addresses.OTHER.country".to_owned()];
    for (held, edited, expected) in [
        // Keap has lost the slot: nobody wrote the country that it had.
        (json!([]), &edited, json!([{"field": "OTHER", "zip_four": "1234"}])),
        (
            germany.clone(),
            &edited,
            json!([{"field": "OTHER", "country": "Germany", "country_code": "DEU", "zip_four": "1234"}]),
        ),
        // Where nothing else was edited, the slot is Keap's to say.
        (json!([]), &json!([{"field": "OTHER", "country": "Nowhere"}]), was.clone()),
        (germany, &json!([{"field": "OTHER", "country": "Nowhere"}]), was.clone()),
    ] {
        assert_eq!(after("addresses", [&was, &held, edited]), (expected, country.clone()), "{held} {edited}");
    }
    let edited = json!([{"field": "OTHER", "country": "Germany", "country_code": "Atlantis"}]);
    let expected = json!([{"field": "OTHER", "country": "Germany", "country_code": "DEU"}]);
    let code = vec!["addresses.OTHER.country_code".to_owned()];
    assert_eq!(after("addresses", [&was, &was, &edited]), (expected, code.clone()));
    let two = json!([{"field": "OTHER", "country": "Germany", "country_code": "USA"}]);
    let edited =
        json!([{"field": "OTHER", "country": "United States", "country_code": "x1", "zip_four": "1"}]);
    let expected =
        json!([{"field": "OTHER", "country": "United States", "country_code": "USA", "zip_four": "1"}]);
    assert_eq!(after("addresses", [&two, &json!([]), &edited]), (expected, code));

    let was = json!([{"field": "PHONE2", "number": "1", "extension": "5", "type": "Work"}]);
    let edited = json!([{"field": "PHONE2", "number": "1", "extension": ["x"], "type": "Home"}]);
    for (held, expected) in [
        (
            json!([{"field": "PHONE2", "number": "1", "extension": "6"}]),
            json!([{"field": "PHONE2", "number": "1", "extension": "6", "type": "Home"}]),
        ),
        // The extension of another number is none of this one.
        (
            json!([{"field": "PHONE2", "number": "2", "extension": "6"}]),
            json!([{"field": "PHONE2", "number": "1", "type": "Home"}]),
        ),
    ] {
        let paths = vec!["phones.PHONE2.extension".to_owned()];
        assert_eq!(after("phones", [&was, &held, &edited]), (expected, paths), "{held}");
    }
    // Consent goes to no address that it was not written for.
    let [was, held] = ["a@x.io", "b@x.io"].map(|address| json!([{"field": "EMAIL2", "email": address}]));
    let edited = json!([{"field": "EMAIL2", "email": ["c@x.io"], "opt_in_reason": "asked"}]);
    let paths = vec!["emails.EMAIL2.email".to_owned(), "emails.EMAIL2".to_owned()];
    assert_eq!(after("emails", [&was, &held, &edited]), (was.clone(), paths));
}

#[test]
fn what_keap_makes_of_a_write_is_said_and_is_nobodys_edit() {
    let made = |field: &str, states: [Value; 4]| {
        let [base, sent, row, after] = states.map(|value| contact(&json!({field: value})));
        let wrote = Wrote { before: base.clone(), sent };
        made_of(&wrote, &base, &row, &after).map(|settled| {
            let paths: Vec<String> = settled.refused.iter().map(Refusal::path).collect();
            (settled.row.get_by_name(field).clone(), paths)
        })
    };
    let [before, sent, after] = [("US-NV", "Nevada"), ("US-AZ", "Nowhere"), ("US-AZ", "Arizona")]
        .map(|(code, name)| json!([{"field": "BILLING", "line1": "1", "region_code": code, "region": name}]));
    let paths = vec!["addresses.BILLING.region".to_owned()];
    assert_eq!(
        made("addresses", [before.clone(), sent.clone(), sent.clone(), after.clone()]),
        Some((after.clone(), paths))
    );
    // What was edited again meanwhile is merged.
    let later = json!([{"field": "BILLING", "line1": "2", "region_code": "US-AZ", "region": "Nowhere"}]);
    assert_eq!(made("addresses", [before.clone(), sent.clone(), later, after]), None);
    // A write that changed nothing is not heeded; one that was taken needs no word.
    assert_eq!(made("addresses", [before.clone(), sent.clone(), sent.clone(), before.clone()]), None);
    assert_eq!(made("addresses", [before, sent.clone(), sent.clone(), sent]), None);
    let day = |day: &str| json!(day);
    assert_eq!(
        made("birth_date", [day("2000-01-01"), day("2001-01-01"), day("2001-01-01"), day("2002-02-02")]),
        Some((day("2002-02-02"), vec!["birth_date".to_owned()]))
    );
    let entry = |content: &str| json!({"16": content, "17": "x"});
    assert_eq!(
        made("custom_fields", [entry("a"), entry("b"), entry("b"), entry("B")]),
        Some((entry("B"), vec!["custom_fields.16".to_owned()]))
    );
}

#[test]
fn a_lines_discount_that_keap_works_out_anew_is_no_conflict() {
    let order = |lines: Value| {
        let object = json!({"line_items": lines});
        Record::from_object(keapsync_domain::ids::EntityType::Order, object.as_object().cloned().unwrap())
    };
    let line = |quantity: i64, discount: &str| {
        order(json!([{"id": "1", "quantity": quantity, "discount": discount}]))
    };
    let (base, sent, after) = (line(1, "5.00"), line(3, "5.00"), line(3, "15.00"));
    let wrote = Wrote { before: base.clone(), sent: sent.clone() };
    let settled = made_of(&wrote, &base, &sent, &after).unwrap();
    assert_eq!(settled, Settled { row: after, refused: Vec::new() });
}
