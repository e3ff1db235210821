//! What goes wrong on the way to the vault, and what is counted there.

use reqwest::Method;

use super::test_client::*;
use super::vault_reader::*;
use super::*;

const SLOW: Duration = Duration::from_millis(50);

/// A script that spoils one read, the second.
fn script(fault: Fault) -> Options {
    let entry = Scripted {
        path_contains: "/secrets/".to_owned(),
        query_contains: String::new(),
        from: 1,
        times: 1,
        fault,
    };
    Options { script: vec![entry], ..small() }
}

/// Fails unless `got` is what `fault` makes of a read whose whole text is `whole`.
#[track_caller]
fn check(fault: &Fault, got: reqwest::Result<Read>, whole: &str, token: &str) {
    let case = format!("{fault:?}");
    if matches!(fault, Fault::Reset | Fault::CutBody) {
        assert!(got.is_err(), "{case}");
        return;
    }
    let got = got.unwrap();
    let header = |name: &str| got.headers.get(name).map(String::as_str);
    match fault {
        Fault::Status { status, retry_after } => {
            let (got_status, code, ..) = got.refusal();
            assert_eq!(got_status, *status, "{case}");
            assert_eq!(code == "Throttled", *status == 429, "{case} has the vault's code");
            assert_eq!(header("retry-after"), retry_after.as_deref(), "{case}");
            assert_eq!(header("x-ms-error-code"), None, "{case} has no header of EASM");
        }
        Fault::NotJson(status) => {
            assert_eq!((got.status, header("content-type")), (*status, Some("text/html")));
        }
        Fault::Truncated => assert_eq!(got.text, whole[..whole.len() / 2]),
        Fault::Garbage => assert_eq!((got.status, &got.text[..4]), (200, "<<<<")),
        Fault::Slow(_) => assert_eq!((got.status, got.text.as_str()), (200, whole)),
        Fault::Redirect(url) => assert_eq!((got.status, header("location")), (302, Some(&url[..]))),
        Fault::EchoToken(status) => {
            assert_eq!(got.status, *status);
            assert!(got.text.contains(&format!("Bearer {token}")), "{case}: {}", got.text);
        }
        Fault::Reset | Fault::CutBody | Fault::Hang | Fault::EndlessBody => {
            panic!("{case} has a test of its own")
        }
    }
}

#[tokio::test]
async fn every_fault_reaches_the_vault_by_script_or_by_a_switch() {
    let status = |status, retry_after: Option<&str>| Fault::Status {
        status,
        retry_after: retry_after.map(str::to_owned),
    };
    for fault in [
        status(429, Some("3")),
        status(429, None),
        status(503, None),
        Fault::NotJson(502),
        Fault::Reset,
        Fault::CutBody,
        Fault::Truncated,
        Fault::Garbage,
        Fault::Slow(SLOW),
        Fault::Redirect("https://evil.example/secrets/x".to_owned()),
        Fault::EchoToken(400),
    ] {
        let reader = Reader::new(script(fault.clone())).await;
        let whole = reader.get(PATH).await.text;
        let target = format!("{PATH}?{VERSION}");
        let read = async || reader.send(Method::GET, &target, &reader.token).await;
        check(&fault, read().await, &whole, &reader.token);
        assert_eq!(reader.get(PATH).await.text, whole, "{fault:?} is over");
        reader.state().set_vault_refusal(Some(VaultRefusal::Fault(fault.clone())));
        for _ in 0..2 {
            check(&fault, read().await, &whole, &reader.token);
        }
        reader.state().set_vault_refusal(None);
        assert_eq!(reader.get(PATH).await.text, whole, "{fault:?} is switched off");
        // It was the vault's alone.
        assert_eq!(reader.client.get(&reader.client.list(NEWEST, &[])).await.status, 200);
    }
}

#[tokio::test]
async fn an_answer_may_never_end() {
    let reader = Reader::new(script(Fault::EndlessBody)).await;
    assert_eq!(reader.get(PATH).await.status, 200);
    let url = format!("{}{PATH}?{VERSION}", reader.client.running.vault_url());
    let mut got = reader.http.get(url).bearer_auth(&reader.token).send().await.unwrap();
    let mut n_bytes = 0;
    while n_bytes < 4 << 20 {
        n_bytes += got.chunk().await.unwrap().expect("it goes on").len();
    }
}

#[tokio::test]
async fn reads_are_logged_and_those_at_once_are_counted() {
    let reader = Reader::new(small()).await;
    let (running, state) = (&reader.client.running, reader.state());
    assert_eq!(state.most_vault_reads_at_once(), 0);
    reader.with(PATH, "").await;
    for _ in 0..3 {
        reader.get(PATH).await;
    }
    assert_eq!(state.most_vault_reads_at_once(), 1, "one after the other");
    let reads = || {
        let seen = running.requests();
        let of_vault = seen.into_iter().filter(|seen| seen.path.starts_with("/secrets/"));
        of_vault.map(|seen| (seen.path, seen.query, seen.status)).collect::<Vec<_>>()
    };
    let read = |status| (PATH.to_owned(), VERSION.to_owned(), status);
    assert_eq!(reads(), [read(401), read(200), read(200), read(200)]);
    // Requests to other doors are not among them.
    reader.client.get(&reader.client.list(NEWEST, &[])).await;
    assert_eq!((state.most_vault_reads_at_once(), state.most_at_once()), (1, 1));

    state.set_vault_refusal(Some(VaultRefusal::Fault(Fault::Hang)));
    let (hanging, stop) = (futures::future::join_all((0..4).map(|_| reader.get(PATH))), async {
        while reads().len() < 8 {
            tokio::task::yield_now().await;
        }
    });
    tokio::select! {
        _ = hanging => panic!("they hang"),
        () = stop => {}
    }
    assert_eq!(state.most_vault_reads_at_once(), 4);
    assert_eq!(reads()[4..], [read(0), read(0), read(0), read(0)], "not answered");
    assert_eq!(state.most_at_once(), 1, "the data plane has a count of its own");
}
