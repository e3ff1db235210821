//! ARM as a list of answers, for tests in virtual time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::Value;
use url::Url;

use super::call::{Calls, Reply};
use super::{Arm, Path};
use crate::error::{Error, Kind, Result};
use crate::net::Request;

/// The workspace that tests are about.
pub const PATH: Path<'_> = Path { subscription_id: "s-1", resource_group: "rg", workspace: "w" };

/// Answers to be given one after the other, the last one again and again.
#[derive(Clone)]
pub struct Played(Arc<Mutex<Inner>>);

struct Inner {
    answers: VecDeque<Result<Reply>>,
    asked: Vec<String>,
}

impl Played {
    pub fn new(answers: impl IntoIterator<Item = Result<Reply>>) -> Self {
        let answers = answers.into_iter().collect();
        Self(Arc::new(Mutex::new(Inner { answers, asked: Vec::new() })))
    }

    /// An ARM below `https://arm.example/base`, api-version `v`.
    pub fn arm(&self) -> Arm {
        let base = Url::parse("https://arm.example/base").expect("a URL");
        Arm { calls: Box::new(self.clone()), base, api_version: "v".to_owned() }
    }

    /// What was asked so far, as `GET https://...`.
    pub fn asked(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").asked.clone()
    }

    /// How often what begins with `text` was asked.
    pub fn n_asked(&self, text: &str) -> usize {
        self.asked().iter().filter(|asked| asked.starts_with(text)).count()
    }
}

#[async_trait]
impl Calls for Played {
    async fn call(&self, _operation: &'static str, request: Request<'_>) -> Result<Reply> {
        let mut inner = self.0.lock().expect("not poisoned");
        let verb = format!("{:?}", request.verb).to_uppercase();
        inner.asked.push(format!("{verb} {}", request.url));
        match inner.answers.len() {
            1 => inner.answers[0].clone(),
            _ => inner.answers.pop_front().expect("one more answer"),
        }
    }
}

pub fn reply(status: u16, body: Value) -> Reply {
    Reply { status, body, ..Reply::default() }
}

/// A refusal, as our client makes it.
pub fn refusal(kind: Kind, status: u16, code: &str) -> Error {
    Error::new(kind, "test").with("status", status).with("code", code)
}

/// What ARM says of a workspace that is not there.
pub fn missing() -> Result<Reply> {
    Err(refusal(Kind::NotFound, 404, "ResourceNotFound"))
}

/// The workspace in this state; with a data plane if it is there.
pub fn workspace(state: &str) -> Result<Reply> {
    let host = (state == "Succeeded").then_some("eastus.easm.defender.microsoft.com");
    Ok(reply(
        200,
        serde_json::json!({"name": "w", "location": "eastus",
            "properties": {"provisioningState": state, "dataPlaneEndpoint": host}}),
    ))
}
