//! The front door: routes, keys, default mode, starting by hand.

use reqwest::{Body, Method};
use serde_json::{Value, json};

use super::{AppRoot, LIMIT, QUEUE, TIMER, memory, seen};
use crate::azurite::plain_client;
use crate::host::{Failure, Host};

const RES: &str = r#"{"type":"http","direction":"out","name":"res"}"#;
const WORK: &str = super::WORK;

fn trigger(members: &str) -> String {
    format!(r#"{{"type":"httpTrigger","direction":"in","name":"req"{members}}}"#)
}

async fn status(host: &Host, method: &str, path: &str, key: Option<&str>) -> u16 {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = plain_client(None).request(method, host.url() + path);
    if let Some(key) = key {
        request = request.header("x-functions-key", key);
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_request_finds_its_function_by_route_and_method() {
    let anonymous = r#","authLevel":"anonymous""#;
    let [exports, doc, plain, off] = [
        format!(r#","route":"exports/{{runId?}}","methods":["GET","post"]{anonymous}"#),
        format!(r#","route":"openapi.json","methods":["GET"]{anonymous}"#),
        anonymous.to_owned(),
        anonymous.to_owned(),
    ]
    .map(|members| trigger(&members));
    let admin = trigger(r#","route":"administration""#);
    // Its name comes first, its route last.
    let any = trigger(r#","route":"exports/{*rest}","methods":["GET"],"authLevel":"anonymous""#);
    let functions: &[(&str, &[&str])] = &[
        ("Any", &[&any, RES]),
        ("Exports", &[&exports, RES]),
        ("OpenApi", &[&doc, RES]),
        ("Plain", &[&plain, RES]),
        ("Off", &[&off, RES]),
        ("Admin", &[&admin, RES]),
    ];
    let app = AppRoot::new(functions, json!({}));
    let options = app.options().set("AzureWebJobs.Off.Disabled", "true");
    let host = Host::start(options, &memory()).await.unwrap();
    let n_errors = host.lines().iter().filter(|line| line.text.contains("'Admin'")).count();
    assert_eq!(n_errors, 1, "a route that begins like the host's own");
    // Method, path, status, and the function that was called.
    let cases = [
        ("GET", "/api/exports", 204, "/Exports"),
        ("POST", "/API/Exports/42?x=1", 204, "/Exports"),
        ("DELETE", "/api/exports/42", 404, ""),
        ("HEAD", "/api/exports", 404, ""),
        ("GET", "/api/exports/42/43", 204, "/Any"),
        ("GET", "/api/openapi.json", 204, "/OpenApi"),
        ("DELETE", "/api/plain", 204, "/Plain"),
        ("GET", "/api/off", 404, ""),
        ("GET", "/api/administration", 404, ""),
        ("GET", "/api/nothing", 404, ""),
        ("GET", "/plain", 404, ""),
        ("GET", "/", 200, ""),
    ];
    for (method, path, want, function) in cases {
        let before = host.invocations().len();
        assert_eq!(status(&host, method, path, None).await, want, "{method} {path}");
        let called: Vec<String> =
            host.invocations()[before..].iter().map(|i| format!("/{}", i.function)).collect();
        assert_eq!(called.concat(), function, "{method} {path}");
    }
    // As the server sends it and not as the client does.
    host.until(|host| seen(host).len() == 5, LIMIT).await.unwrap();
    assert!(seen(&host).iter().all(|request| request["method"] == "POST"));
}

#[tokio::test]
async fn keys_open_what_their_level_allows() {
    let levels = ["anonymous", "function", "admin"];
    let triggers = levels.map(|level| trigger(&format!(r#","authLevel":"{level}""#)));
    let bindings = triggers.each_ref().map(|trigger| [trigger.as_str(), RES]);
    let functions: Vec<(&str, &[&str])> =
        levels.iter().zip(&bindings).map(|(name, both)| (*name, &both[..])).collect();
    // A function called `admin` needs a route that does not begin so.
    let functions: Vec<(&str, &[&str])> = functions
        .into_iter()
        .map(|(name, both)| (if name == "admin" { "boss" } else { name }, both))
        .collect();
    let app = AppRoot::new(&functions, json!({}));
    let account = memory();
    let mut keys = account.keys.clone();
    keys.functions.insert("function".to_owned(), "its own".to_owned());
    let account = crate::host::Account::with_keys(crate::host::Queues::memory(None), keys);
    let host = Host::start(app.options(), &account).await.unwrap();
    let keys = &account.keys;
    let all = [None, Some("wrong"), Some("its own"), Some(&keys.default), Some(&keys.master)];
    let want = [
        ("anonymous", [204, 204, 204, 204, 204]),
        ("function", [401, 401, 204, 204, 204]),
        ("boss", [401, 401, 401, 401, 204]),
    ];
    for (name, statuses) in want {
        for (key, want) in all.into_iter().zip(statuses) {
            let path = format!("/api/{name}");
            assert_eq!(status(&host, "GET", &path, key).await, want, "{name} {key:?}");
        }
    }
    let code = format!("/api/function?code={}", keys.default.replace('=', "%3D"));
    assert_eq!(status(&host, "GET", &code, None).await, 204);
    let body = host.invocations().last().unwrap().body.clone();
    assert!(body.contains(r#""Value":"Function""#), "the handler is told of the key: {body}");
}

#[tokio::test]
async fn default_mode_answers_and_writes_messages() {
    let both = trigger(r#","route":"exports","authLevel":"anonymous""#);
    let app = AppRoot::new(&[("Exports", &[&both, RES, WORK])], json!({}));
    let account = memory();
    let res = r#"{"statusCode":202,"headers":{"Location":"/api/exports/1"},"body":"{\"a\":1}"}"#;
    let say = format!(r#"say {{"Outputs":{{"res":{res},"work":["one"]}}}}"#);
    let host = Host::start(app.options().set("DO", &say), &account).await.unwrap();
    let answer =
        plain_client(None).post(host.url() + "/api/exports").body("x").send().await.unwrap();
    assert_eq!(answer.status(), 202);
    assert_eq!(answer.headers()["location"], "/api/exports/1");
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(answer.text().await.unwrap(), "{\"a\":1}");
    assert_eq!(account.queues.peek("out").await[0].text().unwrap(), "one");
    let sent: Value = serde_json::from_str(&host.invocations()[0].body).unwrap();
    assert_eq!(sent["Data"]["req"]["Body"], "x");
    // A failed invocation tells the client nothing.
    let failing = Host::start(app.options().set("DO", "status 418"), &account).await.unwrap();
    let answer = plain_client(None).get(failing.url() + "/api/exports").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (500, ""));
    assert_eq!(failing.invocations()[0].result, Err(Failure::Status(418)));
}

#[tokio::test]
async fn a_chunked_upload_arrives_without_its_body() {
    let both = trigger(r#","authLevel":"anonymous""#);
    let app = AppRoot::new(&[("run", &[&both, RES, WORK])], json!({}));
    let host = app.start().await;
    let chunks = futures::stream::iter([Ok::<_, std::io::Error>("lost")]);
    let request = plain_client(None).post(host.url() + "/api/run").body(Body::wrap_stream(chunks));
    assert_eq!(request.send().await.unwrap().status(), 204);
    let sent: Value = serde_json::from_str(&host.invocations()[0].body).unwrap();
    let headers = sent["Data"]["req"]["Headers"].to_string().to_lowercase();
    assert!(headers.contains(r#""transfer-encoding":["chunked"]"#), "{headers}");
    assert_eq!(sent["Data"]["req"].get("Body"), None);
}

#[tokio::test]
async fn the_master_key_starts_functions_by_hand() {
    let app = AppRoot::new(&[("timer", &[TIMER]), ("job", &[QUEUE])], json!({}));
    let account = memory();
    let host = Host::start(app.options(), &account).await.unwrap();
    let start = async |name: &str, key: &str| {
        let request = plain_client(None).post(format!("{}/admin/functions/{name}", host.url()));
        let request = request.header("x-functions-key", key).body(r#"{"input":"ok"}"#);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(start("timer", &account.keys.default).await, 401);
    for name in ["timer", "job", "not-indexed"] {
        assert_eq!(start(name, &account.keys.master).await, 202);
    }
    host.until(|host| host.invocations().len() == 2, LIMIT).await.unwrap();
    let bodies = host.invocations().into_iter().map(|i| i.body).collect::<String>();
    assert!(bodies.contains(r#""Metadata":{"timer":"\"\"""#), "{bodies}");
    assert!(bodies.contains(r#""DequeueCount":"0""#), "{bodies}");
    let admin = Some(account.keys.master.as_str());
    assert_eq!(status(&host, "GET", "/admin/host/status", admin).await, 200);
    assert_eq!(status(&host, "GET", "/admin/host/status", None).await, 401);
}

#[tokio::test]
async fn a_body_over_the_limit_never_reaches_the_handler() {
    let plain = trigger(r#","authLevel":"anonymous""#);
    let app = AppRoot::new(&[("run", &[&plain, RES])], json!({}));
    let options = app.options().set("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", "10");
    let host = Host::start(options, &memory()).await.unwrap();
    for (body, want) in [("0123456789", 204), ("0123456789a", 413)] {
        let request = plain_client(None).post(host.url() + "/api/run").body(body);
        assert_eq!(request.send().await.unwrap().status(), want);
    }
    assert_eq!(host.invocations().len(), 1);
}
