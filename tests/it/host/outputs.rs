//! What becomes of a reply's outputs: messages for queues, an answer for the HTTP client.
//!
//! # Invariants
//! - A text that is valid base64 as a whole is bytes, unless the binding says `binary`; elements of
//!   an array for a queue are spared.
//! - A text that is a date-time as a whole is rewritten, everywhere.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use super::app::{Function, Output, OutputKind};
use super::dates;
use super::json::Json;
use super::reply::Reply;
use super::wire::Message;

/// Largest message of a queue.
pub const MESSAGE_BYTES_MAX: usize = 49_152;
/// Bits that a padded last digit has too many do not disturb .NET.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);
const RETURN: &str = "$return";
const PLAIN: &str = "text/plain; charset=utf-8";

/// What a binding gets: a value of the reply.
struct Given<'a> {
    output: &'a Output,
    value: Option<Json>,
}

/// Messages for queues in the order they are written, up to the first that cannot be; and the
/// answer for the HTTP client, if the function has one to give.
#[derive(Debug, Default, PartialEq)]
pub struct Written {
    pub messages: Vec<(String, Vec<u8>)>,
    pub answer: Option<Message>,
    pub failure: Option<String>,
}

pub fn write(function: &Function, reply: Reply) -> Written {
    let has_outputs = reply.outputs.is_some();
    let has_return = function.outputs.iter().any(|output| output.name == RETURN);
    let mut values = reply.outputs.unwrap_or_default();
    let mut returned = reply.return_value;
    // Without a binding for it, an object that is returned is spread.
    if let (false, Some(Json::Object(members))) = (has_return, &returned) {
        for (name, value) in members {
            values.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
            values.push((name.clone(), value.clone()));
        }
        returned = None;
    }
    let mut written = Written::default();
    for output in &function.outputs {
        let named = values.iter().find(|(name, _)| name.eq_ignore_ascii_case(&output.name));
        let is_return = output.name == RETURN;
        let is_http = output.kind == OutputKind::Http;
        let value = match is_return {
            true => returned.clone().or_else(|| named.filter(|_| !is_http).map(|(_, v)| v.clone())),
            false => named.map(|(_, value)| value.clone()),
        };
        let given = Given { output, value };
        match &output.kind {
            OutputKind::Queue(queue) => {
                let (messages, failure) = given.messages();
                written.messages.extend(messages.into_iter().map(|bytes| (queue.clone(), bytes)));
                written.failure = written.failure.or(failure);
            }
            OutputKind::Http => {
                let text = returned.as_ref().filter(|_| !is_return).and_then(Json::as_text);
                match given.answer(has_outputs, text) {
                    Ok(answer) => written.answer = Some(answer),
                    Err(why) => written.failure = written.failure.or(Some(why)),
                }
            }
        }
    }
    written
}

impl Given<'_> {
    /// The bytes that a text stands for, if it stands for bytes.
    fn bytes_of(&self, text: &str) -> Option<Vec<u8>> {
        if self.output.is_binary { None } else { BASE64.decode(text).ok() }
    }

    fn messages(self) -> (Vec<Vec<u8>>, Option<String>) {
        let one = |message: Result<Vec<u8>, String>| match message {
            Ok(bytes) => (vec![bytes], None),
            Err(why) => (Vec::new(), Some(why)),
        };
        match &self.value {
            None | Some(Json::Null) => (Vec::new(), None),
            Some(Json::Array(items)) => {
                let mut messages = Vec::new();
                for item in items.iter().filter(|item| **item != Json::Null) {
                    match within_limit(element(item).into_bytes()) {
                        Ok(bytes) => messages.push(bytes),
                        Err(why) => return (messages, Some(why)),
                    }
                }
                (messages, None)
            }
            Some(Json::Text(text)) => one(self.message(text).and_then(within_limit)),
            Some(other) => one(within_limit(element(other).into_bytes())),
        }
    }

    /// The message that a bare text becomes.
    fn message(&self, text: &str) -> Result<Vec<u8>, String> {
        if let Some(bytes) = self.bytes_of(text) {
            return Ok(bytes);
        }
        let trimmed = text.trim();
        if trimmed.starts_with('{') && trimmed.ends_with('}') {
            let object = Json::parse(trimmed).map_err(|err| format!("queue output: {err}"))?;
            return Ok(object.with_texts(dates::in_host_zone).indented().into_bytes());
        }
        Ok(dates::rewritten(text).unwrap_or_else(|| text.to_owned()).into_bytes())
    }

    /// `returned` is a text that was returned without a binding for it.
    fn answer(self, has_outputs: bool, returned: Option<&str>) -> Result<Message, String> {
        let value = match (&self.value, returned) {
            (Some(value), _) => value,
            (None, Some(text)) => return Ok(plain(200, &rewritten(text))),
            (None, None) if has_outputs => return Ok(plain(200, "{}")),
            (None, None) => return Ok(Message::answer(204)),
        };
        match value {
            Json::Object(_) => shaped(value),
            Json::Text(text) if self.output.name == RETURN => match self.bytes_of(text) {
                Some(bytes) => Ok(Message { body: bytes, ..Message::answer(200) }),
                None => Ok(plain(200, &rewritten(text))),
            },
            Json::Text(text) => match Json::parse(text) {
                Ok(object @ Json::Object(_)) => shaped(&object),
                _ => Err("the HTTP output is a text and no answer".to_owned()),
            },
            _ => Err("the HTTP output is not an object".to_owned()),
        }
    }
}

/// `{statusCode, headers, body}` as an answer. Nothing else is read.
fn shaped(value: &Json) -> Result<Message, String> {
    let status = value.get("statusCode").and_then(Json::scalar);
    let status = status.and_then(|text| text.parse().ok()).unwrap_or(200);
    let mut answer = Message::answer(status);
    match value.get("headers") {
        None | Some(Json::Null) => {}
        Some(Json::Object(headers)) => {
            for (name, value) in headers {
                let text = value.scalar().ok_or(format!("header '{name}' is no text"))?;
                answer.set(name, &rewritten(&text));
            }
        }
        Some(_) => return Err("headers are not an object".to_owned()),
    }
    let body = match value.get("body") {
        None | Some(Json::Null) => None,
        Some(Json::Text(text)) => Some(rewritten(text)),
        Some(other) => Some(other.scalar().unwrap_or_else(|| other.indented())),
    };
    if let Some(body) = body {
        answer.body = body.into_bytes();
        if answer.header("content-type").is_none() {
            answer.set("Content-Type", PLAIN);
        }
    }
    Ok(answer)
}

fn plain(status: u16, text: &str) -> Message {
    let mut answer = Message { body: text.as_bytes().to_vec(), ..Message::answer(status) };
    answer.set("Content-Type", PLAIN);
    answer
}

fn rewritten(text: &str) -> String {
    dates::rewritten(text).unwrap_or_else(|| text.to_owned())
}

/// The text of an element of an array, or of a value that is no text.
fn element(value: &Json) -> String {
    match value {
        Json::Text(text) => rewritten(text),
        other => other.scalar().unwrap_or_else(|| other.indented()),
    }
}

fn within_limit(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    match bytes.len() > MESSAGE_BYTES_MAX {
        true => Err(format!("a message of {} bytes, over {MESSAGE_BYTES_MAX}", bytes.len())),
        false => Ok(bytes),
    }
}

#[cfg(test)]
#[path = "outputs_tests.rs"]
mod tests;
