//! One invocation: waits for the handler, calls it within `functionTimeout`, and writes outputs.

use std::time::Duration;

use super::Inner;
use super::app::Function;
use super::outputs;
use super::payload::{self, Stamp};
use super::process::{Level, kill};
use super::reply::{Failure, Reply};
use super::wire::{self, Message};

/// From the end of `functionTimeout` to the kill.
const KILL_PAUSE: Duration = Duration::from_secs(2);
/// By how much the client to the handler outwaits `functionTimeout`.
const CLIENT_EXTRA: Duration = Duration::from_secs(60);
/// The client's limit where there is no `functionTimeout`: 24.8 days.
const CLIENT_LIMIT_MAX: Duration = Duration::from_millis(2_147_483_647);
/// Most redirects that the host's client follows.
const REDIRECTS_MAX: u32 = 50;

/// An invocation that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    pub id: String,
    pub function: String,
    /// The body that was sent, in default mode.
    pub body: String,
    /// What the handler answered, if it did.
    pub reply: Option<Message>,
    /// The answer to the client, if the trigger is HTTP; or why it failed.
    pub result: Result<Option<Message>, Failure>,
    /// Messages that its outputs wrote, with their queue.
    pub written: Vec<(String, Vec<u8>)>,
    /// The reply's `Logs`.
    pub logs: Vec<String>,
}

/// Counts as work as long as it lives.
pub struct InWork<'a>(&'a Inner);

impl Drop for InWork<'_> {
    fn drop(&mut self) {
        self.0.n_in_work.send_modify(|n| *n -= 1);
    }
}

impl Inner {
    pub fn begin(&self) -> InWork<'_> {
        self.n_in_work.send_modify(|n| *n += 1);
        InWork(self)
    }

    pub fn stamp(&self) -> Stamp {
        Stamp::now(self.handler_port)
    }

    /// How long the client waits for the handler.
    pub fn client_limit(&self) -> Duration {
        self.app.options.timeout.map_or(CLIENT_LIMIT_MAX, |limit| limit + CLIENT_EXTRA)
    }

    /// Runs `work` within `functionTimeout`, readiness included. When that is over, the handler is
    /// killed, 2 s later.
    pub async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let work = async {
            self.until_ready().await?;
            work.await
        };
        let limit = self.app.options.timeout.unwrap_or(CLIENT_LIMIT_MAX);
        let all = async {
            match tokio::time::timeout(limit, work).await {
                Ok(result) => result,
                Err(_) => {
                    let pid = self.pid();
                    self.log(Level::Error, &format!("Timeout value of {limit:?} exceeded"));
                    tokio::time::sleep(KILL_PAUSE).await;
                    // Somebody else may have killed it meanwhile: the next one is not to blame.
                    if pid == self.pid() {
                        self.condemned.lock().expect("nobody panics while holding it").insert(pid);
                        kill(pid).await;
                    }
                    Err(Failure::Timeout)
                }
            }
        };
        tokio::select! {
            result = all => result,
            () = self.stopped() => Err(Failure::Stopped),
        }
    }

    /// An invocation in default mode.
    pub async fn invoke(&self, function: &Function, stamp: &Stamp, body: String) -> Invocation {
        let request = payload::post(&function.name, stamp, body.as_bytes());
        let reply = self.limited(self.exchange(&request)).await;
        let mut invocation = Invocation { body, ..Invocation::new(function, stamp) };
        invocation.result = match reply {
            Err(failure) => Err(failure),
            Ok(message) => {
                let reply = Reply::read(&message);
                invocation.reply = Some(message);
                match reply {
                    Err(failure) => Err(failure),
                    Ok(reply) => self.finish(function, reply, &mut invocation).await,
                }
            }
        };
        self.note(invocation)
    }

    async fn exchange(&self, request: &[u8]) -> Result<Message, Failure> {
        let mut request = request.to_vec();
        for _ in 0..REDIRECTS_MAX {
            let answer = wire::exchange(self.handler_port, &request).await;
            let answer = answer.map_err(|err| Failure::Transport(err.to_string()))?;
            let is_redirect = (300..400).contains(&answer.status());
            let to = answer.header("location").filter(|_| is_redirect);
            let Some(to) = to.filter(|_| !self.app.options.forwards) else { return Ok(answer) };
            let base = format!("http://127.0.0.1:{}/", self.handler_port);
            let base = url::Url::parse(&base).map_err(|err| Failure::Reply(err.to_string()))?;
            let next = base.join(to).map_err(|err| Failure::Reply(err.to_string()))?;
            if next.origin() != base.origin() {
                let why = format!("a redirect to {}: the double goes to its handler alone", next);
                return Err(Failure::Reply(why));
            }
            let path = next.path().trim_start_matches('/');
            request = match answer.status() {
                307 | 308 => {
                    let end = wire::find(&request, b"\r\n").unwrap_or_default();
                    [format!("POST /{path} HTTP/1.1").as_bytes(), &request[end..]].concat()
                }
                _ => format!("GET /{path} HTTP/1.1\r\nHost: {}\r\n\r\n", next.authority()).into(),
            };
        }
        Err(Failure::Reply(format!("more than {REDIRECTS_MAX} redirects")))
    }

    async fn finish(
        &self,
        function: &Function,
        reply: Reply,
        invocation: &mut Invocation,
    ) -> Result<Option<Message>, Failure> {
        for line in &reply.logs {
            self.log(Level::Information, line);
        }
        invocation.logs.clone_from(&reply.logs);
        let outputs::Written { messages, answer, failure } = outputs::write(function, reply);
        for (queue, bytes) in &messages {
            self.account.queues.put(queue, bytes).await;
        }
        invocation.written = messages;
        match failure {
            Some(why) => Err(Failure::Output(why)),
            None => Ok(answer),
        }
    }

    /// Remembers an invocation that has ended.
    pub fn note(&self, invocation: Invocation) -> Invocation {
        if let Err(failure) = &invocation.result {
            let Invocation { function, id, .. } = &invocation;
            self.log(
                Level::Error,
                &format!("Executed 'Functions.{function}' (Failed, Id={id}): {failure}"),
            );
        }
        self.invocations().push(invocation.clone());
        invocation
    }
}

impl Invocation {
    pub fn new(function: &Function, stamp: &Stamp) -> Self {
        Self {
            id: stamp.invocation.clone(),
            function: function.name.clone(),
            body: String::new(),
            reply: None,
            result: Ok(None),
            written: Vec::new(),
            logs: Vec::new(),
        }
    }

    pub fn is_success(&self) -> bool {
        self.result.is_ok()
    }
}
