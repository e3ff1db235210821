//! What a simulator is started with. Every default is a healthy workspace.

use std::time::Duration;

use super::{Vault, workspaces::Arm};

/// Tenant of everything, unless the options say otherwise.
const TENANT: &str = "7e7a7700-51d0-4000-8000-0000000007e7";
/// Client id of the first user-assigned identity: the one that the default app trusts.
pub const APP_IDENTITY: &str = "a551a7ed-51d0-4000-8000-00000000c001";
/// Client id of the second user-assigned identity, which no app trusts.
pub const OTHER_IDENTITY: &str = "a551a7ed-51d0-4000-8000-00000000c002";
/// Client id of the default app.
pub const APP_CLIENT_ID: &str = "a9911ca7-51d0-4000-8000-00000000ca99";
/// Subject of the workload token, as Kubernetes spells a service account.
pub const WORKLOAD_SUBJECT: &str = "system:serviceaccount:easm:export";
/// Object ids of the default identities.
const SYSTEM_OBJECT: &str = "0b1ec700-51d0-4000-8000-00000000b000";
const APP_IDENTITY_OBJECT: &str = "0b1ec700-51d0-4000-8000-00000000b001";
const OTHER_IDENTITY_OBJECT: &str = "0b1ec700-51d0-4000-8000-00000000b002";

/// What is simulated. `Options::default()` is a small, healthy workspace.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything derives from it. Default: 1.
    pub seed: u64,
    /// How many assets there are. Default: 2000.
    pub assets: u64,
    /// Mean size of a compact body. Default: 2048. Heads and tails need about
    /// 700 bytes, so bodies are not smaller than that on average.
    pub asset_bytes: usize,
    /// Pause before every answer of the data plane. Default: none.
    pub latency: Duration,
    /// Share of list and get requests that meet a transient fault, 0 to 1.
    pub fault_rate: f64,
    /// Most faults in a row for the same path and query. Default: 2.
    pub max_faults_in_a_row: u32,
    /// Share of assets that come again on a later page of the same cursor.
    pub duplicates: f64,
    /// Assets on a page if `maxpagesize` is missing. Default: 25 (API reference,
    /// section 5: "20 or 25").
    pub page_size_default: u32,
    /// Whether answers of the data plane are pretty-printed.
    pub whitespace: bool,
    /// Whether `Accept-Encoding: gzip` is honoured.
    pub gzip: bool,
    /// How many of `assets` carry the kind `mailServer`, outside the eight.
    pub new_kind_assets: u64,
    /// How a cursor says that it is done.
    pub end_of_cursor: EndOfCursor,
    /// What is wrong with cursors.
    pub cursor: CursorFault,
    /// Life of issued tokens. Default: 3600.
    pub token_seconds: u64,
    /// After so many data plane requests all tokens issued so far stop being
    /// good, once. Those for exchange stay good: Entra looks at their dates alone.
    pub revoke_after: Option<u64>,
    /// `(requests, n)`: after so many list requests `n` assets are gone.
    pub shrink_after: Option<(u64, u64)>,
    /// Exact faults, for tests.
    pub script: Vec<Scripted>,
    /// Tenant of the workspace and its subscription. Default: a made-up GUID.
    pub tenant_id: String,
    /// Tenant of the managed identities. Default: that of the workspace.
    pub home_tenant_id: String,
    /// Who the identity endpoint speaks for. Default: the system-assigned
    /// identity, [`APP_IDENTITY`] and [`OTHER_IDENTITY`], all with a role.
    pub identities: Vec<ManagedIdentity>,
    /// Who can sign in to Entra. Default: [`APP_CLIENT_ID`], with a role, a
    /// secret and trust in the system-assigned identity, in [`APP_IDENTITY`] and
    /// in [`WORKLOAD_SUBJECT`].
    pub apps: Vec<App>,
    /// Key Vault. Default: it holds the first app's secret.
    pub vault: Vault,
    /// Which workspaces there are beside this one, and how ARM behaves.
    pub arm: Arm,
    /// Default: a made-up GUID.
    pub subscription_id: String,
    /// Default: `rg-easm`.
    pub resource_group: String,
    /// Default: `contoso`.
    pub workspace: String,
    /// Default: `eastus`.
    pub region: String,
    /// What the identity endpoint demands. Empty: derived from the seed.
    pub identity_header: String,
    /// 0: any free port.
    pub port: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            assets: 2000,
            asset_bytes: 2048,
            latency: Duration::ZERO,
            fault_rate: 0.0,
            max_faults_in_a_row: 2,
            duplicates: 0.0,
            page_size_default: 25,
            whitespace: false,
            gzip: false,
            new_kind_assets: 0,
            end_of_cursor: EndOfCursor::default(),
            cursor: CursorFault::default(),
            token_seconds: 3600,
            revoke_after: None,
            shrink_after: None,
            script: Vec::new(),
            tenant_id: TENANT.to_owned(),
            home_tenant_id: TENANT.to_owned(),
            identities: vec![
                ManagedIdentity::new(None, SYSTEM_OBJECT),
                ManagedIdentity::new(Some(APP_IDENTITY), APP_IDENTITY_OBJECT),
                ManagedIdentity::new(Some(OTHER_IDENTITY), OTHER_IDENTITY_OBJECT),
            ],
            apps: vec![App::default()],
            vault: Vault::default(),
            arm: Arm::default(),
            subscription_id: "5ab5c21b-51d0-4000-8000-0000000005ab".to_owned(),
            resource_group: "rg-easm".to_owned(),
            workspace: "contoso".to_owned(),
            region: "eastus".to_owned(),
            identity_header: String::new(),
            port: 0,
        }
    }
}

/// A managed identity, of the tenant [`Options::home_tenant_id`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedIdentity {
    /// `None`: the system-assigned one.
    pub client_id: Option<String>,
    /// Also the subject of its tokens.
    pub object_id: String,
    /// Whether it may read the workspace.
    pub has_role: bool,
}

impl ManagedIdentity {
    fn new(client_id: Option<&str>, object_id: &str) -> Self {
        let client_id = client_id.map(str::to_owned);
        Self { client_id, object_id: object_id.to_owned(), has_role: true }
    }
}

/// An application that can sign in to one tenant. The same one in several tenants
/// is several of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Where it is installed.
    pub tenant_id: String,
    /// Any GUID.
    pub client_id: String,
    /// What it starts with; see [`State::add_app_secret`](super::State::add_app_secret).
    /// `None`: it has no secret. Empty: derived from the seed.
    pub secret: Option<String>,
    /// Subjects it trusts: object ids of managed identities of the home tenant,
    /// or that of the workload token.
    pub trusts: Vec<String>,
    /// Whether it may read the workspace.
    pub has_role: bool,
    /// Why Entra refuses it, however good what it presents.
    pub refusal: Option<Refusal>,
}

impl Default for App {
    fn default() -> Self {
        let trusts = [SYSTEM_OBJECT, APP_IDENTITY_OBJECT, WORKLOAD_SUBJECT];
        Self {
            tenant_id: TENANT.to_owned(),
            client_id: APP_CLIENT_ID.to_owned(),
            secret: Some(String::new()),
            trusts: trusts.map(str::to_owned).to_vec(),
            has_role: true,
            refusal: None,
        }
    }
}

/// Why Entra refuses an app that presents what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its secret is of the past. An assertion still opens.
    SecretExpired,
    /// A policy does not let it in from here.
    ConditionalAccess,
    /// Somebody switched it off.
    Disabled,
    /// Too many requests: 429 with `Retry-After: 1`.
    Throttled,
}

/// How the last page of a cursor looks (API reference, section 5: all of these
/// must end a reader's loop).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndOfCursor {
    /// `"mark": null`.
    #[default]
    NullMark,
    /// No `mark` at all.
    AbsentMark,
    /// The last page repeats the mark that was sent.
    RepeatedMark,
    /// One more mark, then an empty page with `null`.
    EmptyPage,
}

/// Cursors that never end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CursorFault {
    /// They end as they should.
    #[default]
    None,
    /// A mark that was seen before comes again, for ever.
    Cycle,
    /// Always a new mark, always the same first page.
    Endless,
}

/// One exact fault: the matches number `from` up to `from + times` meet it.
#[derive(Clone, Debug)]
pub struct Scripted {
    /// Part of the path, as sent or percent-decoded. Any plane's.
    pub path_contains: String,
    /// Part of the decoded query.
    pub query_contains: String,
    /// How many matches pass before it.
    pub from: u64,
    /// How many matches meet it.
    pub times: u64,
    /// What they meet.
    pub fault: Fault,
}

/// What can go wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The error body of the service.
    Status {
        /// Any status.
        status: u16,
        /// Value of `Retry-After`, sent as it is.
        retry_after: Option<String>,
    },
    /// An HTML page, as from a gateway.
    NotJson(u16),
    /// The connection is cut before any answer.
    Reset,
    /// Head with a length, half of the body, then the connection is cut.
    CutBody,
    /// A whole HTTP answer whose JSON stops half way.
    Truncated,
    /// 200 with text that is no JSON.
    Garbage,
    /// A pause, then the true answer.
    Slow(Duration),
    /// 302 to this URL.
    Redirect(String),
    /// An error body that repeats the `Authorization` header it got, or the form
    /// that was sent to Entra.
    EchoToken(u16),
    /// No answer ever.
    Hang,
    /// 200 and a body that streams for ever.
    EndlessBody,
}
