//! Edits of which Keap takes a part: the rest is carried, and what is not is put back with a word.

use super::on_stage;
use crate::fakes::keap::Fault;
use serde_json::json;

#[test]
fn one_field_that_keap_refuses_keeps_no_other_back() {
    on_stage(|stage| {
        let (id, row) = stage.linked(&json!({"given_name": "Ann", "website": "w"}));
        stage.mirror.edit(&row, "website", &json!("odd"));
        stage.mirror.edit(&row, "job_title", &json!("Clerk"));
        stage.mirror.edit(&row, "last_name", &json!("x".repeat(41)));
        // Keap refuses both together, takes the title, and refuses the site alone.
        stage.keap.write_faults.borrow_mut().extend([Fault::Status(400), Fault::Status(400)]);
        let report = stage.drain();
        assert_eq!((report.failed, report.retried), (0, 0), "{report:?}");
        let after = stage.mirror.linked(id);
        let word = after.sync_error.unwrap();
        assert!(word.starts_with("restored") && word.contains("last_name"), "{word}");
        let refused = if stage.keap.value(id, "job_title") == "Clerk" { "website" } else { "job_title" };
        assert!(word.contains(refused), "{word}");
        assert_eq!(stage.keap.value(id, "website"), after.row.record.get_by_name("website").clone());
        assert!(after.row.record.get_by_name("last_name").is_null());
        assert!(after.row.base_delta.is_empty());
    });
}

#[test]
fn an_edited_region_wins_over_its_code_and_an_odd_key_is_said() {
    on_stage(|stage| {
        let (id, row) = stage.linked(&json!({"given_name": "Ann", "addresses": [
            {"field": "BILLING", "line1": "1", "region": "Arizona", "region_code": "US-AZ", "country_code": "USA"}]}));
        stage.mirror.edit(
            &row,
            "addresses",
            &json!([{"field": "BILLING", "line1": "1", "region": "Sonora", "region_code": "US-AZ", "country_code": "USA", "note": "n"}]),
        );
        stage.drain();
        let held = json!([{"field": "BILLING", "line1": "1", "region": "Sonora", "country_code": "USA"}]);
        assert_eq!(stage.keap.value(id, "addresses"), held);
        let after = stage.mirror.linked(id);
        assert_eq!(after.row.record.get_by_name("addresses"), &held);
        assert!(after.sync_error.unwrap().contains("addresses.BILLING.note"));
    });
}

#[test]
fn what_has_no_place_in_keap_is_said_also_where_a_hook_comes_first() {
    on_stage(|stage| {
        let (id, row) = stage.linked(&json!({"given_name": "Ann", "website": "w",
            "phone_numbers": [{"field": "PHONE2", "number": "4805550134"}]}));
        stage.mirror.edit(
            &row,
            "phones",
            &json!([{"field": "PHONE2", "number": "4805550134", "label": "private"}]),
        );
        stage.keap.edit(id, &json!({"website": "k"}));
        stage.hook(&[id]);
        let after = stage.mirror.linked(id);
        let word = after.sync_error.unwrap();
        assert!(word.contains("phones.PHONE2.label"), "{word}");
        assert_eq!(after.row.record.get_by_name("website"), &json!("k"));
        stage.drain();
        let after = stage.mirror.linked(id);
        assert!(after.sync_error.unwrap().contains("phones.PHONE2.label"));
        assert_eq!(
            after.row.record.get_by_name("phones"),
            &json!([{"field": "PHONE2", "number": "4805550134"}])
        );
    });
}
