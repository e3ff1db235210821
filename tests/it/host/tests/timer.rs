//! Timers: what is sent, what is remembered, what is written.

use std::time::Duration;

use serde_json::{Value, json};

use super::{AppRoot, LIMIT, TIMER, WORK, memory};
use crate::host::{Failure, Firing, Host, Invocation, Level, utc};

/// The trigger's value in what was sent.
fn timer(invocation: &Invocation) -> Value {
    let body: Value = serde_json::from_str(&invocation.body).unwrap();
    body["Data"]["timer"].clone()
}

#[tokio::test]
async fn a_firing_writes_its_outputs_and_is_remembered() {
    let app = AppRoot::new(&[("job", &[TIMER, WORK])], json!({}));
    let account = memory();
    let say = r#"say {"Outputs":{"work":["one","two"]},"Logs":["hello"]}"#;
    let host = Host::start(app.options().set("DO", say), &account).await.unwrap();
    let slot = utc("2026-01-12T06:00:00Z");
    let first = host.fire("job", &Firing::at(slot)).await;
    assert_eq!(first.result, Ok(None));
    assert_eq!(first.logs, ["hello"]);
    assert!(first.reply.unwrap().json()["Outputs"].is_object());
    assert!(
        host.lines()
            .iter()
            .any(|line| (line.level, line.text.as_str()) == (Level::Information, "hello"))
    );
    let texts: Vec<String> =
        account.queues.peek("out").await.iter().map(|m| m.text().unwrap()).collect();
    assert_eq!(texts, ["one", "two"]);

    let past_due = host.fire("job", &Firing::past_due(slot)).await;
    assert_eq!(timer(&past_due)["IsPastDue"], true);
    assert_eq!(timer(&past_due)["ScheduleStatus"]["Next"], "2026-01-12T06:00:00+00:00");
    assert_ne!(timer(&past_due)["ScheduleStatus"]["Last"], "0001-01-01T00:00:00");

    // Started by hand, it sends what is remembered, where the next occurrence is yet to come.
    let by_hand = host.fire("job", &Firing::by_hand()).await;
    let next = timer(&by_hand)["ScheduleStatus"]["Next"].as_str().unwrap().to_owned();
    assert!(utc(&next) > time::OffsetDateTime::now_utc(), "{next}");
    assert_eq!(timer(&host.fire("job", &Firing::by_hand()).await), timer(&by_hand));
    assert!(by_hand.body.contains(r#""Metadata":{"timer":"\"\"","#), "{}", by_hand.body);
    assert_eq!(host.invocations().len(), 4);
}

#[tokio::test]
async fn a_status_of_ones_own_is_sent_as_it_is() {
    let app = AppRoot::new(&[("job", &[TIMER])], json!({}));
    let host = app.start().await;
    for status in [r#"{"Next":"2026-01-12T06:00:00.1234567Z","x":[1]}"#, "null"] {
        let invocation = host.fire("job", &Firing::with_status(status)).await;
        assert_eq!(timer(&invocation)["ScheduleStatus"].to_string(), status);
    }
}

#[tokio::test]
async fn two_firings_at_once_overlap() {
    let app = AppRoot::new(&[("job", &[TIMER])], json!({}));
    let host = Host::start(app.options().set("DO", "wait"), &memory()).await.unwrap();
    let firing = Firing::at(utc("2026-01-12T06:00:00Z"));
    let go = async {
        host.until(|host| super::seen(host).len() == 2, LIMIT).await.unwrap();
        app.go();
    };
    let (one, other, ()) = tokio::join!(host.fire("job", &firing), host.fire("job", &firing), go);
    assert!(one.is_success() && other.is_success());
    assert_ne!(one.id, other.id);
}

#[tokio::test]
async fn a_schedule_without_its_setting_is_a_line_in_the_log() {
    let timer = TIMER.replace("0 0 6 * * *", "%EXPORT_SCHEDULE%");
    let app = AppRoot::new(&[("job", &[&timer]), ("other", &[TIMER])], json!({}));
    let host = app.start().await;
    let lines = host.lines();
    let line = lines.iter().find(|line| line.text.contains("'%EXPORT_SCHEDULE%'")).unwrap();
    assert_eq!(line.level, Level::Error);
    assert!(line.text.contains("does not resolve to a value"), "{}", line.text);
    let firing = Firing::at(utc("2026-01-12T06:00:00Z"));
    assert!(matches!(host.fire("job", &firing).await.result, Err(Failure::Input(_))));
    assert_eq!(host.fire("other", &firing).await.result, Ok(None));

    let set = Host::start(app.options().set("EXPORT_SCHEDULE", "0 0 6 * * *"), &memory()).await;
    assert_eq!(set.unwrap().fire("job", &firing).await.result, Ok(None));
}

#[tokio::test]
async fn a_policy_repeats_what_failed() {
    let app = AppRoot::new(&[("job", &[TIMER])], json!({}));
    let retry = r#"{"strategy":"fixedDelay","maxRetryCount":2,"delayInterval":"00:00:00"}"#;
    let text = format!("{{\"bindings\":[{TIMER}],\"retry\":{retry}}}");
    std::fs::write(app.path().join("job/function.json"), text).unwrap();
    let host = Host::start(app.options().set("DO", "status 500"), &memory()).await.unwrap();
    let last = host.fire("job", &Firing::at(utc("2026-01-12T06:00:00Z"))).await;
    assert_eq!(last.result, Err(Failure::Status(500)));
    let counts: Vec<Value> = host
        .invocations()
        .iter()
        .map(|invocation| {
            assert_eq!(invocation.id, last.id);
            let body: Value = serde_json::from_str(&invocation.body).unwrap();
            body["Metadata"]["RetryContext"]["RetryCount"].clone()
        })
        .collect();
    assert_eq!(counts, [0, 1, 2]);
}

#[tokio::test]
async fn a_body_of_ones_own_reaches_the_handler() {
    let app = AppRoot::new(&[("job", &[TIMER])], json!({}));
    let host = app.start().await;
    host.ready().await.unwrap();
    let body = r#"{"Data":{"timer":{"odd":"é"}}}"#;
    let answer = host.post("/job", body).await.unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "{}"));
    host.until(|host| !super::seen(host).is_empty(), Duration::from_secs(10)).await.unwrap();
    assert_eq!(super::seen(&host)[0]["body"], body);
}
