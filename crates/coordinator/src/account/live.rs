//! The live feed: events as they happen, to whoever watches.
//!
//! [`Feed::tell`] gathers events for a moment and flushes them: one row of the ring, and a message to every socket, in one step
//! without an await. A client's catch-up is read and sent in the step in which its socket is accepted. So no event falls between
//! the two, and none comes twice.
//!
//! Sockets hibernate: all that is known of one is its attachment. What memory holds may vanish: the gathering events, which have
//! no number yet, and the end of the ring, which is read again. Of what people wait for nothing gathers: it is flushed in the
//! step that made it true. To tell never fails the work that is told of.

use super::{Account, ObjectState, split_object_path, time_now};
use crate::route::value_of;
use crate::storage::Sql;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::feed::{FeedEvent, FeedExtent, FeedGreeting, FeedTicket};
use keapsync_domain::ids::AccountId;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::ConflictResolvedRequest;
use keapsync_engine::feed::{
    CatchUp, Closing, Gathering, RingEnd, SOCKETS_MAX, Said, UNWATCHED_WINDOW_MS, WATCHED_WINDOW_MS,
    catch_up, closing, said,
};
use keapsync_platform::clock::sleep_ms;
use keapsync_platform::entropy::random_token;
use keapsync_platform::log::Log;
use keapsync_platform::respond::Answer;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use worker::js_sys::{Date, Function, Reflect};
use worker::wasm_bindgen::{JsCast as _, JsValue};
use worker::{Request, Response, State, WebSocket, WebSocketPair, WebSocketRequestResponsePair};

/// How long a ticket lives unused, in milliseconds.
const TICKET_TTL_MS: i64 = 60_000;

/// Least time between two questions of one socket for what it missed, in milliseconds.
const SINCE_INTERVAL_MS: i64 = 5_000;

/// When to try again where every place is taken, in milliseconds.
const FULL_RETRY_MS: i64 = 30_000;

/// Events of one page of the plain HTTP answer, unless asked otherwise, and at most.
const PAGE_EVENTS_DEFAULT: usize = 500;
const PAGE_EVENTS_MAX: usize = 1_000;

/// What is known of a socket, also after the object slept.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Attachment {
    opened_at: Timestamp,
    /// When it last asked for what it had missed.
    asked_at: Option<Timestamp>,
}

/// The feed of one account.
pub(super) struct Feed {
    state: State,
    sql: Sql,
    gathering: RefCell<Gathering>,
    /// Whether a flush is on its way.
    is_flush_due: Cell<bool>,
    /// Where the ring ends, as far as this instance knows.
    end: Cell<Option<RingEnd>>,
    /// Whether there are sockets, as far as this instance knows.
    is_watched: Cell<Option<bool>>,
}

impl Feed {
    pub(super) fn new(state: State, sql: Sql) -> Self {
        Self {
            state,
            sql,
            gathering: RefCell::default(),
            is_flush_due: Cell::new(false),
            end: Cell::new(None),
            is_watched: Cell::new(None),
        }
    }

    fn tell(self: &Rc<Self>, event: FeedEvent, now: Timestamp, account: &AccountId, log: Log) {
        let is_due = self.gathering.borrow_mut().add(event, now);
        if is_due {
            note(self.flush(now), account, log);
        } else if !self.is_flush_due.replace(true) {
            let window_ms = if self.is_watched() { WATCHED_WINDOW_MS } else { UNWATCHED_WINDOW_MS };
            let (feed, account) = (Rc::clone(self), account.clone());
            self.state.wait_until(async move {
                sleep_ms(window_ms).await;
                note(feed.flush(time_now()), &account, log);
            });
        }
    }

    /// Writes what has gathered and sends it.
    fn flush(&self, now: Timestamp) -> Result<(), Failure> {
        self.is_flush_due.set(false);
        let events = self.gathering.borrow_mut().take();
        let Some((end, flush)) = self.end()?.append(events) else { return Ok(()) };
        if let Err(failure) = self.sql.write_flush(&flush) {
            self.end.set(None);
            return Err(failure);
        }
        self.end.set(Some(end));
        if self.is_watched() {
            for socket in self.sockets(now) {
                let sent = flush.body.lines().try_for_each(|line| socket.send_with_str(line));
                if sent.is_err() {
                    // The client is gone; the runtime tells so by itself, sooner or later.
                    let _ = socket.close(Some(1011), Some("a message could not be sent"));
                }
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<RingEnd, Failure> {
        if let Some(end) = self.end.get() {
            return Ok(end);
        }
        let end = self.sql.feed_end()?;
        self.end.set(Some(end));
        Ok(end)
    }

    fn is_watched(&self) -> bool {
        if let Some(is_watched) = self.is_watched.get() {
            return is_watched;
        }
        let is_watched = !self.state.get_websockets().is_empty();
        self.is_watched.set(Some(is_watched));
        is_watched
    }

    /// The sockets that are to be fed. Those that are old or silent are closed.
    fn sockets(&self, now: Timestamp) -> Vec<WebSocket> {
        let mut sockets = self.state.get_websockets();
        sockets.retain(|socket| {
            let Ok(Some(Attachment { opened_at, .. })) = socket.deserialize_attachment() else { return true };
            match closing(opened_at, self.heard_at(socket), now) {
                Some(closing) => {
                    close(socket, closing);
                    false
                }
                None => true,
            }
        });
        self.is_watched.set(Some(!sockets.is_empty()));
        sockets
    }

    /// When the runtime last answered a ping of this socket; it does so without waking the object.
    fn heard_at(&self, socket: &WebSocket) -> Option<Timestamp> {
        let state: &JsValue = self.state.as_raw().as_ref();
        let name = JsValue::from_str("getWebSocketAutoResponseTimestamp");
        let function: Function = Reflect::get(state, &name).ok()?.dyn_into().ok()?;
        let date: Date = function.call1(state, socket.as_ref()).ok()?.dyn_into().ok()?;
        #[expect(clippy::cast_possible_truncation, reason = "a date is a whole number of milliseconds")]
        let moment_ms = date.get_time() as i64;
        Some(Timestamp(moment_ms))
    }

    /// What a client is sent that has everything up to `since`.
    fn plan(&self, since: Option<u64>) -> Result<CatchUp, Failure> {
        Ok(catch_up(since, self.sql.feed_first_kept()?, self.end()?.newest))
    }

    /// Sends a client the greeting and what it missed.
    fn catch_up(&self, socket: &WebSocket, since: Option<u64>) -> Result<(), Failure> {
        let CatchUp { greeting, after } = self.plan(since)?;
        let send = |line: &str| socket.send_with_str(line).is_ok();
        if send(&crate::storage::to_json(&greeting)?) {
            self.each_after(after, |line| send(line))?;
        }
        Ok(())
    }

    /// Hands out the kept events behind `after`, until `take` wants no more.
    fn each_after(&self, mut after: u64, mut take: impl FnMut(&str) -> bool) -> Result<(), Failure> {
        loop {
            let flushes = self.sql.feed_after(after)?;
            let Some(last) = flushes.last() else { return Ok(()) };
            let behind = last.last;
            for flush in &flushes {
                for line in flush.lines_after(after) {
                    if !take(line) {
                        return Ok(());
                    }
                }
            }
            after = behind;
        }
    }

    /// Accepts a client.
    fn listen(&self, since: Option<u64>, now: Timestamp) -> Result<Response, Failure> {
        let pair = WebSocketPair::new().map_err(|_| no_socket())?;
        if let Ok(pair) = WebSocketRequestResponsePair::new("ping", "pong") {
            self.state.set_websocket_auto_response(&pair);
        }
        self.state.accept_web_socket(&pair.server);
        self.is_watched.set(Some(true));
        let attachment = Attachment { opened_at: now, asked_at: None };
        pair.server.serialize_attachment(attachment).map_err(|_| no_socket())?;
        self.catch_up(&pair.server, since)?;
        Response::from_websocket(pair.client).map_err(|_| no_socket())
    }

    /// The events behind `since` as one answer.
    fn page(&self, since: Option<u64>, limit: usize) -> Result<String, Failure> {
        let first_kept = self.sql.feed_first_kept()?;
        let since = since.or_else(|| first_kept.map(|first| first.saturating_sub(1))).or(Some(0));
        let CatchUp { greeting, after } = self.plan(since)?;
        let reset = matches!(greeting, FeedGreeting::Reset(_));
        let (FeedGreeting::Hello(extent) | FeedGreeting::Reset(extent)) = greeting;
        let FeedExtent { version, first_kept, newest } = extent;
        let mut events = String::new();
        let mut left = limit;
        self.each_after(after, |line| {
            if !events.is_empty() {
                events.push(',');
            }
            events.push_str(line);
            left = left.saturating_sub(1);
            left > 0
        })?;
        Ok(format!(
            "{{\"version\":{version},\"first_kept\":{first_kept},\"newest\":{newest},\"reset\":{reset},\"events\":[{events}]}}"
        ))
    }

    /// Which events there are; a client that has read the status goes on behind the newest.
    pub(super) fn extent(&self) -> Result<FeedExtent, Failure> {
        let (FeedGreeting::Hello(extent) | FeedGreeting::Reset(extent)) = self.plan(None)?.greeting;
        Ok(extent)
    }

    fn hear(&self, socket: &WebSocket, text: &str, now: Timestamp) -> Result<(), Failure> {
        match said(text) {
            // Answered by the runtime as a rule, without waking anybody.
            Some(Said::Ping) => {
                let _ = socket.send_with_str("pong");
            }
            Some(Said::Since(since)) => {
                let known: Option<Attachment> = socket.deserialize_attachment().ok().flatten();
                let known = known.unwrap_or(Attachment { opened_at: now, asked_at: None });
                if known.asked_at.is_some_and(|asked_at| now.since_ms(asked_at) < SINCE_INTERVAL_MS) {
                    close(socket, Closing::TooOften);
                    return Ok(());
                }
                socket
                    .serialize_attachment(Attachment { asked_at: Some(now), ..known })
                    .map_err(|_| no_socket())?;
                self.catch_up(socket, Some(since))?;
            }
            None => close(socket, Closing::NotUnderstood),
        }
        Ok(())
    }
}

impl ObjectState {
    /// Answers one call of the worker; the live feed's as a socket where one is asked for.
    pub async fn respond(&self, request: &mut Request) -> worker::Result<Response> {
        let path = request.path();
        let (Some((id, resource)), Ok(config)) = (split_object_path(&path), &self.config) else {
            return self.answer(request).await?.into_response();
        };
        let account = Account { object: self, id: &id, config };
        // Every delivery comes this way, too: what only the feed needs is not read for it.
        let query = || -> worker::Result<Vec<(String, String)>> {
            Ok(request.url()?.query_pairs().into_owned().collect())
        };
        let outcome = match resource {
            "live/ticketed" => account.open_live(&query()?, true),
            "live/authorized" => account.open_live(&query()?, false),
            "live/page" => account
                .live_page(&query()?)
                .and_then(|answer| answer.into_response().map_err(|_| no_socket())),
            _ => return self.answer(request).await?.into_response(),
        };
        outcome.or_else(|failure| {
            self.feed.log_failure(&failure, &id, account.log());
            Answer::failure(&failure).into_response()
        })
    }

    /// A client of the live feed said something.
    pub fn hear(&self, socket: &WebSocket, text: Option<&str>) {
        let heard = self.feed.hear(socket, text.unwrap_or_default(), time_now());
        if let Err(failure) = heard {
            Log::default().warn("feed_not_read").failure(&failure).emit();
        }
    }

    /// A client of the live feed is gone.
    pub fn forget_socket(&self) {
        self.feed.is_watched.set(None);
    }
}

impl Account<'_> {
    /// Tells whoever watches.
    pub(super) fn tell(&self, event: FeedEvent) {
        self.object.feed.tell(event, time_now(), self.id, self.log());
    }

    /// Tells several things.
    pub(super) fn tell_all(&self, events: Vec<FeedEvent>) {
        for event in events {
            self.tell(event);
        }
    }

    /// Tells what another worker did.
    pub(super) fn tell_of_others(&self, body: &[u8]) -> Answer {
        let Ok(ConflictResolvedRequest { conflict_id, strategy }) = serde_json::from_slice(body) else {
            return Answer::bad_request(
                "what is told has an unexpected shape: deploy all workers at one version",
            );
        };
        self.tell(FeedEvent::ConflictResolved { conflict_id, strategy });
        Answer::json(202, &serde_json::json!({"told": true}))
    }

    /// A ticket for a browser.
    pub(super) fn live_ticket(&self) -> Result<Answer, Failure> {
        let (ticket, now) = (random_token()?, time_now());
        let expires_at = now.plus_ms(TICKET_TTL_MS);
        self.sql().keep_ticket(&ticket, expires_at, now)?;
        Ok(Answer::json(200, &FeedTicket { ticket, expires_at }))
    }

    /// Opens a socket, for a client that shows a ticket or one that the worker has let through.
    fn open_live(&self, query: &[(String, String)], needs_ticket: bool) -> Result<Response, Failure> {
        if !self.is_known()? {
            // Nobody without a right learns which accounts there are.
            return if needs_ticket {
                Ok(ticket_used().into_response().map_err(|_| no_socket())?)
            } else {
                Err(self.unknown())
            };
        }
        let since = number_of(query, "since")?;
        let (feed, now) = (&self.object.feed, time_now());
        if feed.sockets(now).len() >= SOCKETS_MAX {
            let message = format!("{SOCKETS_MAX} others watch this account already");
            let full = Answer::error(429, "too_many_watchers", &message).with_retry_after_ms(FULL_RETRY_MS);
            return full.into_response().map_err(|_| no_socket());
        }
        if needs_ticket && !self.sql().redeem_ticket(value_of(query, "ticket").unwrap_or_default(), now)? {
            return ticket_used().into_response().map_err(|_| no_socket());
        }
        feed.listen(since, now)
    }

    /// Kept events, for scripts.
    fn live_page(&self, query: &[(String, String)]) -> Result<Answer, Failure> {
        if !self.is_known()? {
            return Err(self.unknown());
        }
        let since = number_of(query, "since")?;
        let limit = number_of(query, "limit")?
            .map_or(PAGE_EVENTS_DEFAULT, |limit| usize::try_from(limit).unwrap_or(PAGE_EVENTS_MAX));
        let feed = &self.object.feed;
        feed.flush(time_now())?;
        let page = feed.page(since, limit.clamp(1, PAGE_EVENTS_MAX))?;
        Ok(Answer::new(200, "application/json; charset=utf-8", page.into_bytes()))
    }
}

impl Feed {
    fn log_failure(&self, failure: &Failure, account: &AccountId, log: Log) {
        // The ring may have been written without this instance knowing.
        self.end.set(None);
        log.warn("feed_failed").account(account).failure(failure).emit();
    }
}

fn note(flushed: Result<(), Failure>, account: &AccountId, log: Log) {
    if let Err(failure) = flushed {
        log.warn("feed_not_written").account(account).failure(&failure).emit();
    }
}

fn close(socket: &WebSocket, closing: Closing) {
    let (code, reason) = closing.code_and_reason();
    // One that is closed already needs no closing.
    let _ = socket.close(Some(code), Some(reason));
}

fn number_of(query: &[(String, String)], name: &str) -> Result<Option<u64>, Failure> {
    let Some(text) = value_of(query, name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        Failure::new(FailureClass::Invalid, format!("{name} is a whole number, such as an event's sequence"))
    })
}

fn ticket_used() -> Answer {
    Answer::unauthorized(
        "this ticket was used already or is older than a minute: get another by POST live-ticket",
    )
}

fn no_socket() -> Failure {
    Failure::new(FailureClass::Unavailable, "the runtime gave no socket: open it again")
}
