//! What one Keap app holds: contacts, the contact model, tags with their categories and applications.
//!
//! `Data` is plain state behind one lock of its tenant; every change is a function here or in the sub-modules, so a
//! request sees all of a change or nothing. Nothing here knows HTTP, hooks or quotas.

pub(crate) mod apply;
pub(crate) mod contact;
pub(crate) mod model;
pub(crate) mod record;
pub(crate) mod regions;
pub(crate) mod request;
pub(crate) mod store;
pub(crate) mod tags;
pub(crate) mod validate;

use std::collections::BTreeMap;

use model::ContactModel;
use store::ContactStore;
use tags::Tags;

/// Everything of one tenant that the API reads and writes.
#[derive(Debug, Default)]
pub(crate) struct Data {
    pub(crate) contacts: ContactStore,
    pub(crate) model: ContactModel,
    pub(crate) tags: Tags,
    pub(crate) companies: Companies,
    /// Name by id of the places contacts came from.
    pub(crate) lead_sources: BTreeMap<u64, String>,
}

/// The companies contacts belong to. Companies have no routes of their own here.
#[derive(Debug, Default)]
pub(crate) struct Companies {
    names: BTreeMap<u64, String>,
    ids: BTreeMap<String, u64>,
}

impl Companies {
    /// The company's name.
    pub(crate) fn name(&self, id: u64) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// The id of the company of that name, made when it is new.
    pub(crate) fn id_of(&mut self, name: &str) -> u64 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.names.last_key_value().map_or(501, |(last, _)| last + 2);
        self.names.insert(id, name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }
}
