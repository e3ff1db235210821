//! Which request meets which fault, and what the fault does to its answer.
//!
//! `scripted(call) or drawn(call) -> Fault -> instead(..) or spoil(answer)`
//!
//! # Invariants
//! - A drawn fault is a pure function of seed, path with query, and how often
//!   this very request was seen before: a run with the same requests repeats.
//! - The same request never meets more than `max_faults_in_a_row` drawn faults
//!   in a row, so a client that tries again often enough always gets through.
//! - Scripted faults come first, on every plane, and count each on its own.
//!   A request they answer is not counted by the drawn ones.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::{
    Fault, Options, Scripted,
    http::{Answer, Call, Delivery, Door},
    text, vault,
};

/// How long a drawn slow answer takes.
const SLOW: Duration = Duration::from_millis(300);
/// Different requests that are remembered; beyond it, counting starts anew.
const SEEN_MAX: usize = 1_000_000;

/// Decides about faults. Shared by all connections.
#[derive(Debug)]
pub struct Faults {
    seed: u64,
    rate: f64,
    max_in_a_row: u32,
    seen: Mutex<HashMap<u64, Seen>>,
    script: Vec<(Scripted, AtomicU64)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    times: u64,
    faults_in_a_row: u32,
}

impl Faults {
    pub fn new(options: &Options) -> Self {
        let scripted = |s: &Scripted| (s.clone(), AtomicU64::new(0));
        Self {
            seed: options.seed,
            rate: options.fault_rate,
            max_in_a_row: options.max_faults_in_a_row,
            seen: Mutex::default(),
            script: options.script.iter().map(scripted).collect(),
        }
    }

    /// The first fault of the script that is due. Every entry that matches
    /// counts the request, whether or not an earlier one answers it.
    pub fn scripted(&self, call: &Call) -> Option<Fault> {
        if self.script.is_empty() {
            return None;
        }
        let (path, query) = (text::percent_decoded(&call.path), text::query_decoded(&call.query));
        let mut due = None;
        for (entry, n_matches) in &self.script {
            let in_path =
                path.contains(&entry.path_contains) || call.path.contains(&entry.path_contains);
            if !in_path || !query.contains(&entry.query_contains) {
                continue;
            }
            let n = n_matches.fetch_add(1, Ordering::Relaxed);
            if n >= entry.from && n - entry.from < entry.times && due.is_none() {
                due = Some(entry.fault.clone());
            }
        }
        due
    }

    /// The fault that chance has for this request, if any.
    pub fn drawn(&self, call: &Call) -> Option<Fault> {
        if self.rate <= 0.0 {
            return None;
        }
        let request = format!("{}?{}", call.path, call.query);
        let request = text::hash(self.seed, request.as_bytes());
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SEEN_MAX {
            all.clear();
        }
        let seen = all.entry(request).or_default();
        let chance = text::mix(request ^ text::mix(seen.times));
        seen.times += 1;
        if seen.faults_in_a_row >= self.max_in_a_row || text::share(chance) >= self.rate {
            seen.faults_in_a_row = 0;
            return None;
        }
        seen.faults_in_a_row += 1;
        Some(transient(text::mix(chance)))
    }
}

/// One of the transient faults (API reference, section 13, point 5).
fn transient(chance: u64) -> Fault {
    let status = |status, retry_after: Option<&str>| Fault::Status {
        status,
        retry_after: retry_after.map(str::to_owned),
    };
    match chance % 15 {
        0 => status(429, None),
        1 => status(429, Some("0")),
        2 => status(429, Some("1")),
        3 => {
            let soon = SystemTime::now() + Duration::from_secs(1);
            status(429, Some(&httpdate::fmt_http_date(soon)))
        }
        4 => status(408, None),
        5 => status(425, None),
        6 => status(500, None),
        7 => Fault::NotJson(502),
        8 => status(503, None),
        9 => status(504, None),
        10 => Fault::Reset,
        11 => Fault::CutBody,
        12 => Fault::Truncated,
        13 => Fault::Garbage,
        _ => Fault::Slow(SLOW),
    }
}

/// The answer of faults that need no true answer. [`Fault::Hang`] never comes back.
pub async fn instead(fault: &Fault, call: &Call) -> Option<Answer> {
    match fault {
        Fault::Status { status, retry_after } => {
            let answer = match call.door {
                Door::Vault => vault::scripted(*status),
                Door::Azure | Door::Entra => {
                    let (code, message) = error_of(*status);
                    Answer::error(*status, code, message)
                }
            };
            Some(match retry_after {
                Some(value) => answer.with("retry-after", value.as_str()),
                None => answer,
            })
        }
        Fault::NotJson(status) => {
            let page = format!(
                "<html><head><title>{status}</title></head>\r\n<body><center><h1>{status} from \
                 the gateway</h1></center></body></html>\r\n"
            );
            let mut answer = Answer::json(*status, page.into_bytes());
            answer.content_type = "text/html";
            Some(answer)
        }
        Fault::Garbage => Some(Answer::json(200, b"<<<< this is not JSON >>>>".to_vec())),
        Fault::Redirect(url) => Some(Answer::json(302, Vec::new()).with("location", url.as_str())),
        Fault::EchoToken(status) => {
            let sent = call.authorization.as_deref().unwrap_or(&call.form);
            let message = format!("could not read '{sent}'");
            Some(Answer::error(*status, "InvalidAuthenticationToken", &message))
        }
        Fault::EndlessBody => {
            let mut answer = Answer::json(200, Vec::new());
            answer.delivery = Delivery::Endless;
            Some(answer)
        }
        Fault::Slow(pause) => {
            tokio::time::sleep(*pause).await;
            None
        }
        Fault::Hang => std::future::pending().await,
        Fault::Reset | Fault::CutBody | Fault::Truncated => None,
    }
}

/// What a fault does to the true answer.
pub fn spoil(fault: &Fault, mut answer: Answer) -> Answer {
    match fault {
        Fault::Reset => answer.delivery = Delivery::Reset,
        Fault::CutBody => answer.delivery = Delivery::CutBody,
        Fault::Truncated => answer.body.truncate(answer.body.len() / 2),
        _ => {}
    }
    answer
}

/// Code and message of a status. 500 is the one that was recorded from the
/// service (API reference, section 11); the others are guesses.
pub fn error_of(status: u16) -> (&'static str, &'static str) {
    match status {
        400 => ("BadRequest", "The request is not valid."),
        401 => ("Unauthorized", "The token is not accepted."),
        403 => ("Forbidden", "The caller has no role on this workspace."),
        404 => ("NotFound", "The resource does not exist."),
        408 => ("RequestTimeout", "The request took too long."),
        425 => ("TooEarly", "Please try again."),
        429 => ("TooManyRequests", "Too many requests. Please slow down."),
        500 => ("DiscoMicroserviceLookupFailed", "The lookup of a microservice failed."),
        503 => ("ServiceUnavailable", "The service is not available for now."),
        504 => ("GatewayTimeout", "The service behind did not answer in time."),
        _ => ("UnexpectedError", "Something unexpected happened."),
    }
}
