//! Tags, whose pages move while they are read.

use super::{APPROVED, Stage, on_stage, order_of, run_through};
use keapsync_domain::certificate::{DifferenceReason, EntityCertificate};
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::EntityType;
use keapsync_domain::run::{Cursor, RunKind};
use keapsync_keap::transport::{Request, Response, Transport};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Keap with tags alone, in pages of two whose tokens are positions, of which somebody renames one in the middle.
struct Tags {
    names: RefCell<BTreeMap<u64, &'static str>>,
    calls: Cell<usize>,
    /// Before which call, which one, and to what.
    renamed: (usize, u64, &'static str),
    asked: RefCell<Vec<String>>,
}

impl Tags {
    fn new(renamed: (usize, u64, &'static str)) -> Self {
        let names = BTreeMap::from([(1, "alpha"), (2, "beta"), (3, "gamma"), (4, "zeta")]);
        Self { names: RefCell::new(names), calls: Cell::new(0), renamed, asked: RefCell::default() }
    }
}

impl Transport for Tags {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let call = self.calls.replace(self.calls.get() + 1);
        let (at, id, name) = self.renamed;
        if call == at {
            self.names.borrow_mut().insert(id, name);
        }
        let url = request.url;
        let value =
            |name: &str| url.split(name).nth(1).and_then(|rest| rest.split('&').next()).map(str::to_owned);
        let ids = value("tag_ids%3D%3D").map(|ids| ids.replace("%2C", ","));
        let mut tags: Vec<(u64, &str)> = self.names.borrow().iter().map(|(id, name)| (*id, *name)).collect();
        tags.sort_by_key(|(_, name)| *name);
        let from = value("page_token=").map_or(0, |token| token.parse().unwrap());
        let mut token = String::new();
        if let Some(ids) = &ids {
            tags.retain(|(id, _)| ids.split(',').any(|asked| asked == id.to_string()));
        } else {
            tags.drain(..from);
            if tags.len() > 2 {
                tags.truncate(2);
                token = (from + 2).to_string();
            }
        }
        self.asked.borrow_mut().push(url);
        let tags: Value = tags.iter().map(|(id, name)| json!({"id": id.to_string(), "name": name})).collect();
        let body = json!({"tags": tags, "next_page_token": token}).to_string().into_bytes();
        Ok(Response { status: 200, headers: Vec::new(), body })
    }
}

const NEVER: (usize, u64, &str) = (usize::MAX, 0, "");

/// All tags with their rows; then both sides are compared while somebody renames a tag. With what was asked.
fn certified(stage: &Stage<'_>, renamed: (usize, u64, &'static str)) -> (EntityCertificate, Vec<String>) {
    let run = |kind: RunKind, tags: &Tags| {
        let order = order_of(stage, EntityType::Tag, kind, APPROVED, Cursor::default());
        let report = run_through(stage, tags, &order, 1_000);
        assert!(report.finished && report.failure.is_none(), "{report:?}");
    };
    run(RunKind::Full, &Tags::new(NEVER));
    assert_eq!(stage.mirror.rows.borrow().len(), 4);
    let tags = Tags::new(renamed);
    run(RunKind::Verify, &tags);
    let certificate = stage.mirror.certificates.borrow().last().cloned().unwrap();
    (certificate, tags.asked.take())
}

#[test]
fn a_tag_renamed_between_its_page_and_its_row_is_not_called_equal() {
    // The four pages of two passes, then the list of the tags that have rows.
    let first_of_rows = 4;
    on_stage(|stage| {
        let (certificate, asked) = certified(stage, NEVER);
        assert!(certificate.equal && certificate.keap_count == 4, "{certificate:?}");
        assert!(asked[first_of_rows].contains("tag_ids"), "{asked:?}");
        assert!(asked[..first_of_rows].iter().all(|asked| !asked.contains("tag_ids")), "{asked:?}");
    });
    // On its page it was still equal, when its row's turn comes it is not; or it lay on no page at all.
    for before_call in [first_of_rows - 1, first_of_rows] {
        on_stage(|stage| {
            let (certificate, _) = certified(stage, (before_call, 1, "omega"));
            assert!(!certificate.equal, "{before_call}: {certificate:?}");
            assert_eq!(certificate.differing_count, 1, "{certificate:?}");
            let difference = &certificate.differences[0];
            assert_eq!(difference.keap_id.as_deref(), Some("1"));
            assert_eq!(
                (difference.reason, difference.fields.as_slice()),
                (DifferenceReason::Differs, ["name".to_owned()].as_slice())
            );
        });
    }
}
