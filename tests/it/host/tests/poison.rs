//! What becomes of messages that never succeed.

use std::time::Duration;

use serde_json::json;

use super::{AppRoot, LIMIT, QUEUE, accounts, memory};
use crate::host::{Account, Failure, Host};

async fn until_poisoned(host: &Host, account: &Account, queue: &str) -> Vec<String> {
    host.until(|host| host.lines().iter().any(|line| line.text.contains("MaxDequeueCount")), LIMIT)
        .await
        .unwrap();
    host.until(|host| host.in_work() == 0, LIMIT).await.unwrap();
    let messages = account.queues.peek(&format!("{queue}-poison")).await;
    messages.into_iter().map(|message| message.stored).collect()
}

#[tokio::test]
async fn the_last_failure_moves_a_message_to_poison() {
    let queues = json!({"maxDequeueCount": 2, "maxPollingInterval": "00:00:00.1",
        "visibilityTimeout": "00:05:00"});
    let app = AppRoot::new(&[("job", &[QUEUE])], json!({"extensions": {"queues": queues}}));
    for account in accounts("the_last_failure_moves_a_message_to_poison") {
        account.queues.put("jobs", "status 500").await;
        let host = Host::start(app.options(), &account).await.unwrap();
        host.until(|host| host.invocations().len() == 1 && host.in_work() == 0, LIMIT)
            .await
            .unwrap();
        account.queues.advance(Duration::from_secs(300)).await;
        // At once, and not when it would have been seen again.
        let poison = until_poisoned(&host, &account, "jobs").await;
        assert_eq!(poison.len(), 1);
        let results: Vec<_> = host.invocations().into_iter().map(|i| i.result).collect();
        assert_eq!(results, vec![Err(Failure::Status(500)); 2]);
        assert_eq!(account.queues.count("jobs").await, 0);
        let message = account.queues.get("jobs-poison", 1).await.remove(0);
        assert_eq!((message.text().unwrap().as_str(), message.dequeue_count), ("status 500", 1));
    }
}

#[tokio::test]
async fn a_message_in_no_base64_goes_to_poison_unseen() {
    let app = AppRoot::new(&[("job", &[QUEUE])], json!({}));
    for account in accounts("a_message_in_no_base64_goes_to_poison_unseen") {
        account.queues.put_stored("jobs", "no base64!").await;
        let host = Host::start(app.options(), &account).await.unwrap();
        assert_eq!(until_poisoned(&host, &account, "jobs").await, ["no base64!"]);
        assert_eq!(host.invocations(), []);
    }
}

#[tokio::test]
async fn a_message_in_no_utf_8_fails_for_text_and_not_for_bytes() {
    let queues = json!({"maxPollingInterval": "00:00:00.1"});
    let bytes = QUEUE.replace("\"jobs\"", "\"bytes\",\"dataType\":\"binary\"");
    let functions: &[(&str, &[&str])] = &[("job", &[QUEUE]), ("bin", &[&bytes])];
    let app = AppRoot::new(functions, json!({"extensions": {"queues": queues}}));
    let account = memory();
    account.queues.put("jobs", [0xff]).await;
    let host = Host::start(app.options(), &account).await.unwrap();
    assert_eq!(until_poisoned(&host, &account, "jobs").await, ["/w=="]);
    let results: Vec<_> = host.invocations().into_iter().map(|i| i.result).collect();
    assert_eq!(results.len(), 5);
    assert!(results.iter().all(|result| matches!(result, Err(Failure::Input(_)))), "{results:?}");

    account.queues.put("bytes", [0xff]).await;
    host.until(|host| host.invocations().iter().any(|i| i.function == "bin"), LIMIT).await.unwrap();
    assert!(host.invocations().last().unwrap().body.contains(r#""Data":{"job":"/w=="}"#));
}

#[tokio::test]
async fn a_message_that_was_received_too_often_goes_to_poison_unseen() {
    let app = AppRoot::new(&[("job", &[QUEUE])], json!({}));
    let account = memory();
    account.queues.put("jobs", "ok").await;
    for _ in 0..5 {
        let message = account.queues.get("jobs", 1).await.remove(0);
        assert!(account.queues.release("jobs", &message, Duration::ZERO).await);
    }
    let host = Host::start(app.options(), &account).await.unwrap();
    assert_eq!(until_poisoned(&host, &account, "jobs").await.len(), 1);
    assert_eq!(host.invocations(), []);
}

#[tokio::test]
async fn poison_has_no_poison() {
    let queue = QUEUE.replace("jobs", "jobs-poison");
    let app = AppRoot::new(&[("job", &[&queue])], json!({}));
    let account = memory();
    account.queues.put_stored("jobs-poison", "!").await;
    let host = Host::start(app.options(), &account).await.unwrap();
    assert_eq!(until_poisoned(&host, &account, "jobs-poison").await, Vec::<String>::new());
}
