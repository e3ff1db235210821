//! host.json, function.json and settings.

use std::time::Duration;

use serde_json::{Value, json};

use super::{AppRoot, QUEUE, TIMER};
use crate::host::app::{App, QueueOptions, Trigger};
use crate::host::config::{Settings, words};

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read(host: Value, pairs: &[(&str, &str)]) -> Result<App, String> {
    let app = AppRoot::new(&[], host);
    App::read(app.path(), &settings(pairs))
}

#[test]
fn defaults_are_the_hosts() {
    let app = read(json!({}), &[]).unwrap();
    let options = app.options;
    assert_eq!(options.executable, "python3");
    assert_eq!(options.arguments, ["handler.py"]);
    assert!(options.stderr_is_errors_only && !options.forwards && !options.proxies);
    assert_eq!(options.initialization, Duration::from_secs(30));
    assert_eq!(options.timeout, Some(Duration::from_secs(1800)));
    assert_eq!(options.route_prefix, "api");
    let queues = QueueOptions {
        batch_size: 16,
        new_batch_threshold: 8,
        max_dequeue_count: 5,
        visibility_timeout: Duration::ZERO,
        max_polling_interval: Duration::from_secs(60),
    };
    assert_eq!(options.queues, queues);
}

#[test]
fn a_setting_overrides_host_json() {
    let host = json!({"functionTimeout": "00:10:00", "customHandler": {},
        "extensions": {"queues": {"batchSize": 4, "visibilityTimeout": "00:00:30"}}});
    let pairs = [
        ("AzureFunctionsJobHost__extensions__queues__maxPollingInterval", "00:00:00.2"),
        ("azurefunctionsjobhost__Extensions__Queues__BatchSize", "2"),
        ("AzureFunctionsJobHost__functionTimeout", "-1"),
        ("AzureFunctionsJobHost__customHandler__enableForwardingHttpRequest", "True"),
        ("AzureFunctionsJobHost__customHandler__description__arguments", r#"["a", "%B%c%D%"]"#),
        ("b", "x y"),
    ];
    let options = read(host, &pairs).unwrap().options;
    assert_eq!(options.queues.max_polling_interval, Duration::from_millis(200));
    assert_eq!((options.queues.batch_size, options.queues.new_batch_threshold), (2, 1));
    assert_eq!(options.queues.visibility_timeout, Duration::from_secs(30));
    assert_eq!((options.timeout, options.forwards), (None, true));
    // Without quotes, an argument with a space becomes two; what is not set vanishes.
    assert_eq!(options.arguments, ["a", "x", "yc"]);
}

#[test]
fn a_bad_host_json_is_refused() {
    let queues = |queues: Value| json!({"extensions": {"queues": queues}});
    let cases = [
        (json!({"functionTimeout": "00:00:00"}), "functionTimeout"),
        (json!({"functionTimeout": "soon"}), "functionTimeout"),
        (queues(json!({"batchSize": 33})), "batchSize"),
        (queues(json!({"maxPollingInterval": "1"})), "maxPollingInterval"),
        (queues(json!({"messageEncoding": "none"})), "messageEncoding"),
    ];
    for (host, want) in cases {
        let why = read(host.clone(), &[]).err().unwrap_or_else(|| panic!("{host} is taken"));
        assert!(why.contains(want), "{host}: {why}");
    }
    let empty = [("AzureFunctionsJobHost__customHandler__description__defaultExecutablePath", "")];
    let why = read(json!({}), &empty).err().unwrap();
    assert_eq!(why, "WorkerDescription DefaultExecutablePath cannot be empty");
}

#[test]
fn a_function_that_cannot_be_indexed_is_left_out() {
    let http = r#"{"type":"http","direction":"out","name":"res"}"#;
    let odd_name = TIMER.replace("\"timer\"", "\"my_timer\"");
    let odd_schedule = TIMER.replace("0 0 6 * * *", "soon");
    let unset = QUEUE.replace("jobs", "%QUEUE%-x");
    // Bindings, and what the error says.
    let cases: [(&[&str], &str); 7] = [
        (&[], "exactly one trigger"),
        (&[TIMER, QUEUE], "exactly one trigger"),
        (&[http], "exactly one trigger"),
        (&[&odd_name], "'my_timer' is not a valid binding name"),
        (&[&odd_schedule], "'soon' was not recognized"),
        (&[&unset], "'%QUEUE%' does not resolve"),
        (&[r#"{"type":"blobTrigger","name":"x"}"#], "blobTrigger"),
    ];
    for (bindings, want) in cases {
        let root = AppRoot::new(&[("job", bindings)], json!({}));
        let app = App::read(root.path(), &Settings::new()).unwrap();
        assert!(app.functions.is_empty());
        assert!(app.errors.concat().contains(want), "{:?}", app.errors);
    }
    let root = AppRoot::new(&[("job", &[&unset]), ("1st", &[QUEUE])], json!({}));
    let app = App::read(root.path(), &settings(&[("queue", "q")])).unwrap();
    let Trigger::Queue { queue, .. } = &app.function("job").unwrap().trigger else { panic!() };
    assert_eq!(queue, "q-x");
    assert!(app.errors.concat().contains("'1st' is not a valid function name"));
}

#[test]
fn an_executable_beside_host_json_is_found_there() {
    let root = AppRoot::with(&[], json!({}), json!({"defaultExecutablePath": "%NAME%"}));
    std::fs::write(root.path().join("handler"), "").unwrap();
    for (name, want) in [("handler", root.path().join("handler")), ("sh", "sh".into())] {
        let app = App::read(root.path(), &settings(&[("NAME", name)])).unwrap();
        assert_eq!(std::path::Path::new(&app.options.executable), want);
    }
}

#[test]
fn a_command_line_is_taken_apart_by_spaces_and_quotes() {
    let cases: [(&str, &[&str]); 4] = [
        ("", &[]),
        ("a  b", &["a", "b"]),
        (r#""a b" c"d e""#, &["a b", "cd e"]),
        (r#"a """#, &["a", ""]),
    ];
    for (line, want) in cases {
        assert_eq!(words(line), want, "{line}");
    }
}
