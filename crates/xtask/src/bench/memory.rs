//! How much memory the workers take during a full sync, and how large they are on their way to a data centre.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::processes::{self, Memory, Part};
use super::report::{Measurement, Target};
use super::testbed::Testbed;
use crate::worker_build::{self, GZIPPED_BYTES_MAX, Worker};
use crate::workspace::Workspace;

/// Contacts that are synced while memory is watched.
pub const CONTACTS: u32 = 100_000;

/// How often memory is read.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// The memory that the platform gives a worker, in bytes.
const WORKER_BYTES_MAX: f64 = 128e6;

/// Bytes per megabyte, as the platform's limits are given.
pub(super) const MEGABYTE: f64 = 1e6;

/// The gauge of a worker's WebAssembly memory.
pub(super) const WASM_MEMORY: &str = "keapsync_wasm_memory_bytes";

/// Measures during a full sync of a fresh system.
pub async fn measure(workspace: &Workspace, testbed: &Testbed, measurement: &mut Measurement) -> Result<()> {
    measurement.condition(format!(
        "a fresh system; memory is read every {} ms during a full sync of {} contacts; RSS and PSS are those of the whole \
         workerd process, the runtime and its JavaScript engine included, of which only the worker's own part counts \
         towards the platform's limit; that part is bounded by the growth and by the WebAssembly memory, which never shrinks",
        SAMPLE_INTERVAL.as_millis(),
        testbed.keap.contacts().await?
    ));
    let watched = processes::worker_processes(&testbed.parts());
    measurement.check("workers run", !watched.is_empty(), format!("in {} processes", watched.len()));
    let before: BTreeMap<String, Memory> =
        watched.iter().filter_map(|part| Some((part.name.clone(), processes::memory(part.pid)?))).collect();
    let watch = Watch::start(watched);
    let outcome = testbed.full_sync().await;
    let peaks = watch.end()?;
    let run = outcome?;
    measurement.check_equal("records read", run.read, u64::from(CONTACTS));

    for (name, peak) in &peaks {
        let start = before.get(name).copied().unwrap_or_default();
        measurement.figure(format!("{name}: RSS before"), start.resident_bytes / MEGABYTE, "MB");
        measurement.figure(format!("{name}: RSS peak"), peak.resident_bytes / MEGABYTE, "MB");
        measurement.figure(format!("{name}: PSS peak"), peak.proportional_bytes / MEGABYTE, "MB");
        let growth = (peak.resident_bytes - start.resident_bytes).max(0.0);
        measurement.figure_with_target(
            format!("{name}: RSS growth"),
            growth / MEGABYTE,
            "MB",
            Target::Under(WORKER_BYTES_MAX / MEGABYTE),
        );
    }
    for worker in [Worker::Coordinator, Worker::Sync] {
        let metrics = testbed.metrics(worker).await?;
        let bytes = gauge(&metrics, WASM_MEMORY)
            .with_context(|| format!("{} tells no {WASM_MEMORY}: {metrics}", worker.name()))?;
        measurement.figure_with_target(
            format!("{}: WebAssembly memory", worker.name()),
            bytes / MEGABYTE,
            "MB",
            Target::Under(WORKER_BYTES_MAX / MEGABYTE),
        );
    }
    sizes(workspace, measurement)
}

/// A watch over the memory of processes, on a thread of its own.
#[derive(Debug)]
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<String, Memory>>,
}

impl Watch {
    /// Begins to watch.
    pub(super) fn start(watched: Vec<Part>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let over = Arc::clone(&over);
            move || peaks(&watched, &over)
        });
        Self { over, thread }
    }

    /// Ends, and tells the largest memory of each process.
    pub(super) fn end(self) -> Result<BTreeMap<String, Memory>> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the watch over memory broke down")
    }
}

/// The largest memory of each process until `over`.
fn peaks(watched: &[Part], over: &AtomicBool) -> BTreeMap<String, Memory> {
    let mut peaks: BTreeMap<String, Memory> = BTreeMap::new();
    loop {
        // The last reading comes after the end, so that even the shortest sync is seen.
        let last = over.load(Ordering::Relaxed);
        for part in watched {
            let Some(now) = processes::memory(part.pid) else { continue };
            let peak = peaks.entry(part.name.clone()).or_default();
            peak.resident_bytes = peak.resident_bytes.max(now.resident_bytes);
            peak.proportional_bytes = peak.proportional_bytes.max(now.proportional_bytes);
        }
        if last {
            return peaks;
        }
        std::thread::sleep(SAMPLE_INTERVAL);
    }
}

fn sizes(workspace: &Workspace, measurement: &mut Measurement) -> Result<()> {
    for worker in Worker::ALL {
        let bytes =
            u32::try_from(worker_build::gzipped_size(workspace, worker)?).context("a worker of gigabytes")?;
        let limit = u32::try_from(GZIPPED_BYTES_MAX).context("a limit of gigabytes")?;
        measurement.figure_with_target(
            format!("{}: wasm and JavaScript, gzipped", worker.name()),
            f64::from(bytes) / 1e3,
            "kB",
            Target::Under(f64::from(limit) / 1e3),
        );
    }
    Ok(())
}

/// The value of a gauge in Prometheus' text form.
pub(super) fn gauge(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with(['{', ' ']) {
            return None;
        }
        rest.rsplit(' ').next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_read_with_and_without_labels() {
        let metrics = "# TYPE keapsync_wasm_memory_bytes gauge\nkeapsync_wasm_memory_bytes_max 9\n\
                       keapsync_wasm_memory_bytes{worker=\"sync\"} 2097152\nother 3\n";
        assert_eq!(gauge(metrics, WASM_MEMORY), Some(2_097_152.0));
        assert_eq!(gauge(metrics, "other"), Some(3.0));
        assert_eq!(gauge(metrics, "missing"), None);
    }

    #[test]
    fn peaks_are_read_at_least_once() {
        let own = Part { name: "own".to_owned(), pid: i32::try_from(std::process::id()).unwrap() };
        let found = peaks(&[own], &AtomicBool::new(true));
        assert!(found["own"].resident_bytes > 0.0);
    }
}
