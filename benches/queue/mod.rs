//! A queue as Storage queues are, in memory, over TCP: a message is delivered at least once.
//!
//! Requests are lines: `put MESSAGE`, `take N MILLISECONDS`, `delete RECEIPT`. The answer is a line for each
//! message taken, its receipt and itself, and an empty line.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use easm_export::export::step::Message;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

struct Entry {
    message: String,
    /// What deletes it; another one each time it is taken.
    receipt: u64,
    visible_at: Instant,
}

#[derive(Default)]
struct Entries {
    entries: Vec<Entry>,
    n_receipts: u64,
}

impl Entries {
    fn put(&mut self, message: &str) {
        let entry = Entry { message: message.to_owned(), receipt: 0, visible_at: Instant::now() };
        self.entries.push(entry);
    }

    fn take(&mut self, n: usize, invisible: Duration) -> Vec<(u64, String)> {
        let now = Instant::now();
        let visible = self.entries.iter_mut().filter(|entry| entry.visible_at <= now);
        let mut taken = Vec::new();
        for entry in visible.take(n) {
            self.n_receipts += 1;
            entry.receipt = self.n_receipts;
            entry.visible_at = now + invisible;
            taken.push((entry.receipt, entry.message.clone()));
        }
        taken
    }

    /// Whoever took it too long ago deletes nothing.
    fn delete(&mut self, receipt: u64) {
        self.entries.retain(|entry| entry.receipt != receipt);
    }

    fn answer(&mut self, request: &str) -> String {
        let (verb, rest) = request.split_once(' ').expect("a verb and more");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        match verb {
            "put" => self.put(rest),
            "delete" => self.delete(number(rest)),
            "take" => {
                let (n, ms) = rest.split_once(' ').expect("two numbers");
                let n = usize::try_from(number(n)).expect("a small number");
                let taken = self.take(n, Duration::from_millis(number(ms)));
                let lines = taken.iter().map(|(receipt, text)| format!("{receipt} {text}\n"));
                return lines.collect::<String>() + "\n";
            }
            _ => panic!("no such verb: {verb}"),
        }
        "\n".to_owned()
    }
}

/// The queue, and where it listens.
pub struct Queue {
    entries: Arc<Mutex<Entries>>,
    address: String,
    server: tokio::task::JoinHandle<()>,
}

impl Queue {
    /// An empty queue on a free port of this machine.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let entries: Arc<Mutex<Entries>> = Arc::default();
        let all = Arc::clone(&entries);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(serve(stream, Arc::clone(&all)));
            }
        });
        Self { entries, address, server }
    }

    /// Where workers find it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Puts `message` on it.
    pub fn put(&self, message: &Message) {
        let message = serde_json::to_string(message).expect("JSON");
        self.entries.lock().expect("not poisoned").put(&message);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(stream: TcpStream, entries: Arc<Mutex<Entries>>) {
    let (from, mut to) = stream.into_split();
    let mut lines = BufReader::new(from).lines();
    // A worker that is killed goes without a word.
    while let Ok(Some(request)) = lines.next_line().await {
        let answer = entries.lock().expect("not poisoned").answer(&request);
        if to.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A worker's connection to the queue.
pub struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    to: OwnedWriteHalf,
}

impl Client {
    /// Connects to the queue at `address`.
    pub async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the queue listens");
        stream.set_nodelay(true).expect("a socket");
        let (from, to) = stream.into_split();
        Self { lines: BufReader::new(from).lines(), to }
    }

    /// Takes up to `n` messages, which nobody else gets for as long as `invisible`.
    pub async fn take(&mut self, n: usize, invisible: Duration) -> Vec<(String, Message)> {
        let lines = self.ask(&format!("take {n} {}", invisible.as_millis())).await;
        let taken = lines.iter().map(|line| {
            let (receipt, message) = line.split_once(' ').expect("a receipt and a message");
            (receipt.to_owned(), serde_json::from_str(message).expect("a message"))
        });
        taken.collect()
    }

    /// Puts `message` on the queue.
    pub async fn put(&mut self, message: &Message) {
        let message = serde_json::to_string(message).expect("JSON");
        self.ask(&format!("put {message}")).await;
    }

    /// Deletes the message that was taken with `receipt`.
    pub async fn delete(&mut self, receipt: &str) {
        self.ask(&format!("delete {receipt}")).await;
    }

    async fn ask(&mut self, request: &str) -> Vec<String> {
        self.to.write_all(format!("{request}\n").as_bytes()).await.expect("the queue listens");
        let mut lines = Vec::new();
        loop {
            match self.lines.next_line().await.expect("the queue answers").expect("all of it") {
                line if line.is_empty() => return lines,
                line => lines.push(line),
            }
        }
    }
}
