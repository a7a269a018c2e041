//! Units whose calls another Keap application answers.

use super::{APPROVED, Stage, emails, on_stage, order_of, run_through};
use crate::fakes::keap::FakeKeap;
use crate::metered::MeteredTransport;
use keapsync_domain::application::KeapApplication;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::run::{Cursor, RunKind};
use keapsync_domain::wire::UnitReport;
use keapsync_keap::transport::{Request, Response, Transport};
use serde_json::json;

/// Keap, whose answers name a tenant.
struct Named<'a> {
    keap: &'a FakeKeap<'a>,
    tenant: &'static str,
}

impl Transport for Named<'_> {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let answer = self.keap.send(request).await?;
        let headers = vec![("x-keap-tenant-id".to_owned(), self.tenant.to_owned())];
        Ok(Response { headers, ..answer })
    }
}

/// A unit of an account whose records are of `ab123`, as the sync worker carries it out.
fn unit(stage: &Stage<'_>, kind: RunKind, tenant: &'static str) -> (UnitReport, KeapApplication) {
    let mut order = order_of(stage, EntityType::Contact, kind, APPROVED, Cursor::default());
    order.grant.application = KeapApplication {
        address: Some("ab123.infusionsoft.com".to_owned()),
        tenant: Some("ab123".to_owned()),
    };
    let metered = MeteredTransport::new(Named { keap: stage.keap, tenant }, order.grant.application.clone());
    let report = run_through(stage, &metered, &order, 1_000);
    (report, metered.application())
}

#[test]
fn a_unit_that_another_application_answers_stores_nothing() {
    on_stage(|stage| {
        let (_, row) = stage.linked(&json!({"given_name": "Ann", "email_addresses": emails("a@x.io")}));
        // The other application has a contact of the same id, and one more.
        stage.keap.edit(1, &json!({"given_name": "Zoe"}));
        stage.keap.add(&json!({"given_name": "Dan", "email_addresses": emails("d@x.io")}));
        let before = (stage.mirror.writes.get(), stage.keap.writes.get());
        for kind in [RunKind::Full, RunKind::Incremental, RunKind::Verify] {
            let (report, answered) = unit(stage, kind, "zz9");
            let failure = report.failure.clone().unwrap_or_else(|| panic!("{kind:?}: {report:?}"));
            assert_eq!(failure.class, FailureClass::Unauthorized, "{failure}");
            assert!(failure.message.contains("zz9") && failure.message.contains("ab123"), "{failure}");
            assert!(!report.finished && report.cursor == Cursor::default(), "{report:?}");
            // What the report tells the coordinator, which gives the credential up.
            assert_eq!(answered, KeapApplication::of_tenant(Some("zz9")));
        }
        assert_eq!((stage.mirror.writes.get(), stage.keap.writes.get()), before, "something was written");
        assert!(stage.mirror.certificates.borrow().is_empty(), "a stranger's records were certified");
        assert_eq!(stage.mirror.rows.borrow().len(), 1);
        assert_eq!(stage.mirror.rows.borrow()[&row].row.record.get_by_name("first_name"), "Ann");

        let (report, answered) = unit(stage, RunKind::Full, "AB123");
        assert!(report.finished && report.failure.is_none(), "{report:?}");
        assert_eq!(answered, KeapApplication::of_tenant(Some("AB123")));
        assert_eq!(stage.mirror.rows.borrow().len(), 2);
    });
}
