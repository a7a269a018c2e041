//! What the API takes: paths, queries, and bodies of those who have a credential.

use super::{Target, text, texts};
use keapsync_coordinator::access_log::AccessPage;
use keapsync_coordinator::account::wire::{
    AccountRequest, CompleteRequest, OpenRequest, ReplayRequest, ServiceKeyRequest,
};
use keapsync_coordinator::route;
use keapsync_domain::ids::{AccountId, is_uuid};
use keapsync_domain::settings::AccountSettings;
use keapsync_domain::wire::{AccessEntry, EventsRequest, StartRunsRequest, UnitOrder, UnitReport};
use keapsync_sync::conflicts::read_decision;
use keapsync_sync::request::{Path, Query};
use serde_json::from_slice;

pub(super) const TARGETS: &[Target] = &[
    Target { name: "coordinator-path", examples: paths, check: coordinator_path },
    Target { name: "sync-path-and-query", examples: queries, check: sync_path },
    Target { name: "settings", examples: settings, check: check_settings },
    Target { name: "decision", examples: decisions, check: decision },
    Target { name: "request-bodies", examples: bodies, check: body },
    Target { name: "worker-messages", examples: messages, check: message },
];

const RUN: &str = "018f3f6e-0000-4000-8000-00000000abcd";

fn paths() -> Vec<Vec<u8>> {
    texts(&[
        "GET /health",
        "GET /metrics",
        "POST /oauth/initiate",
        "GET /oauth/callback",
        "GET /access-log",
        "GET /coordinator/demo/status",
        "PUT /coordinator/demo/settings",
        "POST /coordinator/demo/dead-letters/replay",
        &format!("GET /coordinator/demo/runs/{RUN}"),
        &format!("POST /coordinator/demo/runs/{RUN}/approve"),
    ])
}

fn coordinator_path(input: &[u8]) {
    let shown = text(input);
    let (method, path) = shown.split_once(' ').unwrap_or_default();
    if let route::Route::Account(account, _) = route::Route::of(method, path) {
        assert!(AccountId::parse(account.as_str()).is_ok());
        assert!(path.starts_with(&format!("/coordinator/{account}/")), "{path}");
        assert!(path.bytes().all(|byte| byte.is_ascii_graphic()) && !path.contains(".."), "{path}");
    }
}

fn queries() -> Vec<Vec<u8>> {
    texts(&[
        "/sync/full?account=demo&direction=keap_to_supabase&dry_run=true",
        "/sync/contacts?account=demo&kind=incremental",
        &format!("/sync/runs/{RUN}/plan?after=17&limit=100"),
        &format!("/conflicts/{RUN}/resolve?account=demo"),
        &format!("/audit?entity=order&id={RUN}&before=9&limit=5"),
        "/audit/17/revert",
        "/conflicts?entity=contact&after=&limit=500",
        "/access-log?before=7&limit=1&account=demo",
    ])
}

fn sync_path(input: &[u8]) {
    let shown = text(input);
    let (path, query) = shown.split_once('?').unwrap_or((shown.as_ref(), ""));
    let pairs = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let owned = pairs().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let page = AccessPage::of(|wanted| pairs().find(|(name, _)| *name == wanted).map(|(_, value)| value));
    assert!(page.is_err() || page.is_ok_and(|page| (1..=500).contains(&page.limit)));
    let Ok(query) = Query::new(owned) else { return };
    assert!(
        query.limit(50, 500).is_err() || query.limit(50, 500).is_ok_and(|limit| (1..=500).contains(&limit))
    );
    let _ = (query.account(), query.entities());
    match Path::parse(path, &query) {
        Path::Start(kind, entities) => drop(query.start(kind, &entities)),
        Path::Run(id)
        | Path::Plan(id)
        | Path::Approve(id)
        | Path::Cancel(id)
        | Path::RevertRun(id)
        | Path::Conflict(id)
        | Path::Resolve(id) => assert!(is_uuid(&id)),
        _ => {}
    }
}

fn settings() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"policies":{"default":"manual","overrides":{"contact.email":"keap_wins","order":"manual"}},"delete_in_keap":true}"#,
        r#"{"incremental_interval_minutes":30,"blast_guard":{"percent_max":5,"records_max":50}}"#,
        r#"{"policies":{"overrides":{"contact.email":null}}}"#,
    ])
}

fn check_settings(input: &[u8]) {
    let before = AccountSettings::default();
    if let Ok(after) = before.changed(input) {
        assert!(after.blast_guard.percent_max <= 100 && after.incremental_interval_minutes >= 1);
        // What was stored can be read, and changing nothing changes nothing.
        let stored = serde_json::to_vec(&after).unwrap_or_default();
        assert!(from_slice::<AccountSettings>(&stored).is_ok_and(|read| read == after));
        assert!(after.changed(b"{}").is_ok_and(|same| same == after));
    }
}

fn decisions() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"strategy":"keap_wins"}"#,
        r#"{"strategy":"manual","values":{"email":"a@x.example"},"notes":"as the customer said"}"#,
        r#"{"strategy":"merge","values":null,"notes":null}"#,
    ])
}

fn decision(input: &[u8]) {
    if let Err(reason) = read_decision(input) {
        assert!(reason.is_ascii() && reason.len() < 200);
    }
}

fn bodies() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"keap_account_id":"demo"}"#,
        r#"{"keap_account_id":"demo","service_key":"a key"}"#,
        r#"{"ids":["event:contact:12"],"all":false}"#,
        r#"{"cause":"invalid"}"#,
        r#"{"ticket":"0123"}"#,
        r#"{"nonce":"n","cookie":"c","code":"k"}"#,
    ])
}

fn body(input: &[u8]) {
    if let Ok(request) = from_slice::<AccountRequest>(input) {
        assert!(AccountId::parse(request.keap_account_id.as_str()).is_ok());
    }
    if let Ok(request) = from_slice::<ServiceKeyRequest>(input) {
        assert!(!format!("{request:?}").contains("a key"));
    }
    let _ = (
        from_slice::<ReplayRequest>(input),
        from_slice::<OpenRequest>(input),
        from_slice::<CompleteRequest>(input),
    );
}

fn messages() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"delivery":{"event_key":"contact.edit","object_ids":["1"]},"received_at":1700000000000}"#,
        r#"{"kind":"full","entities":["contact","order"],"direction":"bidirectional","dry_run":false,"reverts":null}"#,
        r#"{"at":1,"worker":"sync","actor":"admin","token":"0a0b","address":null,"action":"POST /x","account":"demo","status":200}"#,
        r#"{"account":"demo","run_id":"r","kind":"full","entity":"contact","direction":"bidirectional","cursor":{"since":5,"after_id":"7"}}"#,
    ])
}

fn message(input: &[u8]) {
    let _ = (
        from_slice::<EventsRequest>(input),
        from_slice::<StartRunsRequest>(input),
        from_slice::<UnitOrder>(input),
    );
    let _ = from_slice::<UnitReport>(input);
    if let Ok(entry) = from_slice::<AccessEntry>(input) {
        let again = serde_json::to_vec(&entry).unwrap_or_default();
        assert!(from_slice::<AccessEntry>(&again).is_ok_and(|read| read == entry));
    }
}
