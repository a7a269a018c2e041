//! The three Durable Object classes: shells that hand over to [`ObjectState`], [`QuotaBook`] and [`Registry`].
//!
//! Methods that nothing calls are overridden because the SDK's own end the isolate; only the account's object accepts sockets, for its live
//! feed. The runtime answers a client's close by itself.

#![expect(missing_docs, reason = "the macro writes public methods without documentation")]

use crate::account::ObjectState;
use crate::quota::QuotaBook;
use crate::registry::Registry;
use worker::{
    DurableObject, Env, Request, Response, Result, Socket, State, WebSocket, WebSocketIncomingMessage,
    durable_object,
};

/// The account's object.
#[durable_object]
pub struct SyncCoordinator {
    object: ObjectState,
}

impl DurableObject for SyncCoordinator {
    fn new(state: State, env: Env) -> Self {
        Self { object: ObjectState::new(state, env) }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        self.object.respond(&mut request).await
    }

    async fn alarm(&self) -> Result<Response> {
        self.object.run_alarm().await;
        Response::empty()
    }

    async fn connect(&self, _: Socket) -> Result<()> {
        Err("the account's object takes no TCP connections".into())
    }

    async fn websocket_message(&self, socket: WebSocket, message: WebSocketIncomingMessage) -> Result<()> {
        let text = match &message {
            WebSocketIncomingMessage::String(text) => Some(text.as_str()),
            WebSocketIncomingMessage::Binary(_) => None,
        };
        self.object.hear(&socket, text);
        Ok(())
    }

    async fn websocket_close(&self, _: WebSocket, _: usize, _: String, _: bool) -> Result<()> {
        self.object.forget_socket();
        Ok(())
    }

    async fn websocket_error(&self, _: WebSocket, _: worker::Error) -> Result<()> {
        self.object.forget_socket();
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
