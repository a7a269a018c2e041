//! `GET /health`: what a worker says of itself and of what it is bound to.
//!
//! Coordinator and sync worker are bound to each other, so a worker that asks about another asks with `scope=self`, and the
//! other then answers without asking on. Otherwise the question would go round for ever.

use crate::respond::Answer;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value, json};

/// Path and query by which one worker asks another.
pub const SELF_PATH: &str = "/health?scope=self";

/// Whether a request's query asks for the worker alone, without the services it is bound to.
#[must_use]
pub fn is_scope_self(query: Option<&str>) -> bool {
    query.is_some_and(|text| text.split('&').any(|pair| pair == "scope=self"))
}

/// The answer: 200 when every service works, 503 otherwise. `more` are further fields beside `services`.
#[must_use]
pub fn health_answer(
    now: Timestamp,
    services: &[(&'static str, bool)],
    more: &[(&'static str, Value)],
) -> Answer {
    let healthy = services.iter().all(|(_, works)| *works);
    let services: Map<String, Value> =
        services.iter().map(|(name, works)| ((*name).to_owned(), Value::Bool(*works))).collect();
    let mut body = Map::new();
    body.insert("status".to_owned(), json!(if healthy { "healthy" } else { "unhealthy" }));
    body.insert("timestamp".to_owned(), json!(now.to_rfc3339()));
    body.insert("services".to_owned(), Value::Object(services));
    for (name, value) in more {
        body.insert((*name).to_owned(), value.clone());
    }
    Answer::json(if healthy { 200 } else { 503 }, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_service_away_makes_the_worker_unhealthy() {
        let answer = health_answer(
            Timestamp(0),
            &[("kv", true), ("coordinator", true)],
            &[("kv", json!("accessible"))],
        );
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(
            body,
            json!({
                "status": "healthy",
                "timestamp": "1970-01-01T00:00:00.000Z",
                "services": {"kv": true, "coordinator": true},
                "kv": "accessible",
            })
        );
        let answer = health_answer(Timestamp(0), &[("kv", true), ("coordinator", false)], &[]);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &body["status"]), (503, &json!("unhealthy")));
    }

    #[test]
    fn finds_the_scope_in_a_query() {
        assert!(is_scope_self(SELF_PATH.split_once('?').map(|(_, query)| query)));
        assert!(is_scope_self(Some("x=1&scope=self")));
        for query in [None, Some(""), Some("scope=all"), Some("noscope=self")] {
            assert!(!is_scope_self(query), "{query:?}");
        }
    }
}
