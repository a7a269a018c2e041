use super::*;
use crate::contacts::convert::wire_property;
use keapsync_domain::schema::{WriteAccess, fields};

#[test]
fn every_field_of_the_schema_has_its_entry_and_they_agree() {
    for entity in EntityType::ALL {
        let capability = capability(entity);
        assert_eq!(capability.entity, entity);
        assert_eq!(capability.fields.len(), fields(entity).len());
        for (entry, field) in capability.fields.iter().zip(fields(entity)) {
            assert_eq!(entry.name, field.name);
            let (creates, updates) = (entry.create != Carrier::Refused, entry.update != Carrier::Refused);
            let expected = match field.access {
                // What only an update takes is carried right after the create.
                WriteAccess::Writable => updates,
                WriteAccess::CreateOnly(_) => creates && !updates,
                WriteAccess::ReadOnly(_) => !creates && !updates,
            };
            assert!(expected, "{} {}: {entry:?} against {:?}", entity.as_str(), field.name, field.access);
            assert!(creates || !entry.required, "{} is required and in no create", entry.name);
        }
    }
}

#[test]
fn contacts_write_the_properties_of_the_table() {
    for field in capability(EntityType::Contact).fields {
        let property = match field.update {
            Carrier::Property(property) => Some(property),
            Carrier::SubResource(_) | Carrier::Refused => None,
        };
        assert_eq!(wire_property(field.name), property, "{}", field.name);
    }
}

#[test]
fn changed_fields_become_calls() {
    let calls = capability(EntityType::Contact).update_calls([
        "tags",
        "emails",
        "email",
        "company",
        "nonsense",
        "addresses",
    ]);
    assert_eq!(
        calls,
        Calls {
            properties: vec!["addresses", "email_addresses"],
            sub_resources: vec![SubResource::TagApplications]
        }
    );
    let calls = capability(EntityType::Order).update_calls(["line_items", "title", "total_amount"]);
    assert_eq!(
        calls,
        Calls { properties: vec!["order_title"], sub_resources: vec![SubResource::OrderItems] }
    );
    assert_eq!(capability(EntityType::Subscription).update_calls(["start_date"]), Calls::default());
}

#[test]
fn the_table_answers_what_the_engine_asks() {
    let asked = EntityType::ALL.map(|entity| {
        let capability = capability(entity);
        (capability.has_update_filter(), capability.pages_newest_first(), capability.supports_delete())
    });
    assert_eq!(asked, [(true, false, true), (true, false, true), (true, false, true), (false, true, false)]);
    let subscription = capability(EntityType::Subscription);
    assert!(
        subscription.is_carried_by_create("start_date") && !subscription.is_carried_by_create("end_date")
    );
}
