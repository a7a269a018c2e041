//! Contacts as Keap sends them: the simulator's, read page by page as a full sync reads them.

use anyhow::{Context as _, Result, anyhow};
use keapsync_domain::failure::Failure;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::secret::Secret;
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::caller::Range;
use keapsync_keap::contacts::ContactsApi;
use keapsync_keap::transport::{Credential, Request, Response, Transport};
use reqwest::Client;

use crate::artifacts;
use crate::ports::{PortNumbers, Ports};
use crate::process::{Lifetime, Service, StopSignal};
use crate::scratch_postgres::state_dir;
use crate::status::keap_key;
use crate::system::DEV_ACCOUNT;
use crate::workspace::Workspace;
use crate::{http, subprocess};

/// The seed: every benchmark works on the same contacts.
const SEED: &str = "7";

/// How long the simulator may take to make its contacts.
const START_LIMIT: std::time::Duration = std::time::Duration::from_mins(2);

/// Pages of contacts in order of id, each as long as a page of a full sync.
pub async fn pages(workspace: &Workspace, contacts: u32) -> Result<Vec<Vec<RemoteRecord>>> {
    let program = artifacts::ensure_keap_sim(workspace)?;
    let port = PortNumbers::choose(Ports::Free)?.keap;
    let log = state_dir(workspace, "bench-database")?.join("keap-sim.log");
    let mut command = std::process::Command::new(program);
    command
        .args(["--listen", &format!("127.0.0.1:{port}"), "--no-quota", "--seed", SEED])
        .args(["--contacts", &contacts.to_string()]);
    let mut service =
        Service::start("keap-sim", &mut command, &log, Lifetime::WithParent, StopSignal::Terminate)?;
    let outcome = read(&mut service, &format!("http://127.0.0.1:{port}")).await;
    service.stop();
    outcome
}

async fn read(service: &mut Service, origin: &str) -> Result<Vec<Vec<RemoteRecord>>> {
    let deadline = tokio::time::Instant::now() + START_LIMIT;
    let key = loop {
        match keap_key(origin).await {
            Ok(key) => break Secret::new(key),
            Err(error) if !service.is_running() || tokio::time::Instant::now() > deadline => {
                let log = subprocess::last_lines_of_file(&service.record().log, 10);
                return Err(error).with_context(|| format!("the Keap simulator did not start:\n{log}"));
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    };
    let transport = Http(http::client()?);
    let base_url = format!("{origin}/crm");
    let keap =
        ContactsApi { transport: &transport, base_url: &base_url, access_token: &key, link_field: None };
    let observed_at = Timestamp(jiff::Timestamp::now().as_millisecond());
    let mut pages = Vec::new();
    let mut last_id: Option<String> = None;
    loop {
        let page = keap
            .list_after(Range { after_id: last_id.as_deref(), since: None }, observed_at)
            .await
            .map_err(|failure| anyhow!("the simulated Keap gave no page of {DEV_ACCOUNT}: {failure}"))?;
        if page.contacts.is_empty() {
            return Ok(pages);
        }
        last_id = page.last_id;
        pages.push(page.contacts);
    }
}

/// Requests without any limit or retry.
struct Http(Client);

impl Transport for Http {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let mut outgoing = self.0.get(&request.url);
        if let Credential::Bearer(token) = &request.credential {
            outgoing = outgoing.bearer_auth(token.reveal());
        }
        let unreachable = |error: reqwest::Error| {
            Failure::new(keapsync_domain::failure::FailureClass::Unavailable, error.to_string())
        };
        let answer = outgoing.send().await.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(unreachable)?.to_vec();
        Ok(Response { status, headers: Vec::new(), body })
    }
}
