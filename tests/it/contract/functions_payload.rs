//! What the Functions host sends to a handler: HTTP requests as data, timers and messages.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What a caller shows to the host, which passes it on.
pub const FUNCTION_KEY: &str = "fUnct1onKeyThatNobodyMayEverRepeat0123456789==";
/// A slot of the schedule that is over on every clock.
pub const SLOT: &str = "2024-03-05T06:00:00+00:00";

/// An HTTP request of a caller.
#[derive(Debug, Clone)]
pub struct Ask {
    pub method: &'static str,
    /// Behind `/api`.
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
}

pub fn ask(method: &'static str, path: &str) -> Ask {
    let (path, (query, headers)) = (path.to_owned(), (Vec::new(), Vec::new()));
    Ask { method, path, query, headers, body: None }
}

impl Ask {
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, text: &str) -> Self {
        self.body = Some(text.to_owned());
        self
    }

    pub fn function(&self) -> &'static str {
        match self.path.split('/').nth(1).unwrap() {
            "exports" => "Exports",
            "assets" => "Assets",
            "health" => "Health",
            "openapi.json" => "OpenApi",
            other => panic!("no function has the route {other}"),
        }
    }

    /// As the document spells the path.
    pub fn template(&self) -> &str {
        if self.path.starts_with("/exports/") { "/exports/{runId}" } else { &self.path }
    }

    /// The data of an invocation in default mode.
    pub fn payload(&self) -> Value {
        let Self { method, path, query, headers, body } = self;
        let mut url = url::Url::parse(&format!("https://app.example.net/api{path}")).unwrap();
        url.query_pairs_mut().extend_pairs(query).append_pair("code", FUNCTION_KEY);
        let mut names: BTreeMap<&str, Value> =
            headers.iter().map(|(name, value)| (name.as_str(), json!([value]))).collect();
        names.insert("x-functions-key", json!([FUNCTION_KEY]));
        names.insert("Host", json!(["app.example.net"]));
        let mut parts: serde_json::Map<String, Value> =
            query.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        parts.insert("code".to_owned(), json!(FUNCTION_KEY));
        let params = match self.function() {
            "Exports" => json!({"runId": path.strip_prefix("/exports/")}),
            _ => json!({}),
        };
        let mut req = json!({"Url": url.as_str(), "Method": method, "Query": parts, "Params": params,
            "Identities": [{"AuthenticationType": null, "IsAuthenticated": false, "Claims": []}]});
        if let Some(body) = body.as_ref().filter(|body| !body.is_empty()) {
            names.insert("Content-Length", json!([body.len().to_string()]));
            names.insert("Content-Type", json!(["application/json"]));
            req["Body"] = json!(body);
        }
        req["Headers"] = json!(names);
        json!({"Data": {"req": req}, "Metadata": {"sys": sys(self.function())}})
    }
}

fn sys(function: &str) -> Value {
    json!({"MethodName": function, "UtcNow": "2024-03-05T06:00:00.0123456Z",
        "RandGuid": "c3a3c4e0-8d0f-4d5a-9c55-0c7f7b1f8f60"})
}

/// A timer's data, with this status of the schedule.
pub fn timer(status: &Value) -> Value {
    json!({"Data": {"timer": {"Schedule": {"AdjustForDST": true}, "ScheduleStatus": status,
        "IsPastDue": false}}, "Metadata": {"sys": sys("ExportTimer")}})
}

/// A timer's data for the slot `next`.
pub fn slot(next: &str) -> Value {
    timer(&json!({"Last": "2024-03-04T06:00:00.0049611+00:00", "Next": next,
        "LastUpdated": "2024-03-04T06:00:00.0049611+00:00"}))
}

/// A message's data: its text is JSON in a string, and once more.
pub fn message(text: &str) -> Value {
    json!({"Data": {"message": serde_json::to_string(text).unwrap()},
        "Metadata": {"DequeueCount": "1", "ExpirationTime": "2024-03-12T06:00:00+00:00",
            "Id": "\"8e0bbd5a-1f57-4c2b-8a3f-0d5a1f0e7c11\"",
            "InsertionTime": "2024-03-05T06:00:00+00:00",
            "NextVisibleTime": "2024-03-05T06:10:00+00:00",
            "PopReceipt": "\"AgAAAAMAAAAAAAAA7xYqg2aD3AE=\"", "sys": sys("ExportWorker")}})
}
