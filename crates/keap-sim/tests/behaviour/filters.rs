//! The filters of the contact list.

use reqwest::Method;
use serde_json::json;

use crate::stage::{Stage, person};

/// Three contacts with what the filters look at.
async fn stage() -> (Stage, [String; 3]) {
    let stage = Stage::empty().await;
    let ann = stage
        .create(&json!({
            "given_name": "Mary", "family_name": "Smith", "middle_name": "Jo", "website": "https://example.com/a",
            "leadsource_id": "3", "company": { "company_name": "Desert Bloom Realty" },
            "email_addresses": [
                { "email": "Mary@x.example", "field": "EMAIL1" }, { "email": "m2@y.example", "field": "EMAIL2" }
            ],
            "phone_numbers": [{ "number": "(480) 555-0134", "field": "PHONE1" }],
            "addresses": [
                { "field": "BILLING", "line1": "1 Main St", "locality": "Chandler", "region_code": "US-AZ",
                  "country_code": "USA", "postal_code": "85224" },
                { "field": "SHIPPING", "locality": "Tempe", "region_code": "US-AZ", "country_code": "USA" }
            ],
            "custom_fields": [
                { "id": "2", "content": "Pool care" }, { "id": "4", "content": 120 }, { "id": "8", "content": "2026-03-01" },
                { "id": "10", "content": true }, { "id": "12", "content": ["Roses", "Koi"] }
            ],
        }))
        .await;
    let second = stage.create(&person("Mark")).await;
    let zed =
        stage.create(&json!({ "family_name": "Zed", "phone_numbers": [{ "number": "555-0100" }] })).await;
    (stage, [ann, second, zed])
}

#[tokio::test]
async fn each_filter_finds_what_it_names() {
    let (stage, [first, second, zed]) = stage().await;
    let company = stage.contact(&first).await["company"]["id"].as_str().unwrap().to_owned();
    let cases: Vec<(String, Vec<&String>)> = [
        ("email==mary@x.example", vec![&first]),
        ("email==M2@Y.example", vec![&first]),
        ("email==ma*", vec![&first, &second]),
        ("given_name==Mary", vec![&first]),
        ("given_name==Mar*", vec![&first, &second]),
        ("family_name==Smi*;given_name==Mary", vec![&first]),
        ("family_name==Smith;given_name==Mark", vec![]),
        ("middle_name==J*", vec![&first]),
        ("website==https://example*", vec![&first]),
        ("lead_source_name==Google*", vec![&first]),
        ("phone_number==4805550134;phone_fields==PHONE1", vec![&first]),
        ("phone_number==(480) 555-0134;phone_fields==PHONE1,PHONE2", vec![&first]),
        ("phone_number==+14805550134;phone_fields==PHONE1", vec![&first]),
        ("phone_number==555*;phone_fields==PHONE1", vec![&zed]),
        ("phone_number==4805550134;phone_fields==PHONE2", vec![]),
        ("billing_address_line1==1 main st", vec![&first]),
        ("billing_address_locality==Chandler", vec![&first]),
        ("billing_address_region==Arizona", vec![&first]),
        ("billing_address_postal_code==85224", vec![&first]),
        ("shipping_address_country_code==USA;shipping_address_locality==Tempe", vec![&first]),
        ("other_address_locality==Tempe", vec![]),
        ("city==Chan*;state==Ar*", vec![&first]),
        ("Favoriteservice0==Pool*", vec![&first]),
        ("lifetimevisits0>100", vec![&first]),
        ("Lifetimevisits0>=121", vec![]),
        ("Nextreview0<2026-03-02T00:00:00.000Z", vec![&first]),
        ("Newsletter0==true", vec![&first]),
        ("Interests0==Koi", vec![&first]),
        ("Interests0==Lighting", vec![]),
    ]
    .into_iter()
    .map(|(filter, ids)| (filter.to_owned(), ids))
    .chain([
        (format!("company_id=={company}"), vec![&first]),
        (format!("ids=={first},{zed},999"), vec![&first, &zed]),
        (format!("contact_ids=={second}"), vec![&second]),
        (format!("ids=={first},{second};contact_ids=={second}"), vec![&second]),
        (format!("contact_id>{first}"), vec![&second, &zed]),
        (format!("contact_id<={second}"), vec![&first, &second]),
        (format!("contact_id=={zed}"), vec![&zed]),
    ])
    .collect();
    for (filter, expected) in cases {
        assert_eq!(stage.found(&filter).await.iter().collect::<Vec<_>>(), expected, "{filter}");
    }
}

#[tokio::test]
async fn bad_filters_are_refused() {
    let (stage, _) = stage().await;
    for filter in [
        "shoe_size==43",
        "given_name",
        "given_name=Mary",
        "given_name>Mary",
        "given_name==*ary",
        "company_id==abc",
        "ids==1,x",
        "contact_id!=3",
        "phone_number==4805550134",
        "phone_fields==PHONE1",
        "phone_number==48*;phone_fields==PHONE1",
        "phone_number==480;phone_fields==PHONE9",
        "billing_address_locality==Chan*",
        "start_update_time==2026-01-01",
        "start_update_time==2026-01-01T00:00:00Z",
        "start_update_time>2026-01-01T00:00:00.000Z",
        "Lifetimevisits0==many",
        "Nextreview0>2026-03-01",
    ] {
        let answer = stage.find(filter).await;
        assert_eq!(answer.status, 400, "{filter}: {}", answer.text);
        crate::contract::check("Error", &answer.json());
    }
}

#[tokio::test]
async fn update_times_bound_a_poll_at_both_ends() {
    let (stage, [first, second, zed]) = stage().await;
    let mut times = Vec::new();
    for id in [&first, &second, &zed] {
        // Each a change of its own, so that the times differ.
        stage.sim(Method::PATCH, &format!("/contacts/{id}"), &json!({ "prefix": "Dr." })).await;
        times.push(stage.contact(id).await["update_time"].as_str().unwrap().to_owned());
    }
    assert_eq!(stage.found(&format!("start_update_time=={}", times[2])).await.last(), Some(&zed));
    let until = stage.found(&format!("end_update_time=={}", times[0])).await;
    assert!(until.contains(&first), "{until:?}");
    let between = format!("start_update_time=={};end_update_time=={}", times[0], times[2]);
    assert_eq!(stage.found(&between).await, [first, second, zed]);
    let nothing = "start_update_time==2026-01-02T00:00:00.000Z;end_update_time==2026-01-01T00:00:00.000Z";
    assert!(stage.found(nothing).await.is_empty());
}
