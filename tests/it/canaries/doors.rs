//! Callers: the keys they send, wherever they send them and repeat them; requests, payloads and
//! messages that are bad, with a credential in them.

use std::time::Duration;

use easm_export::sim::{Fault, Options, SignIn};
use serde_json::{Value, json};

use super::handler::{Texts, asked, findings, serving, texts_of};
use super::planted::{
    self, API_KEY, CALLER_COOKIE, CALLER_TOKEN, CLIENT_SECRET, FUNCTION_KEY, STRANGE_TOKEN,
};
use super::scene::{FORMATS, Scene, assert_none, scripted};
use crate::azurite::plain_client;
use crate::contract::functions_host::{Handler, Mode, fresh_id};
use crate::contract::functions_payload::{Ask, SLOT, ask, slot};

/// As a caller with a key in every place sends it; the key stands in the query and in a header anyway.
fn with_keys(ask: Ask) -> Ask {
    ask.header("Authorization", &format!("Bearer {CALLER_TOKEN}"))
        .header("Cookie", &format!("theme=dark; AppServiceAuthSession={CALLER_COOKIE}"))
        .header("Referer", &format!("https://app.example.net/api/status?code={FUNCTION_KEY}"))
}

/// Requests that are refused, with `key` where it is repeated in the refusal if anything is.
fn refused(key: &str) -> Vec<Ask> {
    let mut all = Vec::new();
    for name in ["limit", "kind", "format", "target", "columns", "mark", key] {
        all.push(ask("GET", "/assets").query(name, key));
    }
    for name in ["limit", "kind", "format", "target", "columns", "mark", key] {
        all.push(ask("POST", "/assets").body(&json!({name: key}).to_string()));
    }
    for name in ["limit", "target", key] {
        all.push(ask("GET", "/exports").query(name, key));
    }
    for name in [
        "target",
        "kinds",
        "datasets",
        "format",
        "compression",
        "columns",
        "maxAssets",
        "dryRun",
        key,
    ] {
        all.push(ask("POST", "/exports").body(&json!({name: key}).to_string()));
        all.push(ask("POST", "/exports").body(&json!({name: [key]}).to_string()));
    }
    let broken = [
        key.to_owned(),
        json!(key).to_string(),
        json!([key]).to_string(),
        format!("{{\"filter\": \"{key}"),
        format!("{{\"filter\": \"{key}\", {key}}}"),
        format!("{{\"{key}\": 1, \"{key}\": 2}}"),
        json!({"filter": key, "limit": "x".repeat((1 << 20) + 1)}).to_string(),
    ];
    for body in broken {
        all.push(ask("POST", "/exports").body(&body));
        all.push(ask("POST", "/assets").body(&body));
    }
    let segment = planted::escaped(key);
    for method in ["GET", "DELETE"] {
        all.push(ask(method, &format!("/exports/{segment}")));
        all.push(ask(method, "/exports/20200101T000000Z-0a1b2c3d").query("code", key));
    }
    all
}

#[tokio::test]
async fn a_key_that_a_caller_sends_and_repeats_is_not_told() {
    let scene = Scene::new(planted::options()).await;
    let mut found = Vec::new();
    for format in FORMATS {
        let vars = [("EASM_LOG_FORMAT", format)];
        let handler = serving(&scene, SignIn::ManagedIdentity, &vars).await;
        let mut texts = Texts::new();
        let mut n_refused = 0;
        for key in [FUNCTION_KEY, CALLER_TOKEN, CALLER_COOKIE] {
            for mode in Mode::BOTH {
                for ask in refused(key) {
                    let answer = handler.ask_raw(mode, &with_keys(ask.clone())).await;
                    n_refused += usize::from((400..500).contains(&answer.status));
                    texts.extend(texts_of(&answer, &format!("{mode:?} {ask:.200?}")));
                }
            }
        }
        assert!(n_refused > 300, "only {n_refused} were refused");
        // A body that was announced, and not passed on.
        let ask = ask("POST", "/assets").header("Content-Length", "17");
        let answer = handler.ask_raw(Mode::Default, &with_keys(ask)).await.expect(411);
        texts.extend(texts_of(&answer, "411"));
        texts.extend(same_key_for_another_body(&handler).await);
        texts.extend(unknown_paths(&handler).await);
        found.extend(findings(&scene, format, handler, texts).await);
    }
    assert_none(&found);
}

/// What is said to an idempotency key that is used again for something else.
async fn same_key_for_another_body(handler: &Handler) -> Texts {
    let mut texts = Texts::new();
    for body in ["{\"maxAssets\": 3}", "{\"maxAssets\": 4}"] {
        let ask =
            with_keys(ask("POST", "/exports")).header("Idempotency-Key", FUNCTION_KEY).body(body);
        let answer = handler.ask_raw(Mode::Default, &ask).await;
        texts.extend(texts_of(&answer, &format!("Idempotency-Key, {body}")));
        if body.contains('4') {
            assert_eq!(answer.status, 409, "{answer:?}");
        }
    }
    texts
}

/// What is said to requests that no function is for.
async fn unknown_paths(handler: &Handler) -> Texts {
    let client = plain_client(None);
    let escaped = planted::escaped(FUNCTION_KEY);
    let mut texts = Texts::new();
    for (method, path) in [
        ("GET", format!("/api/{escaped}")),
        ("GET", format!("/api/nothing?code={escaped}&again={escaped}")),
        ("PUT", format!("/api/exports?code={escaped}")),
        ("PATCH", format!("/api/assets?{escaped}={escaped}")),
        ("DELETE", format!("/api/health?code={escaped}")),
        ("POST", format!("/{escaped}")),
        ("POST", format!("/Assets?code={escaped}")),
        ("BREW", format!("/api/exports/{escaped}/{escaped}")),
        ("GET", format!("/admin/host/keys/{escaped}")),
    ] {
        let url = format!("http://127.0.0.1:{}{path}", handler.port);
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = client
            .request(method.clone(), url)
            .header("x-functions-key", FUNCTION_KEY)
            .header("cookie", format!("session={CALLER_COOKIE}"))
            .bearer_auth(CALLER_TOKEN);
        let answer = request.send().await.unwrap();
        let at = format!("{method} {path:.12}: {}", answer.status());
        let headers = format!("{:?}", answer.headers());
        texts.push((at.clone(), headers.into_bytes()));
        texts.push((at, answer.bytes().await.unwrap().to_vec()));
    }
    texts
}

/// What the host sends that no host would, with credentials in it.
fn payloads() -> Vec<(&'static str, String)> {
    let good = with_keys(ask("GET", "/assets").query("target", FUNCTION_KEY)).payload();
    let text = good.to_string();
    let with = |path: &str, value: Value| {
        let mut payload = good.clone();
        *payload.pointer_mut(path).unwrap_or_else(|| panic!("no {path}")) = value;
        payload.to_string()
    };
    let mut all = vec![
        ("Assets", text[..text.len() - 9].to_owned()),
        ("Assets", text[..text.len() / 2].to_owned()),
        ("Assets", text.replace(':', "=")),
        ("Assets", format!("{FUNCTION_KEY}{text}")),
        ("Assets", json!(FUNCTION_KEY).to_string()),
        ("Assets", json!({"Data": FUNCTION_KEY}).to_string()),
        ("Assets", json!({"Data": {"req": API_KEY}}).to_string()),
        ("Assets", json!({"Data": {"req": text}}).to_string()),
        ("Assets", json!({FUNCTION_KEY: {"req": {}}}).to_string()),
        ("Maintenance", json!({"Data": {"timer": API_KEY}}).to_string()),
        ("ExportTimer", json!({"Data": {"timer": {"ScheduleStatus": API_KEY}}}).to_string()),
        ("ExportWorker", json!({"Data": {"message": {"key": API_KEY}}}).to_string()),
        ("ExportWorker", json!({"Data": {"message": API_KEY}}).to_string()),
        ("ExportWorker", json!({"Metadata": {"message": API_KEY}}).to_string()),
    ];
    for path in ["Url", "Method", "Query", "Headers", "Params", "Identities"] {
        for value in
            [json!(FUNCTION_KEY), json!([FUNCTION_KEY]), json!({"key": {"key": FUNCTION_KEY}})]
        {
            all.push(("Assets", with(&format!("/Data/req/{path}"), value)));
        }
    }
    for value in [json!(API_KEY), json!({"MethodName": [API_KEY], "UtcNow": API_KEY})] {
        all.push(("Assets", with("/Metadata/sys", value)));
    }
    let mut late = slot(SLOT);
    late["Data"]["timer"]["ScheduleStatus"]["Next"] = json!(API_KEY);
    all.push(("ExportTimer", late.to_string()));
    all
}

/// Messages that are no work, with credentials in them.
fn messages() -> Vec<String> {
    let good =
        json!({"v": 1, "do": "plan", "target": "contoso", "runId": "20240305T060000Z-1a2b3c4d"});
    let mut all = vec![good.to_string()];
    for secret in [API_KEY, CLIENT_SECRET, STRANGE_TOKEN, &planted::sas_url()] {
        for name in ["v", "do", "target", "runId", "shard", "range", secret] {
            for value in [json!(secret), json!([secret])] {
                let mut message = good.clone();
                message[name] = value;
                all.push(message.to_string());
            }
        }
        all.extend([
            secret.to_owned(),
            json!(secret).to_string(),
            json!([secret]).to_string(),
            format!("{{\"v\": 1, \"do\": \"{secret}"),
            format!("{}{secret}", good),
        ]);
    }
    all
}

#[tokio::test]
async fn a_payload_or_a_message_that_cannot_be_read_is_refused_without_the_credentials_in_it() {
    let scene = Scene::new(planted::options()).await;
    let mut found = Vec::new();
    for format in FORMATS {
        let vars = [("EASM_LOG_FORMAT", format)];
        let handler = serving(&scene, SignIn::ManagedIdentity, &vars).await;
        let mut texts = Texts::new();
        for (function, payload) in payloads() {
            let (path, case) = (format!("/{function}"), format!("{function}: {payload:.80}"));
            let (status, headers, body) =
                handler.post(&path, &fresh_id(), payload.into_bytes()).await;
            texts.push((format!("{case}: {status}"), body.into_bytes()));
            texts.push((format!("{case}: headers"), format!("{headers:?}").into_bytes()));
        }
        let mut n_failed = 0;
        for text in messages() {
            let reply = handler.deliver(&text).await;
            n_failed += usize::from(reply.status == 500);
            texts.push((
                format!("ExportWorker: {}", reply.status),
                reply.body.to_string().into_bytes(),
            ));
        }
        assert!(n_failed > 20, "only {n_failed} failed");
        found.extend(findings(&scene, format, handler, texts).await);
    }
    assert_none(&found);
}

#[tokio::test]
async fn answers_that_come_late_or_from_others_tell_no_key() {
    // 504, 502, 503 and 429: nothing comes in time, what the service says, and no turn.
    let cases = [
        (Fault::Hang, "00:00:33", &[504][..]),
        (Fault::EchoToken(403), "00:00:33", &[502]),
        (Fault::Garbage, "00:00:33", &[502, 503, 504]),
        (Fault::Slow(Duration::from_secs(11)), "00:00:43", &[429]),
    ];
    let cases = cases.map(|(fault, time, statuses)| async move {
        let case = format!("{fault:?}");
        let options =
            Options { script: vec![scripted("/assets", "", fault)], ..planted::options() };
        let scene = Scene::new(options).await;
        let time = [("AzureFunctionsJobHost__functionTimeout", time)];
        let handler = serving(&scene, SignIn::ManagedIdentity, &time).await;
        let query = with_keys(ask("GET", "/assets").query("limit", "3"));
        let three = [0; 3].map(|_| handler.ask_raw(Mode::Forwarding, &query));
        let answers = futures::future::join_all(three).await;
        let mut texts = Texts::new();
        let mut is_met = false;
        for answer in &answers {
            is_met |= statuses.contains(&answer.status);
            texts.extend(texts_of(answer, &case));
        }
        let mut found = findings(&scene, &case, handler, texts).await;
        if !is_met {
            found.push(format!("{case}: none of {statuses:?}: {answers:?}"));
        }
        found
    });
    assert_none(&futures::future::join_all(cases).await.concat());
}

#[tokio::test]
async fn a_callers_key_blanks_nothing_in_what_is_said_to_others() {
    // Words that answers say of themselves, or quote of other callers.
    const WORD: &str = "confirmed-something";
    let slow = scripted("/assets", "", Fault::Slow(Duration::from_secs(1)));
    let scene = Scene::new(Options { script: vec![slow], ..planted::options() }).await;
    let handler = serving(&scene, SignIn::ManagedIdentity, &[]).await;
    for mode in Mode::BOTH {
        let key = |ask: Ask| ask.header("X-Functions-Key", WORD).query("code", WORD);
        let quotes = |answer: &str| answer.contains(WORD);
        let own = key(ask("GET", "/assets").query("kind", WORD));
        let others = ask("GET", "/assets").query("kind", WORD);

        // While a request with the key is in work, and after it.
        let long = key(ask("GET", "/assets").query("limit", "3"));
        let (_, during) =
            tokio::join!(asked(&handler, mode, &long), handler.ask_raw(mode, &others));
        assert!(quotes(&during.body), "{mode:?}, meanwhile: {during:?}");
        let told = handler.ask_raw(mode, &own).await.expect_error(400, "kind");
        if mode == Mode::Forwarding {
            assert!(!quotes(&told.body), "its own key: {told:?}");
        }
        let after = handler.ask_raw(mode, &others).await.expect_error(400, "kind");
        assert!(quotes(&after.body), "{mode:?}, afterwards: {after:?}");
    }
    handler.end().await;
}
