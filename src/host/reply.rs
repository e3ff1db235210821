//! The only place that makes an answer for the host.
//!
//! An empty body or `null` would leave an invocation hanging until the host kills this process, and a
//! redirect would be followed (protocol, section 8.1). Nothing here can make one.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::binding;
use super::http::{HttpReply, JSON, Refusal};

/// Names the invocation in every HTTP answer (contract, section 4).
const REQUEST_ID: &str = "x-request-id";

/// Answers the host's question whether anybody is here.
pub fn ping() -> Response {
    object(StatusCode::OK, &json!({ "status": "ready" }))
}

/// A timer's or a message's invocation succeeded. `work` goes on the queue, if the function has one.
pub fn default_done(work: Option<Vec<String>>) -> Response {
    // An array of texts: a bare text that looks like JSON would be rewritten by the host.
    let outputs = work.map_or(json!({}), |work| json!({ binding::WORK: work }));
    object(StatusCode::OK, &json!({ "Outputs": outputs }))
}

/// A timer's or a message's invocation failed. The host drops the body; why is in the log.
pub fn default_failed() -> Response {
    object(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "Outputs": {} }))
}

/// The answer to an HTTP request in default mode, as the output of the invocation `id`.
pub fn default_http(answered: Result<(HttpReply, Vec<String>), Refusal>, id: &str) -> Response {
    let (reply, work) = answered.unwrap_or_else(|refusal| (refused(&refusal, id), Vec::new()));
    let headers = reply.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let headers: BTreeMap<_, _> = headers.chain([(REQUEST_ID, id)]).collect();
    // Names are those of the bindings; of the status, the host reads this one only (protocol, section
    // 8.4). The body goes in between piece by piece: a large one is not copied together.
    let head = format!(
        r#"{{"Outputs":{{"{}":{{"statusCode":{},"headers":{},"body":""#,
        binding::RESPONSE,
        reply.status,
        json!(headers)
    );
    let work = match work.is_empty() {
        true => String::new(),
        false => format!(r#","{}":{}"#, binding::WORK, json!(work)),
    };
    let tail = format!(r#""}}{work}}}}}"#);
    let pieces = reply.body.into_iter().map(|piece| escaped(&piece));
    let pieces = [head.into()].into_iter().chain(pieces).chain([tail.into()]).collect();
    whole(StatusCode::OK, "application/json", pieces, reply.turn)
}

/// `piece` as it stands within a JSON string. Records of the service are UTF-8, since they were read as
/// JSON, and no piece ends within one.
fn escaped(piece: &Bytes) -> Bytes {
    let quoted = json!(String::from_utf8_lossy(piece)).to_string();
    let end = quoted.len() - 1;
    Bytes::from(quoted).slice(1..end)
}

/// The answer to a forwarded HTTP request, as itself.
pub fn forwarded(answered: Result<HttpReply, Refusal>, id: &str) -> Response {
    let reply = answered.unwrap_or_else(|refusal| refused(&refusal, id));
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = whole(status, "application/json", reply.body, reply.turn);
    let id = (REQUEST_ID, id.to_owned());
    for (name, value) in reply.headers.into_iter().chain([id]) {
        // What no header may hold is left out.
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// Longest time in which an answer that holds a turn is read by whoever asked. The platform's front end
/// gives up after 230 s, and the query had some of them.
const READ_TIME_MAX: Duration = Duration::from_secs(120);

/// A response with a body of `pieces`, which holds `turn` until they are sent.
fn whole(
    status: StatusCode,
    content_type: &'static str,
    pieces: Vec<Bytes>,
    turn: Option<OwnedSemaphorePermit>,
) -> Response {
    let n_bytes: usize = pieces.iter().map(Bytes::len).sum();
    let mut response = Response::new(match turn {
        None => Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, io::Error>))),
        Some(turn) => held(pieces, turn),
    });
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, n_bytes.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A body of `pieces` that holds `turn` until it is sent or given up. Who does not read it in time loses
/// it: many answers that nobody reads would fill the memory.
fn held(pieces: Vec<Bytes>, turn: OwnedSemaphorePermit) -> Body {
    let pieces = Arc::new(Mutex::new(Some(VecDeque::from(pieces))));
    let (alive, ended) = oneshot::channel::<()>();
    let left = Arc::clone(&pieces);
    tokio::spawn(async move {
        // It ends with an error when the other half goes, which is what is waited for.
        if tokio::time::timeout(READ_TIME_MAX, ended).await.is_err() {
            left.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        drop(turn);
    });
    let next = move || {
        // Goes with the body.
        let _alive = &alive;
        match pieces.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(pieces) => pieces.pop_front().map(Ok),
            None => Some(Err(io::Error::other("it was not read in time"))),
        }
    };
    Body::from_stream(stream::iter(std::iter::from_fn(next)))
}

/// What a caller is told in place of an answer.
fn refused(refusal: &Refusal, id: &str) -> HttpReply {
    let Refusal { status, code, message, retry_after, allow } = refusal;
    let body = json!({ "error": { "code": code, "message": message, "requestId": id } });
    let mut headers = vec![("content-type", JSON.to_owned())];
    if let Some(pause) = retry_after {
        headers.push(("retry-after", pause.as_secs().max(1).to_string()));
    }
    if *status == 401 {
        headers.push(("www-authenticate", "Bearer".to_owned()));
    }
    headers.extend(allow.clone().map(|allow| ("allow", allow)));
    let status = if (400..600).contains(status) { *status } else { 500 };
    let body = vec![body.to_string().into()];
    HttpReply { status, headers, body, is_records: false, turn: None }
}

/// A JSON object with a status that is no redirect.
fn object(status: StatusCode, object: &Value) -> Response {
    let mut response = Response::new(Body::from(object.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    async fn text(response: Response) -> String {
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        String::from_utf8(body.into()).expect("text")
    }

    #[tokio::test]
    async fn in_default_mode_every_answer_is_a_json_object() {
        let refusal = || Refusal::conflict("it ended");
        let answers = [
            ping(),
            default_done(None),
            default_done(Some(Vec::new())),
            default_done(Some(vec!["{}".to_owned()])),
            default_failed(),
            default_http(Ok((HttpReply::of_records("text/csv", Vec::new()), Vec::new())), "1"),
            default_http(Ok((HttpReply::json(&Value::Null).accepted(), vec![String::new()])), "1"),
            default_http(Err(refusal()), "1"),
        ];
        for answer in answers {
            assert!(!answer.status().is_redirection());
            assert_eq!(answer.headers()["content-type"], "application/json");
            let text = text(answer).await;
            let object: Value = serde_json::from_str(&text).expect("JSON");
            assert!(object.is_object(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_refusal_says_code_message_and_request() {
        let refusal = Refusal::busy("two queries are in work", Duration::from_secs(5));
        let answer = forwarded(Err(refusal), "an-id");
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (429, &"5".parse().expect("a value"))
        );
        assert_eq!(answer.headers()[REQUEST_ID], "an-id");
        let want = r#"{"error":{"code":"throttled","message":"two queries are in work","requestId":"an-id"}}"#;
        assert_eq!(text(answer).await, want);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_its_turn_until_it_is_read_or_lost() {
        let turns = Arc::new(Semaphore::new(1));
        let answer = || {
            let turn = Arc::clone(&turns).try_acquire_owned().expect("free");
            let pieces = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
            forwarded(Ok(HttpReply::of_records(JSON, pieces).holding(turn)), "1")
        };
        let read = answer();
        assert_eq!(turns.available_permits(), 0);
        assert_eq!(text(read).await, "ab");
        let freed = async { drop(turns.acquire().await) };
        tokio::time::timeout(Duration::from_secs(1), freed).await.expect("free once it is read");

        let unread = answer();
        tokio::time::sleep(READ_TIME_MAX - Duration::from_secs(1)).await;
        assert_eq!(turns.available_permits(), 0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(turns.available_permits(), 1, "nobody read it");
        assert!(axum::body::to_bytes(unread.into_body(), 100).await.is_err());
    }

    #[tokio::test]
    async fn a_body_of_many_pieces_is_one_text_in_default_mode() {
        let pieces = ["{\"a\":\"", "ä\n", "\"}"].map(|piece| Bytes::from(piece.to_owned()));
        let answer = default_http(
            Ok((HttpReply::of_records(JSON, pieces.to_vec()), vec!["x".to_owned()])),
            "1",
        );
        let length = answer.headers()[CONTENT_LENGTH].clone();
        let text = text(answer).await;
        assert_eq!(length, text.len().to_string());
        let object: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(object["Outputs"]["res"]["body"], "{\"a\":\"ä\n\"}");
        assert_eq!(object["Outputs"]["work"], json!(["x"]));
    }
}
