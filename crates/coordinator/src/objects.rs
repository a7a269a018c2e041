//! The three Durable Object classes: shells that hand over to [`ObjectState`], [`QuotaBook`] and [`Registry`].
//!
//! WebSocket methods are overridden because the SDK's own end the isolate; no socket is ever accepted here.

#![expect(missing_docs, reason = "the macro writes public methods without documentation")]

use crate::account::ObjectState;
use crate::quota::QuotaBook;
use crate::registry::Registry;
use worker::{
    DurableObject, Env, Request, Response, Result, State, WebSocket, WebSocketIncomingMessage, durable_object,
};

/// The account's object.
#[durable_object(alarm)]
pub struct SyncCoordinator {
    object: ObjectState,
}

impl DurableObject for SyncCoordinator {
    fn new(state: State, env: Env) -> Self {
        Self { object: ObjectState::new(&state, env) }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        self.object.answer(&mut request).await?.into_response()
    }

    async fn alarm(&self) -> Result<Response> {
        self.object.run_alarm().await;
        Response::empty()
    }

    async fn websocket_message(&self, _: WebSocket, _: WebSocketIncomingMessage) -> Result<()> {
        Ok(())
    }

    async fn websocket_close(&self, _: WebSocket, _: usize, _: String, _: bool) -> Result<()> {
        Ok(())
    }

    async fn websocket_error(&self, _: WebSocket, _: worker::Error) -> Result<()> {
        Ok(())
    }
}

/// The quota of one credential.
#[durable_object]
pub struct KeapQuota {
    book: QuotaBook,
}

impl DurableObject for KeapQuota {
    fn new(state: State, _: Env) -> Self {
        Self { book: QuotaBook::new(state.storage().sql()) }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let body = request.bytes().await?;
        self.book.answer(&body).into_response()
    }

    async fn websocket_message(&self, _: WebSocket, _: WebSocketIncomingMessage) -> Result<()> {
        Ok(())
    }

    async fn websocket_close(&self, _: WebSocket, _: usize, _: String, _: bool) -> Result<()> {
        Ok(())
    }

    async fn websocket_error(&self, _: WebSocket, _: worker::Error) -> Result<()> {
        Ok(())
    }
}

/// The list of accounts.
#[durable_object]
pub struct AccountRegistry {
    registry: Registry,
}

impl DurableObject for AccountRegistry {
    fn new(state: State, _: Env) -> Self {
        Self { registry: Registry::new(state.storage().sql()) }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let body = request.bytes().await?;
        self.registry.answer(&body).into_response()
    }

    async fn websocket_message(&self, _: WebSocket, _: WebSocketIncomingMessage) -> Result<()> {
        Ok(())
    }

    async fn websocket_close(&self, _: WebSocket, _: usize, _: String, _: bool) -> Result<()> {
        Ok(())
    }

    async fn websocket_error(&self, _: WebSocket, _: worker::Error) -> Result<()> {
        Ok(())
    }
}
