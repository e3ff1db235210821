//! A client for the simulator's own tests that knows HTTP and nothing else.

use std::collections::HashMap;

use reqwest::{Certificate, Client as Http, StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

pub(super) const EASM: &str = "https://easm.defender.microsoft.com";
pub(super) const ARM: &str = "https://management.azure.com/";
pub(super) const NEWEST: &str = "2024-10-01-preview";
pub(super) const TENANT: &str = "7e7a7700-51d0-4000-8000-0000000007e7";
pub(super) const EXCHANGE: &str = "api://AzureADTokenExchange";
pub(super) const EASM_SCOPE: &str = "https://easm.defender.microsoft.com/.default";

/// What came back over a fresh connection.
#[derive(Debug, Default)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Got {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(super) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

/// A client of the simulator that knows HTTP and nothing else.
pub(super) struct Client {
    pub(super) running: Running,
    pub(super) token: String,
}

impl Client {
    pub(super) async fn new(options: Options) -> Self {
        let running = Simulator::start(options).await.unwrap();
        let mut client = Self { running, token: String::new() };
        client.token = client.fresh_token(EASM).await;
        client
    }

    pub(super) async fn fresh_token(&self, resource: &str) -> String {
        let got = self.identity(&format!("api-version=2019-08-01&resource={resource}")).await;
        got.json()["access_token"].as_str().unwrap().to_owned()
    }

    pub(super) async fn identity(&self, query: &str) -> Got {
        let header = &self.running.state().options().identity_header;
        let header = format!("X-IDENTITY-HEADER: {header}\r\n");
        self.raw("GET", &format!("/msi/token?{query}"), &header).await
    }

    pub(super) async fn get(&self, target: &str) -> Got {
        self.raw("GET", target, &format!("Authorization: Bearer {}\r\n", self.token)).await
    }

    /// An empty `Got` (status 0) if the connection closed before any byte.
    pub(super) async fn raw(&self, method: &str, target: &str, headers: &str) -> Got {
        let mut tcp = TcpStream::connect(self.running.addr()).await.unwrap();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n{headers}\r\n"
        );
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        // A cut connection may end in an error; what came before it counts.
        let _cut = tcp.read_to_end(&mut all).await;
        let Some(split) = all.windows(4).position(|w| w == b"\r\n\r\n") else {
            assert!(all.is_empty(), "half a head came");
            return Got::default();
        };
        let text = String::from_utf8(all[..split].to_vec()).unwrap();
        let mut lines = text.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let headers: HashMap<_, _> = lines.map(pair).collect();
        let mut body = all[split + 4..].to_vec();
        if headers.get("transfer-encoding").is_some_and(|v| v == "chunked") {
            body = dechunked(&body);
        }
        Got { status, headers, body }
    }

    /// Target of a list call; the values are encoded here.
    pub(super) fn list(&self, version: &str, params: &[(&str, &str)]) -> String {
        let mut query = format!("api-version={version}");
        for (name, value) in params {
            query += &format!("&{name}={}", text::query_encoded(value));
        }
        format!("{}/assets?{query}", self.workspace())
    }

    pub(super) fn workspace(&self) -> String {
        let options = self.running.state().options();
        format!(
            "/subscriptions/{}/resourceGroups/{}/workspaces/{}",
            options.subscription_id, options.resource_group, options.workspace
        )
    }

    /// All values of a cursor, page by page. Stops as the reference says.
    pub(super) async fn walk(&self, version: &str, filter: &str, size: &str) -> Vec<Vec<Value>> {
        let mut pages = Vec::new();
        let mut mark = "*".to_owned();
        for _ in 0..500 {
            let target = [("filter", filter), ("mark", &mark), ("maxpagesize", size)];
            let got = self.get(&self.list(version, &target)).await;
            assert_eq!(got.status, 200, "{got:?}");
            let body = got.json();
            let items = body.get("value").or(body.get("content")).unwrap();
            let items = items.as_array().unwrap().clone();
            let was_empty = items.is_empty();
            pages.push(items);
            match body.get("mark").and_then(Value::as_str) {
                Some(next) if next != mark && !was_empty => mark = next.to_owned(),
                _ => return pages,
            }
        }
        panic!("the cursor does not end");
    }
}

pub(super) fn dechunked(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = body.windows(2).position(|w| w == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let Some(chunk) = body.get(end + 2..end + 2 + size) else { break };
        out.extend_from_slice(chunk);
        body = body.get(end + 4 + size..).unwrap_or_default();
    }
    out
}

pub(super) fn ids(pages: &[Vec<Value>]) -> Vec<String> {
    pages.iter().flatten().map(|v| v["id"].as_str().unwrap().to_owned()).collect()
}

pub(super) fn small() -> Options {
    Options { assets: 130, asset_bytes: 1200, ..Options::default() }
}

pub(super) fn scripted(fault: Fault, times: u64) -> Options {
    let entry = Scripted {
        path_contains: "/assets".to_owned(),
        query_contains: String::new(),
        from: 0,
        times,
        fault,
    };
    Options { script: vec![entry], ..small() }
}

/// What Entra answered.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<String>,
    pub(super) text: String,
}

impl Told {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    #[track_caller]
    pub(super) fn token(&self) -> String {
        self.json()["access_token"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }

    /// Status, error, AADSTS code.
    pub(super) fn refusal(&self) -> (u16, String, u64) {
        let body = self.json();
        let code = body["error_codes"][0].as_u64().unwrap();
        (self.status.as_u16(), body["error"].as_str().unwrap().to_owned(), code)
    }
}

pub(super) fn encoded(form: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

/// A client that trusts the simulator's authority and nobody else.
pub(super) fn http(running: &Running) -> reqwest::ClientBuilder {
    rustls::crypto::ring::default_provider().install_default().unwrap_or(());
    let ca = fs::read(running.ca_file()).unwrap();
    Http::builder().tls_certs_only([Certificate::from_pem(&ca).unwrap()]).no_proxy()
}

pub(super) async fn post(running: &Running, tenant: &str, form: &str) -> Told {
    let url = format!("{}/{tenant}/oauth2/v2.0/token", running.authority());
    let request = http(running).build().unwrap().post(url).body(form.to_owned());
    let got =
        request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    let retry_after = got.headers().get("retry-after");
    let retry_after = retry_after.map(|value| value.to_str().unwrap().to_owned());
    Told { status: got.status(), retry_after, text: got.text().await.unwrap() }
}

pub(super) async fn sign_in(running: &Running, form: &[(&str, &str)]) -> Told {
    let tenant = running.state().options().tenant_id.clone();
    post(running, &tenant, &encoded(form)).await
}

pub(super) fn with_secret<'a>(secret: &'a str, scope: &'a str) -> [(&'a str, &'a str); 4] {
    let grant = ("grant_type", "client_credentials");
    [grant, ("client_id", APP_CLIENT_ID), ("client_secret", secret), ("scope", scope)]
}

pub(super) fn secret(running: &Running) -> String {
    running.state().options().apps[0].secret.clone().unwrap()
}

pub(super) fn app(change: impl FnOnce(&mut App)) -> Options {
    let mut options = small();
    change(&mut options.apps[0]);
    options
}
