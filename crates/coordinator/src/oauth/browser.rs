//! What the person's browser carries and sees: the cookie that ties an attempt to it, and the pages.

use crate::oauth::state::STATE_TTL_MS;

/// Name of the cookie that the callback demands. By the prefix browsers promise that this very host set it: no neighbour under the
/// same domain can plant one.
const COOKIE: &str = "__Host-keapsync_oauth";

/// Its name where there is no HTTPS, which the prefix needs: on the developer's own machine.
const LOCAL_COOKIE: &str = "keapsync_oauth";

/// The header that sets the cookie. It goes only to our host, scripts cannot read it, and other sites' requests do
/// not carry it, except for the redirect back from Keap.
#[must_use]
pub fn set_cookie(secret: &str, is_https: bool) -> String {
    cookie(secret, STATE_TTL_MS / 1000, is_https)
}

/// The header that removes the cookie.
#[must_use]
pub fn clear_cookie(is_https: bool) -> String {
    cookie("", 0, is_https)
}

fn cookie(value: &str, age_seconds: i64, is_https: bool) -> String {
    let secure = if is_https { "; Secure" } else { "" };
    format!("{}={value}; Path=/; Max-Age={age_seconds}; HttpOnly; SameSite=Lax{secure}", name(is_https))
}

fn name(is_https: bool) -> &'static str {
    if is_https { COOKIE } else { LOCAL_COOKIE }
}

/// The cookie's value in a `Cookie` header.
#[must_use]
pub fn cookie_of(header: &str, is_https: bool) -> Option<&str> {
    header.split(';').find_map(|pair| pair.trim().strip_prefix(name(is_https))?.strip_prefix('='))
}

/// A page that says how an attempt ended.
#[must_use]
pub fn page(title: &str, text: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title} · keapsync</title><style>body{{font:16px/1.5 system-ui,sans-serif;\
         max-width:34rem;margin:15vh auto;padding:0 1rem;color:#1c2430;background:#fff}}h1{{font-size:1.4rem}}\
         @media(prefers-color-scheme:dark){{body{{color:#e8eaee;background:#14181f}}}}</style></head><body><main>\
         <h1>{title}</h1><p>{text}</p></main></body></html>",
        title = escaped(title),
        text = escaped(text)
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_comes_back_among_others() {
        assert_eq!(cookie_of("a=b; keapsync_oauth=s3; c=d", false), Some("s3"));
        assert_eq!(cookie_of("keapsync_oauth=s3", false), Some("s3"));
        assert_eq!(cookie_of("keapsync_oauth_other=s3; a=b", false), None);
        assert_eq!(cookie_of("", false), None);
        // A cookie that a neighbour may have planted does not count where there is HTTPS.
        assert_eq!(cookie_of("keapsync_oauth=planted", true), None);
        assert_eq!(cookie_of("keapsync_oauth=planted; __Host-keapsync_oauth=s3", true), Some("s3"));
        let secure = set_cookie("x", true);
        assert!(secure.ends_with("; Secure") && secure.contains("Path=/;") && !secure.contains("Domain"));
        assert!(clear_cookie(true).contains("Max-Age=0") && clear_cookie(true).ends_with("; Secure"));
        assert!(!set_cookie("x", false).contains("Secure") && set_cookie("x", false).contains("HttpOnly"));
    }

    #[test]
    fn pages_show_text_as_text() {
        let shown = page("<b>", "\"x\" & <script>");
        assert!(!shown.contains("<b>") && !shown.contains("<script>"));
        assert!(shown.contains("&lt;script&gt;"));
    }
}
