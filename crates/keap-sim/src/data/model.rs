//! The models: the custom fields an app has defined for contacts, orders and subscriptions.

use serde::{Deserialize, Serialize};

use super::contact::Property;
use crate::failure::Failure;

/// The kinds of custom fields, as the contract lists them.
const FIELD_TYPES: &[&str] = &[
    "CURRENCY",
    "DATE",
    "DATE_TIME",
    "DAY_OF_WEEK",
    "DECIMAL_NUMBER",
    "DRILLDOWN",
    "DROPDOWN",
    "EMAIL",
    "LIST_BOX",
    "MONTH",
    "NAME",
    "PERCENT",
    "PHONE_NUMBER",
    "RADIO",
    "SOCIAL_SECURITY_NUMBER",
    "STATE",
    "TEXT",
    "TEXT_AREA",
    "USER",
    "USER_LIST_BOX",
    "WEBSITE",
    "WHOLE_NUMBER",
    "YEAR",
    "YES_NO",
];

/// The kinds that take options.
const CHOICE_TYPES: &[&str] = &["DRILLDOWN", "DROPDOWN", "LIST_BOX", "RADIO"];

/// One option of a choice field.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FieldOption {
    pub(crate) id: String,
    pub(crate) label: String,
}

/// A custom field (`CustomFieldMetaData`).
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CustomField {
    pub(crate) id: String,
    pub(crate) label: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) options: Vec<FieldOption>,
    pub(crate) record_type: &'static str,
    pub(crate) field_type: String,
    pub(crate) group_id: String,
    pub(crate) group_name: &'static str,
    pub(crate) field_name: String,
}

/// How a custom field can be compared in a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldComparison {
    /// `==`, with an optional trailing wildcard.
    Text,
    /// `==` only.
    Exact,
    /// `==` and the four comparisons, over numbers.
    Number,
    /// `==` and the four comparisons, over times.
    Time,
    /// `==` matches a record that contains the option.
    Contains,
}

impl CustomField {
    /// Which operators a filter may use, as the contract groups the kinds.
    pub(crate) fn comparison(&self) -> FieldComparison {
        match self.field_type.as_str() {
            "YES_NO" | "DRILLDOWN" => FieldComparison::Exact,
            "WHOLE_NUMBER" | "DECIMAL_NUMBER" | "CURRENCY" | "PERCENT" | "YEAR" | "MONTH" | "DAY_OF_WEEK"
            | "USER" => FieldComparison::Number,
            "DATE" | "DATE_TIME" => FieldComparison::Time,
            "LIST_BOX" | "USER_LIST_BOX" => FieldComparison::Contains,
            _ => FieldComparison::Text,
        }
    }
}

/// The body that defines a custom field (`CreateCustomFieldRequest`).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CustomFieldRequest {
    pub(crate) label: String,
    pub(crate) field_type: String,
    #[serde(default)]
    pub(crate) options: Vec<OptionRequest>,
    #[serde(default)]
    pub(crate) group_id: Option<String>,
    #[serde(default, rename = "user_group_id")]
    pub(crate) _user_group_id: Option<String>,
}

impl CustomFieldRequest {
    /// The request for a field in the default group.
    pub(crate) fn new(label: &str, field_type: &str, options: Vec<OptionRequest>) -> Self {
        Self {
            label: label.to_owned(),
            field_type: field_type.to_owned(),
            options,
            group_id: None,
            _user_group_id: None,
        }
    }
}

/// One option of a new choice field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OptionRequest {
    pub(crate) label: String,
}

/// The custom fields of one kind of record, in the order they were made.
#[derive(Debug)]
pub(crate) struct ObjectModel {
    record_type: &'static str,
    first_id: usize,
    fields: Vec<CustomField>,
}

impl ObjectModel {
    /// A model without fields. Ids of different kinds do not meet, so that a client that mixes them up is found out.
    pub(crate) const fn new(record_type: &'static str, first_id: usize) -> Self {
        Self { record_type, first_id, fields: Vec::new() }
    }

    pub(crate) fn fields(&self) -> &[CustomField] {
        &self.fields
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&CustomField> {
        self.fields.iter().find(|field| field.id == id)
    }

    /// The field a filter names; case does not count.
    pub(crate) fn by_field_name(&self, name: &str) -> Option<&CustomField> {
        self.fields.iter().find(|field| field.field_name.eq_ignore_ascii_case(name))
    }

    /// Defines a field.
    pub(crate) fn define(&mut self, request: CustomFieldRequest) -> Result<&CustomField, Failure> {
        let label = request.label.trim().to_owned();
        if label.is_empty() {
            return Err(Failure::bad_request("label must not be empty"));
        }
        if !FIELD_TYPES.contains(&request.field_type.as_str()) {
            return Err(Failure::bad_request(format!(
                "field_type must be one of {}",
                FIELD_TYPES.join(", ")
            )));
        }
        let takes_options = CHOICE_TYPES.contains(&request.field_type.as_str());
        if takes_options == request.options.is_empty() {
            return Err(Failure::bad_request(
                "options belong to choice fields, and a choice field needs them",
            ));
        }
        // Even ids only, so that a client that mixes up a field's id and its place is found out.
        let id = self.fields.len() * 2 + self.first_id;
        let field = CustomField {
            id: id.to_string(),
            field_name: self.free_field_name(&label),
            label,
            options: (1_u32..)
                .zip(request.options)
                .map(|(number, option)| FieldOption { id: number.to_string(), label: option.label })
                .collect(),
            record_type: self.record_type,
            field_type: request.field_type,
            group_id: request.group_id.unwrap_or_else(|| "1".to_owned()),
            group_name: "Custom Fields",
        };
        self.fields.push(field);
        self.fields.last().ok_or_else(|| Failure::bad_request("the field was not kept"))
    }

    /// A database-like name after the label, such as `FavoriteColor0`.
    fn free_field_name(&self, label: &str) -> String {
        let stem: String = label.chars().filter(char::is_ascii_alphanumeric).collect();
        let mut number = 0_u32;
        loop {
            let name = format!("{stem}{number}");
            if self.by_field_name(&name).is_none() {
                return name;
            }
            number += 1;
        }
    }

    /// The properties of a contact that answers leave out unless asked for.
    pub(crate) fn optional_properties() -> Vec<&'static str> {
        Property::ALL
            .iter()
            .filter(|property| !Property::DEFAULT.contains(property))
            .map(|property| property.name())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(label: &str, field_type: &str) -> CustomFieldRequest {
        CustomFieldRequest::new(label, field_type, Vec::new())
    }

    #[test]
    fn field_names_follow_the_label_and_stay_distinct() {
        let mut model = ObjectModel::new("CONTACT", 2);
        assert_eq!(model.define(request("Favorite color", "TEXT")).unwrap().field_name, "Favoritecolor0");
        assert_eq!(model.define(request("Favorite color", "TEXT")).unwrap().field_name, "Favoritecolor1");
        assert!(model.by_field_name("FAVORITECOLOR1").is_some());
    }

    #[test]
    fn unknown_kinds_and_choices_without_options_are_refused() {
        let mut model = ObjectModel::new("CONTACT", 2);
        assert!(model.define(request("A", "Text")).is_err());
        assert!(model.define(request("A", "DROPDOWN")).is_err());
        assert!(model.define(request(" ", "TEXT")).is_err());
        assert!(model.fields().is_empty());
    }
}
