//! What connections share, and the flow of one request.
//!
//! `arrived -> latency -> scripted fault? -> plane -> answered`, and on the data
//! plane `token -> drawn fault? -> answer`. Start reading at [`State::respond`].

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::{
    Fault, Options, VaultRefusal,
    app_secrets::AppSecrets,
    arm, cursor, easm, entra, faults, filter,
    http::{Answer, Call, Door},
    identity,
    inventory::Inventory,
    secrets::Shelf,
    text,
    tokens::Tokens,
    vault,
    workspaces::Workspaces,
};

/// Requests that are remembered; later ones are answered but not listed.
const SEEN_MAX: usize = 100_000;

/// A request as it came, with what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// In capitals.
    pub method: String,
    /// As sent.
    pub path: String,
    /// Percent-decoded.
    pub query: String,
    /// The whole header.
    pub authorization: Option<String>,
    /// 0: not answered (yet, or the connection was cut before).
    pub status: u16,
}

/// Everything that connections share.
#[derive(Debug)]
pub struct State {
    options: Options,
    inventory: Inventory,
    chains: cursor::Chains,
    tokens: Tokens,
    workspaces: Workspaces,
    app_secrets: AppSecrets,
    shelf: Shelf,
    authority: OnceLock<String>,
    faults: faults::Faults,
    log: Mutex<Vec<Entry>>,
    n_answers: AtomicU64,
    n_easm: AtomicU64,
    n_lists: AtomicU64,
    in_work: InWork,
    vault_in_work: InWork,
    was_revoked: AtomicBool,
    pub(super) closing: watch::Sender<bool>,
}

/// A [`Seen`] that shares the token with its neighbours: tokens are long.
#[derive(Debug)]
struct Entry {
    method: String,
    path: String,
    query: String,
    authorization: Option<Arc<str>>,
    status: u16,
}

/// Counts requests that are being answered.
#[derive(Debug, Default)]
struct InWork {
    now: AtomicU64,
    most: AtomicU64,
}

impl InWork {
    fn enter(&self) -> Entered<'_> {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        Entered(self)
    }
}

struct Entered<'a>(&'a InWork);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl State {
    /// The most data plane requests that were being answered at once.
    pub fn most_at_once(&self) -> u64 {
        self.in_work.most.load(Ordering::Relaxed)
    }

    /// The most requests that the vault was answering at once, those without a
    /// token among them.
    pub fn most_vault_reads_at_once(&self) -> u64 {
        self.vault_in_work.most.load(Ordering::Relaxed)
    }

    /// A simulator that does not listen yet: for [`router`](super::router).
    pub fn new(mut options: Options) -> Self {
        if options.identity_header.is_empty() {
            let secret = text::mix(text::mix(options.seed) ^ 0x1de7);
            options.identity_header = text::uuid(secret, text::mix(secret));
        }
        for app in &mut options.apps {
            if app.secret.as_ref().is_some_and(String::is_empty) {
                app.secret = Some(entra::made_up_secret(options.seed, &app.client_id));
            }
        }
        Self {
            inventory: Inventory::new(&options),
            chains: cursor::Chains::default(),
            tokens: Tokens::new(&options),
            workspaces: Workspaces::new(&options),
            app_secrets: AppSecrets::new(&options.apps),
            shelf: Shelf::new(&options),
            authority: OnceLock::new(),
            faults: faults::Faults::new(&options),
            log: Mutex::default(),
            n_answers: AtomicU64::new(0),
            n_easm: AtomicU64::new(0),
            n_lists: AtomicU64::new(0),
            was_revoked: AtomicBool::new(false),
            in_work: InWork::default(),
            vault_in_work: InWork::default(),
            closing: watch::Sender::new(false),
            options,
        }
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub(super) fn workspaces(&self) -> &Workspaces {
        &self.workspaces
    }

    pub(super) fn app_secrets(&self) -> &AppSecrets {
        &self.app_secrets
    }

    pub(super) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Where Entra listens, once it does.
    pub(super) fn authority(&self) -> Option<&str> {
        self.authority.get().map(String::as_str)
    }

    pub(super) fn set_authority(&self, url: String) {
        self.authority.get_or_init(|| url);
    }

    /// The assets that match a filter; with duplicates if a page size is given.
    pub(super) fn chain(
        &self,
        filter: &str,
        page_size: Option<usize>,
    ) -> Result<Arc<cursor::Chain>, filter::Error> {
        self.chains.get(&self.inventory, &self.options, filter, page_size)
    }

    /// Counts a list request that reached the inventory. Answers whether assets
    /// have vanished for it.
    pub(super) fn count_list(&self) -> bool {
        let n = self.n_lists.fetch_add(1, Ordering::Relaxed);
        self.options.shrink_after.is_some_and(|(requests, _)| n >= requests)
    }

    /// Whether assets have vanished by now.
    pub(super) fn is_shrunk(&self) -> bool {
        let n = self.n_lists.load(Ordering::Relaxed);
        self.options.shrink_after.is_some_and(|(requests, _)| n >= requests)
    }

    /// From request to answer. The whole flow is here.
    pub(super) async fn respond(&self, call: &Call) -> Answer {
        let is_service = call.door == Door::Azure && easm::is_addressed(call);
        let is_vault = call.door == Door::Vault;
        let _in_work = is_service.then(|| self.in_work.enter());
        let _in_vault = is_vault.then(|| self.vault_in_work.enter());
        if is_service && !self.options.latency.is_zero() {
            tokio::time::sleep(self.options.latency).await;
        }
        let fault = self.faults.scripted(call).or_else(|| self.vault_fault(call));
        let answer = match fault {
            Some(fault) => match self.instead(&fault, call).await {
                Some(answer) => answer,
                None => faults::spoil(&fault, self.plane(call).await),
            },
            None => self.plane(call).await,
        };
        match (is_service, is_vault) {
            (true, _) => self.with_service_headers(answer),
            (_, true) => vault::with_headers(self, answer),
            (false, false) => answer,
        }
    }

    async fn plane(&self, call: &Call) -> Answer {
        if call.door == Door::Entra {
            entra::answer(self, call)
        } else if call.door == Door::Vault {
            vault::answer(self, call)
        } else if identity::is_addressed(call) {
            identity::answer(self, call)
        } else if easm::is_addressed(call) {
            self.data_plane(call).await
        } else if arm::is_addressed(call) {
            arm::answer(self, call)
        } else {
            Answer::error(404, "NotFound", "Nothing is simulated at this path.")
        }
    }

    /// What is wrong with the vault until somebody switches it off.
    fn vault_fault(&self, call: &Call) -> Option<Fault> {
        match self.shelf.refusal() {
            Some(VaultRefusal::Fault(fault)) if call.door == Door::Vault => Some(fault),
            _ => None,
        }
    }

    async fn data_plane(&self, call: &Call) -> Answer {
        let n = self.n_easm.fetch_add(1, Ordering::Relaxed);
        let revoke = self.options.revoke_after.is_some_and(|limit| n >= limit);
        if revoke && !self.was_revoked.swap(true, Ordering::Relaxed) {
            self.tokens.revoke_all();
        }
        // A stranger is refused before chance is asked, so a renewed token does
        // not change which faults follow.
        if let Some(refusal) = easm::refuse_stranger(self, call) {
            return refusal;
        }
        match self.faults.drawn(call) {
            Some(fault) => match self.instead(&fault, call).await {
                Some(answer) => answer,
                None => faults::spoil(&fault, easm::answer(self, call)),
            },
            None => easm::answer(self, call),
        }
    }

    /// The answer of a fault that needs no true one; cut short when stopping.
    async fn instead(&self, fault: &Fault, call: &Call) -> Option<Answer> {
        let mut closing = self.closing.subscribe();
        tokio::select! {
            answer = faults::instead(fault, call) => answer,
            _ = closing.wait_for(|closing| *closing) => {
                Some(faults::spoil(&Fault::Reset, Answer::json(503, Vec::new())))
            }
        }
    }

    /// An id that no other answer has.
    pub(super) fn fresh_id(&self) -> String {
        let n = self.n_answers.fetch_add(1, Ordering::Relaxed);
        let request = text::mix(self.options.seed ^ text::mix(n));
        text::uuid(request, text::mix(request))
    }

    /// Headers that the service sends (API reference, section 11).
    fn with_service_headers(&self, answer: Answer) -> Answer {
        let id = self.fresh_id();
        answer
            .with("server", "digitalfootprint-web")
            .with("x-ms-request-id", id.clone())
            .with("x-ms-correlation-request-id", id)
            .with("x-ms-ui-version", "sdk")
            .with("cache-control", "no-store")
    }

    /// Every request so far, in the order of arrival; at most [`SEEN_MAX`].
    pub fn requests(&self) -> Vec<Seen> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = |entry: &Entry| Seen {
            method: entry.method.clone(),
            path: entry.path.clone(),
            query: entry.query.clone(),
            authorization: entry.authorization.as_deref().map(str::to_owned),
            status: entry.status,
        };
        log.iter().map(seen).collect()
    }

    /// Notes a request; its number is for [`State::answered`].
    pub(super) fn arrived(&self, call: &Call) -> Option<usize> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() >= SEEN_MAX {
            return None;
        }
        let before = log.last().and_then(|entry| entry.authorization.clone());
        let authorization = match (&call.authorization, before) {
            (Some(sent), Some(before)) if **sent == *before => Some(before),
            (sent, _) => sent.as_deref().map(Arc::from),
        };
        log.push(Entry {
            method: call.method.to_string(),
            path: call.path.clone(),
            query: text::query_decoded(&call.query),
            authorization,
            status: 0,
        });
        Some(log.len() - 1)
    }

    pub(super) fn answered(&self, at: Option<usize>, status: u16) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = at.and_then(|at| log.get_mut(at)) {
            entry.status = status;
        }
    }
}
