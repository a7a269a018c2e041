use super::convert::{create_body, tag_to_wire, write_body};
use super::*;
use crate::recorded::{Recorded, at_once};
use keapsync_domain::failure::FailureClass;
use keapsync_domain::record::Record;
use proptest::prelude::*;
use serde_json::json;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn wire() -> Value {
    json!({"id": "9", "name": "VIP", "description": "High value", "category": {"id": "3"},
        "create_time": "2024-01-10T08:00:00Z", "update_time": "2024-03-15T10:30:00Z", "colour": "red"})
}

fn categories() -> Value {
    json!({"tag_categories": [{"id": "3", "name": "Segments"}, {"id": "4", "name": "Other"}], "next_page_token": ""})
}

#[test]
fn a_tag_becomes_a_record_with_the_name_of_its_category() {
    let transport = Recorded::answering([(200, json!({"tags": [wire(), {"id": "x"}]})), (200, categories())]);
    let names = NameCache::default();
    let api = TagsApi { caller: transport.caller(), names: &names };
    let page = at_once(api.list_all(None, None, NOW)).unwrap();
    assert_eq!((page.length, page.rejected.len(), page.next_page_token), (2, 1, None));
    let tag = &page.records[0];
    assert_eq!(tag.updated_at, Timestamp::parse_rfc3339("2024-03-15T10:30:00Z"));
    assert_eq!(
        Value::Object(tag.record.to_object()),
        json!({"name": "VIP", "category": "Segments", "category_id": "3", "description": "High value"})
    );
    let mut sent = wire();
    for key in ["id", "create_time", "update_time"] {
        sent.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(Value::Object(tag_to_wire(&tag.record, &tag.extra.to_object())), sent);
}

#[test]
fn names_are_asked_for_once_and_a_rename_is_a_change() {
    let renamed = json!({"tag_categories": [{"id": "3", "name": "Clients"}]});
    let of_gone = json!({"id": "10", "name": "Lost", "category": {"id": "99"}});
    let read = |categories: Value| {
        let transport = Recorded::answering([
            (200, wire()),
            (200, categories),
            (200, wire()),
            (200, of_gone.clone()),
            (200, json!({})),
            (200, of_gone.clone()),
            (200, json!({"id": "11", "name": "No category"})),
            (404, json!({})),
        ]);
        let names = NameCache::default();
        let api = TagsApi { caller: transport.caller(), names: &names };
        let first = at_once(api.get("9", NOW)).unwrap().unwrap();
        assert_eq!(at_once(api.get("9", NOW)).unwrap().as_ref(), Some(&first));
        for id in ["10", "10", "11"] {
            let tag = at_once(api.get(id, NOW)).unwrap().unwrap();
            assert!(tag.record.get_by_name("category").is_null());
        }
        assert_eq!(at_once(api.get("12", NOW)), Ok(None));
        assert_eq!(transport.asked().iter().filter(|asked| asked.contains("categories")).count(), 2);
        first
    };
    assert_eq!(read(categories()).content_hash, read(categories()).content_hash);
    assert_ne!(read(categories()).content_hash, read(renamed).content_hash);
}

#[test]
fn requests_are_what_the_contract_says() {
    let empty = || (200, json!({"tags": []}));
    let made = || (201, json!({"id": "9", "name": "VIP"}));
    let transport = Recorded::answering([
        empty(),
        empty(),
        empty(),
        empty(),
        made(),
        made(),
        (204, json!(null)),
        (200, categories()),
        (201, json!({"id": "5", "name": "New"})),
    ]);
    let names = NameCache::default();
    let api = TagsApi { caller: transport.caller(), names: &names };
    let mut record = Record::empty(EntityType::Tag);
    record.set_by_name("name", json!("VIP"));
    record.set_by_name("category_id", json!(3));
    at_once(async {
        api.list_all(None, Some("p2"), NOW).await.unwrap();
        api.list_all(Some(NOW), None, NOW).await.unwrap();
        api.list_ids(&["1".to_owned(), "2".to_owned()], NOW).await.unwrap();
        api.list_named("VIP", NOW).await.unwrap();
        api.create(create_body(&record), NOW).await.unwrap();
        record.set_by_name("category_id", Value::Null);
        let mask = ["name", "description", "category"];
        api.update("9", &mask, write_body(&record, &mask), NOW).await.unwrap();
        api.delete("9").await.unwrap();
        list_categories(&api.caller).await.unwrap();
        assert_eq!(create_category(&api.caller, "New").await.unwrap().id, "5");
    });
    insta::assert_json_snapshot!("tag_requests", transport.asked());
}

#[test]
fn a_name_that_means_something_in_a_filter_is_looked_for_in_all_tags() {
    let tag = |id: &str, name: &str| json!({"id": id, "name": name});
    let pages = || {
        let first = json!({"tags": [tag("1", "a;b"), tag("2", "A;b")], "next_page_token": "p2"});
        [(200, first), (200, json!({"tags": [tag("3", "a")]}))]
    };
    let [first, last] = pages();
    let [again, end] = pages();
    let transport = Recorded::answering([first, last, again, end]);
    let names = NameCache::default();
    let api = TagsApi { caller: transport.caller(), names: &names };
    let found = at_once(api.list_named("a;b ", NOW)).unwrap();
    assert_eq!(found.iter().map(|tag| tag.keap_id.as_str()).collect::<Vec<_>>(), ["1"]);
    assert!(transport.asked().iter().all(|asked| !asked.contains("filter")));
}

#[test]
fn a_tag_that_slid_over_the_border_of_a_page_is_found_by_its_name() {
    let tag = |id: &str, name: &str| json!({"id": id, "name": name});
    let page = |tags: &[Value], token: &str| (200, json!({"tags": tags, "next_page_token": token}));
    let (before, odd, last) = (tag("1", "a"), tag("2", "b;c"), tag("3", "d"));
    // The first tag was deleted between the pages, and the one that is looked for slid over the border.
    let (rest, shifted) = (page(std::slice::from_ref(&last), ""), page(&[odd, last.clone()], ""));
    let transport = Recorded::answering([page(&[before], "1"), rest, shifted]);
    let names = NameCache::default();
    let api = TagsApi { caller: transport.caller(), names: &names };
    let found = at_once(api.list_named("b;c", NOW)).unwrap();
    assert_eq!(found.iter().map(|tag| tag.keap_id.as_str()).collect::<Vec<_>>(), ["2"]);
}

#[test]
fn a_category_that_slid_over_the_border_of_a_page_names_its_tags() {
    let category = |id: &str| json!({"id": id, "name": id});
    let page = |categories: &[Value], token: &str| {
        (200, json!({"tag_categories": categories, "next_page_token": token}))
    };
    // As above, with a page of two and one behind it.
    let all = [category("2"), category("3")];
    let transport = Recorded::answering([page(&[category("1")], "1"), page(&all[1..], ""), page(&all, "")]);
    let listed = at_once(list_categories(&transport.caller())).unwrap();
    assert_eq!(listed.iter().map(|category| category.id.as_str()).collect::<Vec<_>>(), ["2", "3"]);
}

#[test]
fn a_name_in_use_is_the_records_fault_and_reading_again_no_help() {
    let taken = || (409, json!({"message": "name exists"}));
    let transport = Recorded::answering([taken(), taken(), (503, json!({}))]);
    let names = NameCache::default();
    let api = TagsApi { caller: transport.caller(), names: &names };
    for failure in
        [at_once(api.create(Map::new(), NOW)), at_once(api.update("9", &["name"], Map::new(), NOW))]
    {
        let failure = failure.unwrap_err();
        assert_eq!(failure.class, FailureClass::Invalid);
        assert!(failure.message.contains("choose another name") && failure.message.contains("name exists"));
    }
    assert_eq!(at_once(api.create(Map::new(), NOW)).unwrap_err().class, FailureClass::Unavailable);
}

#[test]
fn a_delete_of_what_is_gone_is_done() {
    for (status, class) in [(404, None), (204, None), (409, Some(FailureClass::Conflict))] {
        let transport = Recorded::answering([(status, json!({}))]);
        let names = NameCache::default();
        let api = TagsApi { caller: transport.caller(), names: &names };
        assert_eq!(at_once(api.delete("9")).err().map(|failure| failure.class), class);
    }
}

proptest! {
    #[test]
    fn any_tag_is_rebuilt(name in r"[^\x00]{1,8}", description in r"[^\x00]{1,8}", category in 1_u64.., odd: bool) {
        let sent = json!({"name": name, "description": description, "category": {"id": category.to_string(), "odd": odd}});
        let text = sent.to_string();
        let tag = tag_from_wire("1".to_owned(), serde_json::from_str(&text).unwrap(), NOW).unwrap();
        prop_assert_eq!(Value::Object(tag_to_wire(&tag.record, &tag.extra.to_object())), sent);
    }
}
