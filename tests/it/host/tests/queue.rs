//! Queues: delivery, hiding, several hosts, and what goes wrong on purpose.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{AppRoot, LIMIT, QUEUE, accounts, memory, seen};
use crate::host::{Account, Failure, Host, HostOptions, Queues};

const ONE_QUEUE: &[(&str, &[&str])] = &[("job", &[QUEUE])];

/// Waits until the queue holds `n` messages, hidden ones included.
async fn until_count(account: &Account, queue: &str, n: usize) {
    let wait = async {
        while account.queues.count(queue).await != n {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("{queue} never holds {n}"));
}

fn metadata(body: &str, name: &str) -> Value {
    let body: Value = serde_json::from_str(body).unwrap();
    body["Metadata"][name].clone()
}

fn dequeue_counts(host: &Host) -> Vec<Value> {
    host.invocations().iter().map(|i| metadata(&i.body, "DequeueCount")).collect()
}

#[tokio::test]
async fn a_message_can_be_got_once_until_it_is_released() {
    for account in accounts("a_message_can_be_got_once_until_it_is_released") {
        let queues = &account.queues;
        assert_eq!((queues.count("q").await, queues.get("q", 1).await.len()), (0, 0));
        queues.put("q", "<a> & é").await;
        assert_eq!(queues.peek("q").await[0].text().unwrap(), "<a> & é");
        let first = queues.get("q", 32).await.remove(0);
        assert_eq!((first.dequeue_count, first.text().unwrap().as_str()), (1, "<a> & é"));
        assert_eq!((queues.get("q", 32).await.len(), queues.count("q").await), (0, 1));
        let hidden = first.next_visible_at - first.inserted_at;
        assert!(hidden.whole_seconds() >= 599, "{hidden}");
        assert!(queues.release("q", &first, Duration::ZERO).await);
        let second = queues.get("q", 32).await.remove(0);
        assert_eq!((second.dequeue_count, &second.id), (2, &first.id));
        assert!(!queues.delete("q", &first).await, "the first receipt is worth nothing");
        queues.advance(Duration::from_secs(500)).await;
        assert_eq!(queues.get("q", 1).await.len(), 0);
        queues.advance(Duration::from_secs(100)).await;
        let third = queues.get("q", 1).await.remove(0);
        assert_eq!(third.dequeue_count, 3);
        assert!(queues.delete("q", &third).await);
        assert_eq!(queues.count("q").await, 0);
    }
}

#[tokio::test]
async fn a_message_that_succeeds_is_deleted() {
    let app = AppRoot::new(ONE_QUEUE, json!({}));
    for account in accounts("a_message_that_succeeds_is_deleted") {
        account.queues.put("jobs", "ok").await;
        let host = Host::start(app.options(), &account).await.unwrap();
        until_count(&account, "jobs", 0).await;
        let invocations = host.invocations();
        assert_eq!((invocations.len(), &invocations[0].result), (1, &Ok(None)));
        host.until(|host| !seen(host).is_empty(), LIMIT).await.unwrap();
        assert_eq!(seen(&host)[0]["path"], "/job");
    }
}

#[tokio::test]
async fn a_message_that_failed_waits_and_comes_again() {
    let queues = json!({"visibilityTimeout": "00:05:00", "maxPollingInterval": "00:00:00.1"});
    let app = AppRoot::new(ONE_QUEUE, json!({"extensions": {"queues": queues}}));
    for account in accounts("a_message_that_failed_waits_and_comes_again") {
        account.queues.put("jobs", "status 500").await;
        let host = Host::start(app.options(), &account).await.unwrap();
        host.until(|host| host.invocations().len() == 1, LIMIT).await.unwrap();
        host.until(|host| host.in_work() == 0, LIMIT).await.unwrap();
        assert_eq!(account.queues.peek("jobs").await, [], "it is hidden");
        account.queues.advance(Duration::from_secs(200)).await;
        assert_eq!(account.queues.peek("jobs").await, [], "it still is");
        account.queues.advance(Duration::from_secs(100)).await;
        host.until(|host| host.invocations().len() == 2, LIMIT).await.unwrap();
        assert_eq!(dequeue_counts(&host), ["1", "2"]);
        let ids = host.invocations().iter().map(|i| metadata(&i.body, "Id")).collect::<Vec<_>>();
        assert_eq!(ids[0], ids[1]);
    }
}

#[tokio::test]
async fn a_batch_and_the_threshold_limit_what_is_in_work() {
    let queues =
        json!({"batchSize": 2, "newBatchThreshold": 1, "maxPollingInterval": "00:00:00.1"});
    let app = AppRoot::new(ONE_QUEUE, json!({"extensions": {"queues": queues}}));
    let account = memory();
    for _ in 0..6 {
        account.queues.put("jobs", "wait").await;
    }
    let host = Host::start(app.options(), &account).await.unwrap();
    // Two at first; one is not enough for another batch before one has ended.
    host.until(|host| seen(host).len() == 2, LIMIT).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(host.in_work(), 2);
    app.go();
    until_count(&account, "jobs", 0).await;
    assert!(host.invocations().iter().all(|invocation| invocation.is_success()));
}

#[tokio::test]
async fn a_dead_hosts_messages_stay_hidden_for_ten_minutes() {
    let app = AppRoot::new(ONE_QUEUE, json!({}));
    for account in accounts("a_dead_hosts_messages_stay_hidden_for_ten_minutes") {
        account.queues.put("jobs", "wait").await;
        let host = Host::start(app.options(), &account).await.unwrap();
        host.until(|host| seen(host).len() == 1, LIMIT).await.unwrap();
        // As long as the host lives, it renews what it works on.
        account.queues.advance(Duration::from_secs(3600)).await;
        assert_eq!(account.queues.peek("jobs").await, []);
        let orphan = host.die().await.unwrap();
        account.queues.advance(Duration::from_secs(500)).await;
        assert_eq!(account.queues.peek("jobs").await, []);

        let successor = Host::start(app.options(), &account).await.unwrap();
        account.queues.advance(Duration::from_secs(100)).await;
        successor.until(|host| seen(host).len() == 1, LIMIT).await.unwrap();
        assert!(orphan.is_alive(), "it works on the same message meanwhile");
        app.go();
        until_count(&account, "jobs", 0).await;
        assert_eq!(dequeue_counts(&successor), ["2"]);
        std::fs::remove_file(app.path().join("go")).unwrap();
    }
}

#[tokio::test]
async fn a_message_may_come_twice_at_once() {
    let app = AppRoot::new(ONE_QUEUE, json!({}));
    let account = memory();
    account.queues.put("jobs", "wait").await;
    let host = start(&app, &account, |options| options.doubled = 1.0).await;
    host.until(|host| seen(host).len() == 2, LIMIT).await.unwrap();
    app.go();
    until_count(&account, "jobs", 0).await;
    let [one, other] = &host.invocations()[..] else { panic!("two invocations") };
    assert_ne!(one.id, other.id);
    assert_eq!(metadata(&one.body, "PopReceipt"), metadata(&other.body, "PopReceipt"));
}

#[tokio::test]
async fn a_message_may_come_again_after_success() {
    let app = AppRoot::new(ONE_QUEUE, json!({}));
    let account = memory();
    account.queues.put("jobs", "ok").await;
    let host = start(&app, &account, |options| options.again = 1.0).await;
    host.until(|host| host.invocations().len() >= 3, LIMIT).await.unwrap();
    assert_eq!(dequeue_counts(&host)[..3], ["1", "2", "3"]);
    assert!(host.invocations()[0].is_success());
}

#[tokio::test]
async fn a_message_may_be_lost() {
    let app = AppRoot::new(ONE_QUEUE, json!({}));
    let account = memory();
    account.queues.put("jobs", "say {\"x\":1}").await;
    account.queues.put("jobs", "ok").await;
    let host = start(&app, &account, |options| {
        options.loses = Some(Arc::new(|message| message.text().as_deref() == Some("ok")));
    })
    .await;
    until_count(&account, "jobs", 0).await;
    let bodies: Vec<String> = host.invocations().into_iter().map(|i| i.body).collect();
    assert!(bodies.len() == 1 && bodies[0].contains("say"), "{bodies:?}");
}

async fn start(app: &AppRoot, account: &Arc<Account>, set: impl Fn(&mut HostOptions)) -> Host {
    let mut options = app.options();
    set(&mut options);
    Host::start(options, account).await.unwrap()
}

#[tokio::test]
async fn a_seed_decides_the_order_of_messages() {
    let order = async |seed| {
        let queues = Queues::memory(seed);
        for number in 0..8 {
            queues.put("q", number.to_string()).await;
        }
        let texts: Vec<String> =
            queues.get("q", 8).await.iter().map(|message| message.text().unwrap()).collect();
        texts.concat()
    };
    assert_eq!(order(None).await, "01234567");
    assert_eq!(order(Some(1)).await, order(Some(1)).await);
    assert_ne!(order(Some(1)).await, order(Some(2)).await);
}

#[tokio::test]
async fn hosts_share_an_account_and_listen_to_what_they_are_told() {
    let other = QUEUE.replace("jobs", "others");
    let app = AppRoot::new(&[("job", &[QUEUE]), ("other", &[&other])], json!({}));
    let account = memory();
    let of = async |name: &str| {
        start(&app, &account, |options| options.listens = Some(vec![name.to_owned()])).await
    };
    let (one, two) = (of("job").await, of("other").await);
    for queue in ["jobs", "others", "others"] {
        account.queues.put(queue, "ok").await;
    }
    until_count(&account, "jobs", 0).await;
    until_count(&account, "others", 0).await;
    let names = |host: &Host| -> Vec<String> {
        host.invocations().into_iter().map(|invocation| invocation.function).collect()
    };
    assert_eq!((names(&one), names(&two)), (vec!["job".into()], vec!["other".into(); 2]));
    assert_ne!(one.handler_port(), two.handler_port());
}

#[tokio::test]
async fn a_timed_out_message_is_released_with_the_kill() {
    let app = AppRoot::new(ONE_QUEUE, json!({"functionTimeout": "00:00:04"}));
    let account = memory();
    let host = Host::start(app.options(), &account).await.unwrap();
    host.ready().await.unwrap();
    account.queues.put("jobs", "wait").await;
    host.until(|host| host.invocations().len() == 1, LIMIT).await.unwrap();
    assert_eq!(host.invocations()[0].result, Err(Failure::Timeout));
    app.go();
    until_count(&account, "jobs", 0).await;
    assert_eq!(dequeue_counts(&host), ["1", "2"]);
}
