//! A workspace, its data plane, ARM and a managed identity endpoint, played on
//! loopback so that tests, benches and the demo run without Azure.
//!
//! `request -> log -> latency -> scripted fault? -> plane (token, drawn fault, answer) -> send`
//!
//! | Module | What it plays |
//! | --- | --- |
//! | `options` | what a simulator is started with |
//! | `state` | what connections share, and the flow of one request |
//! | `inventory`, `meta`, `names` | the assets, and how each reads as JSON |
//! | `pool`, `members` | the insides of assets, rendered once |
//! | `filter` | the filter language |
//! | `cursor` | pages, marks, duplicates, cursors that go wrong |
//! | `easm`, `arm`, `identity` | the three planes |
//! | `faults` | which request meets which fault |
//! | `http` | requests taken apart, answers cut, zipped or sent whole |
//!
//! # Invariants
//! - Everything derives from [`Options::seed`] and the requests that come; the
//!   only clock is the one that ages tokens and dates a `Retry-After`.
//! - The simulator knows nothing of the program it tests: it is written from the
//!   API reference alone (`easm-api/README.md`), whose sections the comments name.
//! - Nothing grows without a limit, and the limits have names.
//!
//! Start reading at [`Simulator::start`], then at `State::respond`.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "hashes are cut down on purpose, and all counts are small"
)]
#![cfg_attr(
    test,
    expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")
)]

mod arm;
mod cursor;
mod easm;
mod faults;
mod filter;
mod http;
mod identity;
mod inventory;
mod members;
mod meta;
mod names;
mod options;
mod pool;
mod state;
mod text;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State as Shared},
    response::Response,
    serve::ListenerExt as _,
};
use tokio::{net::TcpListener, task::JoinHandle};

use self::http::{Call, Delivery};
pub use self::{
    inventory::Inventory,
    options::{CursorFault, EndOfCursor, Fault, Options, Scripted},
    state::{Seen, State},
};

/// How long [`Running::stop`] waits for answers that are under way.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Entry to the simulator.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Starts to listen on 127.0.0.1.
    ///
    /// # Errors
    /// If the port is taken.
    pub async fn start(options: Options) -> io::Result<Running> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State::new(options));
        let mut closing = state.closing.subscribe();
        let stopped = async move {
            // An error means that the state is gone, which is the end as well.
            let _ended = closing.wait_for(|closing| *closing).await;
        };
        let listener = listener.tap_io(|tcp| {
            // Without it, small answers may wait for an acknowledgement. A
            // connection that refuses is already closed.
            let _refused = tcp.set_nodelay(true);
        });
        let app = router(Arc::clone(&state));
        let serve = axum::serve(listener, app).with_graceful_shutdown(stopped);
        let serving = tokio::spawn(async move { serve.await });
        Ok(Running { addr, state, serving: Some(serving) })
    }
}

/// A simulator that listens. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    state: Arc<State>,
    serving: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Where it listens: a port of 127.0.0.1.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The settings under which easm-export exports from here (contract,
    /// section 2). `EASM_REGION` is left out, so that ARM is asked.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let options = self.state.options();
        vec![
            ("EASM_TENANT_ID", options.tenant_id.clone()),
            ("EASM_SUBSCRIPTION_ID", options.subscription_id.clone()),
            ("EASM_RESOURCE_GROUP", options.resource_group.clone()),
            ("EASM_WORKSPACE", options.workspace.clone()),
            ("EASM_DATA_PLANE_URL", self.url()),
            ("EASM_ARM_URL", self.url()),
            ("EASM_CREDENTIAL", "managed-identity".to_owned()),
            ("IDENTITY_ENDPOINT", format!("{}/msi/token", self.url())),
            ("IDENTITY_HEADER", options.identity_header.clone()),
        ]
    }

    /// What there is to export, and the truth for tests.
    pub fn inventory(&self) -> &Inventory {
        self.state.inventory()
    }

    /// What its connections share.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Every request so far, in the order of arrival; at most 100,000.
    pub fn requests(&self) -> Vec<Seen> {
        self.state.requests()
    }

    /// The `client_id` of every token issued so far, oldest first.
    pub fn client_ids(&self) -> Vec<Option<String>> {
        self.state.tokens().client_ids()
    }

    /// Stops listening, lets answers finish for at most two seconds, and ends.
    pub async fn stop(mut self) {
        self.state.closing.send_replace(true);
        if let Some(mut serving) = self.serving.take()
            && tokio::time::timeout(STOP_MAX, &mut serving).await.is_err()
        {
            serving.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.state.closing.send_replace(true);
    }
}

/// One router for the three planes.
pub fn router(state: Arc<State>) -> Router {
    async fn answer(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
        let call = Call::read(&request);
        let at = state.arrived(&call);
        let answer = state.respond(&call).await;
        let status = if answer.delivery == Delivery::Reset { 0 } else { answer.status };
        state.answered(at, status);
        answer.send(call.takes_gzip && state.options().gzip, &state.closing.subscribe())
    }
    Router::new().fallback(answer).with_state(state)
}

#[cfg(test)]
mod test_client;
#[cfg(test)]
mod tests;
