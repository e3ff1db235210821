//! Which secrets Entra accepts of an app: several at once, which come and go
//! while the simulator runs.
//!
//! Where one client id is an app in several tenants, it is so in each.

use std::sync::{Mutex, PoisonError};

use super::{App, State};

/// Secrets that are remembered; beyond it, the oldest are dropped.
const KEPT_MAX: usize = 10_000;

/// What Entra thinks of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Expired,
    Wrong,
}

/// The secrets of every app. Shared by all connections.
#[derive(Debug)]
pub struct AppSecrets(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    tenant_id: String,
    client_id: String,
    value: String,
    is_expired: bool,
}

impl Entry {
    fn is_of(&self, client_id: &str) -> bool {
        self.client_id.eq_ignore_ascii_case(client_id)
    }
}

impl AppSecrets {
    pub fn new(apps: &[App]) -> Self {
        let entries = apps.iter().filter_map(|app| Some(entry(app, app.secret.as_deref()?)));
        Self(Mutex::new(entries.collect()))
    }

    /// What Entra thinks of a secret that an app presents.
    pub fn verdict(&self, app: &App, secret: &str) -> Verdict {
        let mut verdict = Verdict::Wrong;
        self.with(|entries| {
            let of_app = |entry: &&Entry| {
                entry.is_of(&app.client_id) && entry.tenant_id.eq_ignore_ascii_case(&app.tenant_id)
            };
            for entry in entries.iter().filter(of_app).filter(|entry| entry.value == secret) {
                match entry.is_expired {
                    true if verdict == Verdict::Wrong => verdict = Verdict::Expired,
                    true => {}
                    false => verdict = Verdict::Good,
                }
            }
        });
        verdict
    }

    fn with(&self, act: impl FnOnce(&mut Vec<Entry>)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn entry(app: &App, value: &str) -> Entry {
    Entry {
        tenant_id: app.tenant_id.clone(),
        client_id: app.client_id.clone(),
        value: value.to_owned(),
        is_expired: false,
    }
}

/// What an owner of the app does while it is in use.
impl State {
    /// From now on Entra accepts this secret too, beside the older ones.
    ///
    /// # Panics
    /// If there is no app with this client id.
    pub fn add_app_secret(&self, client_id: &str, value: &str) {
        let apps = self.options().apps.iter();
        let apps = apps.filter(|app| app.client_id.eq_ignore_ascii_case(client_id));
        let added: Vec<Entry> = apps.map(|app| entry(app, value)).collect();
        assert!(!added.is_empty(), "there is no app {client_id}");
        self.app_secrets().with(|entries| {
            entries.extend(added);
            let n_dropped = entries.len().saturating_sub(KEPT_MAX);
            entries.drain(..n_dropped);
        });
    }

    /// From now on Entra says of this secret that it is wrong.
    pub fn remove_app_secret(&self, client_id: &str, value: &str) {
        self.app_secrets().with(|entries| {
            entries.retain(|entry| !(entry.is_of(client_id) && entry.value == value));
        });
    }

    /// From now on Entra says of this secret that it is expired.
    pub fn expire_app_secret(&self, client_id: &str, value: &str) {
        self.app_secrets().with(|entries| {
            let found = entries.iter_mut().filter(|entry| entry.is_of(client_id));
            found.filter(|entry| entry.value == value).for_each(|entry| entry.is_expired = true);
        });
    }

    /// From now on Entra accepts this secret and none of the older ones.
    ///
    /// # Panics
    /// If there is no app with this client id.
    pub fn rotate_app_secret(&self, client_id: &str, value: &str) {
        self.app_secrets().with(|entries| entries.retain(|entry| !entry.is_of(client_id)));
        self.add_app_secret(client_id, value);
    }
}
