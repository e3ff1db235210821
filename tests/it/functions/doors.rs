//! HTTP through the host, in each of the ways in which it passes requests on.

use std::time::Duration;

use easm_export::sim::Options;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::town::{LIMIT, Town, log, stderr};
use crate::azurite::plain_client;
use crate::contract::functions_host::principal;
use crate::host::{Host, HostOptions};

/// Requests of a client with a key.
pub struct Caller<'a> {
    host: &'a Host,
    key: String,
    client: Client,
}

impl<'a> Caller<'a> {
    pub fn new(town: &Town, host: &'a Host) -> Self {
        Self { host, key: town.account.keys.default.clone(), client: plain_client(None) }
    }

    pub fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.host.url());
        self.client.request(method, url).header("x-functions-key", &self.key)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        let ask = self.ask(Method::POST, path).header("content-type", "application/json");
        ask.body(body.to_string()).send().await.unwrap()
    }
}

pub async fn read(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} {text}")))
}

/// The ways in which a host passes HTTP on.
fn ways(town: &Town) -> [(&'static str, HostOptions); 3] {
    let forwards = "AzureFunctionsJobHost__customHandler__enableForwardingHttpRequest";
    [
        ("forwarding", town.options()),
        ("proxying", town.options().with_proxying()),
        ("default mode", town.options().set(forwards, "false")),
    ]
}

#[tokio::test]
async fn a_caller_sees_the_same_whichever_way_the_host_passes_requests_on() {
    let test = "a_caller_sees_the_same_whichever_way_the_host_passes_requests_on";
    let options = Options { assets: 500, asset_bytes: 900, ..Options::default() };
    let Some(town) = Town::new(test, options).await else { return };
    for (way, options) in ways(&town) {
        let host = town.host(options).await;
        let caller = Caller::new(&town, &host);
        let answer = caller.get("/api/health").await;
        assert!(answer.headers().contains_key("x-request-id"), "{way}");
        assert_eq!(read(answer).await, (200, json!({"status": "ok"})), "{way}");
        let without_key = caller.client.get(format!("{}/api/assets", host.url()));
        assert_eq!(without_key.send().await.unwrap().status(), 401, "{way}");

        let (status, document) = read(caller.get("/api/openapi.json").await).await;
        assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")), "{way}");
        let (status, refused) = read(caller.get("/api/assets?limit=0").await).await;
        assert_eq!(status, 400, "{way}");
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains("limit"), "{way}: {message}");

        // Every asset once, behind one cursor after the other.
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let mut mark = None::<String>;
        loop {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", "220").append_pair("format", "ndjson");
            query.extend_pairs(mark.iter().map(|mark| ("mark", mark)));
            let answer = caller.get(&format!("/api/assets?{}", query.finish())).await;
            assert_eq!(answer.status(), 200, "{way}");
            let next = answer.headers().get("x-easm-next-mark");
            mark = next.map(|next| next.to_str().unwrap().to_owned());
            let text = answer.bytes().await.unwrap();
            let text = text.strip_suffix(b"\n").expect("LF behind every line");
            lines.extend(text.split(|b| *b == b'\n').map(<[u8]>::to_vec));
            if mark.is_none() {
                break;
            }
        }
        lines.sort();
        crate::support::assert_same_lines(&lines, &town.world.sim.inventory().ndjson(""), way);
        assert_eq!(stderr(&host), [""; 0], "{way}");
        for line in log(&host) {
            let line = line.to_string();
            assert!(!line.contains(&caller.key), "{way}: a key in the log: {line}");
        }
    }
}

/// Behind the platform's authentication the host asks for nothing, and passes on whom that signed in.
#[tokio::test]
async fn with_entra_a_principal_takes_the_place_of_a_key_whichever_way_the_host_passes_it_on() {
    let test =
        "with_entra_a_principal_takes_the_place_of_a_key_whichever_way_the_host_passes_it_on";
    let options = Options { assets: 50, asset_bytes: 900, ..Options::default() };
    let Some(town) = Town::new(test, options).await else { return };
    town.take_keys_away();
    let (known, stranger) =
        ["1", "2"].map(|n| format!("{n}1111111-2222-3333-4444-aaaaaaaaaaaa")).into();
    let client = plain_client(None);
    for (way, options) in ways(&town) {
        let options = options.set("EASM_AUTH", "entra").set("EASM_PRINCIPALS", &known);
        let host = town.host(options).await;
        let get = async |path: &str, id: Option<&str>| {
            let mut ask = client.get(format!("{}{path}", host.url()));
            if let Some(id) = id {
                let claims = principal(&[("oid", id), ("name", "Somebody Somewhere")]);
                ask = ask.header("X-MS-CLIENT-PRINCIPAL", claims);
                ask = ask.header("X-MS-CLIENT-PRINCIPAL-ID", id);
                ask = ask.header("X-MS-CLIENT-PRINCIPAL-IDP", "aad");
            }
            ask.send().await.unwrap()
        };
        for path in ["/api/exports", "/api/assets", "/api/openapi.json"] {
            let answer = get(path, None).await;
            assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{way} {path}");
            let (status, refused) = read(answer).await;
            assert_eq!((status, &refused["error"]["code"]), (401, &json!("unauthorized")), "{way}");
            let (status, refused) = read(get(path, Some(&stranger)).await).await;
            assert_eq!((status, &refused["error"]["code"]), (403, &json!("forbidden")), "{way}");
            assert_eq!(get(path, Some(&known)).await.status(), 200, "{way} {path}");
        }
        assert_eq!(read(get("/api/health", None).await).await, (200, json!({"status": "ok"})));
        let said = log(&host).into_iter().map(|line| line.to_string()).collect::<String>();
        assert!(!said.contains("Somebody"), "{way}: {said}");
        assert_eq!(stderr(&host), [""; 0], "{way}");
    }
}

#[tokio::test]
async fn a_run_that_a_caller_opens_is_carried_by_the_queue() {
    let test = "a_run_that_a_caller_opens_is_carried_by_the_queue";
    let options = Options { assets: 500, asset_bytes: 900, ..Options::default() };
    let Some(town) = Town::new(test, options).await else { return };
    let host = town.host(town.options()).await;
    let caller = Caller::new(&town, &host);
    let answer = caller.post("/api/exports", &json!({"kinds": ["host"], "dryRun": true})).await;
    let (status, counted) = read(answer).await;
    assert_eq!(status, 200);
    let n_hosts = counted["counts"]["assets"]["byKind"]["host"].as_u64().unwrap();

    let answer = caller.post("/api/exports", &json!({"kinds": ["host"]})).await;
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let (status, opened) = read(answer).await;
    assert_eq!((status, &opened["statusUrl"]), (202, &json!(location)), "{opened}");
    let mut run = Value::Null;
    let wait = async {
        while run["status"] != "complete" {
            tokio::time::sleep(Duration::from_millis(100)).await;
            run = read(caller.get(&location).await).await.1;
        }
    };
    assert!(tokio::time::timeout(LIMIT, wait).await.is_ok(), "{run}");
    assert_eq!(run["progress"]["exported"], n_hosts, "{run}");
    let (status, list) = read(caller.get("/api/exports?limit=1").await).await;
    assert_eq!((status, &list["value"][0]["runId"]), (200, &opened["runId"]));
    let (status, refused) = read(caller.ask(Method::DELETE, &location).send().await.unwrap()).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("conflict")), "{refused}");
    assert_eq!(stderr(&host), [""; 0]);
}

/// The host loses what is uploaded in chunks; it must not be taken for a request without a body.
#[tokio::test]
async fn a_body_that_the_host_loses_is_asked_for_with_its_length() {
    let test = "a_body_that_the_host_loses_is_asked_for_with_its_length";
    let options = Options { assets: 10, asset_bytes: 900, ..Options::default() };
    let Some(town) = Town::new(test, options).await else { return };
    let host = town.host(town.options()).await;
    let caller = Caller::new(&town, &host);
    let pieces = futures::stream::iter([Ok::<_, std::io::Error>("{\"kinds\": [\"host\"]}")]);
    let body = reqwest::Body::wrap_stream(pieces);
    let (status, refused) =
        read(caller.ask(Method::POST, "/api/exports").body(body).send().await.unwrap()).await;
    assert_eq!((status, &refused["error"]["code"]), (411, &json!("length_required")), "{refused}");
    let large = json!({ "filter": "x".repeat(1 << 20) });
    let (status, refused) = read(caller.post("/api/exports", &large).await).await;
    assert_eq!((status, &refused["error"]["code"]), (413, &json!("too_large")), "{refused}");
    assert!(town.paths().await.is_empty(), "nothing was opened");
}
