//! One request to ARM, and what comes back.

use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::net::{Answer, Http, Request};

/// Whoever takes requests to ARM there: our client, or a test.
#[async_trait]
pub trait Calls: Send + Sync {
    /// Sends `request` until there is an answer or a final failure. `operation` is an action.
    ///
    /// # Errors
    /// What ARM or the network failed with.
    async fn call(&self, operation: &'static str, request: Request<'_>) -> Result<Reply>;
}

#[async_trait]
impl Calls for Http {
    async fn call(&self, operation: &'static str, request: Request<'_>) -> Result<Reply> {
        self.send(operation, request, Reply::read).await
    }
}

/// A success of ARM.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    /// The status, 200 to 299.
    pub status: u16,
    /// `Azure-AsyncOperation`: where the state of what was begun can be read.
    pub operation: Option<String>,
    /// `Location`: what answers 202 until what was begun has ended.
    pub location: Option<String>,
    /// The pause that ARM asks for before it is asked again.
    pub retry_after: Option<Duration>,
    /// The body, `null` if there is none.
    pub body: Value,
}

impl Reply {
    fn read(answer: Answer) -> Result<Self> {
        let Answer { status, headers, retry_after, body } = answer;
        let header = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let body = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body).map_err(|err| {
                unreadable(&format!("not the JSON that was expected, line {}", err.line()))
            })?,
        };
        let (operation, location) = (header("azure-asyncoperation"), header("location"));
        Ok(Self { status, operation, location, retry_after, body })
    }

    /// The body as a `T`.
    ///
    /// # Errors
    /// [`Kind::Unreadable`] if it is none.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T> {
        // The reason would quote the service.
        serde_json::from_value(self.body).map_err(|_| unreadable("not the members that it has"))
    }
}

fn unreadable(reason: &str) -> Error {
    Error::new(Kind::Unreadable, "read ARM's answer")
        .because(reason)
        .advise("check EASM_ARM_URL and EASM_CP_API_VERSION")
}
