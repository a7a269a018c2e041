//! Create, show, update, delete; what is refused and what Keap adds on its own.

use reqwest::Method;
use serde_json::{Value, json};

use crate::contract::{ALL_FIELDS, check};
use crate::stage::{Answer, Stage, person};

fn whole_person() -> Value {
    json!({
        "given_name": "Zoë", "middle_name": "M", "family_name": "O'Neil", "preferred_name": "Zo", "prefix": "Dr.",
        "suffix": "Jr", "spouse_name": "Ann", "job_title": "Owner", "website": "https://x.example",
        "contact_type": "Customer", "owner_id": "1", "leadsource_id": "3", "preferred_locale": "en_US",
        "time_zone": "America/Phoenix", "referral_code": "R1", "anniversary_date": "2015-06-20",
        "birth_date": "1985-03-15", "assistant_name": "Pat", "assistant_phone": "555", "billing_information": "net 30",
        "company": { "company_name": "Desert Bloom Realty" },
        "origin": { "ip_address": "203.0.113.9" },
        "email_addresses": [{ "email": "Zoe@x.example", "field": "EMAIL1", "opt_in_reason": "asked" }],
        "phone_numbers": [{ "number": "(480) 555-0134", "field": "PHONE1", "type": "Work", "extension": "12" }],
        "fax_numbers": [{ "number": "480 555 0135", "field": "FAX1", "type": "Work" }],
        "addresses": [{
            "field": "BILLING", "line1": "1 Main St", "line2": "Apt 2", "locality": "Mesa", "region_code": "US-AZ",
            "country_code": "USA", "postal_code": "85201", "zip_code": "85201", "zip_four": "1234"
        }],
        "custom_fields": [{ "id": "2", "content": "Pool care" }, { "id": "4", "content": 7 }],
        "social_accounts": [{ "name": "@zoe", "type": "INSTAGRAM" }],
        "utm_parameters": { "keap_source_id": "6088", "utm_source": "google" },
    })
}

#[tokio::test]
async fn a_contact_with_everything_is_kept_and_completed() {
    let stage = Stage::empty().await;
    let id = stage.create(&whole_person()).await;
    let contact = stage.contact(&id).await;
    for name in ["given_name", "website", "birth_date", "assistant_phone", "social_accounts", "custom_fields"]
    {
        assert_eq!(contact[name], whole_person()[name], "{name}");
    }
    assert_eq!(contact["source_type"], "API");
    assert_eq!(contact["tag_ids"], json!([]));
    assert_eq!(contact["email_addresses"][0]["email_opt_status"], "SINGLE_OPT_IN");
    assert_eq!(contact["email_addresses"][0]["is_opt_in"], true);
    assert_eq!(contact["phone_numbers"][0]["number_e164"], "+14805550134");
    assert_eq!(contact["addresses"][0]["region"], "Arizona");
    assert_eq!(contact["addresses"][0]["country"], "United States");
    assert_eq!(contact["company"]["company_name"], "Desert Bloom Realty");
    assert!(contact["company"]["id"].is_string());
    assert_eq!(contact["utm_parameters"][0]["utmSource"], "google");
    assert_eq!(contact["create_time"], contact["update_time"]);
}

#[tokio::test]
async fn without_fields_only_the_default_properties_are_sent() {
    let stage = Stage::empty().await;
    let id = stage.create(&whole_person()).await;
    let names =
        |answer: &Answer| -> Vec<String> { answer.json().as_object().unwrap().keys().cloned().collect() };
    let default = stage.get(&format!("/v2/contacts/{id}")).await;
    let mut expected = [
        "addresses",
        "company",
        "email_addresses",
        "family_name",
        "given_name",
        "id",
        "middle_name",
        "phone_numbers",
    ];
    expected.sort_unstable();
    let mut sent = names(&default);
    sent.sort_unstable();
    assert_eq!(sent, expected);
    let asked = stage.get(&format!("/v2/contacts/{id}?fields=update_time,website")).await;
    let mut sent = names(&asked);
    sent.sort_unstable();
    assert_eq!(sent, ["update_time", "website"]);
    assert_eq!(stage.get(&format!("/v2/contacts/{id}?fields=shoe_size")).await.status, 400);
    let optional =
        stage.get("/v2/contacts/model").await.json()["optional_properties"].as_array().unwrap().clone();
    assert!(optional.contains(&json!("update_time")) && !optional.contains(&json!("given_name")));
}

#[tokio::test]
async fn what_keap_refuses_is_refused_and_nothing_is_kept() {
    let stage = Stage::empty().await;
    let with = |name: &str, value: Value| {
        let mut body = person("Ann");
        body[name] = value;
        body
    };
    let slots = |field: &str| json!([{ "email": "a@x.example", "field": field }, { "email": "b@x.example", "field": field }]);
    let refused = [
        json!({ "given_name": "Unreachable" }),
        json!({ "email_addresses": [] }),
        with("given_name", json!("x".repeat(41))),
        with("website", json!("x".repeat(101))),
        with("given_name", json!(["Ann"])),
        with("source_type", json!("GUESS")),
        with("birth_date", json!("15/03/1985")),
        with("owner_id", json!("me")),
        with("email_addresses", slots("EMAIL1")),
        with("email_addresses", slots("EMAIL4")),
        with("email_addresses", json!([{ "email": "no address", "field": "EMAIL1" }])),
        with(
            "email_addresses",
            json!([{ "email": format!("{}@x.example", "a".repeat(70)), "field": "EMAIL1" }]),
        ),
        with("phone_numbers", json!([{ "number": "1".repeat(21), "field": "PHONE4" }])),
        with("addresses", json!([{ "field": "BILLING", "region_code": "US-AZ" }])),
        with("addresses", json!([{ "field": "BILLING", "country_code": "US" }])),
        with("custom_fields", json!([{ "id": "999", "content": "x" }])),
        with("custom_fields", json!([{ "id": "16", "content": "x".repeat(65_536) }])),
        with("social_accounts", json!([{ "type": "FRIENDSTER" }])),
        with("company", json!({ "id": "999999" })),
        with("tag_ids", json!(["1"])),
        with("shoe_size", json!("43")),
        json!([]),
    ];
    for body in refused {
        let answer = stage.post("/v2/contacts", &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        check("Error", &answer.json());
    }
    assert_eq!(stage.post("/v2/contacts?duplicate_option=Name", &person("Ann")).await.status, 400);
    let cut = stage.call(Method::POST, "/v2/contacts").body("{\"given_name\":");
    assert_eq!(Answer::read(cut).await.status, 400);
    assert_eq!(stage.report().await["contacts"], 0);
    assert_eq!(stage.report().await["calls"]["writes"], 0);
}

#[tokio::test]
async fn what_is_not_there_is_a_404_with_keaps_error_body() {
    let stage = Stage::empty().await;
    let path = "/v2/contacts/4711";
    for answer in [
        stage.get(path).await,
        stage.patch(path, &json!({ "given_name": "A" })).await,
        stage.delete(path).await,
        stage.get("/v2/tags/4711").await,
        stage.get("/v2/tags/4711/contacts").await,
        stage.get("/v2/contacts/4711/tags").await,
        stage.get("/v2/nothing").await,
    ] {
        assert_eq!(answer.status, 404, "{}", answer.text);
        check("Error", &answer.json());
    }
    let wrong_method = Answer::read(stage.call(Method::PUT, "/v2/contacts")).await;
    assert_eq!(wrong_method.status, 405);
    check("Error", &wrong_method.json());
}

#[tokio::test]
async fn a_mask_limits_an_update_and_empties_what_the_body_leaves_out() {
    let stage = Stage::empty().await;
    let id = stage.create(&whole_person()).await;
    let before = stage.contact(&id).await;
    let path = format!("/v2/contacts/{id}?update_mask=given_name&update_mask=website&fields={ALL_FIELDS}");
    let answer = stage.patch(&path, &json!({ "given_name": "Anna", "family_name": "Ignored" })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    check("Contact", &answer.json());
    let after = stage.contact(&id).await;
    assert_eq!(answer.json(), after);
    assert_eq!(after["given_name"], "Anna");
    assert_eq!(after.get("website"), None);
    assert_eq!(after["family_name"], before["family_name"]);
    assert!(after["update_time"].as_str() > before["update_time"].as_str());
    assert_eq!(after["create_time"], before["create_time"]);
    let joined = stage.patch(&format!("/v2/contacts/{id}?update_mask=given_name,website"), &json!({})).await;
    assert_eq!(joined.status, 400, "{}", joined.text);
}

#[tokio::test]
async fn without_a_mask_only_what_is_given_changes_and_an_empty_text_clears() {
    let stage = Stage::empty().await;
    let id = stage.create(&whole_person()).await;
    let answer =
        stage.patch(&format!("/v2/contacts/{id}"), &json!({ "job_title": "", "suffix": "III" })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let after = stage.contact(&id).await;
    assert_eq!(after.get("job_title"), None);
    assert_eq!(after["suffix"], "III");
    assert_eq!(after["given_name"], "Zoë");
}

#[tokio::test]
async fn lists_are_replaced_whole() {
    let stage = Stage::empty().await;
    let id = stage.create(&whole_person()).await;
    let path = |name: &str| format!("/v2/contacts/{id}?update_mask={name}");
    let custom_fields = json!([{ "id": "4", "content": 8 }]);
    let answer = stage.patch(&path("custom_fields"), &json!({ "custom_fields": custom_fields })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(stage.contact(&id).await["custom_fields"], custom_fields);
    assert_eq!(stage.patch(&path("phone_numbers"), &json!({ "phone_numbers": [] })).await.status, 200);
    assert_eq!(stage.patch(&path("addresses"), &json!({ "addresses": [] })).await.status, 200);
    let last = stage.patch(&path("email_addresses"), &json!({ "email_addresses": [] })).await;
    assert_eq!(last.status, 400, "the last way to reach a contact was taken: {}", last.text);
    assert_eq!(stage.contact(&id).await["phone_numbers"], json!([]));
}

#[tokio::test]
async fn every_accepted_change_moves_the_update_time() {
    let stage = Stage::empty().await;
    let id = stage.create(&person("Ann")).await;
    let mut times = vec![stage.contact(&id).await["update_time"].as_str().unwrap().to_owned()];
    for _ in 0..5 {
        let answer = stage
            .patch(&format!("/v2/contacts/{id}?fields=update_time"), &json!({ "given_name": "Ann" }))
            .await;
        times.push(answer.json()["update_time"].as_str().unwrap().to_owned());
    }
    let mut sorted = times.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, times);
}

#[tokio::test]
async fn a_duplicate_is_updated_only_when_asked_for() {
    let stage = Stage::empty().await;
    let mut body = person("Ann");
    body["family_name"] = json!("Lee");
    let first = stage.create(&body).await;
    let second = stage.create(&body).await;
    assert_ne!(first, second);
    let same = |option: &str, body: Value| {
        let stage = &stage;
        let path = format!("/v2/contacts?duplicate_option={option}");
        async move {
            let answer = stage.post(&path, &body).await;
            (answer.status, answer.json()["id"].as_str().unwrap().to_owned())
        }
    };
    assert_eq!(same("Email", body.clone()).await, (200, first.clone()));
    assert_eq!(same("EmailAndName", body.clone()).await, (200, first.clone()));
    assert_eq!(same("EmailAndNameAndCompany", body.clone()).await, (200, first.clone()));
    body["given_name"] = json!("Bob");
    assert_eq!(same("EmailAndName", body.clone()).await.0, 201);
    body["company"] = json!({ "company_name": "Agave Design Co." });
    assert_eq!(same("EmailAndNameAndCompany", body.clone()).await.0, 201);
    assert_eq!(same("Email", body).await, (200, first.clone()));
    assert_eq!(stage.contact(&first).await["given_name"], "Bob");
}

#[tokio::test]
async fn a_deleted_contact_is_gone() {
    let stage = Stage::empty().await;
    let id = stage.create(&person("Ann")).await;
    let answer = stage.delete(&format!("/v2/contacts/{id}")).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    assert_eq!(stage.get(&format!("/v2/contacts/{id}")).await.status, 404);
    assert_eq!(stage.delete(&format!("/v2/contacts/{id}")).await.status, 404);
    let next = stage.create(&person("Bob")).await;
    assert!(next.parse::<u64>().unwrap() > id.parse::<u64>().unwrap());
}

#[tokio::test]
async fn a_custom_field_is_defined_used_and_filtered_by() {
    let stage = Stage::empty().await;
    let request = json!({ "label": "Row id", "field_type": "TEXT" });
    let answer = stage.post("/v2/contacts/model/customFields", &request).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    check("CustomFieldMetaData", &answer.json());
    let field = answer.json();
    let model = stage.get("/v2/contacts/model").await.json();
    assert!(model["custom_fields"].as_array().unwrap().contains(&field));
    let mut body = person("Ann");
    body["custom_fields"] = json!([{ "id": field["id"], "content": "row-1" }]);
    let id = stage.create(&body).await;
    stage.create(&person("Bob")).await;
    let name = field["field_name"].as_str().unwrap();
    assert_eq!(stage.found(&format!("{name}==row-1")).await, std::slice::from_ref(&id));
    assert_eq!(stage.found(&format!("{}==row-*", name.to_uppercase())).await, [id]);
    let bad =
        stage.post("/v2/contacts/model/customFields", &json!({ "label": "A", "field_type": "Text" })).await;
    assert_eq!(bad.status, 400);
}
