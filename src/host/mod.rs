//! The custom handler's side of the Functions host's protocol: payload in, reply out.
//!
//! `TCP -> which function -> body read -> payload or HTTP request -> the function -> reply`
//!
//! The host calls a function in one of two ways, on the same port: in default mode as
//! `POST /{Function}` with the trigger's data as JSON, and where it forwards or proxies HTTP as the
//! original request, `/api/{route}`. What a function is given and gives back is the same either way.
//!
//! # Invariants
//! - `GET /` is answered before anything else is known.
//! - Every answer is made in [`reply`]: in default mode it is a JSON object, and never a redirect.
//! - A request is read to its end before it is answered: the host takes an answer on an unread body
//!   for a broken connection.
//! - A function that panics or takes too long is answered for. The process goes on.
//!
//! Start reading at [`serve`].

pub mod app_root;
mod body;
pub mod http;
pub mod parent;
pub mod payload;
pub mod reply;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use futures::future::FutureExt;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug, error, error_span, field, warn};

use crate::error::{Error, Kind, Result};
use crate::secret::{holds_credential, with_keys_of_caller};
use body::{Bodies, Body};
use http::{HttpReply, HttpRequest, Refusal};
use parent::Parent;
use payload::{Payload, Timer};

/// What starts a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A timer.
    Timer,
    /// A message of a queue.
    Queue,
    /// An HTTP request.
    Http {
        /// Below the route prefix, for example `exports/{runId?}`.
        route: &'static str,
        /// Methods, in capitals.
        methods: &'static [&'static str],
    },
}

/// One function of the app. Its folder has the same name.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// Name of the folder, and the path in default mode.
    pub name: &'static str,
    /// What starts it.
    pub trigger: Trigger,
    /// Whether it puts work on the queue.
    pub emits: bool,
}

/// In front of every route (contract, section 4).
pub const ROUTE_PREFIX: &str = "/api/";

/// Names of the bindings in every `function.json`.
pub mod binding {
    /// Timer trigger.
    pub const TIMER: &str = "timer";
    /// Queue trigger.
    pub const MESSAGE: &str = "message";
    /// HTTP trigger.
    pub const REQUEST: &str = "req";
    /// HTTP output.
    pub const RESPONSE: &str = "res";
    /// Queue output.
    pub const WORK: &str = "work";
}

/// What the functions do. Texts that come back go on the queue.
#[async_trait]
pub trait Functions: Send + Sync + 'static {
    /// Runs the timer function `name`.
    ///
    /// # Errors
    /// The invocation fails with it.
    async fn timer(&self, name: &'static str, timer: Timer) -> Result<Vec<String>>;

    /// Runs the queue function `name` for the message `text`.
    ///
    /// # Errors
    /// The invocation fails with it, so that the message is delivered again.
    async fn message(&self, name: &'static str, text: String) -> Result<Vec<String>>;

    /// Answers `request`, which is for the function `name`.
    ///
    /// # Errors
    /// What the caller is told in place of an answer.
    async fn http(
        &self,
        name: &'static str,
        request: HttpRequest,
    ) -> Result<(HttpReply, Vec<String>), Refusal>;

    /// Sees to it that `work`, which cannot be put on the queue, is done all the same.
    ///
    /// # Errors
    /// What kept it from that.
    async fn keep(&self, work: Vec<String>) -> Result<()>;
}

/// What every request needs.
struct Handler<F> {
    table: &'static [Function],
    functions: F,
    time_max: Duration,
    bodies: Bodies,
}

/// Serves the functions of `table` on `listener`, each for at most `time_max` an invocation, until
/// `parent`, the host that started this process, is gone. Gives what ended it: there is no ending that is not a failure.
pub async fn serve<F: Functions>(
    listener: TcpListener,
    table: &'static [Function],
    functions: F,
    time_max: Duration,
    parent: Parent,
) -> Error {
    let handler = Arc::new(Handler { table, functions, time_max, bodies: Bodies::default() });
    let router = Router::new().fallback(answer::<F>).with_state(handler);
    let ended = tokio::select! {
        served = axum::serve(listener, router).into_future() => match served {
            Ok(()) => "the server came to an end".to_owned(),
            Err(err) => err.to_string(),
        },
        () = parent.gone() => "the host that started this process is gone".to_owned(),
    };
    Error::new(Kind::Unavailable { retry_after: None }, "serve the functions")
        .because(ended)
        .advise("the host starts the handler anew")
}

/// Which function a request is for, and how it came.
enum Way {
    /// The host wants to know whether anybody is here.
    Ping,
    Default(&'static Function),
    Forwarded(&'static Function, http::Params),
    Nobody,
}

impl<F: Functions> Handler<F> {
    fn way(&self, method: &Method, path: &str) -> Way {
        if path == "/" && matches!(*method, Method::GET | Method::HEAD) {
            return Way::Ping;
        }
        let by_name = |function: &&Function| path.strip_prefix('/') == Some(function.name);
        if let (&Method::POST, Some(function)) = (method, self.table.iter().find(by_name)) {
            return Way::Default(function);
        }
        let routed = self.table.iter().find_map(|function| match function.trigger {
            Trigger::Http { route, .. } => Some((function, http::params(route, path)?)),
            Trigger::Timer | Trigger::Queue => None,
        });
        routed.map_or(Way::Nobody, |(function, params)| Way::Forwarded(function, params))
    }
}

async fn answer<F: Functions>(
    State(handler): State<Arc<Handler<F>>>,
    request: Request,
) -> Response {
    // The host counts from when it sent it.
    let until = Instant::now() + handler.time_max;
    let (parts, body) = request.into_parts();
    let id = invocation_id(&parts.headers);
    match handler.way(&parts.method, parts.uri.path()) {
        Way::Ping => reply::ping(),
        Way::Nobody => {
            handler.bodies.discard(body).await;
            reply::forwarded(Err(Refusal::not_found("no function has this path")), &id)
        }
        Way::Default(function) => {
            let span = span(function, &id);
            // A large body has room until its function is done.
            let (body, _room) = handler.bodies.read(body, body::PAYLOAD_BYTES_MAX).await;
            handler.default_mode(function, body, &id, until).instrument(span).await
        }
        Way::Forwarded(function, params) => {
            let span = span(function, &id);
            let announced = http::is_body_announced(&parts.headers);
            let (body, _room) = handler.bodies.read(body, http::BODY_BYTES_MAX).await;
            let request = HttpRequest::forwarded(&parts, params);
            let keys = request.keys_of_caller();
            let answered = async {
                let body = http::Body::of_forwarded(body, announced)?;
                let request = HttpRequest { body, ..request };
                let (reply, work) = handler.http(function, request, until).await?;
                // The host does not forward to a function with a queue: somebody took that away.
                if !work.is_empty() {
                    warn!("A forwarded request needs the queue; maintenance goes on with it");
                    handler.functions.keep(work).await?;
                }
                Ok(reply)
            };
            let answered = with_keys_of_caller(keys, answered).instrument(span).await;
            reply::forwarded(answered, &id)
        }
    }
}

/// The span of an invocation. Every log line within carries it, whatever level is logged.
fn span(function: &Function, id: &str) -> Span {
    error_span!("invocation", invocation.id = id, function = function.name, run.id = field::Empty)
}

/// The id that the host gave the invocation: what stands behind the last comma, since a client's own
/// may come before it. Without one, one of ours.
fn invocation_id(headers: &HeaderMap) -> String {
    let header = headers.get_all("x-azure-functions-invocationid").iter().next_back();
    let last = header.and_then(|value| value.to_str().ok()?.rsplit(',').next());
    let is_id = |id: &&str| {
        (1..=64).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    match last.map(str::trim).filter(is_id) {
        Some(id) => id.to_owned(),
        None => format!("{:032x}", fastrand::u128(..)),
    }
}

impl<F: Functions> Handler<F> {
    async fn default_mode(
        &self,
        function: &Function,
        body: Body,
        id: &str,
        until: Instant,
    ) -> Response {
        let payload = match &body {
            Body::Read(bytes) => Payload::parse(bytes),
            // The only payload of that size is a request with a large body.
            Body::TooLarge if matches!(function.trigger, Trigger::Http { .. }) => {
                return reply::default_http(Err(Refusal::too_large()), id);
            }
            Body::Busy if matches!(function.trigger, Trigger::Http { .. }) => {
                return reply::default_http(Err(Refusal::body_busy()), id);
            }
            Body::TooLarge | Body::Busy => Err(unreadable("it is too large")),
            Body::Broken => Err(unreadable("it broke off")),
        };
        drop(body);
        let payload = match payload {
            Ok(payload) => payload,
            Err(err) => return self.failed(&err),
        };
        match function.trigger {
            Trigger::Timer => {
                let timer = payload.timer(binding::TIMER);
                let done = self.bounded(until, self.functions.timer(function.name, timer)).await;
                self.done(function, done.and_then(|done| done))
            }
            Trigger::Queue => {
                let done = match payload.text(binding::MESSAGE) {
                    Ok(text) => {
                        self.bounded(until, self.functions.message(function.name, text)).await
                    }
                    Err(err) => Err(err),
                };
                self.done(function, done.and_then(|done| done))
            }
            Trigger::Http { .. } => {
                let answered = match payload.http(binding::REQUEST) {
                    Ok(request) => {
                        let keys = request.keys_of_caller();
                        let answer = self.http(function, request, until);
                        with_keys_of_caller(keys, answer).await
                    }
                    Err(err) => Err(Refusal::of(&err)),
                };
                reply::default_http(answered, id)
            }
        }
    }

    async fn http(
        &self,
        function: &Function,
        request: HttpRequest,
        until: Instant,
    ) -> Result<(HttpReply, Vec<String>), Refusal> {
        if let Trigger::Http { methods, .. } = function.trigger
            && !methods.contains(&request.method.as_str())
        {
            return Err(Refusal::method_not_allowed(methods));
        }
        let answered = match self.bounded(until, self.functions.http(function.name, request)).await
        {
            Ok(answered) => answered,
            Err(err) => {
                error!("{err}");
                Err(Refusal::of(&err))
            }
        };
        let (reply, work) = answered?;
        if reply.holds_credential() {
            return Err(Error::leak("answer a request").into());
        }
        Ok((reply, clean(work)?))
    }

    /// What `work` gives, if it comes by `until` and without a panic.
    async fn bounded<T>(&self, until: Instant, work: impl Future<Output = T>) -> Result<T> {
        // What a panic leaves behind is thrown away with the future; what lasts is in the store.
        let work = std::panic::AssertUnwindSafe(work).catch_unwind();
        match tokio::time::timeout_at(until, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err(Error::new(Kind::Internal, "run the function")
                .because("a fault in this program")
                .advise("please report the line on stderr")),
            Err(_) => Err(Error::new(Kind::Deadline, "run the function")
                .because(format!("not done within {} s", self.time_max.as_secs()))
                .advise("set a shorter EASM_SLICE_SECONDS or a longer functionTimeout")),
        }
    }

    fn done(&self, function: &Function, done: Result<Vec<String>>) -> Response {
        match done.and_then(clean) {
            Ok(work) => {
                debug!(n_messages = work.len(), "Done");
                reply::default_done(function.emits.then_some(work))
            }
            Err(err) => self.failed(&err),
        }
    }

    fn failed(&self, err: &Error) -> Response {
        error!("{err}");
        reply::default_failed()
    }
}

/// Messages that go on the queue, unless a credential of ours is in one.
fn clean(work: Vec<String>) -> Result<Vec<String>> {
    match work.iter().any(|text| holds_credential(text.as_bytes())) {
        true => Err(Error::leak("put work on the queue")),
        false => Ok(work),
    }
}

fn unreadable(reason: &str) -> Error {
    Error::new(Kind::Unreadable, "read what the host sent")
        .because(reason)
        .advise("the host sends it again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_message_with_a_credential_of_ours_does_not_go_on_the_queue() {
        let secret = Secret::new("canary-of-a-message-0123456789".to_owned());
        let good = "{\"v\":1,\"do\":\"plan\"}".to_owned();
        assert_eq!(clean(vec![good.clone()]).expect("clean"), [good.as_str()]);
        let bad = format!("{{\"target\":\"{}\"}}", secret.expose());
        let err = clean(vec![good, bad]).expect_err("a credential");
        assert_eq!(err.kind(), Kind::Leak);
    }
}
