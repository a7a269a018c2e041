//! Names of the API's operations, by which calls are counted, logged and given faults.

use axum::http::Method;

/// One operation of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    name: &'static str,
    writes: bool,
}

const fn reads(name: &'static str) -> Operation {
    Operation { name, writes: false }
}

const fn writes(name: &'static str) -> Operation {
    Operation { name, writes: true }
}

/// The route that takes `{subscription_id}:deactivate`; the router cannot match the end of a part of a path.
const DEACTIVATE_ROUTE: &str = "/crm/rest/v2/subscriptions/{subscription_id}";

/// What the path of a deactivation ends in.
pub(crate) const DEACTIVATE_SUFFIX: &str = ":deactivate";

/// Method, route and operation, in the routes' own spelling.
const OPERATIONS: &[(Method, &str, Operation)] = &[
    (Method::GET, "/crm/rest/v2/contacts", Operation::LIST_CONTACTS),
    (Method::POST, "/crm/rest/v2/contacts", writes("create_contact")),
    (Method::GET, "/crm/rest/v2/contacts/model", reads("get_contact_model")),
    (Method::POST, "/crm/rest/v2/contacts/model/customFields", writes("create_custom_field")),
    (Method::GET, "/crm/rest/v2/contacts/-/tags", reads("list_tags_across_contacts")),
    (Method::GET, "/crm/rest/v2/contacts/{contact_id}", reads("get_contact")),
    (Method::PATCH, "/crm/rest/v2/contacts/{contact_id}", writes("patch_contact")),
    (Method::DELETE, "/crm/rest/v2/contacts/{contact_id}", writes("delete_contact")),
    (Method::GET, "/crm/rest/v2/contacts/{contact_id}/tags", reads("list_contact_tags")),
    (Method::GET, "/crm/rest/v2/tags", reads("list_tags")),
    (Method::POST, "/crm/rest/v2/tags", writes("create_tag")),
    (Method::GET, "/crm/rest/v2/tags/categories", reads("list_tag_categories")),
    (Method::POST, "/crm/rest/v2/tags/categories", writes("create_tag_category")),
    (Method::GET, "/crm/rest/v2/tags/categories/{tag_category_id}", reads("get_tag_category")),
    (Method::PATCH, "/crm/rest/v2/tags/categories/{tag_category_id}", writes("patch_tag_category")),
    (Method::DELETE, "/crm/rest/v2/tags/categories/{tag_category_id}", writes("delete_tag_category")),
    (Method::GET, "/crm/rest/v2/tags/-/contacts", reads("list_contacts_across_tags")),
    (Method::GET, "/crm/rest/v2/tags/{tag_id}", reads("get_tag")),
    (Method::PATCH, "/crm/rest/v2/tags/{tag_id}", writes("patch_tag")),
    (Method::DELETE, "/crm/rest/v2/tags/{tag_id}", writes("delete_tag")),
    (Method::GET, "/crm/rest/v2/tags/{tag_id}/contacts", reads("list_tagged_contacts")),
    (Method::GET, "/crm/rest/v2/tags/{tag_id}/contacts/count", reads("count_tagged_contacts")),
    (Method::POST, "/crm/rest/v2/tags/{tag_id}/contacts:applyTags", writes("apply_tags")),
    (Method::POST, "/crm/rest/v2/tags/{tag_id}/contacts:removeTags", writes("remove_tags")),
    (Method::GET, "/crm/rest/v2/orders", reads("list_orders")),
    (Method::POST, "/crm/rest/v2/orders", writes("create_order")),
    (Method::GET, "/crm/rest/v2/orders/model", reads("get_order_model")),
    (Method::POST, "/crm/rest/v2/orders/model/customFields", writes("create_order_custom_field")),
    (Method::GET, "/crm/rest/v2/orders/{order_id}", reads("get_order")),
    (Method::PATCH, "/crm/rest/v2/orders/{order_id}", writes("patch_order")),
    (Method::DELETE, "/crm/rest/v2/orders/{order_id}", writes("delete_order")),
    (Method::GET, "/crm/rest/v2/orders/{order_id}/payments", reads("list_order_payments")),
    (Method::POST, "/crm/rest/v2/orders/{order_id}/items", writes("create_order_item")),
    (Method::GET, "/crm/rest/v2/orders/{order_id}/items/{order_item_id}", reads("get_order_item")),
    (Method::PATCH, "/crm/rest/v2/orders/{order_id}/items/{order_item_id}", writes("patch_order_item")),
    (Method::DELETE, "/crm/rest/v2/orders/{order_id}/items/{order_item_id}", writes("delete_order_item")),
    (Method::GET, "/crm/rest/v2/products", reads("list_products")),
    (Method::POST, "/crm/rest/v2/products", writes("create_product")),
    (Method::GET, "/crm/rest/v2/products/{product_id}", reads("get_product")),
    (Method::PATCH, "/crm/rest/v2/products/{product_id}", writes("patch_product")),
    (Method::DELETE, "/crm/rest/v2/products/{product_id}", writes("delete_product")),
    (Method::GET, "/crm/rest/v2/products/{product_id}/subscriptions", reads("list_subscription_plans")),
    (Method::POST, "/crm/rest/v2/products/{product_id}/subscriptions", writes("create_subscription_plan")),
    (
        Method::GET,
        "/crm/rest/v2/products/{product_id}/subscriptions/{subscription_plan_id}",
        reads("get_subscription_plan"),
    ),
    (Method::GET, "/crm/rest/v2/subscriptions", reads("list_subscriptions")),
    (Method::POST, "/crm/rest/v2/subscriptions", writes("create_subscription")),
    (Method::GET, "/crm/rest/v2/subscriptions/model", reads("get_subscription_model")),
    (
        Method::POST,
        "/crm/rest/v2/subscriptions/model/customFields",
        writes("create_subscription_custom_field"),
    ),
    (Method::GET, "/crm/rest/v2/subscriptions/{subscription_id}", reads("get_subscription")),
    (Method::PATCH, "/crm/rest/v2/subscriptions/{subscription_id}", writes("patch_subscription")),
    (Method::POST, DEACTIVATE_ROUTE, writes("deactivate_subscription")),
    (Method::GET, "/crm/rest/v2/oauth/connect/userinfo", reads("get_user_info")),
    (Method::GET, "/crm/rest/v1/hooks", reads("list_hooks")),
    (Method::POST, "/crm/rest/v1/hooks", writes("create_hook")),
    (Method::GET, "/crm/rest/v1/hooks/event_keys", reads("list_event_keys")),
    (Method::GET, "/crm/rest/v1/hooks/{key}", reads("get_hook")),
    (Method::PUT, "/crm/rest/v1/hooks/{key}", writes("update_hook")),
    (Method::DELETE, "/crm/rest/v1/hooks/{key}", writes("delete_hook")),
    (Method::POST, "/crm/rest/v1/hooks/{key}/verify", writes("verify_hook")),
    (Method::POST, "/crm/rest/v1/hooks/{key}/delayedVerify", writes("delayed_verify_hook")),
];

impl Operation {
    /// The list of contacts.
    pub(crate) const LIST_CONTACTS: Self = reads("list_contacts");
    /// The exchange of an authorisation code.
    pub(crate) const EXCHANGE: Self = reads("exchange_code");
    /// The exchange of a refresh token.
    pub(crate) const REFRESH: Self = reads("refresh_token");

    /// The operation of a request, by its method, the route that took it and its path.
    pub(crate) fn of(method: &Method, route: &str, path: &str) -> Self {
        // Every other action on a subscription, `:invoice` above all, is unknown here.
        if method == Method::POST && route == DEACTIVATE_ROUTE && !path.ends_with(DEACTIVATE_SUFFIX) {
            return reads("unknown");
        }
        OPERATIONS
            .iter()
            .find(|(known_method, known_route, _)| known_method == method && *known_route == route)
            .map_or(reads("unknown"), |(_, _, operation)| *operation)
    }

    pub(crate) const fn name(self) -> &'static str {
        self.name
    }

    /// Whether it changes what the app holds.
    pub(crate) const fn writes(self) -> bool {
        self.writes
    }

    /// Whether it is one of the token endpoint.
    pub(crate) fn is_token(self) -> bool {
        self == Self::EXCHANGE || self == Self::REFRESH
    }

    /// Whether a fault for that name is for this operation; `token` means both of the token endpoint.
    pub(crate) fn is_named(self, name: &str) -> bool {
        self.name == name || (name == "token" && self.is_token())
    }

    /// Whether an operation of that name exists, so that a misspelt fault is refused.
    pub(crate) fn exists(name: &str) -> bool {
        name == "token"
            || [Self::EXCHANGE, Self::REFRESH].iter().any(|operation| operation.name == name)
            || OPERATIONS.iter().any(|(_, _, operation)| operation.name == name)
    }
}
