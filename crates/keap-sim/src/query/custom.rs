//! Conditions on custom fields, which contacts, orders and subscriptions are filtered by alike.

use serde_json::Value;

use super::term::{NONE, Operator, Term, TextMatch};
use crate::clock;
use crate::data::contact::CustomFieldValue;
use crate::data::model::{FieldComparison, ObjectModel};
use crate::failure::Failure;

/// A condition on one custom field.
#[derive(Debug)]
pub(crate) struct CustomCondition {
    id: String,
    test: CustomTest,
}

#[derive(Debug)]
enum CustomTest {
    Text(TextMatch),
    Contains(TextMatch),
    Number(Operator, f64),
    Time(Operator, i64),
    Absent,
}

impl CustomCondition {
    /// Reads a term on a field of the model; one that the model does not have is refused.
    pub(crate) fn read(term: &Term, model: &ObjectModel) -> Result<Self, Failure> {
        let field = model.by_field_name(&term.field).ok_or_else(|| term.unknown())?;
        let test = match field.comparison() {
            _ if term.value == NONE && term.operator == Operator::Equal => CustomTest::Absent,
            FieldComparison::Text => CustomTest::Text(term.text(true)?),
            FieldComparison::Exact => CustomTest::Text(term.text(false)?),
            FieldComparison::Contains => CustomTest::Contains(term.text(false)?),
            FieldComparison::Number => CustomTest::Number(term.ordering()?, term.number()?),
            FieldComparison::Time => CustomTest::Time(term.ordering()?, term.time_ms()?),
        };
        Ok(Self { id: field.id.clone(), test })
    }

    /// Whether a record with these values meets it.
    pub(crate) fn matches(&self, values: &[CustomFieldValue]) -> bool {
        self.test.holds(values.iter().find(|value| value.id == self.id).map(|value| &value.content))
    }
}

impl CustomTest {
    fn holds(&self, content: Option<&Value>) -> bool {
        let Some(content) = content else {
            return matches!(self, Self::Absent);
        };
        let text = match content {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match self {
            Self::Absent => false,
            Self::Text(wanted) => wanted.matches(&text),
            Self::Contains(wanted) => match content {
                Value::Array(items) => {
                    items.iter().filter_map(Value::as_str).any(|item| wanted.matches(item))
                }
                _ => text.split(',').any(|item| wanted.matches(item.trim())),
            },
            Self::Number(operator, wanted) => {
                text.parse::<f64>().is_ok_and(|number| operator.holds(&number, wanted))
            }
            Self::Time(operator, wanted) => {
                let full = if clock::is_date(&text) { format!("{text}T00:00:00.000Z") } else { text };
                clock::parse_filter_time(&full).is_some_and(|time_ms| operator.holds(&time_ms, wanted))
            }
        }
    }
}
