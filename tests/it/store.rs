//! What every store keeps to, whichever it is, and what Blob Storage's refusals become.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use easm_export::error::{Kind, Result};
use easm_export::net::Bearer;
use easm_export::net::retry::RetryPolicy;
use easm_export::secret::Secret;
use easm_export::store::blob::{Access, Blob};
use easm_export::store::faulty::Faulty;
use easm_export::store::folder::FolderStore;
use easm_export::store::memory::Memory;
use easm_export::store::remote::{BLOCK_BYTES, Remote};
use easm_export::store::{CHUNK_BYTES_MAX, PartReader, Store};
use reqwest::Method;
use url::Url;

use crate::azurite::{Azurite, Certificate, plain_client, storage_token};
use crate::proxy::{Proxy, ProxyFault, ProxyOptions, ScriptedFault};

/// Tries without pauses: faults come by number, not by time. So many that none runs out of them by
/// chance: where several write the same, each sees the others' share of faults too.
pub fn quick() -> RetryPolicy {
    RetryPolicy {
        tries_max: 30,
        elapsed_max: Duration::from_secs(60),
        pause_first: Duration::ZERO,
        pause_max: Duration::ZERO,
    }
}

/// A place in a container that is reached with the development key.
pub fn with_key(url: &str, prefix: &str, retry: RetryPolicy) -> Remote {
    plain_client(None);
    let url = Url::parse(url).unwrap();
    let blob = Blob::new(url, prefix, Access::DevelopmentKey).unwrap();
    Remote::new(Arc::new(blob), retry)
}

pub struct Token {
    pub url: Url,
    pub token: String,
}

#[async_trait]
impl Bearer for Token {
    fn origin(&self) -> url::Origin {
        self.url.origin()
    }

    async fn token(&self) -> Result<Secret> {
        Ok(Secret::new(self.token.clone()))
    }

    async fn renew(&self, _refused: &Secret) -> Result<Secret> {
        self.token().await
    }
}

/// A place in a container that is reached with `token`.
fn with_token(url: &str, token: String, retry: RetryPolicy) -> Remote {
    plain_client(None);
    let url = Url::parse(url).unwrap();
    let bearer = Arc::new(Token { url: url.clone(), token });
    Remote::new(Arc::new(Blob::new(url, "", Access::Token(bearer)).unwrap()), retry)
}

#[tokio::test]
async fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    keeps_the_contract(Arc::new(FolderStore::new(folder.path().join("exports")))).await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    keeps_the_contract(Arc::new(Remote::new(Arc::new(Memory::default()), quick()))).await;
}

/// Repeat one case with `SEED=17`.
#[tokio::test]
async fn a_store_that_fails_before_or_after_the_effect_keeps_the_contract() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=24).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        eprintln!("SEED={seed}");
        let faulty = Faulty::new(Memory::default(), seed, 0.4);
        keeps_the_contract(Arc::new(Remote::new(Arc::new(faulty), quick()))).await;
    }
}

#[tokio::test]
async fn azurite_with_its_key_keeps_the_contract() {
    let name = "azurite_with_its_key_keeps_the_contract";
    let Some(azurite) = Azurite::http(name) else { return };
    let url = azurite.store_url(&azurite.container());
    for prefix in ["", "a prefix/ä+b"] {
        keeps_the_contract(Arc::new(with_key(&url, prefix, quick()))).await;
    }
}

#[tokio::test]
async fn azurite_whose_answers_are_lost_keeps_the_contract() {
    let name = "azurite_whose_answers_are_lost_keeps_the_contract";
    let Some(azurite) = Azurite::http(name) else { return };
    for seed in 1..=3 {
        eprintln!("seed {seed}");
        let options = ProxyOptions::new(azurite.base());
        let proxy = Proxy::start(ProxyOptions { seed, fault_rate: 0.3, ..options });
        let url = format!("{}/devstoreaccount1/{}", proxy.url(), azurite.container());
        keeps_the_contract(Arc::new(with_key(&url, "", quick()))).await;
        assert!(proxy.seen().iter().any(|seen| seen.was_forwarded && seen.fault.is_some()));
    }
}

/// Trusting the certificate is a matter of the environment, so this test runs itself in one.
#[tokio::test]
async fn azurite_with_tokens_over_tls_keeps_the_contract() {
    let name = "azurite_with_tokens_over_tls_keeps_the_contract";
    if let Ok(url) = std::env::var("STORE_OF_TEST") {
        return keeps_the_contract(Arc::new(with_token(&url, storage_token(), quick()))).await;
    }
    let certificate = Certificate::new();
    let Some(azurite) = Azurite::tls(name, &certificate) else { return };
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &certificate.ca_pem).unwrap();
    let container = azurite.container();
    azurite.create_container(&container).await;
    let again = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("store::{name}")])
        .env("SSL_CERT_FILE", &ca)
        .env("STORE_OF_TEST", azurite.store_url(&container))
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(Duration::from_secs(240), again).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && text.contains("1 passed"), "{text}");
    assert!(azurite.blobs(&container).await.len() > 10, "it wrote there");
}

/// Everything that the rest of the program relies on.
async fn keeps_the_contract(store: Arc<dyn Store>) {
    store.check().await.unwrap();
    store.check().await.unwrap();
    documents(store.as_ref()).await;
    rivals(&store).await;
    removals(store.as_ref()).await;
    rival_removals(store.as_ref()).await;
    parts(store.as_ref()).await;
    rival_writers(&store).await;
    files(store.as_ref()).await;
    changed_files(store.as_ref()).await;
    listings(store.as_ref()).await;
    let url = store.url("u/kind=host/part-0.json");
    assert!(url.ends_with("/u/kind=host/part-0.json") && !url.contains(['?', '#']), "{url}");
}

async fn content(store: &dyn Store, path: &str) -> Option<Bytes> {
    store.read(path).await.unwrap().map(|(content, _)| content)
}

async fn documents(store: &dyn Store) {
    assert_eq!(store.read("d/none.json").await.unwrap(), None);
    store.delete("d/none.json").await.unwrap();

    let first = store.create("d/run.json", "one".into()).await.unwrap();
    let err = store.create("d/run.json", "two".into()).await.unwrap_err();
    assert_eq!(err.kind(), Kind::Conflict, "{err}");
    let (read, tag) = store.read("d/run.json").await.unwrap().unwrap();
    assert_eq!((read, &tag), ("one".into(), &first));

    let second = store.replace("d/run.json", "two".into(), &tag).await.unwrap();
    let err = store.replace("d/run.json", "three".into(), &tag).await.unwrap_err();
    assert_eq!(err.kind(), Kind::Conflict, "{err}");
    assert_eq!(store.read("d/run.json").await.unwrap(), Some(("two".into(), second.clone())));
    store.replace("d/run.json", "three".into(), &second).await.unwrap();
    let err = store.replace("d/none.json", "one".into(), &first).await.unwrap_err();
    assert_eq!(err.kind(), Kind::Conflict, "{err}");
    assert_eq!(content(store, "d/none.json").await, None);

    store.delete("d/run.json").await.unwrap();
    assert_eq!(content(store, "d/run.json").await, None);
    store.create("d/run.json", "anew".into()).await.unwrap();
    assert_eq!(content(store, "d/run.json").await, Some("anew".into()));

    store.create("d/empty.json", Bytes::new()).await.unwrap();
    assert_eq!(content(store, "d/empty.json").await, Some(Bytes::new()));
    // Several pieces, whichever way it is read.
    let large: Bytes = (0..9_500_000_u32).map(|n| n.to_le_bytes()[1]).collect::<Vec<_>>().into();
    store.create("d/large.json", large.clone()).await.unwrap();
    assert!(content(store, "d/large.json").await == Some(large));
    for path in ["d/kind=host/ä ö+&%41.json", "d/kind=host/b#c?d.json"] {
        store.create(path, path.to_owned().into()).await.unwrap();
        assert_eq!(content(store, path).await, Some(path.to_owned().into()));
    }
}

/// One of many wins, although all write the same.
async fn rivals(store: &Arc<dyn Store>) {
    let n_won = |outcomes: Vec<Result<_>>| {
        let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        for err in refused.clone() {
            assert_eq!(err.kind(), Kind::Conflict, "{err}");
        }
        outcomes.len() - refused.count()
    };
    let creating = (0..8).map(|_| store.create("r/claim.json", "epoch 1".into()));
    assert_eq!(n_won(futures::future::join_all(creating).await), 1);
    let (_, tag) = store.read("r/claim.json").await.unwrap().unwrap();
    let replacing = (0..8).map(|_| store.replace("r/claim.json", "epoch 2".into(), &tag));
    assert_eq!(n_won(futures::future::join_all(replacing).await), 1);
}

async fn removals(store: &dyn Store) {
    let path = "e/claim.json";
    let first = store.create(path, "one".into()).await.unwrap();
    let second = store.replace(path, "two".into(), &first).await.unwrap();
    let err = store.remove(path, &first).await.unwrap_err();
    assert_eq!(err.kind(), Kind::Conflict, "{err}");
    assert_eq!(content(store, path).await, Some("two".into()));

    store.remove(path, &second).await.unwrap();
    assert_eq!(content(store, path).await, None);
    assert_eq!(store.list("e/").await.unwrap(), Vec::<String>::new());
    store.remove(path, &second).await.unwrap();
    store.remove("e/never/was.json", &second).await.unwrap();

    store.create(path, "anew".into()).await.unwrap();
    let err = store.remove(path, &second).await.unwrap_err();
    assert_eq!(err.kind(), Kind::Conflict, "{err}");
    assert_eq!(content(store, path).await, Some("anew".into()));
}

/// Of a removal and a replacement under the same tag one wins; two removals both do.
async fn rival_removals(store: &dyn Store) {
    for round in 0..8 {
        let path = format!("v/claim-{round}.json");
        let tag = store.create(&path, "one".into()).await.unwrap();
        let removing = store.remove(&path, &tag);
        let replacing = store.replace(&path, "two".into(), &tag);
        // Where nothing happens side by side, the first one wins.
        let (removed, replaced) = match round % 2 {
            0 => futures::future::join(removing, replacing).await,
            _ => {
                let (replaced, removed) = futures::future::join(replacing, removing).await;
                (removed, replaced)
            }
        };
        let left = content(store, &path).await;
        match (removed, replaced) {
            (Ok(()), Err(err)) => assert_eq!((err.kind(), left), (Kind::Conflict, None), "{err}"),
            (Err(err), Ok(_)) => {
                assert_eq!((err.kind(), left), (Kind::Conflict, Some("two".into())), "{err}");
            }
            both => panic!("round {round}: {both:?}"),
        }
        let tag = match store.read(&path).await.unwrap() {
            Some((_, tag)) => tag,
            None => store.create(&path, "three".into()).await.unwrap(),
        };
        let both = futures::future::join(store.remove(&path, &tag), store.remove(&path, &tag));
        assert!(matches!(both.await, (Ok(()), Ok(()))));
    }
}

/// Bytes that no two places of which are alike, so that nothing can be mixed up unseen.
pub fn noise(seed: u64, n_bytes: usize) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; n_bytes];
    rng.fill(&mut bytes);
    bytes.into()
}

pub async fn write(store: &dyn Store, path: &str, bytes: &Bytes, chunk: usize) -> Result<()> {
    let mut part = store.begin(path, "application/gzip").await?;
    for at in (0..bytes.len()).step_by(chunk) {
        part.write(bytes.slice(at..(at + chunk).min(bytes.len()))).await?;
    }
    part.commit().await
}

async fn parts(store: &dyn Store) {
    let sizes = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 777];
    for (n, size) in sizes.into_iter().enumerate() {
        let (path, bytes) = (format!("p/part-0-1-{n:05}.ndjson.gz"), noise(n as u64, size));
        write(store, &path, &bytes, 300_001).await.unwrap();
        assert!(content(store, &path).await == Some(bytes), "{size} bytes");
        let err = write(store, &path, &noise(99, size), 300_001).await.unwrap_err();
        assert_eq!(err.kind(), Kind::Conflict, "{size} bytes: {err}");
        assert!(content(store, &path).await == Some(noise(n as u64, size)), "{size} bytes");
    }

    // It is not seen before it is committed, and never if it is dropped.
    let path = "p/part-9-1-00000.ndjson.gz";
    let mut part = store.begin(path, "application/gzip").await.unwrap();
    part.write(noise(1, BLOCK_BYTES + 5)).await.unwrap();
    assert_eq!(content(store, path).await, None);
    assert!(!store.list("p/").await.unwrap().iter().any(|found| found == path));
    drop(part);
    assert_eq!(content(store, path).await, None);
    write(store, path, &noise(2, 10), 10).await.unwrap();
    assert!(content(store, path).await == Some(noise(2, 10)));
}

/// What `reader` has still to give.
pub async fn rest(reader: &mut dyn PartReader) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next().await? {
        assert!((1..=CHUNK_BYTES_MAX).contains(&chunk.len()), "{} bytes", chunk.len());
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(reader.next().await?, None, "the end stays the end");
    Ok(bytes)
}

async fn files(store: &dyn Store) {
    assert!(store.open("f/none.ndjson").await.unwrap().is_none());
    const CHUNK: usize = CHUNK_BYTES_MAX;
    for (n, size) in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, CHUNK * 7 / 2].into_iter().enumerate() {
        let (path, bytes) = (format!("f/kind=ä b+c/part-{n}.ndjson"), noise(n as u64, size));
        write(store, &path, &bytes, BLOCK_BYTES).await.unwrap();
        let mut reader = store.open(&path).await.unwrap().unwrap();
        assert!(rest(reader.as_mut()).await.unwrap() == bytes, "{size} bytes");
    }
    store.create("f/empty.json", Bytes::new()).await.unwrap();
    let mut reader = store.open("f/empty.json").await.unwrap().unwrap();
    assert_eq!(reader.next().await.unwrap(), None);
}

/// Whatever becomes of a file that is being read: it is read as it was, or not to its end.
async fn changed_files(store: &dyn Store) {
    for is_removed in [false, true] {
        let path = format!("g/{is_removed}.json");
        let old = noise(1, 2 * CHUNK_BYTES_MAX + 5);
        let tag = store.create(&path, old.clone()).await.unwrap();
        let mut reader = store.open(&path).await.unwrap().unwrap();
        let mut read = reader.next().await.unwrap().unwrap().to_vec();
        match is_removed {
            true => store.remove(&path, &tag).await.unwrap(),
            // Longer, so that no size gives it away.
            false => {
                store.replace(&path, noise(2, 3 * CHUNK_BYTES_MAX), &tag).await.unwrap();
            }
        }
        match rest(reader.as_mut()).await {
            Ok(rest) => {
                read.extend(rest);
                assert!(read == old, "a mix");
            }
            Err(err) => assert_eq!(err.kind(), Kind::Conflict, "{err}"),
        }
    }
}

/// Two writers of one part, at the same time: one wins, and every byte is the winner's.
async fn rival_writers(store: &Arc<dyn Store>) {
    let path = "w/part-0-1-00000.ndjson.gz";
    let size = 2 * BLOCK_BYTES + 4321;
    let writers = (0..4).map(|seed| {
        let store = Arc::clone(store);
        tokio::spawn(async move { write(store.as_ref(), path, &noise(seed, size), 500_000).await })
    });
    let outcomes = futures::future::join_all(writers).await;
    let won: Vec<u64> = (0..4)
        .zip(&outcomes)
        .filter(|(_, won)| won.as_ref().unwrap().is_ok())
        .map(|(n, _)| n)
        .collect();
    assert_eq!(won.len(), 1, "one of them: {outcomes:?}");
    assert!(content(store.as_ref(), path).await == Some(noise(won[0], size)));
}

async fn listings(store: &dyn Store) {
    assert_eq!(store.list("l/").await.unwrap(), Vec::<String>::new());
    let mut paths: Vec<String> = (0..23)
        .map(|n| format!("l/kind={}/part-{n:05}.ndjson", ["as", "host", "ä"][n % 3]))
        .collect();
    for path in &paths {
        store.create(path, "x".into()).await.unwrap();
    }
    store.create("l-other/a.json", "x".into()).await.unwrap();
    let found: BTreeSet<String> = store.list("l/").await.unwrap().into_iter().collect();
    assert_eq!(found, paths.iter().cloned().collect());
    let (mut by_pages, mut next) = (Vec::new(), None);
    for _ in 0..paths.len() {
        let page = store.list_some("l/", next.as_deref()).await.unwrap();
        by_pages.extend(page.paths);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(by_pages, store.list("l/").await.unwrap(), "page by page");
    assert!(store.list_some("none/", None).await.unwrap().paths.is_empty());
    paths.retain(|path| path.starts_with("l/kind=host/"));
    assert_eq!(store.list("l/kind=host/").await.unwrap(), paths, "in order");
}

/// Answers that the service gives to a request for a document.
#[tokio::test]
async fn every_refusal_of_blob_storage_has_a_sentence_of_its_own() {
    let check = async |status, code: &'static str, want: (Kind, &str)| {
        let answer = ProxyFault::Answer { status, code, message: "canary of the service" };
        let scripted = ScriptedFault {
            method: Method::GET,
            path_contains: String::new(),
            query_contains: String::new(),
            from: 0,
            times: 99,
            fault: answer,
        };
        let options = ProxyOptions::new("http://127.0.0.1:9");
        let proxy = Proxy::start(ProxyOptions { script: vec![scripted], ..options });
        let url = format!("{}/devstoreaccount1/container", proxy.url());
        // A bearer token goes over plain http here: to loopback, where no other credential is.
        let retry = RetryPolicy { tries_max: 2, ..quick() };
        let store = with_token(&url, "a-token-of-the-test".to_owned(), retry);
        let err = store.read("t/run.json").await.unwrap_err();
        let text = err.to_string();
        assert_eq!(std::mem::discriminant(&err.kind()), std::mem::discriminant(&want.0), "{text}");
        assert!(text.contains(want.1) && !text.contains("canary"), "{status} {code}: {text}");
        let n_tries = proxy.seen().len();
        let n_wanted = if err.kind().is_retryable() || status == 401 { 2 } else { 1 };
        assert_eq!(n_tries, n_wanted, "{text}");
        text
    };
    let unavailable = Kind::Unavailable { retry_after: None };
    let throttled = Kind::Throttled { retry_after: None };
    let mut sentences = BTreeSet::new();
    for (status, code, kind, part) in [
        (404, "ContainerNotFound", Kind::Store, "the container does not exist"),
        (403, "AuthorizationPermissionMismatch", Kind::Denied, "lacks a role"),
        (403, "AuthorizationFailure", Kind::Denied, "network rules"),
        (403, "AccountIsDisabled", Kind::Denied, "disabled"),
        (403, "Forbidden", Kind::Denied, "denies access"),
        (401, "InvalidAuthenticationInfo", Kind::Unauthorized, "the same tenant"),
        (409, "BlobImmutableDueToPolicy", Kind::Store, "immutability"),
        (412, "LeaseIdMissing", Kind::Store, "lease"),
        (503, "ServerBusy", throttled, "slow down"),
        (503, "", unavailable, "cannot serve us now"),
        (302, "", Kind::Redirected, "redirect"),
        (400, "InvalidHeaderValue", Kind::Store, "refuses the request"),
    ] {
        let text = check(status, code, (kind, part)).await;
        let sentence = text.split(" (status").next().unwrap().to_owned();
        assert!(sentences.insert(sentence), "{text}");
    }
    check(429, "TooManyRequests", (throttled, "slow down")).await;
    check(500, "InternalError", (unavailable, "cannot serve us now")).await;
    check(500, "OperationTimedOut", (unavailable, "cannot serve us now")).await;
}

/// A host that no name service knows (RFC 2606).
#[tokio::test]
async fn an_account_that_is_not_there_has_a_sentence_of_its_own() {
    let retry = RetryPolicy { tries_max: 2, ..quick() };
    let store = with_token("https://account.invalid/container", "a-token".to_owned(), retry);
    let text = store.read("t/run.json").await.unwrap_err().to_string();
    assert!(text.contains("no address is known of a storage account of that name"), "{text}");
    assert!(text.contains("EASM_STORE_URL") && text.contains("host=account.invalid"), "{text}");
}

#[tokio::test]
async fn a_block_that_is_damaged_on_its_way_is_sent_again() {
    let name = "a_block_that_is_damaged_on_its_way_is_sent_again";
    let Some(azurite) = Azurite::http(name) else { return };
    let [block, document] =
        [("/t/part-", "blockid="), ("/t/run.json", "")].map(|(path, query)| ScriptedFault {
            method: Method::PUT,
            path_contains: path.to_owned(),
            query_contains: query.to_owned(),
            from: 0,
            times: 1,
            fault: ProxyFault::CorruptBody,
        });
    let options = ProxyOptions::new(azurite.base());
    let proxy = Proxy::start(ProxyOptions { script: vec![block, document], ..options });
    let url = format!("{}/devstoreaccount1/{}", proxy.url(), azurite.container());
    let store = with_key(&url, "", quick());
    store.check().await.unwrap();
    let bytes = noise(7, 2 * BLOCK_BYTES);
    write(&store, "t/part-0-1-00000.ndjson", &bytes, BLOCK_BYTES).await.unwrap();
    assert!(content(&store, "t/part-0-1-00000.ndjson").await == Some(bytes));
    store.create("t/run.json", "{}".into()).await.unwrap();
    assert_eq!(content(&store, "t/run.json").await, Some("{}".into()));
    let n_damaged = proxy.seen().iter().filter(|seen| seen.fault.is_some()).count();
    assert_eq!(n_damaged, 2);
}

#[tokio::test]
async fn a_part_takes_a_request_a_block_and_two_more() {
    let name = "a_part_takes_a_request_a_block_and_two_more";
    let Some(azurite) = Azurite::http(name) else { return };
    let proxy = Proxy::start(ProxyOptions::new(azurite.base()));
    let url = format!("{}/devstoreaccount1/{}", proxy.url(), azurite.container());
    let store = with_key(&url, "", quick());
    store.check().await.unwrap();
    write(&store, "t/part-0-1-00000.ndjson", &noise(7, 5 * BLOCK_BYTES), 700_000).await.unwrap();
    let seen = proxy.seen();
    let of_part = || seen.iter().filter(|seen| seen.path.contains("part-"));
    let n_blocks = of_part().filter(|seen| seen.query.contains("blockid=")).count();
    assert_eq!((n_blocks, of_part().count()), (5, 7));
    let committed = of_part().find(|seen| seen.query.contains("comp=blocklist")).unwrap();
    assert_eq!(committed.if_none_match.as_deref(), Some("*"));
    // The service checks it; Azurite checks that of blocks only.
    assert!(committed.content_md5.is_some());
}

#[tokio::test]
async fn a_store_that_never_answers_is_given_up_in_time() {
    let hang = ScriptedFault {
        method: Method::GET,
        path_contains: String::new(),
        query_contains: String::new(),
        from: 0,
        times: 99,
        fault: ProxyFault::Hang,
    };
    let options = ProxyOptions::new("http://127.0.0.1:9");
    let proxy = Proxy::start(ProxyOptions { script: vec![hang], ..options });
    let url = format!("{}/devstoreaccount1/container", proxy.url());
    let retry = RetryPolicy { elapsed_max: Duration::from_millis(600), ..quick() };
    let err = with_key(&url, "", retry).read("t/run.json").await.unwrap_err();
    assert!(matches!(err.kind(), Kind::Unavailable { .. }), "{err}");
}
