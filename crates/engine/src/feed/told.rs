//! What is told of a change of state: the difference between what was stored and what is.

use crate::quota::Priority;
use keapsync_domain::feed::{FeedError, FeedEvent, RunNamed};
use keapsync_domain::run::{Run, RunState};

/// What is told of a run that was stored as `before` and is `after` now; nothing where only its bookkeeping moved.
#[must_use]
pub fn run_event(before: Option<&Run>, after: &Run) -> Option<FeedEvent> {
    let run = RunNamed {
        run_id: after.id.clone(),
        batch_id: after.batch_id.clone(),
        kind: after.kind,
        entity: after.entity,
    };
    let was = before.map(|before| before.state);
    if was == Some(after.state) {
        let has_moved =
            before.is_some_and(|before| before.counts != after.counts || before.progress != after.progress);
        return (has_moved && !after.state.is_final()).then(|| FeedEvent::RunProgressed {
            run,
            counts: after.counts,
            percent: after.progress.map(|progress| progress.percent),
            done_at: after.progress.and_then(|progress| progress.done_at),
        });
    }
    match (was, after.state) {
        (_, RunState::Completed | RunState::Failed) => {
            let ended_at = after.finished_at.unwrap_or(after.requested_at);
            Some(FeedEvent::RunEnded {
                run,
                state: after.state,
                counts: after.counts,
                duration_ms: ended_at.since_ms(after.requested_at).max(0),
                error: after
                    .error
                    .as_ref()
                    .filter(|_| after.state == RunState::Failed)
                    .map(|failure| FeedError { class: failure.class, message: failure.message.clone() }),
            })
        }
        (_, RunState::AwaitingApproval) => Some(FeedEvent::RunAwaitsApproval { run, planned: after.planned }),
        (Some(RunState::AwaitingApproval), _) => Some(FeedEvent::RunApproved { run }),
        (None, _) => Some(FeedEvent::RunStarted { run, direction: after.direction, dry_run: after.dry_run }),
        (Some(_), _) => None,
    }
}

/// Work of this priority waits for quota.
#[must_use]
pub fn quota_throttled(priority: Priority, retry_after_ms: i64) -> FeedEvent {
    let priority = match priority {
        Priority::Person => "person",
        Priority::Hook => "hook",
        Priority::Outbox => "outbox",
        Priority::Poll => "poll",
        Priority::Backfill => "backfill",
    };
    FeedEvent::QuotaThrottled { priority: priority.to_owned(), times: 1, retry_after_ms }
}
