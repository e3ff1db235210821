//! Queues of Azurite, over the REST interface of the queue service.
//! <https://learn.microsoft.com/rest/api/storageservices/queue-service-rest-api>

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::QueueMessage;
use crate::azurite::{ACCOUNT, Azurite, elements, expect_status, plain_client, signed};

pub struct Remote {
    azurite: &'static Azurite,
    /// What the names of this account's queues begin with in a service that tests share.
    prefix: String,
}

impl Remote {
    pub fn new(azurite: &'static Azurite) -> Self {
        static N_ACCOUNTS: AtomicU64 = AtomicU64::new(0);
        let number = N_ACCOUNTS.fetch_add(1, Ordering::Relaxed);
        Self { azurite, prefix: format!("t{}-{number}-", std::process::id()) }
    }

    pub async fn put(&self, queue: &str, stored: &str) {
        let text = stored.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let body = format!("<QueueMessage><MessageText>{text}</MessageText></QueueMessage>");
        let path = self.messages(queue);
        let answer = self.send(Method::POST, &path, &[], body.clone()).await;
        if answer.status() != StatusCode::NOT_FOUND {
            expect_status(answer, StatusCode::CREATED).await;
            return;
        }
        let created = self.send(Method::PUT, &self.path(queue), &[], String::new()).await;
        // Another host may have created it just now.
        assert!([201, 204, 409].contains(&created.status().as_u16()), "{created:?}");
        let answer = self.send(Method::POST, &path, &[], body).await;
        expect_status(answer, StatusCode::CREATED).await;
    }

    pub async fn get(&self, queue: &str, max: usize, hidden: Duration) -> Vec<QueueMessage> {
        let hidden = hidden.as_secs().to_string();
        let max = max.to_string();
        let query = [("numofmessages", max.as_str()), ("visibilitytimeout", &hidden)];
        self.list(queue, &query).await
    }

    pub async fn peek(&self, queue: &str, max: usize) -> Vec<QueueMessage> {
        let max = max.to_string();
        self.list(queue, &[("numofmessages", max.as_str()), ("peekonly", "true")]).await
    }

    /// A queue that is not there is empty: the host finds it once it exists.
    async fn list(&self, queue: &str, query: &[(&str, &str)]) -> Vec<QueueMessage> {
        let answer = self.send(Method::GET, &self.messages(queue), query, String::new()).await;
        if answer.status() == StatusCode::NOT_FOUND {
            return Vec::new();
        }
        let body = expect_status(answer, StatusCode::OK).await;
        let xml = String::from_utf8(body).expect("the service answers in UTF-8");
        xml.split("<QueueMessage>").skip(1).map(message).collect()
    }

    pub async fn count(&self, queue: &str) -> usize {
        let query = [("comp", "metadata")];
        let answer = self.send(Method::GET, &self.path(queue), &query, String::new()).await;
        if answer.status() == StatusCode::NOT_FOUND {
            return 0;
        }
        let count = header(&answer, "x-ms-approximate-messages-count");
        count.parse().unwrap_or_else(|err| panic!("{count}: {err}"))
    }

    pub async fn delete(&self, queue: &str, message: &QueueMessage) -> bool {
        let path = format!("{}/{}", self.messages(queue), message.id);
        let query = [("popreceipt", message.pop_receipt.as_str())];
        let answer = self.send(Method::DELETE, &path, &query, String::new()).await;
        is_done(answer).await.is_some()
    }

    pub async fn update(
        &self,
        queue: &str,
        message: &QueueMessage,
        pause: Duration,
    ) -> Option<QueueMessage> {
        let path = format!("{}/{}", self.messages(queue), message.id);
        // Whole seconds, none of them lost.
        let pause = pause.as_millis().div_ceil(1000).to_string();
        let query =
            [("popreceipt", message.pop_receipt.as_str()), ("visibilitytimeout", pause.as_str())];
        let answer = self.send(Method::PUT, &path, &query, String::new()).await;
        let answer = is_done(answer).await?;
        Some(QueueMessage {
            pop_receipt: header(&answer, "x-ms-popreceipt").to_owned(),
            next_visible_at: date(header(&answer, "x-ms-time-next-visible")),
            ..message.clone()
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: String,
    ) -> Response {
        // A client for each request: a connection of one test cannot outlive it in another's runtime.
        let client = plain_client(None);
        let base = self.azurite.base();
        let answer = signed(&client, &base, method, path, query, &[], body.into_bytes()).await;
        answer.unwrap_or_else(|err| panic!("{path}: {err}"))
    }

    fn path(&self, queue: &str) -> String {
        format!("/{ACCOUNT}/{}{queue}", self.prefix)
    }

    fn messages(&self, queue: &str) -> String {
        format!("{}/messages", self.path(queue))
    }
}

/// The answer, if the message was still held by the receipt that was sent.
async fn is_done(answer: Response) -> Option<Response> {
    match answer.status() {
        StatusCode::NO_CONTENT => Some(answer),
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => None,
        status => panic!("{status}: {}", answer.text().await.unwrap_or_default()),
    }
}

fn message(xml: &str) -> QueueMessage {
    let one = |name: &str| elements(xml, name).pop().unwrap_or_default();
    let inserted_at = date(&one("InsertionTime"));
    let next_visible = one("TimeNextVisible");
    QueueMessage {
        id: one("MessageId"),
        pop_receipt: one("PopReceipt"),
        dequeue_count: one("DequeueCount").parse().unwrap_or_default(),
        inserted_at,
        expires_at: date(&one("ExpirationTime")),
        // Not said where a message was only looked at.
        next_visible_at: if next_visible.is_empty() { inserted_at } else { date(&next_visible) },
        stored: one("MessageText"),
    }
}

fn date(text: &str) -> OffsetDateTime {
    let text = text.replace("GMT", "+0000");
    OffsetDateTime::parse(&text, &Rfc2822).unwrap_or_else(|err| panic!("'{text}': {err}"))
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
