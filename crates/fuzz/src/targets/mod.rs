//! The parsers, each with good examples and with what it promises for any input.

mod access;
mod api;
mod keap;
mod values;

/// One parser.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Inputs of every accepted form.
    pub examples: fn() -> Vec<Vec<u8>>,
    /// Runs it on an input; panics when it breaks a promise.
    pub check: fn(&[u8]),
}

/// Every parser of outside input.
#[must_use]
pub fn all() -> Vec<Target> {
    [access::TARGETS, api::TARGETS, keap::TARGETS, values::TARGETS].concat()
}

/// Examples from texts.
fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// An input as text, as a runtime hands over headers and addresses: what is no UTF-8 is replaced.
fn text(input: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(input)
}
