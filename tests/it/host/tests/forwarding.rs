//! HTTP-only functions: which mode they get, and what passes in each.

use reqwest::Body;
use serde_json::{Value, json};

use super::{AppRoot, LIMIT, WORK, memory, seen};
use crate::azurite::plain_client;
use crate::host::{Failure, Host, State};

const REQ: &str = r#"{"type":"httpTrigger","direction":"in","name":"req","route":"runs/{id?}","authLevel":"anonymous"}"#;
const RES: &str = r#"{"type":"http","direction":"out","name":"res"}"#;
const RUN: &[(&str, &[&str])] = &[("run", &[REQ, RES])];

fn app(flags: &[&str]) -> AppRoot {
    let flags: serde_json::Map<String, Value> =
        flags.iter().map(|flag| ((*flag).to_owned(), json!(true))).collect();
    AppRoot::new(RUN, json!({"customHandler": flags}))
}

const FORWARDING: &str = "enableForwardingHttpRequest";
const PROXYING: &str = "enableProxyingHttpRequest";

/// A header that the handler saw.
fn header<'a>(seen: &'a Value, name: &str) -> Option<&'a str> {
    let pairs = seen["headers"].as_array().unwrap().iter();
    let mut found = pairs.filter(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name));
    found.next().map(|pair| pair[1].as_str().unwrap())
}

#[tokio::test]
async fn flags_bindings_and_the_hosts_age_decide_the_mode() {
    let extra: &[(&str, &[&str])] = &[("run", &[REQ, RES, WORK])];
    // Flags, bindings, whether the host knows proxying, and what the handler sees.
    let cases: [(&[&str], _, bool, &str); 7] = [
        (&[], RUN, false, "POST /run"),
        (&[FORWARDING], RUN, false, "GET /api/runs/1"),
        (&[FORWARDING], extra, false, "POST /run"),
        (&[PROXYING], RUN, false, "POST /run"),
        (&[PROXYING, FORWARDING], RUN, false, "GET /api/runs/1"),
        (&[PROXYING], RUN, true, "GET /api/runs/1 proxied"),
        (&[PROXYING, FORWARDING], extra, true, "POST /run"),
    ];
    for (flags, functions, has_proxying, want) in cases {
        let all: serde_json::Map<String, Value> =
            flags.iter().map(|flag| ((*flag).to_owned(), json!(true))).collect();
        let app = AppRoot::new(functions, json!({"customHandler": all}));
        let options = app.options();
        let options = if has_proxying { options.with_proxying() } else { options };
        let host = Host::start(options, &memory()).await.unwrap();
        let answer = plain_client(None).get(host.url() + "/api/runs/1").send().await.unwrap();
        assert!(answer.status().is_success());
        host.until(|host| !seen(host).is_empty(), LIMIT).await.unwrap();
        let seen = &seen(&host)[0];
        let proxied = if header(seen, "x-forwarded-host").is_some() { " proxied" } else { "" };
        let (method, path) = (seen["method"].as_str().unwrap(), seen["path"].as_str().unwrap());
        assert_eq!(format!("{method} {path}{proxied}"), want, "{flags:?}");
    }
}

#[tokio::test]
async fn any_answer_passes_and_counts_as_success() {
    for flags in [[FORWARDING], [PROXYING]] {
        let app = app(&flags);
        let host = Host::start(app.options().with_proxying(), &memory()).await.unwrap();
        for status in [201, 302, 404, 500, 599] {
            let url = format!("{}/api/runs/1?status%20{status}", host.url());
            let answer = plain_client(None).get(url).send().await.unwrap();
            assert_eq!(answer.status(), status);
            assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 2);
            assert_eq!(answer.headers()["location"], "/elsewhere");
            assert_eq!(answer.json_value().await["method"], "GET");
        }
        host.until(|host| host.invocations().len() == 5, LIMIT).await.unwrap();
        assert!(host.invocations().iter().all(|invocation| invocation.is_success()));
    }
}

#[tokio::test]
async fn forwarding_drops_uploads_in_chunks() {
    let app = app(&[FORWARDING]);
    let host = app.start().await;
    let url = host.url() + "/api/runs/1";
    let chunks = futures::stream::iter([Ok::<_, std::io::Error>("lost")]);
    let request = plain_client(None).post(&url).body(Body::wrap_stream(chunks));
    let answer = request.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (500, ""));
    let answer = plain_client(None).post(&url).body("whole").send().await.unwrap();
    let echo: Value = answer.json_value().await;
    assert_eq!(
        (echo["body"].as_str(), header(&echo, "content-length")),
        (Some("whole"), Some("5"))
    );
    // The line of a request comes before its answer, on another way.
    host.until(|host| !seen(host).is_empty(), LIMIT).await.unwrap();
    assert_eq!(seen(&host).len(), 1, "the handler never sees the first");
}

#[tokio::test]
async fn proxying_streams_both_ways() {
    let app = app(&[PROXYING]);
    let host = Host::start(app.options().with_proxying(), &memory()).await.unwrap();
    let url = host.url() + "/api/runs/1";
    let chunks = futures::stream::iter([Ok::<_, std::io::Error>("one"), Ok("two")]);
    let request = plain_client(None).post(&url).body(Body::wrap_stream(chunks));
    let request = request.header("x-azure-functions-invocationid", "fake");
    let request = request.header("x-forwarded-for", "1.2.3.4").header("content-encoding", "odd");
    let echo = request.send().await.unwrap().json_value().await;
    assert_eq!(echo["body"], "onetwo");
    host.until(|host| !host.invocations().is_empty(), LIMIT).await.unwrap();
    let id = host.invocations()[0].id.clone();
    let want = [
        ("host", format!("127.0.0.1:{}", host.handler_port())),
        ("x-forwarded-host", host.url().replace("http://", "")),
        ("x-forwarded-for", "1.2.3.4, 127.0.0.1".to_owned()),
        ("x-forwarded-proto", "http".to_owned()),
        ("x-azure-functions-invocationid", id.clone()),
        ("x-ms-invocation-id", id),
        ("content-encoding", "odd".to_owned()),
    ];
    for (name, value) in want {
        assert_eq!(header(&echo, name), Some(value.as_str()), "{name}");
    }

    let mut answer = plain_client(None).get(url + "?stream").send().await.unwrap();
    // The handler says no more before it is told to go.
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "first");
    app.go();
    assert_eq!(answer.text().await.unwrap(), "second");
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_what_is_proxied_and_not_what_is_forwarded() {
    for (flag, is_ended) in [(PROXYING, true), (FORWARDING, false)] {
        let app = app(&[flag]);
        let host = Host::start(app.options().with_proxying(), &memory()).await.unwrap();
        let url = host.url() + "/api/runs/1?wait";
        let request = tokio::spawn(async move { plain_client(None).get(url).send().await });
        host.until(|host| seen(host).len() == 1, LIMIT).await.unwrap();
        request.abort();
        if is_ended {
            host.until(|host| host.in_work() == 0, LIMIT).await.unwrap();
            let result = host.invocations().remove(0).result;
            assert!(matches!(result, Err(Failure::Transport(_))), "{result:?}");
        } else {
            // Long enough to be noticed, if it were.
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            assert_eq!(host.in_work(), 1);
            app.go();
            host.until(|host| host.in_work() == 0, LIMIT).await.unwrap();
            assert!(host.invocations()[0].is_success());
        }
    }
}

#[tokio::test]
async fn without_a_handler_the_client_gets_500() {
    for flag in [PROXYING, FORWARDING] {
        let app = AppRoot::shell(RUN, json!({"customHandler": {flag: true}}), "exit 0");
        let host = Host::start(app.options().with_proxying(), &memory()).await.unwrap();
        host.until(|host| host.state() == State::Gone, LIMIT).await.unwrap();
        let answer = plain_client(None).get(host.url() + "/api/runs/1").send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (500, ""));
        host.until(|host| !host.invocations().is_empty(), LIMIT).await.unwrap();
        let result = host.invocations().remove(0).result;
        assert!(matches!(result, Err(Failure::Transport(_))), "{result:?}");
    }
}

trait JsonValue {
    async fn json_value(self) -> Value;
}

impl JsonValue for reqwest::Response {
    async fn json_value(self) -> Value {
        serde_json::from_slice(&self.bytes().await.unwrap()).unwrap()
    }
}
