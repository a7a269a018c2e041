//! Tags, categories and applications.

use serde_json::{Value, json};

use crate::contract::check;
use crate::stage::{Stage, person};

async fn make_tag(stage: &Stage, name: &str) -> String {
    let answer = stage.post("/v2/tags", &json!({ "name": name })).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    check("Tag", &answer.json());
    answer.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn tags_and_categories_live_and_die() {
    let stage = Stage::empty().await;
    let category =
        stage.post("/v2/tags/categories", &json!({ "name": "Colours", "description": "of cars" })).await;
    assert_eq!(category.status, 201, "{}", category.text);
    check("TagCategory", &category.json());
    let category_id = category.json()["id"].as_str().unwrap().to_owned();
    let tag_id = make_tag(&stage, "Red").await;
    let body = json!({ "name": "Crimson", "category": { "id": category_id }, "description": "deep" });
    let path = format!("/v2/tags/{tag_id}?update_mask=category&update_mask=description");
    let changed = stage.patch(&path, &body).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    check("UpdateTagResponse", &changed.json());
    assert_eq!(changed.json()["name"], "Red");
    assert_eq!(changed.json()["category"]["id"], json!(category_id));
    assert!(changed.json()["update_time"].as_str() > changed.json()["create_time"].as_str());
    let renamed =
        stage.patch(&format!("/v2/tags/categories/{category_id}"), &json!({ "name": "Paints" })).await;
    check("UpdateTagCategoryResponse", &renamed.json());
    assert_eq!(renamed.json()["description"], "of cars");
    for (path, body) in
        [("/v2/tags", json!({ "name": "red" })), ("/v2/tags/categories", json!({ "name": "paints" }))]
    {
        assert_eq!(stage.post(path, &body).await.status, 409, "{path} took {body}");
    }
    for body in [
        json!({}),
        json!({ "name": " " }),
        json!({ "name": "A", "category": { "id": "999" } }),
        json!({ "nme": "A" }),
    ] {
        assert_eq!(stage.post("/v2/tags", &body).await.status, 400, "{body}");
    }
    assert_eq!(stage.patch(&format!("/v2/tags/{tag_id}?update_mask=id"), &json!({})).await.status, 400);
    assert_eq!(stage.delete(&format!("/v2/tags/categories/{category_id}")).await.status, 204);
    assert_eq!(stage.get(&format!("/v2/tags/{tag_id}")).await.json().get("category"), None);
    assert_eq!(stage.delete(&format!("/v2/tags/{tag_id}")).await.status, 204);
    assert_eq!(stage.get(&format!("/v2/tags/{tag_id}")).await.status, 404);
}

#[tokio::test]
async fn tags_are_filtered_and_paged() {
    let stage = Stage::empty().await;
    let red = make_tag(&stage, "Aardvark red").await;
    let created =
        stage.get(&format!("/v2/tags/{red}")).await.json()["create_time"].as_str().unwrap().to_owned();
    let names = |answer: Value| -> Vec<String> {
        answer["tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| tag["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let find = |filter: String| {
        let stage = &stage;
        async move { names(stage.get(&format!("/v2/tags?page_size=1000&filter={filter}")).await.json()) }
    };
    assert_eq!(find("name%3D%3DAardvark red".to_owned()).await, ["Aardvark red"]);
    assert_eq!(find(format!("tag_ids%3D%3D{red}")).await, ["Aardvark red"]);
    assert_eq!(find(format!("since_create_time%3D%3D{created}")).await, ["Aardvark red"]);
    assert_eq!(
        find(format!("category_id%3D%3DNONE%3Bsince_update_time%3D%3D{created}")).await,
        ["Aardvark red"]
    );
    assert!(!find("description%3D%3DNONE".to_owned()).await.is_empty());
    assert_eq!(stage.get("/v2/tags?filter=colour%3D%3Dred").await.status, 400);
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = stage.get(&format!("/v2/tags?page_size=7&order_by=name&page_token={token}")).await.json();
        seen.extend(names(page.clone()));
        match page.get("next_page_token") {
            Some(next) => next.as_str().unwrap().clone_into(&mut token),
            None => break,
        }
    }
    assert_eq!(json!(seen.len()), stage.report().await["tags"]);
    assert!(seen.iter().map(|name| name.to_lowercase()).is_sorted());
}

#[tokio::test]
async fn applications_are_seen_from_every_list() {
    let stage = Stage::empty().await;
    let (ann, bob) = (stage.create(&person("Ann")).await, stage.create(&person("Bob")).await);
    let tag = make_tag(&stage, "Golden").await;
    let before = stage.contact(&ann).await;
    let applied = stage
        .post(&format!("/v2/tags/{tag}/contacts:applyTags"), &json!({ "contact_ids": [ann, "999"] }))
        .await;
    assert_eq!(applied.status, 200, "{}", applied.text);
    check("ApplyTagsResponse", &applied.json());
    assert_eq!(applied.json()["results"], json!({ ann.as_str(): "SUCCESS", "999": "FAILURE" }));
    let again = stage
        .post(&format!("/v2/tags/{tag}/contacts:applyTags"), &json!({ "contact_ids": [ann, bob] }))
        .await;
    assert_eq!(again.json()["results"], json!({ ann.as_str(): "DUPLICATE", bob.as_str(): "SUCCESS" }));

    let after = stage.contact(&ann).await;
    assert_eq!(after["tag_ids"], json!([tag]));
    assert_eq!(after["groups"], json!(tag));
    assert_eq!(after["update_time"], before["update_time"]);
    let of_contact = stage.get(&format!("/v2/contacts/{ann}/tags")).await.json();
    check("ListContactTagsResponse", &of_contact);
    assert_eq!(of_contact["tags"][0]["tag"]["name"], "Golden");
    let of_tag = stage.get(&format!("/v2/tags/{tag}/contacts?order_by=given_name%20desc")).await.json();
    check("ListTaggedContactsResponse", &of_tag);
    assert_eq!(of_tag["contacts"][0]["given_name"], "Bob");
    let filtered =
        stage.get(&format!("/v2/tags/{tag}/contacts?filter=email%3D%3Dann@x.example")).await.json();
    assert_eq!(filtered["contacts"].as_array().unwrap().len(), 1);
    let since = of_tag["contacts"][0]["applied_time"].as_str().unwrap();
    let late =
        stage.get(&format!("/v2/tags/{tag}/contacts?filter=since_applied_time%3D%3D{since}")).await.json();
    assert!(late["contacts"].as_array().unwrap().iter().any(|contact| contact["id"] == json!(bob)));
    let count = stage.get(&format!("/v2/tags/{tag}/contacts/count")).await.json();
    assert_eq!(count, json!({ "count": 2 }));
    let across = stage.get(&format!("/v2/contacts/-/tags?filter=contact_ids%3D%3D{ann},{bob}")).await.json();
    assert_eq!(across["tags"].as_array().unwrap().len(), 2);
    assert_eq!(across["tags"][0]["tag_id"], json!(tag));
    let across = stage.get(&format!("/v2/tags/-/contacts?filter=tag_ids%3D%3D{tag}")).await.json();
    assert_eq!(across["contacts"][0]["contact_id"], json!(ann));
    assert_eq!(stage.get("/v2/tags/-/contacts").await.status, 400);

    let removed =
        stage.post(&format!("/v2/tags/{tag}/contacts:removeTags"), &json!({ "contact_ids": [ann] })).await;
    assert_eq!((removed.status, removed.text.as_str()), (204, ""));
    assert_eq!(stage.contact(&ann).await["tag_ids"], json!([]));
    assert_eq!(stage.get(&format!("/v2/tags/{tag}/contacts/count")).await.json(), json!({ "count": 1 }));
}

#[tokio::test]
async fn applying_has_bounds() {
    let stage = Stage::empty().await;
    let tag = make_tag(&stage, "Golden").await;
    let path = format!("/v2/tags/{tag}/contacts:applyTags");
    let many: Vec<String> = (0..101).map(|id: u32| id.to_string()).collect();
    for body in [
        json!({ "contact_ids": [] }),
        json!({ "contact_ids": many }),
        json!({ "contact_ids": ["a"] }),
        json!({}),
    ] {
        assert_eq!(stage.post(&path, &body).await.status, 400, "{body}");
    }
    assert_eq!(
        stage.post("/v2/tags/9999/contacts:applyTags", &json!({ "contact_ids": ["1"] })).await.status,
        404
    );
}
