//! Which request goes where. Paths are compared as they are: neither accounts nor tokens need percent-encoding.

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// A delivery or handshake at the address registered with Keap.
    ByToken {
        /// The account's name, not yet checked.
        account: &'a str,
        /// The token, not yet checked.
        token: &'a str,
    },
    /// A delivery with a signature.
    Signed,
    /// How the worker fares.
    Health,
    /// The path exists, for the methods named.
    OtherMethod(&'static str),
    /// There is no such path.
    Unknown,
}

impl<'a> Route<'a> {
    /// Finds the route of a method and a path.
    #[must_use]
    pub fn of(method: &str, path: &'a str) -> Self {
        let (route, allowed) = match path {
            "/health" => (Self::Health, "GET"),
            "/" | "/webhook" => (Self::Signed, "POST"),
            _ => match path.strip_prefix("/webhook/").and_then(|rest| rest.split_once('/')) {
                Some((account, token)) if !token.contains('/') => (Self::ByToken { account, token }, "POST"),
                _ => return Self::Unknown,
            },
        };
        if method == allowed { route } else { Self::OtherMethod(allowed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_route() {
        for (method, path, route) in [
            ("POST", "/webhook/demo/abc", Route::ByToken { account: "demo", token: "abc" }),
            ("POST", "/webhook/demo/", Route::ByToken { account: "demo", token: "" }),
            ("POST", "/webhook//abc", Route::ByToken { account: "", token: "abc" }),
            ("POST", "/webhook", Route::Signed),
            ("POST", "/", Route::Signed),
            ("GET", "/health", Route::Health),
            ("POST", "/health", Route::OtherMethod("GET")),
            ("GET", "/", Route::OtherMethod("POST")),
            ("GET", "/webhook/demo/abc", Route::OtherMethod("POST")),
            ("PUT", "/webhook", Route::OtherMethod("POST")),
            ("POST", "/webhook/demo", Route::Unknown),
            ("POST", "/webhook/demo/abc/def", Route::Unknown),
            ("POST", "/webhooks", Route::Unknown),
            ("GET", "/favicon.ico", Route::Unknown),
        ] {
            assert_eq!(Route::of(method, path), route, "{method} {path}");
        }
    }
}
