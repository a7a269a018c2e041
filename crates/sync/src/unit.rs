//! One unit, from its order to its report.

use keapsync_domain::failure::Failure;
use keapsync_domain::run::RunKind;
use keapsync_domain::wire::{UnitOrder, UnitReport};
use keapsync_engine::metered::MeteredTransport;
use keapsync_engine::paced::PacedTransport;
use keapsync_engine::ports::Clock as _;
use keapsync_engine::undo::run_reversal;
use keapsync_engine::unit::run_unit;
use keapsync_engine::world::World;
use keapsync_keap::caller::Caller;
use keapsync_keap::records::{Links, RecordsApi};
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::config::SyncConfig;
use keapsync_platform::coordinator_client::CoordinatorClient;
use keapsync_platform::entropy::random_u32;
use keapsync_platform::hyperdrive::{self, HYPERDRIVE_BINDING};
use keapsync_platform::keap_transport::KeapTransport;
use keapsync_store::{PairedStore, Store};
use worker::Env;

/// Works on a unit and reports it. A report that cannot be delivered is only logged: the coordinator's lease on the unit
/// ends by itself, and the unit is ordered again.
pub(crate) async fn work(env: &Env, config: &SyncConfig, order: &UnitOrder) {
    let log = config.common.log;
    let started_at = WorkerClock.now();
    let report = match attempt(env, config, order).await {
        Ok(report) => report,
        Err(failure) => UnitReport { failure: Some(failure), ..UnitReport::begun(order) },
    };
    let duration_ms = WorkerClock.now().since_ms(started_at);
    let line = log.info("unit_done").account(&order.account).run_id(&order.run_id).duration_ms(duration_ms);
    let line = line.count("read", report.counts.read).count("calls", u64::from(report.calls));
    match &report.failure {
        Some(failure) => line.failure(failure).emit(),
        None => line.emit(),
    }
    let coordinator = CoordinatorClient::new(env, &config.common.internal_token);
    if let Err(failure) = coordinator.report_unit(&order.account, &report).await {
        log.error("unit_report_undelivered")
            .account(&order.account)
            .run_id(&order.run_id)
            .failure(&failure)
            .emit();
    }
}

async fn attempt(env: &Env, config: &SyncConfig, order: &UnitOrder) -> Result<UnitReport, Failure> {
    let reads = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let writes = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let store = PairedStore::new(Store::new(&reads), Store::new(&writes));
    if order.kind == RunKind::Revert {
        return Ok(run_reversal(store.writes(), &WorkerClock, order).await);
    }
    let (clock, transport) =
        (WorkerClock, MeteredTransport::new(KeapTransport, order.grant.application.clone()));
    let paced =
        PacedTransport::new(&transport, &clock, order.grant.calls_max, order.grant.calls_per_second_max)
            .until(order.grant.expires_at);
    let caller = Caller {
        transport: &paced,
        base_url: &config.keap_api_base_url,
        access_token: &order.grant.access_token,
    };
    let api = RecordsApi::new(caller, Links::of(&order.grant.link_fields));
    let world = World {
        keap: &api,
        store: &store,
        clock: &clock,
        account: &order.account,
        settings: &order.settings,
        entropy: random_u32()?,
    };
    let report = run_unit(&world, order).await;
    Ok(UnitReport { quota: transport.told(), application: transport.application(), ..report })
}
