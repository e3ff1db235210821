//! What a handler's reply in default mode means: success with outputs, a failure, or the invocation
//! that hangs.
//!
//! `status -> body -> content type -> shape -> Outputs, Logs, ReturnValue`

use std::fmt;

use super::json::Json;
use super::wire::Message;

/// Why an invocation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A 2xx reply without a body, or with `null`: the real host neither completes nor fails the
    /// invocation, and kills the handler at `functionTimeout`.
    Hang,
    /// A status other than 2xx. The host drops the body.
    Status(u16),
    /// A reply that cannot be read as the contract wants it.
    Reply(String),
    /// The connection was refused, reset or closed early.
    Transport(String),
    /// No reply within `functionTimeout`.
    Timeout,
    /// The trigger's value cannot be given to the function.
    Input(String),
    /// An output cannot be written.
    Output(String),
    /// The host has stopped, or stops because the handler never became ready.
    Stopped,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hang => f.write_str("the reply is empty: the real host would hang"),
            Self::Status(status) => write!(f, "the reply has status {status}"),
            Self::Reply(why) => write!(f, "the reply cannot be read: {why}"),
            Self::Transport(why) => write!(f, "the handler did not answer: {why}"),
            Self::Timeout => f.write_str("no reply within functionTimeout"),
            Self::Input(why) => write!(f, "the trigger's value cannot be bound: {why}"),
            Self::Output(why) => write!(f, "an output cannot be written: {why}"),
            Self::Stopped => f.write_str("the host has stopped"),
        }
    }
}

/// A reply that counts as success.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply {
    /// Nothing: the member is not there, or `null`.
    pub outputs: Option<Vec<(String, Json)>>,
    pub logs: Vec<String>,
    pub return_value: Option<Json>,
}

impl Reply {
    pub fn read(message: &Message) -> Result<Self, Failure> {
        let status = message.status();
        if !(200..300).contains(&status) {
            return Err(Failure::Status(status));
        }
        if message.body.is_empty() {
            return Err(Failure::Hang);
        }
        let kind = message.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_lowercase();
        if !["application/json", "text/json"].contains(&kind.as_str()) {
            let why = format!("Invalid HttpResponseMessage: no formatter for '{kind}'");
            return Err(Failure::Reply(why));
        }
        let wrong = |why: &str| Failure::Reply(format!("{why}: {}", shown(&message.text())));
        let text = std::str::from_utf8(&message.body).map_err(|_| wrong("not UTF-8"))?;
        let whole = Json::parse(text).map_err(|err| wrong(&err))?;
        let members = match whole {
            Json::Null => return Err(Failure::Hang),
            Json::Object(members) => members,
            _ => return Err(wrong("not a JSON object")),
        };
        let mut reply = Self::default();
        for (name, value) in members {
            match (name.to_lowercase().as_str(), value) {
                ("outputs" | "logs" | "returnvalue", Json::Null) => {}
                ("outputs", Json::Object(outputs)) => reply.outputs = Some(outputs),
                ("outputs", _) => return Err(wrong("Outputs is not an object")),
                ("logs", Json::Array(lines)) => {
                    let line = |line: &Json| line.scalar().ok_or(wrong("Logs holds no texts"));
                    reply.logs = lines.iter().map(line).collect::<Result<_, _>>()?;
                }
                ("logs", _) => return Err(wrong("Logs is not an array")),
                ("returnvalue", value) => reply.return_value = Some(value),
                _ => {}
            }
        }
        Ok(reply)
    }
}

/// The beginning of a body, for an error.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

#[test]
fn a_reply_is_what_the_table_says() {
    let json = "application/json; charset=utf-8";
    let hang = || Err(Failure::Hang);
    let reply = |why: &str| Err(Failure::Reply(why.to_owned()));
    // Status, content type, body, and what it means; of unreadable replies how the reason starts.
    let cases = [
        (200, json, "{}", Ok(())),
        (202, "text/json", "{\"other\":1}", Ok(())),
        (200, json, "{\"outputs\":null,\"LOGS\":[\"a\"],\"returnvalue\":1}", Ok(())),
        (200, json, "", hang()),
        (204, "", "", hang()),
        (200, "text/plain", "", hang()),
        (200, json, "null", hang()),
        (200, "", "{}", reply("Invalid HttpResponseMessage")),
        (200, "text/plain", "{}", reply("Invalid HttpResponseMessage")),
        (200, "application/problem+json", "{}", reply("Invalid HttpResponseMessage")),
        (200, json, "{broken", reply("key must be a string")),
        (200, json, "[]", reply("not a JSON object")),
        (200, json, "\"text\"", reply("not a JSON object")),
        (200, json, "{\"Logs\":\"a\"}", reply("Logs is not an array")),
        (200, json, "{\"Logs\":[{}]}", reply("Logs holds no texts")),
        (200, json, "{\"Outputs\":[]}", reply("Outputs is not an object")),
        (302, json, "{}", Err(Failure::Status(302))),
        (404, json, "{}", Err(Failure::Status(404))),
        (500, json, "{}", Err(Failure::Status(500))),
    ];
    for (status, kind, body, want) in cases {
        let mut message = Message::answer(status);
        message.body = body.as_bytes().to_vec();
        if !kind.is_empty() {
            message.set("Content-Type", kind);
        }
        let found = Reply::read(&message).map(|_| ());
        match (&found, &want) {
            (Err(Failure::Reply(found)), Err(Failure::Reply(want))) if found.starts_with(want) => {}
            _ => assert_eq!(found, want, "{status} {kind} {body}"),
        }
    }
}
