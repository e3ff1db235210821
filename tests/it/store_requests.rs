//! How files of Blob Storage are read and where they are found: which requests are sent, and what
//! becomes of their answers.

use std::sync::Arc;

use easm_export::error::Kind;
use easm_export::store::blob::{Access, Blob};
use easm_export::store::remote::Remote;
use easm_export::store::{CHUNK_BYTES_MAX, Store};
use reqwest::{Method, StatusCode};
use url::Url;

use crate::azurite::{Azurite, expect_status, plain_client, signed};
use crate::proxy::{Proxy, ProxyFault, ProxyOptions, ScriptedFault};
use crate::store::{Token, noise, quick, rest, with_key, write};

const PART: &str = "t/part-0-1-00000.ndjson";

/// A store with the part [`PART`] of two and a half chunks behind a proxy in which `script` happens.
async fn world(azurite: &Azurite, script: Vec<ScriptedFault>) -> (Proxy, Remote) {
    let proxy = Proxy::start(ProxyOptions { script, ..ProxyOptions::new(azurite.base()) });
    let url = format!("{}/devstoreaccount1/{}", proxy.url(), azurite.container());
    let store = with_key(&url, "", quick());
    store.check().await.unwrap();
    write(&store, PART, &noise(7, CHUNK_BYTES_MAX * 5 / 2), CHUNK_BYTES_MAX).await.unwrap();
    (proxy, store)
}

/// `fault` for one request that reads, the one with number `from`.
fn once(from: u64, fault: ProxyFault) -> ScriptedFault {
    ScriptedFault {
        method: Method::GET,
        path_contains: PART.to_owned(),
        query_contains: String::new(),
        from,
        times: 1,
        fault,
    }
}

#[tokio::test]
async fn a_file_is_read_with_a_request_a_chunk_and_one_more() {
    let name = "a_file_is_read_with_a_request_a_chunk_and_one_more";
    let Some(azurite) = Azurite::http(name) else { return };
    let (proxy, store) = world(azurite, Vec::new()).await;
    let n_before = proxy.seen().len();
    let mut reader = store.open(PART).await.unwrap().unwrap();
    rest(reader.as_mut()).await.unwrap();
    let seen = proxy.seen().split_off(n_before);
    let methods: Vec<&str> = seen.iter().map(|seen| seen.method.as_str()).collect();
    assert_eq!(methods, ["HEAD", "GET", "GET", "GET"]);
    let tag = seen[1].if_match.as_deref().unwrap();
    assert!(seen[1..].iter().all(|seen| seen.if_match.as_deref() == Some(tag)), "{seen:?}");
    assert!(seen[1..].iter().all(|seen| seen.status == 206), "{seen:?}");
}

#[tokio::test]
async fn a_chunk_that_is_damaged_or_cut_on_its_way_is_read_again() {
    let name = "a_chunk_that_is_damaged_or_cut_on_its_way_is_read_again";
    let Some(azurite) = Azurite::http(name) else { return };
    let faults = [ProxyFault::CorruptAnswer, ProxyFault::CutBody, ProxyFault::TimedOutAfter];
    // Each of the three chunks has its own, before it comes whole.
    let script = (0..).zip(faults).map(|(n, fault)| once(2 * n, fault)).collect();
    let (proxy, store) = world(azurite, script).await;
    let mut reader = store.open(PART).await.unwrap().unwrap();
    let read = rest(reader.as_mut()).await.unwrap();
    assert!(read == noise(7, CHUNK_BYTES_MAX * 5 / 2));
    assert_eq!(proxy.seen().iter().filter(|seen| seen.fault.is_some()).count(), faults.len());
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_not_read_on() {
    let name = "a_file_that_changes_while_it_is_read_is_not_read_on";
    let Some(azurite) = Azurite::http(name) else { return };
    for (status, code) in [(412, "ConditionNotMet"), (416, "InvalidRange"), (404, "BlobNotFound")] {
        let answer = ProxyFault::Answer { status, code, message: "canary of the service" };
        let (_proxy, store) = world(azurite, vec![once(1, answer)]).await;
        let mut reader = store.open(PART).await.unwrap().unwrap();
        reader.next().await.unwrap().unwrap();
        let err = reader.next().await.unwrap_err();
        let text = err.to_string();
        assert_eq!(err.kind(), Kind::Conflict, "{text}");
        assert!(text.contains("changed or deleted while it was read"), "{text}");
        assert!(text.contains(PART) && !text.contains("canary"), "{text}");
    }
}

#[test]
fn a_url_says_where_a_file_is_and_nothing_more() {
    plain_client(None);
    let check = |container: &str, prefix: &str, path: &str, want: &str| {
        let url = Url::parse(container).unwrap();
        let bearer = Arc::new(Token { url: url.clone(), token: "a-token".to_owned() });
        let blob = Blob::new(url, prefix, Access::Token(bearer)).unwrap();
        assert_eq!(Remote::new(Arc::new(blob), quick()).url(path), want);
    };
    let account = "https://acct.blob.core.windows.net";
    let url = |path: &str| format!("{account}/{path}");
    check(&url("exports"), "", "contoso/latest.json", &url("exports/contoso/latest.json"));
    check(
        &url("exports"),
        "a b/ä",
        "k=h/+&#?%41.json",
        &url("exports/a%20b/%C3%A4/k=h/+&%23%3F%2541.json"),
    );
    check(&url("exports?sv=1&sig=secret#x"), "", "run.json", &url("exports/run.json"));
    check("https://user:word@acct.blob.core.windows.net/c", "p", "run.json", &url("c/p/run.json"));
    let azurite = "http://127.0.0.1:10000/devstoreaccount1/c";
    check(azurite, "p", "t/run.json", &format!("{azurite}/p/t/run.json"));
}

#[tokio::test]
async fn a_file_is_found_at_its_url() {
    let Some(azurite) = Azurite::http("a_file_is_found_at_its_url") else { return };
    let url = azurite.store_url(&azurite.container());
    let store = with_key(&url, "a prefix/ä+b", quick());
    store.check().await.unwrap();
    for path in ["d/kind=host/ä ö+&%41.json", "d/kind=host/b#c?d.json"] {
        store.create(path, path.to_owned().into()).await.unwrap();
        let url = store.url(path);
        let (client, base) = (plain_client(None), azurite.base());
        let sent = url.strip_prefix(&base).unwrap();
        let answer = signed(&client, &base, Method::GET, sent, &[], &[], Vec::new()).await.unwrap();
        assert_eq!(expect_status(answer, StatusCode::OK).await, path.as_bytes(), "{url}");
    }
}
