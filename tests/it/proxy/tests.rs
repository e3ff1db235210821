//! The proxy does what it says: with Azurite where effects count, without where they do not.

use super::*;
use crate::azurite::{ACCOUNT, Azurite, Certificate, blob_path, expect_status, signed};

/// A fault for one request: that number `from` (the first is 0) of those with `method`.
fn once(method: Method, from: u64, fault: ProxyFault) -> ScriptedFault {
    let (path_contains, query_contains) = (String::new(), String::new());
    ScriptedFault { method, path_contains, query_contains, from, times: 1, fault }
}

/// A proxy that answers every GET by itself: an upstream for tests that need no emulator.
fn answering() -> ProxyOptions {
    let fault = ProxyFault::Answer { status: 200, code: "None", message: "here" };
    let script = vec![ScriptedFault { times: u64::MAX, ..once(Method::GET, 0, fault) }];
    ProxyOptions { script, ..ProxyOptions::new("http://127.0.0.1:9") }
}

async fn put(proxy: &Proxy, path: &str, headers: &[(&str, &str)]) -> reqwest::Result<u16> {
    let headers = [&[("x-ms-blob-type", "BlockBlob")], headers].concat();
    let answer = signed(
        &plain_client(None),
        &proxy.url(),
        Method::PUT,
        path,
        &[],
        &headers,
        b"abc".to_vec(),
    )
    .await?;
    Ok(answer.status().as_u16())
}

#[tokio::test]
async fn an_answer_lost_after_the_effect_leaves_the_blob() {
    let test = "an_answer_lost_after_the_effect_leaves_the_blob";
    let Some(azurite) = Azurite::http(test) else { return };
    let container = azurite.container();
    azurite.create_container(&container).await;
    let script = vec![
        ScriptedFault {
            path_contains: "/a=1/é".into(),
            ..once(Method::PUT, 0, ProxyFault::CutAfter)
        },
        once(Method::PUT, 1, ProxyFault::TimedOutAfter),
    ];
    let proxy = Proxy::start(ProxyOptions { script, ..ProxyOptions::new(azurite.base()) });
    put(&proxy, &blob_path(&container, "a=1/é"), &[]).await.expect_err("no answer");
    assert_eq!(put(&proxy, &blob_path(&container, "b"), &[]).await.unwrap(), 500);
    assert_eq!(azurite.blobs(&container).await, ["a=1/é", "b"]);
    let again = put(&proxy, &blob_path(&container, "b"), &[("if-none-match", "*")]).await;
    assert_eq!(again.unwrap(), 409);

    let seen = proxy.seen();
    let facts = |n: usize| (seen[n].was_forwarded, seen[n].status, seen[n].fault);
    assert_eq!(facts(0), (true, 0, Some(ProxyFault::CutAfter)));
    assert_eq!(facts(1), (true, 500, Some(ProxyFault::TimedOutAfter)));
    assert_eq!(facts(2), (true, 409, None));
    assert_eq!(seen[2].if_none_match.as_deref(), Some("*"));
}

#[tokio::test]
async fn a_request_that_fails_before_its_effect_leaves_nothing() {
    let test = "a_request_that_fails_before_its_effect_leaves_nothing";
    let Some(azurite) = Azurite::http(test) else { return };
    let container = azurite.container();
    azurite.create_container(&container).await;
    let denied = ProxyFault::Answer { status: 403, code: "AuthorizationFailure", message: "no" };
    let faults = [
        (ProxyFault::Busy { retry_after_s: Some(1) }, 503),
        (ProxyFault::InternalError, 500),
        (ProxyFault::TimedOutBefore, 500),
        (denied, 403),
        (ProxyFault::CutBefore, 0),
    ];
    let script = (0..).zip(faults).map(|(n, (fault, _))| once(Method::PUT, n, fault)).collect();
    let proxy = Proxy::start(ProxyOptions { script, ..ProxyOptions::new(azurite.base()) });
    let path = blob_path(&container, "a");
    for (fault, status) in faults {
        assert_eq!(put(&proxy, &path, &[]).await.unwrap_or(0), status, "{fault:?}");
        assert_eq!(azurite.get(&container, "a").await, None, "{fault:?}");
    }
    assert!(proxy.seen().iter().all(|request| !request.was_forwarded));
    assert_eq!(put(&proxy, &path, &[]).await.unwrap(), 201);
}

#[tokio::test]
async fn a_signature_passes_unharmed() {
    let Some(azurite) = Azurite::http("a_signature_passes_unharmed") else { return };
    let container = azurite.container();
    azurite.create_container(&container).await;
    let proxy = Proxy::start(ProxyOptions::new(azurite.base()));
    for name in ["a=b/c d", "é/ü+&%20'(x)", "plain"] {
        let path = blob_path(&container, name);
        assert_eq!(put(&proxy, &path, &[]).await.unwrap(), 201, "{name}");
        assert_eq!(azurite.get(&container, name).await.unwrap(), b"abc", "{name}");
        let head =
            signed(&plain_client(None), &proxy.url(), Method::HEAD, &path, &[], &[], Vec::new())
                .await
                .unwrap();
        assert_eq!(head.headers()["content-length"], "3", "{name}");
        let seen = proxy.seen();
        assert_eq!(seen.last().unwrap().path, path);
        assert!(seen.last().unwrap().authorization.as_ref().unwrap().starts_with("SharedKey "));
    }
    let path = format!("/{ACCOUNT}/{container}");
    let query = [("comp", "list"), ("prefix", "é/ü+&"), ("restype", "container")];
    let list =
        signed(&plain_client(None), &proxy.url(), Method::GET, &path, &query, &[], Vec::new())
            .await
            .unwrap();
    let xml = String::from_utf8(expect_status(list, StatusCode::OK).await).unwrap();
    assert!(xml.contains("<Name>é/ü+&amp;%20") && !xml.contains("plain"), "{xml}");
}

#[tokio::test]
async fn a_changed_body_is_stored_unless_it_has_a_checksum() {
    let test = "a_changed_body_is_stored_unless_it_has_a_checksum";
    let Some(azurite) = Azurite::http(test) else { return };
    let container = azurite.container();
    azurite.create_container(&container).await;
    let fault = ScriptedFault { times: 2, ..once(Method::PUT, 0, ProxyFault::CorruptBody) };
    let options = ProxyOptions { script: vec![fault], ..ProxyOptions::new(azurite.base()) };
    let proxy = Proxy::start(options);
    let md5 = [("content-md5", "kAFQmDzST7DWlj99KOF/cg==")];
    assert_eq!(put(&proxy, &blob_path(&container, "a"), &md5).await.unwrap(), 400);
    assert_eq!(put(&proxy, &blob_path(&container, "b"), &[]).await.unwrap(), 201);
    assert_eq!(azurite.get(&container, "a").await, None);
    assert_eq!(azurite.get(&container, "b").await.unwrap(), b"acc");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults() {
    async fn faults(seed: u64) -> Vec<Option<ProxyFault>> {
        let upstream = Proxy::start(answering());
        let options = ProxyOptions { seed, fault_rate: 0.5, ..ProxyOptions::new(upstream.url()) };
        let proxy = Proxy::start(options);
        for n in 0..40 {
            let url = format!("{}/c/{}?comp=block", proxy.url(), n % 4);
            // Whether an answer comes is not the question.
            let _answer = plain_client(None).get(url).send().await;
        }
        proxy.seen().iter().map(|request| request.fault).collect()
    }
    let first = faults(1).await;
    assert_eq!(faults(1).await, first);
    assert_ne!(faults(2).await, first);
    let n_faults = first.iter().flatten().count();
    assert!((8..=28).contains(&n_faults), "{n_faults} of 40");
}

#[tokio::test]
async fn no_more_faults_in_a_row_than_allowed() {
    let upstream = Proxy::start(answering());
    let latency = Duration::from_millis(5);
    let options = ProxyOptions { fault_rate: 1.0, latency, ..ProxyOptions::new(upstream.url()) };
    let proxy = Proxy::start(options);
    for _ in 0..9 {
        // Whether an answer comes is not the question.
        let _answer = plain_client(None).get(proxy.url() + "/c").send().await;
    }
    let is_fault: Vec<bool> = proxy.seen().iter().map(|seen| seen.fault.is_some()).collect();
    assert_eq!(is_fault, [true, true, false, true, true, false, true, true, false]);
}

#[tokio::test]
async fn a_body_is_cut_in_its_middle_and_a_hanging_answer_never_comes() {
    let upstream = Proxy::start(answering());
    let script =
        vec![once(Method::GET, 0, ProxyFault::CutBody), once(Method::GET, 1, ProxyFault::Hang)];
    let proxy = Proxy::start(ProxyOptions { script, ..ProxyOptions::new(upstream.url()) });
    let get = || plain_client(None).get(proxy.url() + "/c").send();
    let mut cut = get().await.unwrap();
    assert_eq!(cut.status(), StatusCode::OK);
    let length = cut.content_length().unwrap();
    let half = cut.chunk().await.unwrap().unwrap();
    assert_eq!(half.len() as u64, length / 2);
    cut.chunk().await.expect_err("the rest");
    tokio::time::timeout(Duration::from_millis(300), get()).await.expect_err("no answer");
    assert_eq!(get().await.unwrap().content_length(), Some(length));
}

#[tokio::test]
async fn tls_is_spoken_on_both_sides() {
    let Certificate { ca_pem, cert_pem, key_pem } = Certificate::new();
    let tls = Some((cert_pem, key_pem));
    let upstream = Proxy::start(ProxyOptions { tls: tls.clone(), ..answering() });
    let upstream_ca_pem = Some(ca_pem.clone());
    let options = ProxyOptions { upstream_ca_pem, tls, ..ProxyOptions::new(upstream.url()) };
    let proxy = Proxy::start(options);
    let answer = plain_client(Some(&ca_pem)).get(proxy.url() + "/c?d").send().await.unwrap();
    let body = String::from_utf8(expect_status(answer, StatusCode::OK).await).unwrap();
    assert!(body.contains("<Message>here"), "{body}");
    assert_eq!(proxy.seen()[0].query, "d");
}
