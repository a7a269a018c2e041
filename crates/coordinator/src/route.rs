//! Paths and methods, as plain data: what is asked, and who may ask it.

use keapsync_domain::ids::AccountId;

/// What the worker is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /health`.
    Health,
    /// `GET /metrics`.
    Metrics,
    /// `GET /accounts`.
    Accounts,
    /// `GET /access-log`.
    AccessLog,
    /// `POST /access-log`, between workers.
    NoteAccess,
    /// `POST /oauth/initiate`.
    OAuthInitiate,
    /// `GET /oauth/initiate?ticket=`.
    OAuthOpen,
    /// `GET /oauth/callback`.
    OAuthCallback,
    /// `GET /oauth/status`.
    OAuthStatus,
    /// `POST /oauth/refresh`.
    OAuthRefresh,
    /// `POST /oauth/revoke`.
    OAuthRevoke,
    /// `POST /oauth/service-key`.
    OAuthServiceKey,
    /// `/coordinator/{account}/…`.
    Account(AccountId, AccountCall),
    /// The account's name has a wrong form.
    InvalidAccount,
    /// The path exists, with these methods.
    OtherMethod(&'static str),
    /// There is nothing at this path.
    Unknown,
}

/// What an account's object is asked under `/coordinator/{account}/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountCall {
    /// `GET status`.
    Status,
    /// `GET settings`.
    Settings,
    /// `PUT settings`.
    ChangeSettings,
    /// `POST events`.
    Events,
    /// `GET dead-letters`.
    DeadLetters,
    /// `POST dead-letters/replay`.
    Replay,
    /// `POST pause`.
    Pause,
    /// `POST resume`.
    Resume,
    /// `POST hooks/check`.
    CheckHooks,
    /// `POST dead-letters/discard`.
    Discard,
    /// `GET runs`.
    Runs,
    /// `POST runs`.
    StartRuns,
    /// `GET runs/{id}`.
    Run(String),
    /// `POST runs/{id}/approve`.
    Approve(String),
    /// `POST runs/{id}/cancel`.
    Cancel(String),
    /// `POST units`.
    Unit,
    /// `POST wake`.
    Wake,
    /// `POST token`.
    Token,
    /// `GET live`.
    Live,
    /// `POST live-ticket`.
    LiveTicket,
    /// `POST tell`.
    Tell,
}

impl AccountCall {
    /// Whether only other workers may ask this; the admin may ask everything else too.
    #[must_use]
    pub fn is_internal_only(&self) -> bool {
        matches!(self, Self::Events | Self::Unit | Self::Token | Self::Tell)
    }

    /// Finds the call. The error lists the methods that the path takes; none when there is no such path.
    pub fn parse(method: &str, path: &str) -> Result<Self, Option<&'static str>> {
        let (get, post) = (method == "GET", method == "POST");
        let only = |matches: bool, call: Self, methods: &'static str| {
            if matches { Ok(call) } else { Err(Some(methods)) }
        };
        match path {
            "status" => only(get, Self::Status, "GET"),
            "settings" if get => Ok(Self::Settings),
            "settings" => only(method == "PUT", Self::ChangeSettings, "GET, PUT"),
            "events" => only(post, Self::Events, "POST"),
            "dead-letters" => only(get, Self::DeadLetters, "GET"),
            "dead-letters/replay" => only(post, Self::Replay, "POST"),
            "dead-letters/discard" => only(post, Self::Discard, "POST"),
            "pause" => only(post, Self::Pause, "POST"),
            "resume" => only(post, Self::Resume, "POST"),
            "hooks/check" => only(post, Self::CheckHooks, "POST"),
            "runs" if get => Ok(Self::Runs),
            "runs" => only(post, Self::StartRuns, "GET, POST"),
            "units" => only(post, Self::Unit, "POST"),
            "wake" => only(post, Self::Wake, "POST"),
            "token" => only(post, Self::Token, "POST"),
            "live" => only(get, Self::Live, "GET"),
            "live-ticket" => only(post, Self::LiveTicket, "POST"),
            "tell" => only(post, Self::Tell, "POST"),
            _ => {
                let Some(run) = path.strip_prefix("runs/") else { return Err(None) };
                let (id, action) = run.split_once('/').unwrap_or((run, ""));
                match action {
                    _ if !is_run_id(id) => Err(None),
                    "" => only(get, Self::Run(id.to_owned()), "GET"),
                    "approve" => only(post, Self::Approve(id.to_owned()), "POST"),
                    "cancel" => only(post, Self::Cancel(id.to_owned()), "POST"),
                    _ => Err(None),
                }
            }
        }
    }
}

impl Route {
    /// Finds the route of a request.
    #[must_use]
    pub fn of(method: &str, path: &str) -> Self {
        let (get, post) = (method == "GET", method == "POST");
        let only = |matches: bool, route: Self, methods: &'static str| {
            if matches { route } else { Self::OtherMethod(methods) }
        };
        match path {
            "/health" => only(get, Self::Health, "GET"),
            "/metrics" => only(get, Self::Metrics, "GET"),
            "/accounts" => only(get, Self::Accounts, "GET"),
            "/access-log" if get => Self::AccessLog,
            "/access-log" => only(post, Self::NoteAccess, "GET, POST"),
            "/oauth/initiate" if get => Self::OAuthOpen,
            "/oauth/initiate" => only(post, Self::OAuthInitiate, "GET, POST"),
            "/oauth/callback" => only(get, Self::OAuthCallback, "GET"),
            "/oauth/status" => only(get, Self::OAuthStatus, "GET"),
            "/oauth/refresh" => only(post, Self::OAuthRefresh, "POST"),
            "/oauth/revoke" => only(post, Self::OAuthRevoke, "POST"),
            "/oauth/service-key" => only(post, Self::OAuthServiceKey, "POST"),
            _ => {
                let parts = path.strip_prefix("/coordinator/").and_then(|rest| rest.split_once('/'));
                let Some((account, resource)) = parts else { return Self::Unknown };
                let Ok(account) = AccountId::parse(account) else { return Self::InvalidAccount };
                match AccountCall::parse(method, resource) {
                    Ok(call) => Self::Account(account, call),
                    Err(Some(methods)) => Self::OtherMethod(methods),
                    Err(None) => Self::Unknown,
                }
            }
        }
    }
}

fn is_run_id(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// The first value of a parameter in a query.
#[must_use]
pub fn value_of<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_asked() {
        let demo = || AccountId::parse("demo").unwrap();
        for (method, path, expected) in [
            ("GET", "/health", Route::Health),
            ("POST", "/health", Route::OtherMethod("GET")),
            ("GET", "/oauth/initiate", Route::OAuthOpen),
            ("GET", "/access-log", Route::AccessLog),
            ("POST", "/access-log", Route::NoteAccess),
            ("DELETE", "/access-log", Route::OtherMethod("GET, POST")),
            ("POST", "/oauth/initiate", Route::OAuthInitiate),
            ("DELETE", "/oauth/initiate", Route::OtherMethod("GET, POST")),
            ("GET", "/coordinator/demo/status", Route::Account(demo(), AccountCall::Status)),
            ("PUT", "/coordinator/demo/settings", Route::Account(demo(), AccountCall::ChangeSettings)),
            ("POST", "/coordinator/demo/dead-letters/replay", Route::Account(demo(), AccountCall::Replay)),
            ("GET", "/coordinator/demo/events", Route::OtherMethod("POST")),
            ("GET", "/coordinator/DEMO/status", Route::InvalidAccount),
            ("GET", "/coordinator/demo/runs/../status", Route::Unknown),
            ("GET", "/coordinator/demo/live", Route::Account(demo(), AccountCall::Live)),
            ("GET", "/coordinator/demo/live/authorized", Route::Unknown),
            ("GET", "/coordinator/demo/live-ticket", Route::OtherMethod("POST")),
            ("GET", "/coordinator/demo", Route::Unknown),
            ("GET", "/", Route::Unknown),
        ] {
            assert_eq!(Route::of(method, path), expected, "{method} {path}");
        }
        let run = "/coordinator/demo/runs/3e0c9df5-1d0f-4a44-9a1c-2d6f7a9b0c11";
        assert!(matches!(Route::of("GET", run), Route::Account(_, AccountCall::Run(id)) if id.len() == 36));
    }

    #[test]
    fn tokens_events_and_reports_are_between_workers() {
        assert!(AccountCall::Token.is_internal_only() && AccountCall::Unit.is_internal_only());
        assert!(AccountCall::Tell.is_internal_only() && !AccountCall::Live.is_internal_only());
        assert!(AccountCall::Events.is_internal_only() && !AccountCall::Status.is_internal_only());
    }
}
