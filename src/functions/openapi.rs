//! `OpenApi`: describes the HTTP functions, by the same tables that requests are read by.
//!
//! Start reading at [`document`].

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::fields::{Field, Fields, Sort};
use super::{assets, exports, health};
use crate::config::Auth;
use crate::host::http::{HttpReply, HttpRequest, JSON, Refusal};

/// One method of one path.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Name of the function.
    pub function: &'static str,
    /// Its name among the operations, a word.
    pub id: &'static str,
    /// In capitals.
    pub method: &'static str,
    /// Below the route prefix, with parameters in braces.
    pub path: &'static str,
    /// What it does, in one sentence.
    pub does: &'static str,
    /// Parameters in path and headers.
    pub parameters: &'static [Parameter],
    /// Fields of the query.
    pub query: &'static [Field],
    /// Members of the JSON body, where it takes one.
    pub body: Option<&'static [Field]>,
    /// Whether anybody may call it.
    pub is_anonymous: bool,
    /// What it answers.
    pub answers: &'static [Answer],
    /// The statuses it refuses with.
    pub refusals: &'static [u16],
}

/// A parameter outside the query.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// `path` or `header`.
    pub place: &'static str,
    /// What it means.
    pub means: &'static str,
}

/// An answer that is no refusal.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// When it comes.
    pub means: &'static str,
    /// Content-Types, each with the schema of what it is, if that is JSON.
    pub content: &'static [(&'static str, Option<MakeSchema>)],
    /// Headers beyond `x-request-id`, each with what it means.
    pub headers: &'static [(&'static str, &'static str)],
}

/// Makes a schema.
pub type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// The schema of `T`, as an [`Answer`] has it.
pub fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The schema of any JSON object.
fn any_object(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "object" })
}

/// What callers are told in place of an answer.
#[derive(Serialize, JsonSchema)]
struct Error {
    error: ErrorDetail,
}

/// Why, in words for the caller.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ErrorDetail {
    /// The kind of failure, a heading of docs/operations.md or the name of the status.
    code: String,
    /// One sentence that names the field, or says what to do next.
    message: String,
    /// The host's id of the invocation, also in `x-request-id`.
    request_id: String,
}

const OWN: &[Operation] = &[Operation {
    function: "OpenApi",
    id: "getOpenApi",
    method: super::GET,
    path: "openapi.json",
    does: "This document.",
    parameters: &[],
    query: &[],
    body: None,
    is_anonymous: false,
    answers: &[Answer {
        status: 200,
        means: "The document.",
        content: &[(JSON, Some(any_object))],
        headers: &[],
    }],
    refusals: &[400, 503],
}];

/// Every operation there is.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    exports::OPERATIONS.iter().chain(assets::OPERATIONS).chain(health::OPERATIONS).chain(OWN)
}

/// Runs the function.
///
/// # Errors
/// A refusal of a field in the query.
pub fn run(request: &HttpRequest, auth: &Auth) -> Result<HttpReply, Refusal> {
    Fields::of_query(request, &[])?;
    Ok(HttpReply::json(&document(auth)))
}

/// `openapi.json`: OpenAPI 3.1, whose schemas are JSON Schema 2020-12. Who may call is said by `auth`.
pub fn document(auth: &Auth) -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .for_serialize()
        .into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations() {
        let path = paths.entry(format!("/{}", operation.path)).or_insert_with(|| json!({}));
        path[operation.method.to_ascii_lowercase()] = described(operation, auth, &mut generator);
    }
    let schemas: Map<String, Value> = generator.take_definitions(true);
    let schemes = match auth {
        Auth::Key => json!({
            "header": { "type": "apiKey", "in": "header", "name": "x-functions-key" },
            "query": { "type": "apiKey", "in": "query", "name": "code" },
        }),
        // The platform's authentication reads it.
        Auth::Entra { .. } => json!({
            "entra": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
        }),
    };
    let any_scheme: Vec<Value> =
        schemes.as_object().into_iter().flatten().map(|(name, _)| json!({ name: [] })).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "easm-export",
            "description": "Exports Microsoft Defender EASM inventories. Whoever may call one of \
                            these may call it for all targets of the deployment.",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "servers": [{ "url": "/api" }],
        "security": any_scheme,
        "paths": paths,
        "components": { "schemas": schemas, "securitySchemes": schemes },
    })
}

fn described(operation: &Operation, auth: &Auth, generator: &mut SchemaGenerator) -> Value {
    let of_query = operation.query.iter().map(|field| {
        let Field { name, sort, means } = field;
        let schema = schema_of(*sort, false);
        json!({ "name": name, "in": "query", "description": means, "schema": schema })
    });
    let others = operation.parameters.iter().map(|parameter| {
        let Parameter { name, place, means } = parameter;
        let mut described =
            json!({ "name": name, "in": place, "description": means, "schema": { "type": "string" } });
        if *place == "path" {
            described["required"] = Value::from(true);
        }
        described
    });
    let mut described = json!({
        "operationId": operation.id,
        "tags": [operation.function],
        "summary": operation.does,
        "parameters": others.chain(of_query).collect::<Vec<_>>(),
        "responses": responses(operation, auth, generator),
    });
    if let Some(members) = operation.body {
        let properties: Map<String, Value> = members
            .iter()
            .map(|field| {
                let mut schema = schema_of(field.sort, true);
                schema["description"] = Value::from(field.means);
                (field.name.to_owned(), schema)
            })
            .collect();
        let schema =
            json!({ "type": "object", "properties": properties, "additionalProperties": false });
        described["requestBody"] =
            json!({ "content": { "application/json": { "schema": schema } } });
    }
    if operation.is_anonymous {
        described["security"] = json!([]);
    }
    described
}

fn responses(operation: &Operation, auth: &Auth, generator: &mut SchemaGenerator) -> Value {
    let request_id = json!({ "description": "The host's id of the invocation.", "schema": { "type": "string" } });
    let mut responses: Map<String, Value> = Map::new();
    for answer in operation.answers {
        let mut headers = json!({ "x-request-id": request_id });
        for (name, means) in answer.headers {
            headers[*name] = json!({ "description": means, "schema": { "type": "string" } });
        }
        let content: Map<String, Value> = answer
            .content
            .iter()
            .map(|(content_type, schema)| {
                let schema = schema.map(|make| make(generator).to_value());
                let schema = schema.unwrap_or_else(|| json!({ "type": "string" }));
                (plain(content_type).to_owned(), json!({ "schema": schema }))
            })
            .collect();
        let response =
            json!({ "description": answer.means, "headers": headers, "content": content });
        responses.insert(answer.status.to_string(), response);
    }
    let of_access: &[u16] = match auth {
        Auth::Entra { .. } if !operation.is_anonymous => &[401, 403],
        Auth::Entra { .. } | Auth::Key => &[],
    };
    for status in operation.refusals.iter().chain(of_access) {
        let schema = generator.subschema_for::<Error>();
        let mut headers = json!({ "x-request-id": request_id });
        if matches!(status, 429 | 503) {
            let means = "Seconds to wait before asking again.";
            headers["retry-after"] =
                json!({ "description": means, "schema": { "type": "string" } });
        }
        if *status == 401 {
            let means = "What is to be shown: a bearer token.";
            headers["www-authenticate"] =
                json!({ "description": means, "schema": { "type": "string" } });
        }
        let content = json!({ plain(JSON): { "schema": schema } });
        let response =
            json!({ "description": why(*status), "headers": headers, "content": content });
        responses.insert(status.to_string(), response);
    }
    responses.into()
}

/// `content_type` without its parameters.
fn plain(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or(content_type)
}

/// What a refusal's status means (contract, section 4).
fn why(status: u16) -> &'static str {
    match status {
        400 => "The input is bad; the message says which field.",
        401 => "Nobody is signed in with Entra.",
        403 => "Whoever is signed in may not call.",
        404 => "There is no such run.",
        409 => "The run ended, or the idempotency key was used with another body.",
        411 => "A body was announced that did not arrive.",
        413 => "The body is larger than 1 MiB.",
        429 => "Too many queries at once.",
        502 => "The service refused, or its answer cannot be used.",
        503 => "Something that may pass, or that an operator must mend.",
        504 => "It was not done in time.",
        _ => "A fault in this program.",
    }
}

/// The schema of a field, in a JSON body or in a query.
fn schema_of(sort: Sort, is_json: bool) -> Value {
    match sort {
        Sort::Text => json!({ "type": "string" }),
        Sort::Word(words) => json!({ "type": "string", "enum": words, "default": words.first() }),
        Sort::Texts if is_json => {
            json!({ "type": ["array", "string"], "items": { "type": "string" } })
        }
        Sort::Texts => json!({ "type": "string" }),
        Sort::Number(min, u64::MAX) => json!({ "type": "integer", "minimum": min }),
        Sort::Number(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Sort::Switch => json!({ "type": "boolean", "default": false }),
    }
}
