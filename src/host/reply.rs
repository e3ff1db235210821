//! The only place that makes an answer for the host.
//!
//! An empty body or `null` would leave an invocation hanging until the host kills this process, and a
//! redirect would be followed (protocol, section 8.1). Nothing here can make one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use serde::Serialize;
use serde_json::json;

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
    let body = reply.body.concat();
    let headers = reply.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let res = HttpOutput {
        status_code: reply.status,
        headers: headers.chain([(REQUEST_ID, id)]).collect(),
        // Records of the service are UTF-8, since they were read as JSON.
        body: String::from_utf8_lossy(&body),
    };
    let work = (!work.is_empty()).then_some(work);
    object(StatusCode::OK, &Invocation { outputs: HttpOutputs { res, work } })
}

/// The answer to a forwarded HTTP request, as itself.
pub fn forwarded(answered: Result<HttpReply, Refusal>, id: &str) -> Response {
    let reply = answered.unwrap_or_else(|refusal| refused(&refusal, id));
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let n_bytes: usize = reply.body.iter().map(Bytes::len).sum();
    let pieces = reply.body.into_iter().map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::from_stream(stream::iter(pieces)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, n_bytes.into());
    let id = (REQUEST_ID, id.to_owned());
    for (name, value) in reply.headers.into_iter().chain([id]) {
        // What no header may hold is left out: a filter's text, say, in a cursor.
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// What a caller is told in place of an answer.
fn refused(refusal: &Refusal, id: &str) -> HttpReply {
    let Refusal { status, code, message, retry_after, allow } = refusal;
    let body = json!({ "error": { "code": code, "message": message, "requestId": id } });
    let mut headers = vec![("content-type", JSON.to_owned())];
    if let Some(pause) = retry_after {
        headers.push(("retry-after", pause.as_secs().max(1).to_string()));
    }
    headers.extend(allow.clone().map(|allow| ("allow", allow)));
    let status = if (400..600).contains(status) { *status } else { 500 };
    HttpReply { status, headers, body: vec![body.to_string().into()] }
}

/// What an invocation of an HTTP function gives back. Members are named after the bindings.
#[derive(Serialize)]
struct Invocation<'a> {
    #[serde(rename = "Outputs")]
    outputs: HttpOutputs<'a>,
}

#[derive(Serialize)]
struct HttpOutputs<'a> {
    res: HttpOutput<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    work: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpOutput<'a> {
    /// The only name of the status that the host reads (protocol, section 8.4).
    status_code: u16,
    headers: BTreeMap<&'static str, &'a str>,
    body: Cow<'a, str>,
}

/// A JSON object with a status that is no redirect.
fn object(status: StatusCode, object: &impl Serialize) -> Response {
    // None of them has a map that JSON cannot have; an empty object would still be a reply.
    let text = serde_json::to_vec(object).unwrap_or_else(|_| b"{}".to_vec());
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

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
            default_http(Ok((HttpReply::of_pieces("text/csv", Vec::new()), Vec::new())), "1"),
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
        let refusal = Refusal::busy("two queries are in work", std::time::Duration::from_secs(5));
        let answer = forwarded(Err(refusal), "an-id");
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (429, &"5".parse().expect("a value"))
        );
        assert_eq!(answer.headers()[REQUEST_ID], "an-id");
        let want = r#"{"error":{"code":"throttled","message":"two queries are in work","requestId":"an-id"}}"#;
        assert_eq!(text(answer).await, want);
    }
}
