//! The front door: where HTTP clients come in, with routes, methods and keys.
//!
//! `head -> function by route and method -> key -> proxying, forwarding or default mode -> answer`

use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::app::{App, Auth, Function, Trigger, is_disabled};
use super::config::Settings;
use super::fire::Firing;
use super::forward::{self, Sent};
use super::payload::queue_by_hand;
use super::payload_http::{Caller, default_body, query_of};
use super::process::Level;
use super::route::Params;
use super::wire::{Conn, Framing, Message, json_of};
use super::{Inner, State};

/// Largest body of a request, unless `FUNCTIONS_REQUEST_BODY_SIZE_LIMIT` says otherwise.
const BODY_BYTES_MAX: usize = 104_857_600;

/// Takes connections until the host drains or ends.
pub async fn serve(inner: Arc<Inner>, listener: TcpListener) {
    let mut draining = inner.is_draining.subscribe();
    let accept = async {
        // An error to accept one connection ends no server.
        loop {
            if let Ok((stream, from)) = listener.accept().await {
                tokio::spawn(talk(Arc::clone(&inner), stream, from.ip()));
            }
        }
    };
    tokio::select! {
        () = accept => {}
        // Fails only without a sender: then the host has gone.
        _draining = draining.wait_for(|is_draining| *is_draining) => {}
    }
}

async fn talk(inner: Arc<Inner>, stream: TcpStream, from: IpAddr) {
    let mut conn = Conn::new(stream);
    let requests = async {
        while let Ok(Some(head)) = conn.head().await {
            let in_work = inner.begin();
            let goes_on = request(&inner, &mut conn, head, from).await;
            drop(in_work);
            if !goes_on {
                return;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        () = inner.stopped() => {}
    }
}

/// Answers a request. `false` if the connection is of no more use.
async fn request(inner: &Arc<Inner>, conn: &mut Conn, head: Message, from: IpAddr) -> bool {
    let Ok(framing) = head.framing(None) else { return false };
    let found = find(inner, &head);
    if let Ok((function, _, _)) = &found
        && function.is_http_only
        && inner.app.options.proxies
        && inner.options.has_proxying
    {
        return forward::proxy(inner, function, conn, head, from).await == Sent::Whole;
    }
    if head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        && conn.send(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err()
    {
        return false;
    }
    // Whole, before anything is done: a half-sent upload does not reach the handler.
    let Ok(body) = conn.whole(framing).await else { return false };
    if let Some(function) = by_hand(inner, &head).cloned() {
        let (inner, input) = (Arc::clone(inner), input(&body));
        // Nobody waits for it: the answer is 202 at once.
        tokio::spawn(async move { inner.run_by_hand(&function, &input).await });
    }
    let method = head.request_line().0.to_owned();
    let is_close = head.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
    let mut answer = match found {
        Err(answer) => answer,
        Ok(_) if body.len() > body_limit(inner) => Message::answer(413),
        Ok((function, params, caller)) => {
            let is_chunked = framing == Framing::Chunked;
            // What came in chunks is lost.
            let body = if is_chunked { Vec::new() } else { body };
            let request = Message { body, ..head };
            let is_forwarded = function.is_http_only && inner.app.options.forwards;
            match is_forwarded {
                true if is_chunked => {
                    let text = "A request in chunks cannot be forwarded.";
                    inner.log(Level::Error, text);
                    Message::answer(500)
                }
                true => forward::forward(inner, function, &request).await,
                false => in_default_mode(inner, function, &request, &params, caller).await,
            }
        }
    };
    if is_close {
        answer.set("Connection", "close");
    }
    conn.send(&on_the_wire(answer, &method)).await.is_ok() && !is_close
}

fn body_limit(inner: &Inner) -> usize {
    let limit = inner.options.settings.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT");
    limit.and_then(|text| text.parse().ok()).unwrap_or(BODY_BYTES_MAX)
}

/// An answer with the length of its body, or without one where there must be none.
pub fn on_the_wire(mut answer: Message, method: &str) -> Vec<u8> {
    let status = answer.status();
    let has_no_body = method == "HEAD" || [204, 304].contains(&status);
    match has_no_body {
        // What the handler said of a length stands.
        true => answer.head(),
        false => {
            answer.set("Content-Length", &answer.body.len().to_string());
            [answer.head(), answer.body].concat()
        }
    }
}

async fn in_default_mode(
    inner: &Inner,
    function: &Function,
    request: &Message,
    params: &Params,
    caller: Caller,
) -> Message {
    let stamp = inner.stamp();
    let body = default_body(&function.name, &function.binding, request, params, caller, &stamp);
    let invocation = inner.invoke(function, &stamp, body).await;
    match invocation.result {
        Ok(answer) => answer.unwrap_or_else(|| Message::answer(204)),
        Err(_) => Message::answer(500),
    }
}

/// The function that `head` is for, the parameters of its route and what keys the caller has; or
/// the answer that ends it here.
fn find<'a>(inner: &'a Inner, head: &Message) -> Result<(&'a Function, Params, Caller), Message> {
    let (method, target) = head.request_line();
    let path = target.split('?').next().unwrap_or_default();
    if path == "/" {
        return Err(Message::answer(200));
    }
    if path.to_lowercase().starts_with("/admin/") {
        return Err(admin(inner, head, path));
    }
    let routed = routed(&inner.app, &inner.options.settings, method, path);
    let (function, params, auth) = routed.ok_or_else(|| Message::answer(404))?;
    let level = level(inner, head, Some(&function.name));
    match level >= auth {
        true => Ok((function, params, Caller { level })),
        false => Err(Message::answer(401)),
    }
}

/// The function for a method and a path, which is as it was sent, with the parameters of its route.
pub fn routed<'a>(
    app: &'a App,
    settings: &Settings,
    method: &str,
    path: &str,
) -> Option<(&'a Function, Params, Auth)> {
    let prefix = format!("/{}", app.options.route_prefix.trim_matches('/'));
    let prefix = prefix.trim_end_matches('/');
    let inside = path.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix));
    let rest = inside.map(|_| &path[prefix.len()..]).filter(|rest| rest.starts_with('/'))?;
    let mut candidates = Vec::new();
    for function in &app.functions {
        let Trigger::Http { route, methods, auth } = &function.trigger else { continue };
        let is_method = methods.is_empty() || methods.iter().any(|known| known == method);
        if !is_method || is_disabled(&function.name, settings) {
            continue;
        }
        if let Some(params) = route.matches(rest) {
            candidates.push((route.rank(), function, params, *auth));
        }
    }
    candidates.sort_by(|one, other| one.0.cmp(&other.0));
    let best = candidates.into_iter().next();
    best.map(|(_, function, params, auth)| (function, params, auth))
}

/// What the caller may do by the key it sent.
fn level(inner: &Inner, head: &Message, function: Option<&str>) -> Auth {
    let keys = &inner.account.keys;
    let query = query_of(head.request_line().1);
    let by_query = query.iter().find(|(name, _)| name.eq_ignore_ascii_case("code"));
    let by_query = by_query.and_then(|(_, values)| values.first()).cloned();
    let Some(sent) = head.header("x-functions-key").map(str::to_owned).or(by_query) else {
        return Auth::Anonymous;
    };
    let of_function = function.and_then(|name| keys.functions.get(name));
    match () {
        () if sent == keys.master => Auth::Admin,
        () if sent == keys.default || of_function == Some(&sent) => Auth::Function,
        () => Auth::Anonymous,
    }
}

/// The host's own paths: its status, and starting a function by hand.
fn admin(inner: &Inner, head: &Message, path: &str) -> Message {
    if level(inner, head, None) < Auth::Admin {
        return Message::answer(401);
    }
    let (method, _) = head.request_line();
    if path.starts_with("/admin/functions/") && method == "POST" {
        // For one that was not indexed as well, where nothing happens.
        return Message::answer(202);
    }
    if method == "GET" && path.eq_ignore_ascii_case("/admin/host/status") {
        // Whatever has become of the handler.
        let state = if *inner.state.borrow() == State::Stopped { "Stopped" } else { "Running" };
        let body = format!("{{\"state\":\"{state}\"}}").into_bytes();
        let mut answer = Message { body, ..Message::answer(200) };
        answer.set("Content-Type", "application/json; charset=utf-8");
        return answer;
    }
    Message::answer(404)
}

/// The function that a request starts by hand, if it does.
fn by_hand<'a>(inner: &'a Inner, head: &Message) -> Option<&'a Function> {
    let (method, target) = head.request_line();
    let name = target.split('?').next()?.strip_prefix("/admin/functions/")?;
    let is_allowed = method == "POST" && level(inner, head, None) == Auth::Admin;
    is_allowed.then(|| inner.app.function(name)).flatten()
}

/// `input` of the body `{"input": "..."}`.
fn input(body: &[u8]) -> String {
    let input = json_of(body).and_then(|body| body.get("input")?.scalar());
    input.unwrap_or_default()
}

impl Inner {
    /// Starts a timer or queue function as `/admin/functions` does.
    async fn run_by_hand(&self, function: &Function, input: &str) {
        let name = &function.name;
        match &function.trigger {
            Trigger::Timer { .. } => drop(self.fire(name, &Firing::by_hand()).await),
            Trigger::Queue { .. } => {
                let _in_work = self.begin();
                let stamp = self.stamp();
                let body = queue_by_hand(name, &function.binding, input, &stamp);
                drop(self.invoke(function, &stamp, body).await);
            }
            Trigger::Http { .. } => {
                let text = format!("The double starts no HTTP function by hand: '{name}'.");
                self.log(Level::Error, &text);
            }
        }
    }
}
