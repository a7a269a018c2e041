//! OAuth as people and browsers meet it: from `POST /oauth/initiate` to the page after Keap sent the browser back.
//!
//! `connect_url` is what a person (or a program acting as a browser) opens: it is good once, sets the cookie that the
//! callback demands, and sends the browser on to `auth_url`. The cookie ties the attempt to the browser that began it, so
//! that nobody can make another person's browser finish it. `auth_url` is shown for information; opened directly it ends
//! in a clear failure, because the cookie is missing.

pub mod browser;
pub mod handlers;
pub mod state;
