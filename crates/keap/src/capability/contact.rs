//! Contacts.

use super::{
    Capability, Carrier, Changes, CreateKey, DeleteSupport, FieldCapability, FullPages, SubResource,
};
use keapsync_domain::ids::EntityType;

/// Read: `Contact`. Create and update: `CreateUpdateContactRequest`. Filters and orders: `listContacts`.
pub(super) static CONTACT: Capability = Capability {
    entity: EntityType::Contact,
    // listContacts: `contact_id` takes `>`; order_by `id`.
    full: FullPages::ByKey("contact_id"),
    // listContacts: `start_update_time`; order_by `update_time`.
    changes: Changes::Filter("start_update_time"),
    ids_filter: "ids",
    // listContacts: "any custom field by its field_name".
    create_key: CreateKey::RowLink,
    // deleteContact.
    delete: DeleteSupport::Always,
    fields: &[
        // Contact.email_addresses, the item EMAIL1; CreateUpdateContactRequest.email_addresses, whole.
        FieldCapability::renamed("email", "email_addresses").filtered("email"),
        FieldCapability::renamed("first_name", "given_name").filtered("given_name"),
        FieldCapability::renamed("last_name", "family_name").filtered("family_name"),
        FieldCapability::same("middle_name").filtered("middle_name"),
        // Contact.phone_numbers, the item PHONE1; CreateUpdateContactRequest.phone_numbers, whole.
        FieldCapability::renamed("phone", "phone_numbers"),
        // BasicCompany: a link by id, whose name is the company's own.
        FieldCapability::read_only("company", Some("company")),
        FieldCapability::same("job_title"),
        FieldCapability::same("website").filtered("website"),
        FieldCapability::same("birth_date"),
        FieldCapability::same("owner_id"),
        FieldCapability::renamed("lead_source_id", "leadsource_id"),
        // Contact.email_addresses.email_opt_status: in no request.
        FieldCapability::read_only("opt_in_status", Some("email_addresses")),
        FieldCapability::renamed("emails", "email_addresses"),
        FieldCapability::renamed("phones", "phone_numbers"),
        FieldCapability::same("addresses"),
        // Contact.tag_ids is in the mask's enumeration and in no body: ApplyRemoveTagRequest.
        FieldCapability {
            name: "tags",
            read: Some("tag_ids"),
            filter: None,
            create: Carrier::SubResource(SubResource::TagApplications),
            update: Carrier::SubResource(SubResource::TagApplications),
            required: false,
        },
        FieldCapability::same("custom_fields"),
    ],
};
