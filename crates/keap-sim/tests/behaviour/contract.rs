//! The schemas that answers must satisfy.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::stage::Stage;

const FIXTURE: &str = include_str!("../../fixtures/keap-schemas.json");

/// Schemas of the fixture that Keap's v2 contract does not have, because hooks are v1.
const ONLY_IN_FIXTURE: &[&str] = &["RestHook"];

struct Contract {
    fixture: HashMap<String, Validator>,
    official: Option<HashMap<String, Validator>>,
}

/// Fails unless the value satisfies the schema of that name in every contract at hand.
pub(crate) fn check(schema: &str, value: &Value) {
    let contract = contract();
    let fixture = contract.fixture.get(schema).unwrap_or_else(|| panic!("no fixture has {schema}"));
    assert_valid("the fixture", schema, fixture, value);
    if let Some(official) = contract.official.as_ref().filter(|_| !ONLY_IN_FIXTURE.contains(&schema)) {
        let official = official.get(schema).unwrap_or_else(|| panic!("KEAP_OPENAPI has no {schema}"));
        assert_valid("KEAP_OPENAPI", schema, official, value);
    }
}

fn assert_valid(source: &str, schema: &str, validator: &Validator, value: &Value) {
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "not a {schema} of {source}: {errors:#?}\n{value}");
}

fn contract() -> &'static Contract {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    CONTRACT.get_or_init(|| {
        let fixture: Value = serde_json::from_str(FIXTURE).unwrap();
        let names: Vec<String> =
            fixture["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
        let official = std::env::var_os("KEAP_OPENAPI").filter(|path| !path.is_empty()).map(|path| {
            let path = resolve(Path::new(&path));
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
                panic!(
                    "KEAP_OPENAPI names {}, which cannot be read ({error}); correct or unset it",
                    path.display()
                )
            });
            say(&format!("answers are validated against fixtures/keap-schemas.json and {}", path.display()));
            let document: Value = serde_json::from_str(&text).unwrap();
            let names = names.iter().filter(|name| !ONLY_IN_FIXTURE.contains(&name.as_str()));
            compile(&document, names)
        });
        if official.is_none() {
            say("answers are validated against fixtures/keap-schemas.json only; KEAP_OPENAPI is not set");
        }
        Contract { fixture: compile(&fixture, names.iter()), official }
    })
}

/// Writes past the test harness, which shows nothing of what a passing test prints.
fn say(line: &str) {
    writeln!(std::io::stderr(), "keap-sim: {line}").unwrap();
}

/// A relative path is meant from the root of the repository, where the tests are started.
fn resolve(path: &Path) -> PathBuf {
    if path.is_absolute() || path.exists() {
        return path.to_owned();
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn compile<'names>(
    document: &Value,
    names: impl Iterator<Item = &'names String>,
) -> HashMap<String, Validator> {
    names
        .map(|name| {
            let schema = json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "$ref": format!("#/components/schemas/{name}"),
                "components": document["components"],
            });
            let validator = jsonschema::options().should_validate_formats(true).build(&schema);
            (name.clone(), validator.unwrap_or_else(|error| panic!("{name}: {error}")))
        })
        .collect()
}

#[test]
fn the_schemas_can_refuse() {
    let refused = [
        ("Contact", json!({ "id": 7 })),
        ("Contact", json!({ "given_name": null })),
        ("Contact", json!({ "phone_numbers": [{ "field": "PHONE9" }] })),
        ("ListContactsResponse", json!({ "contacts": [{ "source_type": "GUESS" }] })),
        ("Tag", json!({ "id": "1", "create_time": "yesterday" })),
    ];
    for (schema, value) in refused {
        assert!(!contract().fixture[schema].is_valid(&value), "the fixture takes {value}");
        if let Some(official) = &contract().official {
            assert!(!official[schema].is_valid(&value), "KEAP_OPENAPI takes {value}");
        }
    }
}

#[tokio::test]
async fn every_generated_record_is_valid() {
    let stage = Stage::with_contacts(3000).await;
    let mut token = String::new();
    let mut seen = 0;
    loop {
        let page =
            stage.get(&format!("/v2/contacts?page_size=1000&fields={ALL_FIELDS}&page_token={token}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        check("ListContactsResponse", &page.json());
        seen += page.json()["contacts"].as_array().unwrap().len();
        match page.json()["next_page_token"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    assert_eq!(seen, 3000);
    check("ListTagsResponse", &stage.get("/v2/tags?page_size=1000").await.json());
    check("ListTagCategoriesResponse", &stage.get("/v2/tags/categories").await.json());
    check("ObjectModel", &stage.get("/v2/contacts/model").await.json());
    check("GetUserInfoResponse", &stage.get("/v2/oauth/connect/userinfo").await.json());
    let tag_id = stage.get("/v2/tags?page_size=1").await.json()["tags"][0]["id"].as_str().unwrap().to_owned();
    check(
        "ListTaggedContactsResponse",
        &stage.get(&format!("/v2/tags/{tag_id}/contacts?page_size=1000")).await.json(),
    );
    for id in 1..50 {
        check("ListContactTagsResponse", &stage.get(&format!("/v2/contacts/{id}/tags")).await.json());
    }
}

/// Every property that the contract lets a client ask for.
pub(crate) const ALL_FIELDS: &str = "addresses,anniversary_date,birth_date,company,contact_type,create_time,\
    custom_fields,email_addresses,family_name,fax_numbers,given_name,id,job_title,leadsource_id,links,middle_name,notes,\
    origin,owner_id,phone_numbers,preferred_locale,preferred_name,prefix,referral_code,score_value,social_accounts,\
    source_type,spouse_name,suffix,tag_ids,time_zone,update_time,utm_parameters,website,account_id,assistant_name,\
    assistant_phone,billing_information,created_by,groups,last_updated_by";
