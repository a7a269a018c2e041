//! Measures pages of 1000 contacts through the store on the server that `KEAPSYNC_TEST_DATABASE_URL` names: first load, unchanged
//! re-read, and re-write of every row. Prints what it measured; asserts nothing about it.
//!
//! `cargo run --release -p keapsync-store --example page_throughput -- [contacts]`

#![allow(clippy::cast_precision_loss, reason = "rates for people")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "measures with the real clock")]
#![allow(missing_docs, reason = "the support module is the tests'")]

#[path = "../tests/support/mod.rs"]
mod support;

use keapsync_domain::ids::EntityType;
use keapsync_engine::ports::{MirrorStore, RemoteKey, RowWrite};
use keapsync_store::Store;
use serde_json::{Map, Value, json};
use std::time::Instant;
use support::{TestDatabase, account, batch, insert_of, update_of, with_account};

const PAGE: usize = 1000;

/// About 1.2 KB, as Keap's larger contacts are.
fn contact(number: usize, note: &str) -> RowWrite {
    let values = json!({
        "email": format!("person{number}@example{}.com", number % 97),
        "first_name": format!("Given{}", number % 1013), "last_name": format!("Family{}", number % 5003),
        "phone": format!("+1 555 {:07}", number), "company": format!("Company {}", number % 211), "job_title": "Head of Sales",
        "website": format!("https://www.example{number}.com/"), "birth_date": "1980-02-29", "owner_id": "7",
        "lead_source_id": "12", "opt_in_status": "SINGLE_OPT_IN",
        "emails": [{"field": "EMAIL2", "email": format!("second{number}@example.org"), "email_opt_status": "UNENGAGED_MARKETABLE"}],
        "phones": [{"field": "PHONE2", "number": format!("(555) {:07}", number), "type": "MOBILE"}],
        "addresses": [
            {"field": "BILLING", "line1": format!("{number} Main Street"), "line2": "Suite 200", "locality": "Springfield",
             "region": "Illinois", "region_code": "US-IL", "postal_code": "62704", "country_code": "USA"},
            {"field": "SHIPPING", "line1": format!("{number} Warehouse Road"), "locality": "Springfield", "region": "Illinois",
             "region_code": "US-IL", "postal_code": "62704", "country_code": "USA"}
        ],
        "tags": [format!("{}", 100 + number % 41), format!("{}", 200 + number % 7)],
        "custom_fields": {"1": note, "4": "gold", "9": number, "11": "likes long walks, short mails and a quick answer"},
    });
    let extra: Map<String, Value> = json!({"score_value": "3", "source_type": "WEBFORM", "time_zone": "America/Chicago",
        "preferred_locale": "en_US", "notes": "met at the fair; wants an offer in spring; has two daughters and a dog"})
    .as_object()
    .cloned()
    .unwrap_or_default();
    RowWrite { extra, ..insert_of(&(number * 2 + 1).to_string(), &values) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let contacts: usize = std::env::args().nth(1).map_or(Ok(50_000), |text| text.parse())?;
    let database = TestDatabase::migrated().await;
    let client = database.engine().await;
    with_account(&client).await;
    let store = Store::new(&client);
    let account = account();
    let pages = contacts.div_ceil(PAGE);

    let mut elapsed = std::time::Duration::ZERO;
    for page in 0..pages {
        let rows: Vec<RowWrite> =
            (page * PAGE..(page + 1) * PAGE).map(|number| contact(number, "first")).collect();
        let written = batch(rows);
        let start = Instant::now();
        let outcome = store.write(&account, EntityType::Contact, &written).await?;
        elapsed += start.elapsed();
        anyhow::ensure!(outcome.written.len() == PAGE, "a page was not written whole");
        if page % 10 == 9 || page + 1 == pages {
            let count = (page + 1) * PAGE;
            println!("first load: {count} contacts, {:.0} contacts/s", count as f64 / elapsed.as_secs_f64());
        }
    }

    let keys_of = |page: usize, suffix: &str| -> Vec<RemoteKey> {
        (page * PAGE..(page + 1) * PAGE)
            .map(|number| {
                let keap_id = (number * 2 + 1).to_string();
                let keap_hash = support::hash(&format!("{keap_id}{suffix}"));
                RemoteKey { keap_id, keap_hash, row_id: None }
            })
            .collect()
    };
    let start = Instant::now();
    for page in 0..pages {
        let known = store.read_known(&account, EntityType::Contact, &keys_of(page, "")).await?;
        anyhow::ensure!(
            known.len() == PAGE && known.iter().all(|row| row.row.is_none()),
            "something changed"
        );
    }
    println!("unchanged: {:.2} ms per page of {PAGE}", start.elapsed().as_secs_f64() * 1000.0 / pages as f64);

    let (mut reading, mut writing) = (std::time::Duration::ZERO, std::time::Duration::ZERO);
    for page in 0..pages {
        let start = Instant::now();
        let known = store.read_known(&account, EntityType::Contact, &keys_of(page, "a")).await?;
        reading += start.elapsed();
        let rows: Vec<RowWrite> = known
            .iter()
            .filter_map(|known| known.row.as_ref())
            .map(|row| {
                let mut write = update_of(row, &Value::Null);
                write.record = Some(row.record.clone());
                if let Some(record) = &mut write.record {
                    record.set_by_name("first_name", json!("Changed"));
                }
                write.audit_old =
                    Map::from_iter([("first_name".to_owned(), row.record.get_by_name("first_name").clone())]);
                write
            })
            .collect();
        let written = batch(rows);
        let start = Instant::now();
        let outcome = store.write(&account, EntityType::Contact, &written).await?;
        writing += start.elapsed();
        anyhow::ensure!(outcome.written.len() == PAGE, "a page was not updated whole");
    }
    println!(
        "changed: read {:.2} ms, write {:.2} ms per page, {:.0} contacts/s",
        reading.as_secs_f64() * 1000.0 / pages as f64,
        writing.as_secs_f64() * 1000.0 / pages as f64,
        contacts as f64 / (reading + writing).as_secs_f64()
    );
    Ok(())
}
