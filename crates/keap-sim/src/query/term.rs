//! The terms of a `filter`: `name==value` and comparisons, joined by `;` which means AND.
//!
//! An unknown name, a bad value or an operator the field does not have is a 400. Text is compared without regard to
//! case, which is unverified for Keap.

use std::ops::RangeInclusive;

use crate::clock;
use crate::failure::Failure;

/// The value that means "has none".
pub(crate) const NONE: &str = "NONE";

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Operator {
    /// Whether `left operator right` holds.
    pub(crate) fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
        }
    }
}

/// The ids that a filter's conditions leave: those between two ends, both included, but a few. None when the first end comes last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdRange {
    first: u64,
    last: u64,
    but: Vec<u64>,
}

impl Default for IdRange {
    fn default() -> Self {
        Self { first: 0, last: u64::MAX, but: Vec::new() }
    }
}

impl IdRange {
    /// Leaves the ids that stand so to this one.
    pub(crate) fn narrow(&mut self, operator: Operator, id: u64) {
        let (first, last) = match operator {
            Operator::Equal => (id, id),
            Operator::NotEqual => (0, u64::MAX),
            Operator::Greater => (id.saturating_add(1), u64::MAX),
            Operator::GreaterOrEqual => (id, u64::MAX),
            Operator::Less => (0, id.saturating_sub(1)),
            Operator::LessOrEqual => (0, id),
        };
        self.first = self.first.max(first);
        self.last = self.last.min(last);
        // `!=`, and what would be beyond the least and the greatest id: there the end itself stays.
        if !operator.holds(&id, &id) {
            self.but.push(id);
        }
    }

    /// Whether an id is left.
    pub(crate) fn contains(&self, id: u64) -> bool {
        (self.first..=self.last).contains(&id) && !self.but.contains(&id)
    }

    /// Where a list looks for what is left after an id, in its direction; nowhere when nothing can be there.
    pub(crate) fn after(&self, after: Option<u64>, is_descending: bool) -> Option<RangeInclusive<u64>> {
        let (mut first, mut last) = (self.first, self.last);
        match after {
            Some(id) if is_descending => last = last.min(id.checked_sub(1)?),
            Some(id) => first = first.max(id.checked_add(1)?),
            None => {}
        }
        (first <= last).then_some(first..=last)
    }
}

/// One `name operator value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) field: String,
    pub(crate) operator: Operator,
    pub(crate) value: String,
}

/// Splits a filter into its terms; a trailing `;` is allowed, as the contract's own examples have one.
pub(crate) fn parse(filter: &str) -> Result<Vec<Term>, Failure> {
    filter.split(';').filter(|part| !part.trim().is_empty()).map(parse_term).collect()
}

fn parse_term(part: &str) -> Result<Term, Failure> {
    let refuse = || Failure::bad_request(format!("filter term '{part}' is not 'field==value'"));
    let start = part.find(['=', '<', '>', '!']).ok_or_else(refuse)?;
    let (field, rest) = part.split_at_checked(start).ok_or_else(refuse)?;
    let operators = [
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        (">=", Operator::GreaterOrEqual),
        ("<=", Operator::LessOrEqual),
        (">", Operator::Greater),
        ("<", Operator::Less),
    ];
    let (operator, value) = operators
        .iter()
        .find_map(|(sign, operator)| rest.strip_prefix(sign).map(|value| (*operator, value)))
        .ok_or_else(refuse)?;
    let (field, value) = (field.trim(), value.trim());
    if field.is_empty() || value.is_empty() {
        return Err(refuse());
    }
    Ok(Term { field: field.to_owned(), operator, value: value.to_owned() })
}

impl Term {
    /// The refusal of a field that the list does not have.
    pub(crate) fn unknown(&self) -> Failure {
        Failure::bad_request(format!("filter field '{}' is not known", self.field))
    }

    /// Refuses any operator but `==`.
    pub(crate) fn require_equal(&self) -> Result<(), Failure> {
        if self.operator == Operator::Equal {
            return Ok(());
        }
        Err(Failure::bad_request(format!("filter field '{}' takes '==' only", self.field)))
    }

    /// The operator, of those that all compared fields have: `!=` is for a few.
    pub(crate) fn ordering(&self) -> Result<Operator, Failure> {
        if self.operator == Operator::NotEqual {
            return Err(Failure::bad_request(format!("filter field '{}' does not take '!='", self.field)));
        }
        Ok(self.operator)
    }

    /// The value as true or false.
    pub(crate) fn flag(&self) -> Result<bool, Failure> {
        self.require_equal()?;
        self.value
            .parse()
            .map_err(|_| Failure::bad_request(format!("filter field '{}' takes true or false", self.field)))
    }

    /// The value as a number.
    pub(crate) fn number(&self) -> Result<f64, Failure> {
        self.value
            .parse()
            .map_err(|_| Failure::bad_request(format!("filter field '{}' takes a number", self.field)))
    }

    /// The value as text to match, with or without a wildcard.
    pub(crate) fn text(&self, takes_wildcard: bool) -> Result<TextMatch, Failure> {
        self.require_equal()?;
        let is_prefix = takes_wildcard && self.value.ends_with('*');
        let body = if is_prefix { self.value.strip_suffix('*').unwrap_or_default() } else { &self.value };
        if body.contains('*') || body.is_empty() {
            return Err(Failure::bad_request(format!(
                "filter field '{}' takes a wildcard {}",
                self.field,
                if takes_wildcard { "only after some text" } else { "nowhere" }
            )));
        }
        Ok(TextMatch { wanted: body.to_lowercase(), is_prefix })
    }

    /// The value as an id.
    pub(crate) fn id(&self) -> Result<u64, Failure> {
        self.value
            .parse()
            .map_err(|_| Failure::bad_request(format!("filter field '{}' takes a number", self.field)))
    }

    /// The value as a list of ids.
    pub(crate) fn ids(&self) -> Result<Vec<u64>, Failure> {
        self.require_equal()?;
        self.value
            .split(',')
            .map(|id| id.trim().parse())
            .collect::<Result<_, _>>()
            .map_err(|_| Failure::bad_request(format!("filter field '{}' takes numbers", self.field)))
    }

    /// The value as a time in milliseconds.
    pub(crate) fn time_ms(&self) -> Result<i64, Failure> {
        clock::parse_filter_time(&self.value).ok_or_else(|| {
            Failure::bad_request(format!(
                "filter field '{}' takes a time such as 2026-01-01T00:00:00.000Z",
                self.field
            ))
        })
    }

    /// The value as a time, with `==` as the only operator.
    pub(crate) fn equal_time_ms(&self) -> Result<i64, Failure> {
        self.require_equal()?;
        self.time_ms()
    }

    /// The value as an optional text: `NONE` asks for records without one.
    pub(crate) fn optional_text(&self) -> Result<Asked<TextMatch>, Failure> {
        if self.value == NONE {
            self.require_equal()?;
            return Ok(Asked::Absent);
        }
        self.text(false).map(Asked::Value)
    }
}

/// A text to compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextMatch {
    wanted: String,
    is_prefix: bool,
}

impl TextMatch {
    /// Whether the text matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        if self.is_prefix { text.starts_with(&self.wanted) } else { text == self.wanted }
    }

    /// The wanted text in lower case.
    pub(crate) fn wanted(&self) -> &str {
        &self.wanted
    }

    pub(crate) const fn is_prefix(&self) -> bool {
        self.is_prefix
    }
}

/// What a filter asks of something a record may not have.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum Asked<T> {
    /// Nothing was asked.
    #[default]
    Anything,
    /// The record must not have it.
    Absent,
    /// The record must have this.
    Value(T),
}

impl Asked<TextMatch> {
    /// Whether a text, which may be missing, is as asked.
    pub(crate) fn matches(&self, text: Option<&str>) -> bool {
        let text = text.filter(|text| !text.is_empty());
        match self {
            Self::Anything => true,
            Self::Absent => text.is_none(),
            Self::Value(wanted) => text.is_some_and(|text| wanted.matches(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(text: &str) -> Term {
        parse(text).unwrap().remove(0)
    }

    #[test]
    fn a_range_of_ids_leaves_out_nothing_that_fits() {
        let operators = [
            Operator::Equal,
            Operator::NotEqual,
            Operator::Greater,
            Operator::GreaterOrEqual,
            Operator::Less,
            Operator::LessOrEqual,
        ];
        let ids = [0, 1, 2, 3, u64::MAX - 1, u64::MAX];
        let places = || ids.into_iter().map(Some).chain([None]);
        for (operator, bound) in operators.into_iter().flat_map(|operator| ids.map(|bound| (operator, bound)))
        {
            let mut range = IdRange::default();
            range.narrow(operator, bound);
            for (after, is_descending) in places().flat_map(|after| [(after, false), (after, true)]) {
                let left = range.after(after, is_descending);
                for id in ids {
                    let is_due =
                        after.is_none_or(|after| if is_descending { id < after } else { id > after });
                    let is_left = left.as_ref().is_some_and(|left| left.contains(&id));
                    assert_eq!(range.contains(id), operator.holds(&id, &bound), "{id} {operator:?} {bound}");
                    if operator.holds(&id, &bound) && is_due {
                        assert!(is_left, "{id} {operator:?} {bound} after {after:?}");
                    }
                    assert!(is_due || !is_left, "{id} came before {after:?}");
                }
            }
        }
    }

    #[test]
    fn a_range_of_ids_is_as_narrow_as_its_conditions() {
        let mut range = IdRange::default();
        range.narrow(Operator::Greater, 5);
        range.narrow(Operator::LessOrEqual, 9);
        range.narrow(Operator::NotEqual, 7);
        assert_eq!(range.after(None, false), Some(6..=9));
        assert_eq!((0..12).filter(|id| range.contains(*id)).collect::<Vec<u64>>(), [6, 8, 9]);
        assert_eq!(range.after(Some(7), false), Some(8..=9));
        assert_eq!(range.after(Some(7), true), Some(6..=6));
        assert_eq!(range.after(Some(9), false), None);
        range.narrow(Operator::Equal, 4);
        assert_eq!(range.after(None, false), None);
    }

    #[test]
    fn terms_split_at_the_longest_operator() {
        assert_eq!(term("contact_id>=5").operator, Operator::GreaterOrEqual);
        assert_eq!(term("contact_id>5").operator, Operator::Greater);
        assert_eq!(term("id!=5").operator, Operator::NotEqual);
        assert!(term("contact_id!=5").ordering().is_err());
        assert_eq!(term("email==a@b.c;").value, "a@b.c");
        assert_eq!(parse("a==1;b<2").unwrap().len(), 2);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn malformed_terms_are_refused() {
        for text in ["email", "email=", "email==", "==x", "a!1", "a=1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn wildcards_are_allowed_at_the_end_only() {
        assert!(term("given_name==Mar*").text(true).unwrap().matches("mary"));
        assert!(!term("given_name==Mar").text(true).unwrap().matches("mary"));
        for text in ["given_name==*ry", "given_name==*", "given_name==a*b"] {
            assert!(term(text).text(true).is_err(), "{text}");
        }
        assert!(term("company_id==Mar*").text(false).is_err());
    }
}
