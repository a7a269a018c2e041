//! Tags, their categories, and which contact carries which tag since when.
//!
//! Invariant: an application is in `by_tag` and in `by_contact`, or in neither, and its tag exists. The contacts' own
//! `tag_ids` are kept in step by the functions of [`Data`] below.

use std::collections::{BTreeMap, BTreeSet};

use super::Data;
use crate::clock;
use crate::failure::Failure;

/// The longest name of a tag; what is longer is cut, as the contract says.
const TAG_NAME_LENGTH_MAX: usize = 255;

/// A tag.
#[derive(Debug, Clone)]
pub(crate) struct Tag {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) category_id: Option<u64>,
    pub(crate) create_ms: i64,
    pub(crate) update_ms: i64,
}

/// A tag category.
#[derive(Debug, Clone)]
pub(crate) struct Category {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) create_ms: i64,
    pub(crate) update_ms: i64,
}

/// What applying a tag to one contact came to. Keap's v1 answers with these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    Success,
    Duplicate,
    Failure,
}

impl Applied {
    /// The word on the wire.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::Duplicate => "DUPLICATE",
            Self::Failure => "FAILURE",
        }
    }
}

/// All tags of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    /// By id.
    pub(crate) definitions: BTreeMap<u64, Tag>,
    pub(crate) categories: BTreeMap<u64, Category>,
    /// When, by tag and contact.
    by_tag: BTreeMap<(u64, u64), i64>,
    by_contact: BTreeSet<(u64, u64)>,
    last_tag_id: u64,
    last_category_id: u64,
}

impl Tags {
    /// The contacts that carry the tag, with the time it was applied.
    pub(crate) fn contacts_of(&self, tag_id: u64) -> impl Iterator<Item = (u64, i64)> {
        self.by_tag.range((tag_id, 0)..=(tag_id, u64::MAX)).map(|((_, contact), at)| (*contact, *at))
    }

    /// The tags a contact carries, with the time each was applied.
    pub(crate) fn tags_of(&self, contact_id: u64) -> impl Iterator<Item = (u64, i64)> {
        self.by_contact
            .range((contact_id, 0)..=(contact_id, u64::MAX))
            .filter_map(|(contact, tag)| Some((*tag, *self.by_tag.get(&(*tag, *contact))?)))
    }

    /// Makes a tag; the name is free.
    pub(crate) fn insert_tag(
        &mut self,
        name: &str,
        description: Option<String>,
        category_id: Option<u64>,
        create_ms: i64,
        update_ms: i64,
    ) -> u64 {
        // Every other number, as in an app that has deleted some.
        self.last_tag_id += 2;
        let id = self.last_tag_id + 99;
        let tag = Tag { id, name: cut(name), description, category_id, create_ms, update_ms };
        self.definitions.insert(id, tag);
        id
    }

    /// Makes a category; the name is free.
    pub(crate) fn insert_category(
        &mut self,
        name: &str,
        description: Option<String>,
        create_ms: i64,
        update_ms: i64,
    ) -> u64 {
        self.last_category_id += 1;
        let id = self.last_category_id + 9;
        let category = Category { id, name: name.to_owned(), description, create_ms, update_ms };
        self.categories.insert(id, category);
        id
    }

    /// Refuses a name that another tag has: tag names are unique.
    pub(crate) fn require_free_tag_name(&self, name: &str, except: Option<u64>) -> Result<(), Failure> {
        let name = cut(name);
        if name.trim().is_empty() {
            return Err(Failure::bad_request("name must not be empty"));
        }
        let is_taken = self
            .definitions
            .values()
            .any(|tag| tag.name.eq_ignore_ascii_case(&name) && Some(tag.id) != except);
        if is_taken { Err(Failure::conflict("a tag of this name exists", "tag")) } else { Ok(()) }
    }

    /// Refuses a name that another category has.
    pub(crate) fn require_free_category_name(&self, name: &str, except: Option<u64>) -> Result<(), Failure> {
        if name.trim().is_empty() {
            return Err(Failure::bad_request("name must not be empty"));
        }
        let is_taken = self
            .categories
            .values()
            .any(|category| category.name.eq_ignore_ascii_case(name) && Some(category.id) != except);
        if is_taken {
            Err(Failure::conflict("a tag category of this name exists", "tag_category"))
        } else {
            Ok(())
        }
    }

    /// Notes an application; false when the contact carries the tag already.
    pub(crate) fn note(&mut self, tag_id: u64, contact_id: u64, at_ms: i64) -> bool {
        if self.by_tag.contains_key(&(tag_id, contact_id)) {
            return false;
        }
        self.by_tag.insert((tag_id, contact_id), at_ms);
        self.by_contact.insert((contact_id, tag_id));
        true
    }

    fn drop_application(&mut self, tag_id: u64, contact_id: u64) -> bool {
        self.by_contact.remove(&(contact_id, tag_id));
        self.by_tag.remove(&(tag_id, contact_id)).is_some()
    }

    /// Forgets what a deleted contact carried.
    pub(crate) fn forget_contact(&mut self, contact_id: u64) {
        let tags: Vec<u64> = self.tags_of(contact_id).map(|(tag, _)| tag).collect();
        for tag in tags {
            self.drop_application(tag, contact_id);
        }
    }
}

impl Data {
    /// Applies a tag to contacts, and says for each what came of it.
    pub(crate) fn apply_tag(&mut self, tag_id: u64, contact_ids: &[u64]) -> Vec<(u64, Applied)> {
        let now_ms = clock::now_ms();
        let mut results = Vec::with_capacity(contact_ids.len());
        for &contact_id in contact_ids {
            let applied = if self.contacts.get(contact_id).is_none() {
                Applied::Failure
            } else if self.tags.note(tag_id, contact_id, now_ms) {
                self.show_tags_of(contact_id);
                Applied::Success
            } else {
                Applied::Duplicate
            };
            results.push((contact_id, applied));
        }
        results
    }

    /// Removes a tag from contacts, and says which of them carried it.
    pub(crate) fn remove_tag(&mut self, tag_id: u64, contact_ids: &[u64]) -> Vec<u64> {
        let mut removed = Vec::new();
        for &contact_id in contact_ids {
            if self.tags.drop_application(tag_id, contact_id) {
                self.show_tags_of(contact_id);
                removed.push(contact_id);
            }
        }
        removed
    }

    /// Deletes a tag and takes it from every contact.
    pub(crate) fn delete_tag(&mut self, tag_id: u64) -> Result<(), Failure> {
        if !self.tags.definitions.contains_key(&tag_id) {
            return Err(Failure::not_found("tag", &tag_id.to_string()));
        }
        let contacts: Vec<u64> = self.tags.contacts_of(tag_id).map(|(contact, _)| contact).collect();
        self.remove_tag(tag_id, &contacts);
        self.tags.definitions.remove(&tag_id);
        Ok(())
    }

    /// Deletes a category; its tags stay, without one.
    pub(crate) fn delete_category(&mut self, id: u64) -> Result<(), Failure> {
        if self.tags.categories.remove(&id).is_none() {
            return Err(Failure::not_found("tag category", &id.to_string()));
        }
        for tag in self.tags.definitions.values_mut().filter(|tag| tag.category_id == Some(id)) {
            tag.category_id = None;
        }
        Ok(())
    }

    fn show_tags_of(&mut self, contact_id: u64) {
        let tag_ids = self.tags.tags_of(contact_id).map(|(tag, _)| tag.to_string()).collect();
        self.contacts.set_tags(contact_id, tag_ids);
    }
}

/// The name as far as it is saved.
pub(crate) fn cut(name: &str) -> String {
    name.chars().take(TAG_NAME_LENGTH_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::contact::Contact;
    use crate::data::money::Currency;

    #[test]
    fn applications_show_in_the_contact_and_vanish_with_the_tag() {
        let mut data = Data::new(Currency::default());
        let contact = data.contacts.insert(Contact::default(), 1, 1).id;
        let tag = data.tags.insert_tag("VIP", None, None, 1, 1);
        assert_eq!(
            data.apply_tag(tag, &[contact, 999]),
            [(contact, Applied::Success), (999, Applied::Failure)]
        );
        assert_eq!(data.apply_tag(tag, &[contact]), [(contact, Applied::Duplicate)]);
        let shown = |data: &Data| data.contacts.get(contact).unwrap().contact().tag_ids.unwrap();
        assert_eq!(shown(&data), [tag.to_string()]);
        data.delete_tag(tag).unwrap();
        assert!(shown(&data).is_empty());
        assert_eq!(data.tags.tags_of(contact).count(), 0);
    }

    #[test]
    fn a_deleted_contact_leaves_no_application() {
        let mut data = Data::new(Currency::default());
        let contact = data.contacts.insert(Contact::default(), 1, 1).id;
        let tag = data.tags.insert_tag("VIP", None, None, 1, 1);
        data.apply_tag(tag, &[contact]);
        data.delete_contact(contact).unwrap();
        assert_eq!(data.tags.contacts_of(tag).count(), 0);
    }
}
