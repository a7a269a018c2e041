//! Addresses with encoded queries.

/// Builds an address from a base, a path and a query.
#[derive(Clone, Debug)]
pub struct Url {
    text: String,
    has_query: bool,
}

impl Url {
    /// Starts with `base` (no trailing slash) and `path` (leading slash, already encoded).
    #[must_use]
    pub fn new(base: &str, path: &str) -> Self {
        Self { text: format!("{}{path}", base.trim_end_matches('/')), has_query: false }
    }

    /// Adds one query parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        encode_into(&mut self.text, name);
        self.text.push('=');
        encode_into(&mut self.text, value);
        self
    }

    /// The address.
    #[must_use]
    pub fn build(self) -> String {
        self.text
    }
}

/// Encodes pairs as a form body.
#[must_use]
pub fn form(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        encode_into(&mut text, name);
        text.push('=');
        encode_into(&mut text, value);
    }
    text
}

/// Appends `text` with everything but RFC 3986's unreserved characters percent-encoded.
fn encode_into(out: &mut String, text: &str) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 0xF] {
                out.extend(DIGITS.get(usize::from(nibble)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_what_is_not_unreserved() {
        let url =
            Url::new("http://k/crm/", "/rest/v2/contacts").with("filter", "ids==1,2;x==ä b").with("a", "~");
        assert_eq!(
            url.build(),
            "http://k/crm/rest/v2/contacts?filter=ids%3D%3D1%2C2%3Bx%3D%3D%C3%A4%20b&a=~"
        );
        assert_eq!(form(&[("a", "b&c"), ("d", "")]), "a=b%26c&d=");
    }
}
