//! What the object is asked, and who of its methods answers.

use super::Account;
use crate::database::Database;
use crate::route::AccountCall;
use keapsync_domain::failure::Failure;
use keapsync_platform::respond::Answer;

impl Account<'_> {
    /// Answers a call of the worker, which has already checked who asks.
    pub(super) async fn answer(&self, method: &str, resource: &str, body: &[u8]) -> Answer {
        let outcome = match resource {
            "oauth/begin" => self.begin(),
            "oauth/open" => self.open(body),
            "oauth/complete" => self.complete(body).await,
            "oauth/service-key" => self.connect_by_key(body).await,
            "oauth/status" => self.oauth_status(),
            "oauth/refresh" => self.refresh().await,
            "oauth/revoke" => self.revoke().await,
            _ => match AccountCall::parse(method, resource) {
                Ok(call) => self.answer_call(call, body).await,
                Err(_) => Ok(Answer::not_found("there is nothing at this path")),
            },
        };
        outcome.unwrap_or_else(|failure| {
            self.log().warn("call_failed").account(self.id).failure(&failure).emit();
            Answer::failure(&failure)
        })
    }

    async fn answer_call(&self, call: AccountCall, body: &[u8]) -> Result<Answer, Failure> {
        // The hot path checks by itself.
        if call == AccountCall::Events {
            return self.take_events(body).await;
        }
        if !self.is_known()? {
            return Err(self.unknown());
        }
        match call {
            AccountCall::Events => self.take_events(body).await,
            AccountCall::Status => self.status().await,
            AccountCall::Settings => self.show_settings(),
            AccountCall::ChangeSettings => self.change_settings(body).await,
            AccountCall::DeadLetters => self.list_dead_letters().await,
            AccountCall::Replay => self.replay(body).await,
            AccountCall::Discard => self.discard(body).await,
            AccountCall::Pause => self.pause(body),
            AccountCall::Resume => self.resume().await,
            AccountCall::CheckHooks => self.check_hooks().await,
            AccountCall::Runs => self.list_runs(),
            AccountCall::StartRuns => self.start_runs(body).await,
            AccountCall::Run(id) => self.show_run(&id),
            AccountCall::Approve(id) => self.approve_run(&id, body, &Database::new(&self.object.env)).await,
            AccountCall::Cancel(id) => self.cancel_run(&id, &Database::new(&self.object.env)).await,
            AccountCall::Unit => self.take_report(body).await,
            AccountCall::Wake => self.wake().await,
            AccountCall::Token => self.hand_out_token().await,
            AccountCall::LiveTicket => self.live_ticket(),
            AccountCall::Tell => Ok(self.tell_of_others(body)),
            // The worker asks for the feed under other names, by which it says who may have it.
            AccountCall::Live => Ok(Answer::not_found("there is nothing at this path")),
        }
    }
}
