//! Which properties a write touches, by their names on the wire.

use crate::failure::Failure;

/// What `update_mask` says, or that there was none.
#[derive(Debug, Clone)]
pub(crate) struct WriteMask(Option<Vec<String>>);

impl WriteMask {
    /// Without a mask: a write touches what the body gives.
    pub(crate) const GIVEN: Self = Self(None);

    /// A mask of exactly these names, each of which has to be one of those allowed. A property that is named but not
    /// in the body is emptied.
    pub(crate) fn named<'names>(
        names: impl IntoIterator<Item = &'names str>,
        allowed: &[&str],
    ) -> Result<Self, Failure> {
        let mut taken = Vec::new();
        for name in names {
            if !allowed.contains(&name) {
                return Err(Failure::bad_request(format!(
                    "update_mask does not take '{name}'; give the parameter once for each property"
                )));
            }
            taken.push(name.to_owned());
        }
        Ok(Self(Some(taken)))
    }

    /// Whether a property is written, given whether the body has a value for it.
    pub(crate) fn covers(&self, name: &str, is_given: bool) -> bool {
        self.0.as_ref().map_or(is_given, |names| names.iter().any(|named| named == name))
    }
}
