//! A workspace, its data plane, ARM, a managed identity endpoint, Entra and Key
//! Vault, played on loopback so that tests, benches and the demo run without Azure.
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
//! | `easm`, `arm` | the two planes |
//! | `workspaces` | which workspaces there are by now, and how they come and go |
//! | `identity`, `entra` | who hands out tokens: to managed identities, to apps |
//! | `app_secrets` | which secrets Entra accepts of an app by now |
//! | `vault`, `secrets` | Key Vault: how it answers, what it holds by now |
//! | `tokens` | what was handed out, and what it opens |
//! | `tls` | certificates, and the listeners that Entra and the vault need |
//! | `settings` | how the program under test is pointed here |
//! | `faults` | which request meets which fault |
//! | `http` | requests taken apart, answers cut, zipped or sent whole |
//!
//! # Invariants
//! - Everything derives from [`Options::seed`] and the requests that come; the
//!   only clock is the one that ages and dates tokens, and dates refusals, versions
//!   of secrets and a `Retry-After`. Keys of certificates are the exception.
//! - The simulator knows nothing of the program it tests: it is written from the
//!   API reference alone (`easm-api/README.md`), whose sections the comments name,
//!   and the vault from what is public (`vault` says what is known and what guessed).
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

mod app_secrets;
mod arm;
mod cursor;
mod easm;
mod entra;
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
mod secrets;
mod settings;
mod state;
mod text;
mod tls;
mod tokens;
mod vault;
mod workspaces;

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State as Shared},
    http::Method,
    serve::ListenerExt as _,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};

use self::{
    http::{Answer, Call, Delivery, Door},
    tls::Authority,
};
pub use self::{
    inventory::Inventory,
    options::{
        APP_CLIENT_ID, APP_IDENTITY, App, CursorFault, EndOfCursor, Fault, ManagedIdentity,
        OTHER_IDENTITY, Options, Refusal, Scripted, WORKLOAD_SUBJECT,
    },
    secrets::{
        CLIENT_SECRET_NAME, Challenge, SecretVersion, VAULT_HOST, Vault, VaultRefusal, VaultSecret,
    },
    settings::SignIn,
    state::{Seen, State},
    tokens::{Audience, Issued},
    workspaces::{Arm, Ending, OtherWorkspace, Tracking},
};

/// How long [`Running::stop`] waits for answers that are under way.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Entry to the simulator.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Starts to listen on 127.0.0.1: over http on [`Options::port`], and over TLS
    /// on any two free ports.
    ///
    /// # Errors
    /// If the port is taken, or there is no room for temporary files.
    pub async fn start(options: Options) -> io::Result<Running> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State::new(options));
        let authority = Authority::new()?;
        let folder = TempDir::with_prefix("easm-export-sim-")?;
        let running = Running {
            addr,
            entra: addr,
            vault: addr,
            ca_file: folder.path().join("ca.pem"),
            folder,
            authority,
            state: Arc::clone(&state),
            serving: Vec::new(),
        };
        fs::write(&running.ca_file, running.authority.pem())?;
        fs::write(running.workload_file(), state.tokens().workload())?;
        running.serve(listener)
    }
}

/// A simulator that listens. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    entra: SocketAddr,
    vault: SocketAddr,
    authority: Authority,
    /// Holds `ca_file` and the workload token.
    folder: TempDir,
    ca_file: PathBuf,
    state: Arc<State>,
    serving: Vec<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Serves every door.
    fn serve(mut self, listener: TcpListener) -> io::Result<Self> {
        let mut closing = self.state.closing.subscribe();
        let stopped = async move {
            // An error means that the state is gone, which is the end as well.
            let _ended = closing.wait_for(|closing| *closing).await;
        };
        let listener = listener.tap_io(|tcp| {
            // Without it, small answers may wait for an acknowledgement. A
            // connection that refuses is already closed.
            let _refused = tcp.set_nodelay(true);
        });
        let app = router(Arc::clone(&self.state));
        let serve = axum::serve(listener, app).with_graceful_shutdown(stopped);
        let serving = tokio::spawn(async move { serve.await });
        let (entra, serving_entra) = self.serve_tls(Door::Entra, &[])?;
        self.entra = entra;
        self.state.set_authority(self.authority());
        let (vault, serving_vault) = self.serve_tls(Door::Vault, &[VAULT_HOST])?;
        self.vault = vault;
        self.serving = vec![serving, serving_entra, serving_vault];
        Ok(self)
    }

    fn serve_tls(
        &self,
        door: Door,
        names: &[&str],
    ) -> io::Result<(SocketAddr, JoinHandle<io::Result<()>>)> {
        let app = self::door(door, Arc::clone(&self.state));
        tls::serve(&self.authority, names, app, self.state.closing.subscribe())
    }

    /// Where it listens over http: a port of 127.0.0.1.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where Entra listens: `https://127.0.0.1:port`
    pub fn authority(&self) -> String {
        format!("https://{}", self.entra)
    }

    /// Where Key Vault listens: `https://127.0.0.1:port`. Its certificate also names
    /// `localhost` and [`VAULT_HOST`].
    pub fn vault_url(&self) -> String {
        format!("https://{}", self.vault)
    }

    /// What [`VAULT_HOST`] must resolve to, for a client that insists on a vault's
    /// own name.
    pub fn vault_addr(&self) -> SocketAddr {
        self.vault
    }

    /// The certificate of the authority that signed Entra's and the vault's, in PEM. A temporary
    /// file, deleted when this is dropped.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// A certificate for these names or addresses, signed by the authority of
    /// [`Running::ca_file`], and its key. Both are PEM.
    ///
    /// # Panics
    /// If a name is not ASCII.
    pub fn certificate(&self, names: &[&str]) -> (String, String) {
        self.authority.certificate(names).expect("names of hosts are ASCII")
    }

    /// What a service account of a cluster presents to Entra: a token whose
    /// subject is [`WORKLOAD_SUBJECT`].
    pub fn workload_token(&self) -> String {
        self.state.tokens().workload().to_owned()
    }

    /// A temporary file with the workload token.
    fn workload_file(&self) -> PathBuf {
        self.folder.path().join("workload-token")
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

    /// The `client_id` of every token issued so far, oldest first: `None` for
    /// the system-assigned identity.
    pub fn client_ids(&self) -> Vec<Option<String>> {
        self.state.tokens().client_ids()
    }

    /// Whose token this is, good or not: of the last 100,000. A whole
    /// `Authorization` header will do as well.
    pub fn issued(&self, token: &str) -> Option<Issued> {
        let token = token.strip_prefix("Bearer ").unwrap_or(token);
        self.state.tokens().find(token).map(|(issued, _is_good)| issued)
    }

    /// Stops listening, lets answers finish for at most two seconds, and ends.
    pub async fn stop(mut self) {
        self.state.closing.send_replace(true);
        let ends = tokio::time::Instant::now() + STOP_MAX;
        for mut serving in std::mem::take(&mut self.serving) {
            if tokio::time::timeout_at(ends, &mut serving).await.is_err() {
                serving.abort();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.state.closing.send_replace(true);
    }
}

/// One router for the planes and the identity endpoint; Entra and Key Vault have
/// their own.
pub fn router(state: Arc<State>) -> Router {
    door(Door::Azure, state)
}

fn door(door: Door, state: Arc<State>) -> Router {
    let answer = move |Shared(state): Shared<Arc<State>>, request: Request| async move {
        let (parts, body) = request.into_parts();
        let mut call = Call::read(door, &parts);
        let at = state.arrived(&call);
        let has_body = door == Door::Entra || call.method == Method::PUT;
        let answer = if has_body && !call.read_form(body).await {
            Answer::error(413, "RequestTooLarge", "The body is too long.")
        } else {
            state.respond(&call).await
        };
        let status = if answer.delivery == Delivery::Reset { 0 } else { answer.status };
        state.answered(at, status);
        answer.send(call.takes_gzip && state.options().gzip, &state.closing.subscribe())
    };
    Router::new().fallback(answer).with_state(state)
}

#[cfg(test)]
mod arm_tests;
#[cfg(test)]
mod sign_in_tests;
#[cfg(test)]
mod test_client;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vault_fault_tests;
#[cfg(test)]
mod vault_reader;
#[cfg(test)]
mod vault_sdk_tests;
#[cfg(test)]
mod vault_tests;
