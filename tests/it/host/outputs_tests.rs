use super::*;

/// Status, content type, body.
type Answer = (u16, &'static str, &'static str);

fn binding(name: &str, kind: OutputKind, is_binary: bool) -> Output {
    Output { name: name.to_owned(), is_binary, kind }
}

fn function(outputs: Vec<Output>) -> Function {
    Function {
        name: "job".to_owned(),
        binding: "job".to_owned(),
        trigger: super::super::app::Trigger::Queue { queue: "in".to_owned(), is_binary: false },
        outputs,
        retry: None,
        is_http_only: false,
    }
}

fn reply(text: &str) -> Reply {
    let mut message = Message { body: text.as_bytes().to_vec(), ..Message::answer(200) };
    message.set("Content-Type", "application/json");
    Reply::read(&message).unwrap()
}

fn texts(written: &Written) -> Vec<String> {
    let text = |(_, bytes): &(String, Vec<u8>)| String::from_utf8_lossy(bytes).into_owned();
    written.messages.iter().map(text).collect()
}

#[test]
fn a_queue_output_becomes_the_messages_of_the_table() {
    // The value, the messages, and whether the invocation fails.
    let cases: [(&str, &[&str], bool); 22] = [
        (r#"["{\"a\":1}","x"]"#, &["{\"a\":1}", "x"], false),
        (r#"["test","aGVsbG8="]"#, &["test", "aGVsbG8="], false),
        (r#"["2024-04-06T15:30:00Z"]"#, &["04/06/2024 15:30:00"], false),
        (r#"[{"a":1},2,true]"#, &["{\n  \"a\": 1\n}", "2", "True"], false),
        (r#""{\"a\":1}""#, &["{\n  \"a\": 1\n}"], false),
        (r#"{"a":1}"#, &["{\n  \"a\": 1\n}"], false),
        (
            r#""{\"d\":\"2024-04-06T17:30:00+02:00\"}""#,
            &["{\n  \"d\": \"2024-04-06T15:30:00+00:00\"\n}"],
            false,
        ),
        (
            r#"{"d":"2024-04-06T17:30:00+02:00"}"#,
            &["{\n  \"d\": \"2024-04-06T17:30:00+02:00\"\n}"],
            false,
        ),
        (r#""aGVsbG8=""#, &["hello"], false),
        (r#""hello""#, &["hello"], false),
        (r#""2024-04-06T15:30:00Z""#, &["04/06/2024 15:30:00"], false),
        (r#""""#, &[""], false),
        ("42", &["42"], false),
        ("true", &["True"], false),
        ("1.50", &["1.5"], false),
        (r#"[["a"]]"#, &["[\n  \"a\"\n]"], false),
        ("null", &[], false),
        ("[]", &[], false),
        (r#""{broken}""#, &[], true),
        (r#""{broken""#, &["{broken"], false),
        (r#""[1]""#, &["[1]"], false),
        (r#""-""#, &["-"], false),
    ];
    let function = function(vec![binding("q", OutputKind::Queue("out".to_owned()), false)]);
    for (value, want, fails) in cases {
        let written = write(&function, reply(&format!("{{\"Outputs\":{{\"Q\":{value}}}}}")));
        assert_eq!(texts(&written), want, "{value}");
        assert_eq!(written.failure.is_some(), fails, "{value}: {:?}", written.failure);
    }
}

#[test]
fn a_text_in_base64_is_bytes_unless_the_binding_is_binary() {
    for (is_binary, want) in [(false, vec![0xb5, 0xeb, 0x2d]), (true, b"test".to_vec())] {
        let output = binding("$return", OutputKind::Queue("out".to_owned()), is_binary);
        let written = write(&function(vec![output]), reply(r#"{"ReturnValue":"test"}"#));
        assert_eq!(written.messages, [("out".to_owned(), want)]);
    }
}

#[test]
fn a_message_over_the_limit_fails_and_leaves_those_before_it() {
    let function = function(vec![binding("q", OutputKind::Queue("out".to_owned()), false)]);
    for (length, n_written) in [(MESSAGE_BYTES_MAX, 3), (MESSAGE_BYTES_MAX + 1, 1)] {
        let long = "-".repeat(length);
        let written =
            write(&function, reply(&format!(r#"{{"Outputs":{{"q":["a","{long}","b"]}}}}"#)));
        assert_eq!(written.messages.len(), n_written, "{length}");
        assert_eq!(written.failure.is_some(), n_written == 1, "{length}");
    }
}

#[test]
fn an_http_output_becomes_the_answer_of_the_table() {
    let plain = "text/plain; charset=utf-8";
    // The reply, and status, content type and body; nothing if the invocation fails.
    let cases: [(&str, Option<Answer>); 24] = [
        ("{}", Some((204, "", ""))),
        (r#"{"Outputs":null}"#, Some((204, "", ""))),
        (r#"{"Outputs":{}}"#, Some((200, plain, "{}"))),
        (r#"{"Outputs":{"other":1}}"#, Some((200, plain, "{}"))),
        (r#"{"Outputs":{"res":{"statusCode":202}}}"#, Some((202, "", ""))),
        (r#"{"Outputs":{"res":{"STATUSCODE":"404","body":"no"}}}"#, Some((404, plain, "no"))),
        (r#"{"Outputs":{"res":{"status":404,"body":"x"}}}"#, Some((200, plain, "x"))),
        (r#"{"Outputs":{"res":{"statusCode":"soon","body":"x"}}}"#, Some((200, plain, "x"))),
        (
            r#"{"Outputs":{"res":{"headers":{"Content-Type":"a/b"},"body":"test"}}}"#,
            Some((200, "a/b", "test")),
        ),
        (r#"{"Outputs":{"res":{"body":true}}}"#, Some((200, plain, "True"))),
        (r#"{"Outputs":{"res":{"body":1.50}}}"#, Some((200, plain, "1.5"))),
        (r#"{"Outputs":{"res":{"body":{"a":[]}}}}"#, Some((200, plain, "{\n  \"a\": []\n}"))),
        (
            r#"{"Outputs":{"res":{"body":"2024-04-06T15:30:00Z"}}}"#,
            Some((200, plain, "04/06/2024 15:30:00")),
        ),
        (
            r#"{"Outputs":{"res":{"body":"at 2024-04-06T15:30:00Z"}}}"#,
            Some((200, plain, "at 2024-04-06T15:30:00Z")),
        ),
        (r#"{"Outputs":{"res":{"body":null}}}"#, Some((200, "", ""))),
        (r#"{"Outputs":{"res":{"headers":{"a":null}}}}"#, None),
        (r#"{"Outputs":{"res":{"headers":{"a":["b"]}}}}"#, None),
        (r#"{"Outputs":{"res":{"headers":"a"}}}"#, None),
        (r#"{"Outputs":{"res":null}}"#, None),
        (r#"{"Outputs":{"res":200}}"#, None),
        (r#"{"Outputs":{"res":"text"}}"#, None),
        (r#"{"ReturnValue":"text"}"#, Some((200, plain, "text"))),
        (r#"{"ReturnValue":{"res":{"statusCode":201}}}"#, Some((201, "", ""))),
        (r#"{"Outputs":{"res":{"body":"","isRaw":true}}}"#, Some((200, plain, ""))),
    ];
    let function = function(vec![binding("res", OutputKind::Http, false)]);
    for (text, want) in cases {
        let written = write(&function, reply(text));
        let found = written.answer.as_ref().map(|answer| {
            let kind = answer.header("content-type").unwrap_or_default().to_owned();
            (answer.status(), kind, answer.text())
        });
        let want = want.map(|(status, kind, body)| (status, kind.to_owned(), body.to_owned()));
        assert_eq!(found, want, "{text}");
        assert_eq!(written.failure.is_none(), found.is_some(), "{text}");
    }
}

#[test]
fn what_is_returned_to_http_may_be_bytes() {
    let function = function(vec![binding("$return", OutputKind::Http, false)]);
    let answer = write(&function, reply(r#"{"ReturnValue":"//4A"}"#)).answer.unwrap();
    assert_eq!((answer.body.as_slice(), answer.header("content-type")), (&[255, 254, 0][..], None));
    // Nobody reads `Outputs.$return`.
    let ignored = write(&function, reply(r#"{"Outputs":{"$return":{"statusCode":404}}}"#));
    assert_eq!(ignored.answer.unwrap().status(), 200);
}

#[test]
fn messages_and_answer_are_written_side_by_side() {
    let queue = binding("work", OutputKind::Queue("out".to_owned()), false);
    let function = function(vec![binding("res", OutputKind::Http, false), queue]);
    let written = write(
        &function,
        reply(r#"{"Outputs":{"res":{"statusCode":202},"work":["a"],"unknown":1}}"#),
    );
    assert_eq!(written.answer.as_ref().unwrap().status(), 202);
    assert_eq!(texts(&written), ["a"]);
}
