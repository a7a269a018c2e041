//! JSON as a tree, whatever holds it: what is written of it and what is hashed of it is the same for every holder.

use serde_json::{Map, Number, Value};

/// What a value is.
#[derive(Debug)]
pub enum Node<'v, T: Json> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(&'v Number),
    /// A text.
    Text(&'v str),
    /// A list.
    List(&'v [T]),
    /// An object.
    Object(&'v T::Entries),
}

/// A value that is JSON.
pub trait Json: Sized {
    /// What holds an object's entries.
    type Entries;

    /// What this value is.
    fn node(&self) -> Node<'_, Self>;

    /// The entries of an object, in the order of their keys, each key once.
    fn entries<'v>(object: &'v Self::Entries) -> impl Iterator<Item = (&'v str, &'v Self)>
    where
        Self: 'v;
}

impl Json for Value {
    type Entries = Map<String, Self>;

    fn node(&self) -> Node<'_, Self> {
        match self {
            Self::Null => Node::Null,
            Self::Bool(truth) => Node::Bool(*truth),
            Self::Number(number) => Node::Number(number),
            Self::String(text) => Node::Text(text),
            Self::Array(items) => Node::List(items),
            Self::Object(object) => Node::Object(object),
        }
    }

    fn entries<'v>(object: &'v Self::Entries) -> impl Iterator<Item = (&'v str, &'v Self)>
    where
        Self: 'v,
    {
        object.iter().map(|(key, value)| (key.as_str(), value))
    }
}
