//! HTTP/1.1 by hand, on both sides of the double: real clients and servers would tidy up what it
//! must send and show as it is, such as the case of header names and the borders of chunks.
//!
//! `Conn::head -> Conn::piece, again and again -> ...`; [`exchange`] does it all for one request.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::json::Json;

/// Largest head of a message.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Largest body that is read whole. The host takes less from a client
/// (`FUNCTIONS_REQUEST_BODY_SIZE_LIMIT`) and more from a handler.
const BODY_BYTES_MAX: usize = 256 << 20;
/// What is read at once.
const READ_BYTES: usize = 64 << 10;
/// Size of the chunks in which the host sends what it made itself.
const CHUNK_BYTES: usize = 1024;
/// Most answers of status 1xx before the real one.
const INTERIM_MAX: u32 = 10;

/// A request or an answer, its body whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The request line, or the status line.
    pub start: String,
    /// In their order, names as they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn answer(status: u16) -> Self {
        let reason = match status {
            200 => "OK",
            202 => "Accepted",
            204 => "No Content",
            401 => "Unauthorized",
            404 => "Not Found",
            413 => "Payload Too Large",
            500 => "Internal Server Error",
            _ => "",
        };
        let start = format!("HTTP/1.1 {status} {reason}");
        Self { start, headers: Vec::new(), body: Vec::new() }
    }

    /// Of an answer; 0 if this is none.
    pub fn status(&self) -> u16 {
        let number = self.start.split(' ').nth(1);
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// Method and target of a request.
    pub fn request_line(&self) -> (&str, &str) {
        let mut words = self.start.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// The first header `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let same = move |(found, _): &&(String, String)| found.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|(_, value)| value.as_str())
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|err| panic!("{err}: {}", self.text()))
    }

    /// Start line and headers, with the empty line behind them.
    pub fn head(&self) -> Vec<u8> {
        let lines = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        format!("{}\r\n{}\r\n", self.start, lines.collect::<String>()).into_bytes()
    }

    /// How the body of this head comes. `asked` is the method that an answer answers.
    pub fn framing(&self, asked: Option<&str>) -> Result<Framing> {
        let is_chunked = self.header("transfer-encoding").is_some_and(|value| {
            value.rsplit(',').next().is_some_and(|last| last.trim().eq_ignore_ascii_case("chunked"))
        });
        if asked.is_some() && (asked == Some("HEAD") || [204, 304].contains(&self.status())) {
            return Ok(Framing::Length(0));
        }
        if is_chunked {
            return Ok(Framing::Chunked);
        }
        match self.header("content-length") {
            Some(length) => {
                let length = length.trim().parse().map_err(|_| bad("a content-length"))?;
                Ok(Framing::Length(length))
            }
            None if asked.is_some() => Ok(Framing::ToTheEnd),
            None => Ok(Framing::Length(0)),
        }
    }
}

/// What of a body is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    ToTheEnd,
    Done,
}

/// A connection, with what was read of it and not used yet.
pub struct Conn {
    pub stream: TcpStream,
    held: Vec<u8>,
}

impl Conn {
    pub fn new(stream: TcpStream) -> Self {
        // Small messages both ways; an error shows at the next write.
        let _set = stream.set_nodelay(true);
        Self { stream, held: Vec::new() }
    }

    pub async fn to(port: u16) -> Result<Self> {
        Ok(Self::new(TcpStream::connect(("127.0.0.1", port)).await?))
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads more. `false` at the end.
    async fn fill(&mut self) -> Result<bool> {
        self.held.reserve(READ_BYTES);
        Ok(self.stream.read_buf(&mut self.held).await? > 0)
    }

    /// The next head, with an empty body; nothing if the other side closed before its first byte.
    pub async fn head(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(end) = find(&self.held, b"\r\n\r\n") {
                let head = self.held.drain(..end + 4).collect::<Vec<u8>>();
                return parse_head(&head[..end]).map(Some);
            }
            if self.held.len() > HEAD_BYTES_MAX {
                return Err(bad("a head within its limit"));
            }
            if !self.fill().await? {
                return if self.held.is_empty() { Ok(None) } else { Err(early()) };
            }
        }
    }

    /// The next piece of a body, as it comes; nothing behind the last.
    pub async fn piece(&mut self, framing: &mut Framing) -> Result<Option<Vec<u8>>> {
        loop {
            match *framing {
                Framing::Done | Framing::Length(0) => {
                    *framing = Framing::Done;
                    return Ok(None);
                }
                Framing::Length(length) if !self.held.is_empty() => {
                    let n = usize::try_from(length).unwrap_or(usize::MAX).min(self.held.len());
                    *framing = Framing::Length(length - n as u64);
                    return Ok(Some(self.held.drain(..n).collect()));
                }
                Framing::ToTheEnd if !self.held.is_empty() => {
                    return Ok(Some(std::mem::take(&mut self.held)));
                }
                Framing::Chunked => return self.chunk(framing).await,
                Framing::Length(_) | Framing::ToTheEnd => {}
            }
            if !self.fill().await? {
                return if *framing == Framing::ToTheEnd { Ok(None) } else { Err(early()) };
            }
        }
    }

    async fn chunk(&mut self, framing: &mut Framing) -> Result<Option<Vec<u8>>> {
        let line = self.line().await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| bad("the size of a chunk"))?;
        if size > BODY_BYTES_MAX {
            return Err(bad("a chunk within its limit"));
        }
        if size == 0 {
            // Trailers, up to an empty line.
            while !self.line().await?.is_empty() {}
            *framing = Framing::Done;
            return Ok(None);
        }
        while self.held.len() < size + 2 {
            if !self.fill().await? {
                return Err(early());
            }
        }
        let piece = self.held.drain(..size).collect();
        self.held.drain(..2);
        Ok(Some(piece))
    }

    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = find(&self.held, b"\r\n") {
                let line = self.held.drain(..end + 2).collect::<Vec<u8>>();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.held.len() > HEAD_BYTES_MAX {
                return Err(bad("a line within its limit"));
            }
            if !self.fill().await? {
                return Err(early());
            }
        }
    }

    pub async fn whole(&mut self, mut framing: Framing) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(&mut framing).await? {
            body.extend(piece);
            if body.len() > BODY_BYTES_MAX {
                return Err(bad("a body within its limit"));
            }
        }
        Ok(body)
    }

    /// The head of the answer to a request; heads of status 1xx are passed over.
    pub async fn answer_head(&mut self) -> Result<Message> {
        for _ in 0..INTERIM_MAX {
            let head = self.head().await?.ok_or_else(early)?;
            match head.status() {
                0 => return Err(bad("a status line")),
                100..=199 => {}
                _ => return Ok(head),
            }
        }
        Err(bad("an answer after those of status 1xx"))
    }

    pub async fn answer(&mut self, method: &str) -> Result<Message> {
        let mut message = self.answer_head().await?;
        message.body = self.whole(message.framing(Some(method))?).await?;
        Ok(message)
    }
}

/// Sends `request`, whole, to a port of this machine and reads the answer.
pub async fn exchange(port: u16, request: &[u8]) -> Result<Message> {
    let mut conn = Conn::to(port).await?;
    conn.send(request).await?;
    let method = request.split(|byte| *byte == b' ').next().unwrap_or_default();
    conn.answer(&String::from_utf8_lossy(method)).await
}

/// `body` in chunks, each but the last of the size that the host's have.
pub fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(CHUNK_BYTES) {
        out.extend(chunk_of(chunk));
    }
    out.extend(LAST_CHUNK);
    out
}

pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

pub fn chunk_of(piece: &[u8]) -> Vec<u8> {
    [format!("{:X}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
}

/// Reads a head without the empty line behind it.
pub fn parse_head(head: &[u8]) -> Result<Message> {
    let head = std::str::from_utf8(head).map_err(|_| bad("a head of text"))?;
    let mut lines = head.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let pair = |line: &str| {
        let (name, value) = line.split_once(':').ok_or_else(|| bad("a header"))?;
        Ok((name.to_owned(), value.trim().to_owned()))
    };
    let headers = lines.map(pair).collect::<Result<_>>()?;
    Ok(Message { start, headers, body: Vec::new() })
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The text of a body as JSON, if it is that.
pub fn json_of(body: &[u8]) -> Option<Json> {
    Json::parse(std::str::from_utf8(body).ok()?).ok()
}

fn bad(wanted: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("expected {wanted} on the connection"))
}

fn early() -> Error {
    Error::new(ErrorKind::UnexpectedEof, "the other side closed the connection early")
}
