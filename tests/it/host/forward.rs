//! HTTP-only functions: the request itself goes to the handler, rebuilt (forwarding) or streamed
//! (proxying).

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Inner;
use super::app::Function;
use super::door::on_the_wire;
use super::invoke::Invocation;
use super::payload::{HOST_VERSION, Stamp};
use super::payload_http::forwarded;
use super::reply::Failure;
use super::wire::{self, Conn, Framing, LAST_CHUNK, Message, chunk_of};

/// Longest silence on a proxied request, in either direction.
const IDLE_TIME_MAX: Duration = Duration::from_secs(240);
/// Tries of a proxied request whose connection fails.
const TRIES_MAX: u32 = 10;
const TRY_PAUSE_MIN: Duration = Duration::from_millis(50);
const TRY_PAUSE_MAX: Duration = Duration::from_millis(250);
/// Headers that belong to one connection.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Forwarding: the answer is read whole, then goes on. Whatever its status, it is a success.
pub async fn forward(inner: &Inner, function: &Function, request: &Message) -> Message {
    let stamp = inner.stamp();
    let bytes = forwarded(request, &stamp);
    let call = async {
        let answer = wire::exchange(inner.handler_port, &bytes).await;
        answer.map_err(|err| Failure::Transport(err.to_string()))
    };
    let mut invocation = Invocation::new(function, &stamp);
    invocation.result = inner.limited(call).await.map(|mut answer| {
        invocation.reply = Some(answer.clone());
        drop_hop_by_hop(&mut answer);
        Some(answer)
    });
    match inner.note(invocation).result {
        Ok(answer) => answer.unwrap_or_else(|| Message::answer(500)),
        Err(_) => Message::answer(500),
    }
}

fn drop_hop_by_hop(message: &mut Message) {
    message.headers.retain(|(name, _)| !HOP_BY_HOP.contains(&name.to_lowercase().as_str()));
}

/// How far a proxied answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The client's connection can take another request.
    Whole,
    /// It was cut, or was to be closed.
    Cut,
}

/// Proxying: both bodies are streamed as they come.
pub async fn proxy(
    inner: &Inner,
    function: &Function,
    client: &mut Conn,
    head: Message,
    from: IpAddr,
) -> Sent {
    let stamp = inner.stamp();
    let method = head.request_line().0.to_owned();
    let is_close = head.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
    let mut invocation = Invocation::new(function, &stamp);
    let mut has_begun = false;
    let stream = async {
        let framing = head.framing(None).map_err(transport)?;
        let sent = proxied(&head, framing, &stamp, from);
        let (mut handler, answer) = reach(inner, client, &sent, framing).await?;
        has_begun = true;
        relay(client, &mut handler, &method, answer).await.map_err(transport)
    };
    let result = inner.limited(stream).await;
    let is_whole = result.is_ok();
    invocation.result = result.map(Some);
    inner.note(invocation);
    match (is_whole, has_begun) {
        (true, _) if !is_close => Sent::Whole,
        (false, false) => {
            // The client may have gone, which nobody hears.
            let _told = client.send(&on_the_wire(Message::answer(500), &method)).await;
            Sent::Cut
        }
        _ => Sent::Cut,
    }
}

/// The head that the handler gets.
fn proxied(head: &Message, framing: Framing, stamp: &Stamp, from: IpAddr) -> Vec<u8> {
    let mut sent = head.clone();
    drop_hop_by_hop(&mut sent);
    if framing == Framing::Chunked {
        sent.set("Transfer-Encoding", "chunked");
    }
    let host = head.header("host").unwrap_or_default().to_owned();
    let before: Vec<&str> = head.all("x-forwarded-for").collect();
    let way = [before.join(", "), from.to_string()];
    let way: Vec<&str> = way.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    sent.set("Host", &format!("127.0.0.1:{}", stamp.port));
    sent.set("X-Forwarded-For", &way.join(", "));
    sent.set("X-Forwarded-Host", &host);
    sent.set("X-Forwarded-Proto", "http");
    // In place of what the client sent: these can be trusted.
    sent.set("X-Azure-Functions-HostVersion", HOST_VERSION);
    sent.set("X-Azure-Functions-InvocationId", &stamp.invocation);
    sent.set("x-ms-invocation-id", &stamp.invocation);
    sent.head()
}

/// Sends the request until there is the head of an answer. Without a body, a request may be sent
/// again although the handler saw it.
async fn reach(
    inner: &Inner,
    client: &mut Conn,
    head: &[u8],
    framing: Framing,
) -> Result<(Conn, Message), Failure> {
    let has_body = framing != Framing::Length(0);
    let mut pause = TRY_PAUSE_MIN;
    let mut why = Failure::Transport("not tried".to_owned());
    for _ in 0..TRIES_MAX {
        match Conn::to(inner.handler_port).await {
            Err(err) => why = transport(err),
            Ok(mut handler) => {
                let tried = idle(ask(client, &mut handler, head, framing)).await;
                match tried {
                    Ok(answer) => return Ok((handler, answer)),
                    Err(err) if has_body || err.kind() == io::ErrorKind::BrokenPipe => {
                        return Err(transport(err));
                    }
                    Err(err) => why = transport(err),
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(TRY_PAUSE_MAX);
    }
    Err(why)
}

async fn ask(
    client: &mut Conn,
    handler: &mut Conn,
    head: &[u8],
    mut framing: Framing,
) -> io::Result<Message> {
    handler.send(head).await?;
    let is_chunked = framing == Framing::Chunked;
    while let Some(piece) = idle(client.piece(&mut framing)).await? {
        idle(handler.send(&if is_chunked { chunk_of(&piece) } else { piece })).await?;
    }
    if is_chunked {
        handler.send(LAST_CHUNK).await?;
    }
    tokio::select! {
        answer = handler.answer_head() => answer,
        // The handler's connection is dropped, and with it what it does for this client.
        () = hung_up(&client.stream) => {
            Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client hung up"))
        }
    }
}

/// Ends when the other side has closed its connection. A request behind this one is no end.
async fn hung_up(stream: &TcpStream) {
    match stream.peek(&mut [0]).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

/// Sends the answer on, piece by piece. Gives its head.
async fn relay(
    client: &mut Conn,
    handler: &mut Conn,
    method: &str,
    mut answer: Message,
) -> io::Result<Message> {
    let mut framing = answer.framing(Some(method))?;
    drop_hop_by_hop(&mut answer);
    let is_chunked = matches!(framing, Framing::Chunked | Framing::ToTheEnd);
    if is_chunked {
        answer.set("Transfer-Encoding", "chunked");
    }
    idle(client.send(&answer.head())).await?;
    loop {
        let piece = tokio::select! {
            piece = idle(handler.piece(&mut framing)) => piece?,
            () = hung_up(&client.stream) => {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client hung up"));
            }
        };
        let Some(piece) = piece else { break };
        idle(client.send(&if is_chunked { chunk_of(&piece) } else { piece })).await?;
    }
    if is_chunked {
        client.send(LAST_CHUNK).await?;
    }
    Ok(answer)
}

async fn idle<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "silent for too long");
    timeout(IDLE_TIME_MAX, work).await.map_err(late)?
}

fn transport(err: io::Error) -> Failure {
    Failure::Transport(err.to_string())
}
