//! `GET /metrics` in Prometheus' text form: what the database says of all accounts. The coordinator's page has what their objects say.
//!
//! `docs/metrics.md` says what each number means and when to be alarmed; a test holds the two together. A database that is away is a
//! number too, and no failure of the page.

use keapsync_domain::failure::Failure;
use keapsync_platform::hyperdrive::{self, HYPERDRIVE_BINDING};
use keapsync_platform::memory::wasm_memory_bytes;
use keapsync_platform::prometheus::{self, Page};
use keapsync_platform::respond::Answer;
use keapsync_store::{EntityFigures, RecentActivity, Store};
use worker::Env;

/// Accounts whose numbers are shown.
const ACCOUNTS_MAX: i64 = 100;

/// What counts as recent, in seconds. Longer than the pause between two scrapes, so that none slips through.
const WINDOW_SECONDS: f64 = 300.0;

/// A number of a kind of records, if there is one.
type Figure = fn(&EntityFigures) -> Option<i64>;

/// Numbers by account and kind of record.
const FIGURES: [(&str, &str, Figure); 6] = [
    ("keapsync_records", "Live records in the database.", |figures| Some(figures.total)),
    ("keapsync_records_pending", "Records with a change that waits for its way to Keap.", |figures| {
        Some(figures.pending)
    }),
    ("keapsync_records_failed", "Records whose last attempt failed for good.", |figures| {
        Some(figures.errors)
    }),
    ("keapsync_records_conflicting", "Records with a conflict that waits for a person.", |figures| {
        Some(figures.conflicts)
    }),
    ("keapsync_pending_oldest_seconds", "How long the oldest edit has waited.", |figures| {
        figures.oldest_pending_seconds
    }),
    ("keapsync_last_sync_seconds", "How long ago records were last brought into step.", |figures| {
        figures.last_sync_seconds
    }),
];

/// What the database says.
#[derive(Debug, Default)]
struct Figures {
    entities: Vec<EntityFigures>,
    recent: Vec<RecentActivity>,
}

/// Answers with the page.
pub(crate) async fn answer(env: &Env) -> Answer {
    let text = text(read(env).await.ok().as_ref(), wasm_memory_bytes());
    Answer::new(200, prometheus::MEDIA_TYPE, text.into_bytes())
}

async fn read(env: &Env) -> Result<Figures, Failure> {
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let store = Store::new(&client);
    Ok(Figures {
        entities: store.entity_figures(ACCOUNTS_MAX).await?,
        recent: store.recent_activity(ACCOUNTS_MAX, WINDOW_SECONDS).await?,
    })
}

/// Writes the page; `figures` are absent when the database did not answer.
fn text(figures: Option<&Figures>, wasm_memory_bytes: u64) -> String {
    let mut page = Page::default();
    page.gauge("keapsync_database_up", "Whether the database answered.");
    page.sample(&[], figures.is_some().into());
    let nothing = Figures::default();
    let Figures { entities, recent } = figures.unwrap_or(&nothing);
    for (name, help, figure) in FIGURES {
        page.gauge(name, help);
        for of in entities {
            if let Some(value) = figure(of) {
                page.sample(&[("account", &of.account_id), ("entity", &of.entity)], value);
            }
        }
    }
    page.gauge(
        "keapsync_applied_5m",
        "Records brought into step within five minutes, whether or not a value changed.",
    );
    for of in recent {
        page.sample(&labels(of), of.records);
    }
    page.gauge(
        "keapsync_lag_5m_ms",
        "Mean time from a change to its arrival on the other side, of those of five minutes.",
    );
    for of in recent {
        if let Some(lag_ms) = of.lag_ms {
            page.sample(&labels(of), lag_ms);
        }
    }
    page.wasm_memory("sync", wasm_memory_bytes);
    page.text().to_owned()
}

fn labels(of: &RecentActivity) -> [(&str, &str); 3] {
    [("account", &of.account_id), ("entity", &of.entity), ("direction", &of.direction)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_every_account_and_says_when_the_database_is_away() {
        let figures = Figures {
            entities: vec![EntityFigures {
                account_id: "demo".to_owned(),
                entity: "contact".to_owned(),
                total: 12,
                pending: 2,
                errors: 0,
                conflicts: 1,
                oldest_pending_seconds: Some(30),
                last_sync_seconds: None,
            }],
            recent: vec![RecentActivity {
                account_id: "demo".to_owned(),
                entity: "contact".to_owned(),
                direction: "supabase_to_keap".to_owned(),
                records: 7,
                lag_ms: Some(900),
            }],
        };
        let shown = text(Some(&figures), 65_536);
        for line in [
            "keapsync_database_up 1",
            "keapsync_records{account=\"demo\",entity=\"contact\"} 12",
            "keapsync_pending_oldest_seconds{account=\"demo\",entity=\"contact\"} 30",
            "keapsync_applied_5m{account=\"demo\",entity=\"contact\",direction=\"supabase_to_keap\"} 7",
            "keapsync_lag_5m_ms{account=\"demo\",entity=\"contact\",direction=\"supabase_to_keap\"} 900",
            "keapsync_wasm_memory_bytes{worker=\"sync\"} 65536",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
        }
        assert!(!shown.contains("keapsync_last_sync_seconds{"));
        assert!(text(None, 0).contains("keapsync_database_up 0\n"));
    }

    #[test]
    fn every_metric_is_documented() {
        let document = include_str!("../../../docs/metrics.md");
        let shown = text(None, 0);
        for name in shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
            assert!(document.contains(&format!("| `{name}`")), "docs/metrics.md does not say what {name} is");
        }
    }
}
