//! The list of failed items, and their way back.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, account, with_account};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_engine::ports::{MirrorStore, OutboxStore, RejectedRecord};
use keapsync_store::{Discarded, Store};
use std::collections::BTreeSet;

#[tokio::test]
async fn failed_items_are_listed_and_come_back_by_id_by_cause_and_all() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    let store = Store::new(&engine);
    let insert = "insert into sync_contacts (account_id, first_name) values ('demo', 'A'), ('demo', 'B')";
    person.batch_execute(insert).await.expect("contacts are inserted");
    let claimed = store.claim(&account(), 10, 60_000, "test").await.unwrap();
    let (first, second) = (claimed[0].id.clone(), claimed[1].id.clone());
    let refused = Failure::new(FailureClass::Invalid, "first_name is too long");
    store.fail(&account(), std::slice::from_ref(&first), &refused).await.unwrap();
    let gone = Failure::new(FailureClass::NotFound, "the contact was deleted in Keap");
    store.fail(&account(), std::slice::from_ref(&second), &gone).await.unwrap();
    let broken =
        RejectedRecord { keap_id: Some("7".to_owned()), reason: "given_name is not a text".to_owned() };
    store.record_rejections(&account(), EntityType::Contact, &[broken]).await.unwrap();

    let listed = store.failed_items(&account(), 10).await.unwrap();
    assert_eq!(listed.len(), 3);
    let of_first = listed.iter().find(|item| item.id == first).unwrap();
    assert_eq!((of_first.operation.as_str(), of_first.cause.as_deref()), ("create", Some("invalid")));
    assert_eq!(of_first.message.as_deref(), Some("first_name is too long"));
    assert_eq!(store.failed_items(&account(), 1).await.unwrap().len(), 1, "the limit holds");

    let groups = store.failed_groups(&account()).await.unwrap();
    let told: BTreeSet<(bool, Option<&str>, i64)> =
        groups.iter().map(|group| (group.is_inbound, group.cause.as_deref(), group.count)).collect();
    let expected = [(false, Some("invalid"), 1), (false, Some("not_found"), 1), (true, Some("invalid"), 1)];
    assert_eq!(told, BTreeSet::from(expected));
    let of_keap = groups.iter().find(|group| group.is_inbound).unwrap();
    assert_eq!(of_keap.newest_message.as_deref(), Some("given_name is not a text"));
    let none = store.replay_failed(&account(), None, Some("not_found"), Some(true)).await.unwrap();
    assert!(none.is_empty(), "the cause is one of an edit, and not of what came from Keap");

    let by_cause = store.replay_failed(&account(), None, Some("not_found"), None).await.unwrap();
    assert_eq!(by_cause.iter().map(|item| item.operation.as_str()).collect::<Vec<_>>(), ["create"]);
    let by_id =
        store.replay_failed(&account(), Some(std::slice::from_ref(&first)), None, Some(false)).await.unwrap();
    assert_eq!(by_id.len(), 1);
    let rest = store.replay_failed(&account(), None, None, None).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!((rest[0].operation.as_str(), rest[0].keap_id.as_deref()), ("sync", Some("7")));
    assert!(store.failed_items(&account(), 10).await.unwrap().is_empty());

    let mut again: Vec<String> =
        store.claim(&account(), 10, 60_000, "test").await.unwrap().into_iter().map(|item| item.id).collect();
    again.sort();
    let mut expected = vec![first, second];
    expected.sort();
    assert_eq!(again, expected, "the edits are due again");
}

#[tokio::test]
async fn records_are_discarded_and_edits_stay() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    let store = Store::new(&engine);
    let insert = "insert into sync_contacts (account_id, first_name) values ('demo', 'A')";
    person.batch_execute(insert).await.expect("a contact is inserted");
    let claimed = store.claim(&account(), 10, 60_000, "test").await.unwrap();
    let refused = Failure::new(FailureClass::Invalid, "first_name is too long");
    store.fail(&account(), std::slice::from_ref(&claimed[0].id), &refused).await.unwrap();
    let broken =
        ["7", "8"].map(|id| RejectedRecord { keap_id: Some(id.to_owned()), reason: "odd".to_owned() });
    store.record_rejections(&account(), EntityType::Contact, &broken).await.unwrap();

    let listed = store.failed_items(&account(), 10).await.unwrap();
    let one = listed.iter().find(|item| item.operation == "sync").unwrap().id.clone();
    let by_id = store.discard_failed(&account(), Some(&[one]), None, None).await.unwrap();
    assert_eq!(by_id, Discarded { discarded: 1, edits_kept: 0 });
    let other_cause = store.discard_failed(&account(), None, Some("not_found"), None).await.unwrap();
    assert_eq!(other_cause, Discarded::default());
    let rest = store.discard_failed(&account(), None, None, None).await.unwrap();
    assert_eq!(rest, Discarded { discarded: 1, edits_kept: 1 });
    let left = store.failed_items(&account(), 10).await.unwrap();
    assert_eq!(left.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), [claimed[0].id.as_str()]);
}
