//! Starting, stopping and restarting single parts of a system.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::health::{KEAP_START_LIMIT, Readiness, WORKER_START_LIMIT, wait_for_answer};
use super::{KEAP_PART, KeapSource, POOLER_PART, POSTGRES_PART, System, WORKERS_PART, WorkerRuntime};
use crate::one_workerd::OneWorkerd;
use crate::process::{Service, StopSignal};
use crate::worker_build::Worker;
use crate::wrangler_dev::WorkerProcess;

/// The account that `dev` connects, and whose signed deliveries name no account.
pub const DEV_ACCOUNT: &str = "demo";

impl System {
    /// Starts Postgres (again) and waits until it answers.
    pub async fn start_postgres(&mut self) -> Result<()> {
        let embedded = self.embedded.as_ref().context("this system uses a Postgres of somebody's own")?;
        let service = embedded.start(&self.log(POSTGRES_PART), self.options.lifetime).await?;
        self.services.insert(POSTGRES_PART.to_owned(), service);
        self.record()
    }

    /// Stops Postgres and leaves everything else running.
    #[expect(clippy::unused_async, reason = "stopping is awaited like every other step of a system's life")]
    pub async fn stop_postgres(&mut self) -> Result<()> {
        self.stop_part(POSTGRES_PART)
    }

    /// Starts the pooler (again) and waits until it answers.
    pub async fn start_pooler(&mut self) -> Result<()> {
        let pooler = self.pooler.as_ref().context("this system's workers reach Postgres directly")?;
        let service = pooler.start(POOLER_PART, &self.log(POOLER_PART), self.options.lifetime).await?;
        self.services.insert(POOLER_PART.to_owned(), service);
        self.record()
    }

    /// Stops the pooler, so that the workers reach no Postgres, and leaves everything else running.
    #[expect(clippy::unused_async, reason = "stopping is awaited like every other step of a system's life")]
    pub async fn stop_pooler(&mut self) -> Result<()> {
        self.stop_part(POOLER_PART)
    }

    /// Stops the simulated Keap; what it held is gone with it.
    #[expect(clippy::unused_async, reason = "stopping is awaited like every other step of a system's life")]
    pub async fn stop_keap(&mut self) -> Result<()> {
        self.stop_part(KEAP_PART)
    }

    /// Stops one worker and leaves everything else running.
    #[expect(clippy::unused_async, reason = "stopping is awaited like every other step of a system's life")]
    pub async fn stop_worker(&mut self, name: &str) -> Result<()> {
        self.stop_part(worker_named(name)?.name())
    }

    /// Starts one worker (again) and waits until it is healthy.
    pub async fn start_worker(&mut self, name: &str) -> Result<()> {
        let worker = worker_named(name)?;
        self.launch_worker(worker)?;
        self.record()?;
        self.wait_for_worker(worker).await
    }

    /// Kills one worker in whatever it is doing and starts it again.
    pub async fn restart_worker(&mut self, name: &str) -> Result<()> {
        self.stop_worker(name).await?;
        self.start_worker(name).await
    }

    /// Kills all workers, which are one process, and leaves them dead.
    #[expect(clippy::unused_async, reason = "stopping is awaited like every other step of a system's life")]
    pub async fn kill_workers(&mut self) -> Result<()> {
        let service = self.services.remove(WORKERS_PART).context("the workers do not run as one process")?;
        service.kill();
        self.record()
    }

    /// Starts all workers as one process (again), with what they had stored, and waits until they are healthy.
    pub async fn start_workers(&mut self) -> Result<()> {
        self.launch_all_workers()?;
        self.record()?;
        for worker in Worker::ALL {
            self.wait_for_worker(worker).await?;
        }
        Ok(())
    }

    /// Kills a worker as a crash does, and starts it again with what it had stored. Where all workers are one process, all of
    /// them die; where not, the others are restarted after it, so that they find it.
    pub async fn crash_worker(&mut self, worker: Worker) -> Result<()> {
        let (part, died) = match self.options.runtime {
            WorkerRuntime::WranglerDev => (worker.name(), vec![worker]),
            WorkerRuntime::OneWorkerd => (WORKERS_PART, Worker::ALL.to_vec()),
        };
        let service = self.services.remove(part).with_context(|| format!("{part} is not running"))?;
        service.kill();
        match self.options.runtime {
            WorkerRuntime::WranglerDev => self.launch_worker(worker)?,
            WorkerRuntime::OneWorkerd => self.launch_all_workers()?,
        }
        self.record()?;
        for worker in died {
            self.wait_for_worker(worker).await?;
        }
        match self.options.runtime {
            // The others would go on calling the process that was killed for minutes: wrangler's registry does not see it die.
            WorkerRuntime::WranglerDev => {
                for other in Worker::ALL.into_iter().filter(|other| *other != worker) {
                    self.restart_worker(other.name()).await?;
                }
                Ok(())
            }
            WorkerRuntime::OneWorkerd => Ok(()),
        }
    }

    fn stop_part(&mut self, name: &str) -> Result<()> {
        match self.services.remove(name) {
            Some(service) => {
                service.stop();
                self.record()
            }
            None => bail!("{name} is not running"),
        }
    }

    pub(super) fn launch_keap(&mut self) -> Result<()> {
        let mut command = Command::new(&self.artifacts.keap_sim);
        command
            .args(["--listen", &format!("127.0.0.1:{}", self.ports.keap)])
            .args(["--contacts", &self.options.contacts.to_string()])
            .args(["--seed", &self.options.seed.to_string()])
            .args(["--time-scale", &self.options.time_scale.to_string()])
            .args(["--client-id", &self.secrets.keap_client_id])
            .args(["--client-secret", &self.secrets.keap_client_secret])
            .args(&self.options.keap_sim_arguments)
            .current_dir(&self.state_dir);
        let log = self.log(KEAP_PART);
        let service =
            Service::start(KEAP_PART, &mut command, &log, self.options.lifetime, StopSignal::Terminate)?;
        self.services.insert(KEAP_PART.to_owned(), service);
        Ok(())
    }

    fn worker_port(&self, worker: Worker) -> u16 {
        match worker {
            Worker::Coordinator => self.ports.coordinator,
            Worker::Webhook => self.ports.webhook,
            Worker::Sync => self.ports.sync,
        }
    }

    /// Starts all workers in one process.
    pub(super) fn launch_all_workers(&mut self) -> Result<()> {
        let workers = Worker::ALL
            .into_iter()
            .map(|worker| (worker, self.worker_port(worker), self.worker_variables(worker)))
            .collect();
        let process = OneWorkerd {
            root: self.workspace.root(),
            state_dir: &self.state_dir,
            engine_database_url: &self.urls.engine_database,
            workers,
        };
        let mut command = process.command(&self.artifacts.node)?;
        let log = self.log(WORKERS_PART);
        let service =
            Service::start(WORKERS_PART, &mut command, &log, self.options.lifetime, StopSignal::Terminate)?;
        self.services.insert(WORKERS_PART.to_owned(), service);
        Ok(())
    }

    pub(super) fn launch_worker(&mut self, worker: Worker) -> Result<()> {
        let [coordinator, webhook, sync] = self.ports.inspectors;
        let inspector_port = match worker {
            Worker::Coordinator => coordinator,
            Worker::Webhook => webhook,
            Worker::Sync => sync,
        };
        let port = self.worker_port(worker);
        let process = WorkerProcess {
            worker,
            root: self.workspace.root(),
            state_dir: &self.state_dir,
            port,
            inspector_port,
            variables: &self.worker_variables(worker),
            engine_database_url: &self.urls.engine_database,
        };
        let mut command = process.command(&self.artifacts.node)?;
        let log = self.log(worker.name());
        let service =
            Service::start(worker.name(), &mut command, &log, self.options.lifetime, StopSignal::Terminate)?;
        self.services.insert(worker.name().to_owned(), service);
        Ok(())
    }

    pub(super) async fn wait_for_keap(&mut self) -> Result<()> {
        let url = format!("{}/sim/health", self.urls.keap);
        let service = self.services.get_mut(KEAP_PART).context("the simulator was not started")?;
        wait_for_answer(service, &url, Readiness::Success, KEAP_START_LIMIT).await
    }

    /// Waits until a worker is healthy, which needs the others.
    pub(super) async fn wait_for_worker(&mut self, worker: Worker) -> Result<()> {
        self.wait_for(worker, Readiness::Success).await
    }

    /// Waits until a worker runs, healthy or not.
    pub(super) async fn wait_until_worker_runs(&mut self, worker: Worker) -> Result<()> {
        self.wait_for(worker, Readiness::AnyAnswer).await
    }

    async fn wait_for(&mut self, worker: Worker, readiness: Readiness) -> Result<()> {
        let base = match worker {
            Worker::Coordinator => &self.urls.coordinator,
            Worker::Webhook => &self.urls.webhook,
            Worker::Sync => &self.urls.sync,
        };
        let url = format!("{base}/health");
        let part = match self.options.runtime {
            WorkerRuntime::WranglerDev => worker.name(),
            WorkerRuntime::OneWorkerd => WORKERS_PART,
        };
        let service = self.services.get_mut(part).context("a worker was not started")?;
        wait_for_answer(service, &url, readiness, WORKER_START_LIMIT).await
    }

    fn log(&self, part: &str) -> std::path::PathBuf {
        self.logs_dir().join(format!("{part}.log"))
    }

    /// The variables and secrets of one worker.
    fn worker_variables(&self, worker: Worker) -> BTreeMap<String, String> {
        let urls = &self.urls;
        let secrets = &self.secrets;
        let mut variables = BTreeMap::new();
        let mut set = |name: &str, value: &str| {
            variables.insert(name.to_owned(), value.to_owned());
        };
        set("ADMIN_API_TOKEN", &secrets.admin_api_token);
        set("INTERNAL_TOKEN", &secrets.internal_token);
        set("LOG_LEVEL", &log_level());
        if worker != Worker::Sync {
            set("KEAP_WEBHOOK_SECRET", &secrets.keap_webhook_secret);
        }
        if worker != Worker::Webhook {
            set("KEAP_API_BASE_URL", &urls.keap_api);
        }
        match worker {
            Worker::Coordinator => {
                set("WAKE_TOKEN", &secrets.wake_token);
                set("KEAP_REDIRECT_URI", &format!("{}/oauth/callback", urls.coordinator));
                set("WEBHOOK_PUBLIC_URL", &urls.webhook);
                set("TOKEN_ENCRYPTION_KEY", &secrets.token_encryption_key);
                set("OUTBOX_POLL_INTERVAL_MAX_MS", "1000");
                if let KeapSource::Real { client_id, client_secret, .. } = &self.options.keap {
                    set("KEAP_CLIENT_ID", client_id);
                    set("KEAP_CLIENT_SECRET", client_secret);
                } else {
                    set("KEAP_CLIENT_ID", &secrets.keap_client_id);
                    set("KEAP_CLIENT_SECRET", &secrets.keap_client_secret);
                    set("KEAP_AUTHORIZE_URL", &format!("{}/app/oauth/authorize", urls.keap));
                    set("KEAP_TOKEN_URL", &format!("{}/token", urls.keap));
                }
            }
            Worker::Webhook => set("DEFAULT_ACCOUNT_ID", DEV_ACCOUNT),
            Worker::Sync => {}
        }
        variables.extend(self.options.worker_variables.get(&worker).cloned().unwrap_or_default());
        variables
    }
}

/// How much the workers log: `LOG_LEVEL` of the command that starts them.
fn log_level() -> String {
    std::env::var("LOG_LEVEL").ok().filter(|level| !level.is_empty()).unwrap_or_else(|| "info".to_owned())
}

fn worker_named(name: &str) -> Result<Worker> {
    Worker::ALL
        .into_iter()
        .find(|worker| worker.name() == name)
        .with_context(|| format!("there is no worker {name}: use coordinator, webhook or sync"))
}
