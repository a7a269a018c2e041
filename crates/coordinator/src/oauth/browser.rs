//! What the person's browser carries and sees: the cookie that ties an attempt to it, and the pages.

use crate::oauth::state::STATE_TTL_MS;

/// Name of the cookie that the callback demands.
const COOKIE: &str = "keapsync_oauth";

/// The header that sets the cookie. It goes only to our OAuth paths, scripts cannot read it, and other sites' requests do
/// not carry it, except for the redirect back from Keap.
#[must_use]
pub fn set_cookie(secret: &str, is_https: bool) -> String {
    let secure = if is_https { "; Secure" } else { "" };
    format!("{COOKIE}={secret}; Path=/oauth; Max-Age={}; HttpOnly; SameSite=Lax{secure}", STATE_TTL_MS / 1000)
}

/// The header that removes the cookie.
#[must_use]
pub fn clear_cookie() -> String {
    format!("{COOKIE}=; Path=/oauth; Max-Age=0; HttpOnly; SameSite=Lax")
}

/// The cookie's value in a `Cookie` header.
#[must_use]
pub fn cookie_of(header: &str) -> Option<&str> {
    header.split(';').find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
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
        assert_eq!(cookie_of("a=b; keapsync_oauth=s3; c=d"), Some("s3"));
        assert_eq!(cookie_of("keapsync_oauth=s3"), Some("s3"));
        assert_eq!(cookie_of("keapsync_oauth_other=s3; a=b"), None);
        assert_eq!(cookie_of(""), None);
        assert!(set_cookie("x", true).ends_with("; Secure"));
        assert!(!set_cookie("x", false).contains("Secure") && set_cookie("x", false).contains("HttpOnly"));
    }

    #[test]
    fn pages_show_text_as_text() {
        let shown = page("<b>", "\"x\" & <script>");
        assert!(!shown.contains("<b>") && !shown.contains("<script>"));
        assert!(shown.contains("&lt;script&gt;"));
    }
}
