//! `EASM_AUTH=entra`: who is let in and who is not, in both ways in which the host passes requests on.
//! Whatever is not wholly what the platform passes on is nobody.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::functions_host::{Answer, Handler, Mode, principal};
use super::functions_payload::{Ask, SLOT, ask, slot, timer};
use super::identity::IN_AZURE;
use super::world;
use crate::support::World;

const KNOWN: &str = "1a1a1a1a-2222-4333-8444-aaaaaaaaaaaa";
const STRANGER: &str = "5b5b5b5b-2222-4333-8444-bbbbbbbbbbbb";
const APPLICATION: &str = "a9a9a9a9-2222-4333-8444-cccccccccccc";
const ENTRA: (&str, &str) = ("EASM_AUTH", "entra");
const HEADER: &str = "X-MS-CLIENT-PRINCIPAL";

fn listed() -> [(&'static str, String); 2] {
    [(ENTRA.0, ENTRA.1.to_owned()), ("EASM_PRINCIPALS", format!("{KNOWN}, {APPLICATION}"))]
}

async fn start(world: &World, vars: &[(&'static str, String)]) -> Handler {
    let vars: Vec<(&str, &str)> =
        vars.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Handler::start(world, &vars).await
}

fn encoded(value: &Value) -> String {
    STANDARD.encode(value.to_string())
}

fn claims(list: &[(&str, &str)]) -> Value {
    serde_json::from_slice(&STANDARD.decode(principal(list)).unwrap()).unwrap()
}

/// A request that a signed-in caller may make, with this principal.
fn by(text: &str) -> Ask {
    ask("GET", "/exports").header(HEADER, text)
}

fn oid(id: &str) -> String {
    principal(&[("oid", id)])
}

async fn status(handler: &Handler, mode: Mode, ask: &Ask) -> (u16, Answer) {
    let answer = handler.ask_raw(mode, ask).await;
    (answer.status, answer)
}

#[tokio::test]
async fn who_is_listed_is_let_in_and_others_are_told_who_they_are() {
    let world = world(5).await;
    let handler = start(&world, &listed()).await;
    let upper = KNOWN.to_uppercase();
    let long = "http://schemas.microsoft.com/identity/claims/objectidentifier";
    let stranger = |more: &[(&'static str, &'static str)]| {
        principal(&[&[("oid", STRANGER), ("sub", STRANGER)], more].concat())
    };
    let cases = [
        ("listed", oid(KNOWN), 200),
        ("in upper case", oid(&upper), 200),
        ("not listed", oid(STRANGER), 403),
        ("by the long name of the claim", principal(&[(long, KNOWN)]), 200),
        ("not listed, by the long name", principal(&[(long, STRANGER)]), 403),
        ("the application itself", stranger(&[("appid", APPLICATION), ("idtyp", "app")]), 200),
        ("the application, by azp", stranger(&[("azp", APPLICATION), ("idtyp", "app")]), 200),
        ("the application, by its subject", stranger(&[("appid", APPLICATION)]), 200),
        (
            "a user through it",
            principal(&[
                ("oid", STRANGER),
                ("sub", "pairwise"),
                ("appid", APPLICATION),
                ("scp", "user_impersonation"),
            ]),
            403,
        ),
        ("with a scope", stranger(&[("appid", APPLICATION), ("scp", "a b")]), 403),
        ("a user's by its kind", stranger(&[("appid", APPLICATION), ("idtyp", "user")]), 403),
        (
            "an application that is not listed",
            stranger(&[("appid", STRANGER), ("idtyp", "app")]),
            403,
        ),
        ("a group that is listed", stranger(&[("groups", KNOWN)]), 403),
        ("a name that is listed", stranger(&[("name", KNOWN), ("preferred_username", KNOWN)]), 403),
        ("a tenant that is listed", stranger(&[("tid", KNOWN)]), 403),
        ("a part of one that is listed", oid(&KNOWN[..8]), 401),
    ];
    let mut found = Vec::new();
    for (case, text, wanted) in cases {
        for mode in Mode::BOTH {
            let (status, answer) = status(&handler, mode, &by(&text)).await;
            if status != wanted {
                found.push(format!("{case} {mode:?}: {answer:?}"));
            }
            if status == 403 {
                assert!(answer.body.contains(STRANGER), "so that it can be added: {answer:?}");
                answer.expect_error(403, "");
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn what_is_forged_doubled_or_unreadable_is_nobody() {
    let world = world(5).await;
    let handler = start(&world, &listed()).await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = claims(&[("oid", KNOWN)]);
        change(&mut value);
        encoded(&value)
    };
    let good = oid(KNOWN);
    let large = principal(&[("oid", KNOWN), ("groups", &"g".repeat(100 << 10))]);
    let base = || ask("GET", "/exports");
    let cases: Vec<(&str, Ask)> = vec![
        ("nothing", base()),
        ("a function key", base().header("x-functions-key", "any")),
        ("a token", base().header("Authorization", "Bearer e30.e30.e30")),
        ("empty", by("")),
        ("a plain id", by(KNOWN)),
        ("no base64", by("!!!!")),
        ("two in one", by(&format!("{good},{good}"))),
        ("two in one with a space", by(&format!("{good}, {good}"))),
        ("text behind", by(&format!("{good}AAAA"))),
        ("no JSON", by(&STANDARD.encode("oid"))),
        ("no UTF-8", by(&STANDARD.encode(b"\xff\xfe{}"))),
        ("an array", by(&encoded(&json!([])))),
        ("no claims", by(&encoded(&json!({"auth_typ": "aad"})))),
        (
            "an object of claims",
            by(&encoded(&json!({"auth_typ": "aad", "claims": {"oid": KNOWN}}))),
        ),
        ("no object id", by(&principal(&[("sub", KNOWN), ("appid", APPLICATION)]))),
        ("an empty object id", by(&oid(""))),
        ("a number", by(&with(&|value| value["claims"][0]["val"] = json!(7)))),
        ("two object ids", by(&principal(&[("oid", KNOWN), ("oid", STRANGER)]))),
        ("two object ids, the other first", by(&principal(&[("oid", STRANGER), ("oid", KNOWN)]))),
        ("of Google", by(&with(&|value| value["auth_typ"] = json!("google")))),
        ("of nobody", by(&with(&|value| value["auth_typ"] = Value::Null))),
        ("larger than 64 KiB", by(&large)),
        ("another id beside it", by(&good).header("X-MS-CLIENT-PRINCIPAL-ID", STRANGER)),
        (
            "a listed id beside another",
            by(&oid(STRANGER)).header("X-MS-CLIENT-PRINCIPAL-ID", KNOWN),
        ),
        ("another provider beside it", by(&good).header("X-MS-CLIENT-PRINCIPAL-IDP", "google")),
        ("only the id", base().header("X-MS-CLIENT-PRINCIPAL-ID", KNOWN)),
        (
            "only what hangs on it",
            base()
                .header("X-MS-CLIENT-PRINCIPAL-ID", KNOWN)
                .header("X-MS-CLIENT-PRINCIPAL-IDP", "aad")
                .header("X-MS-CLIENT-PRINCIPAL-NAME", KNOWN),
        ),
        ("in the query", base().query(HEADER, &good)),
        ("as a cookie", base().header("Cookie", &format!("{HEADER}={good}"))),
    ];
    let mut found = Vec::new();
    for (case, ask) in &cases {
        for mode in Mode::BOTH {
            let (status, answer) = status(&handler, mode, ask).await;
            if status != 401
                || answer.headers.get("www-authenticate").map(String::as_str) != Some("Bearer")
            {
                found.push(format!("{case} {mode:?}: {status} {answer:?}"));
            }
        }
    }
    // Twice, as a line of its own each; the data of default mode has a list for them.
    for second in [&good, &oid(STRANGER)] {
        let twice = by(&good).header(HEADER, second);
        let (status, answer) = status(&handler, Mode::Forwarding, &twice).await;
        if status != 401 {
            found.push(format!("twice, forwarded: {answer:?}"));
        }
        for (first_name, second_name) in [(HEADER, None), (HEADER, Some("x-ms-client-principal"))] {
            let mut payload = base().payload();
            let headers = &mut payload["Data"]["req"]["Headers"];
            match second_name {
                None => headers[first_name] = json!([good, second]),
                Some(name) => {
                    headers[first_name] = json!([good]);
                    headers[name] = json!([second]);
                }
            }
            let reply = handler.invoke("Exports", &payload).await.expect(200);
            if reply.body["Outputs"]["res"]["statusCode"].as_u64() != Some(401) {
                found.push(format!("twice, as data, {second_name:?}: {reply:?}"));
            }
        }
    }
    // What the host makes of a key is no principal.
    let mut payload = base().payload();
    payload["Data"]["req"]["Identities"] = json!([{"AuthenticationType": "aad", "IsAuthenticated": true,
        "Claims": [{"Type": "oid", "Value": KNOWN}]}]);
    let reply = handler.invoke("Exports", &payload).await.expect(200);
    assert_eq!(reply.body["Outputs"]["res"]["statusCode"], 401, "{reply:?}");
    assert!(found.is_empty(), "{found:#?}");
    // With what goes along, it is somebody, however many groups there are.
    let many = principal(&[("oid", KNOWN), ("groups", &"g".repeat(30 << 10))]);
    for mode in Mode::BOTH {
        let whole = by(&good)
            .header("X-MS-CLIENT-PRINCIPAL-ID", KNOWN)
            .header("X-MS-CLIENT-PRINCIPAL-IDP", "aad")
            .header("X-MS-CLIENT-PRINCIPAL-NAME", "somebody@example.net");
        for ask in [whole, by(&many)] {
            handler.ask_raw(mode, &ask).await.expect(200);
        }
    }
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn nobody_does_nothing_and_the_timer_the_queue_and_health_need_nobody() {
    let world = world(30).await;
    let handler = start(&world, &listed()).await;
    let all = [
        ask("GET", "/exports"),
        ask("POST", "/exports"),
        ask("POST", "/exports").body("{\"dryRun\": true}"),
        ask("GET", "/exports/20240305T060000Z-1a2b3c4d"),
        ask("DELETE", "/exports/20240305T060000Z-1a2b3c4d"),
        ask("GET", "/assets"),
        ask("POST", "/assets").body("{}"),
        ask("GET", "/openapi.json"),
    ];
    for one in &all {
        for mode in Mode::BOTH {
            let answer = handler.ask_raw(mode, one).await;
            assert!(answer.work.is_empty(), "{answer:?}");
            answer.expect_error(401, "");
            let stranger = one.clone().header(HEADER, &oid(STRANGER));
            let answer = handler.ask_raw(mode, &stranger).await;
            assert!(answer.work.is_empty(), "{answer:?}");
            answer.expect_error(403, "");
        }
    }
    assert!(
        world.files().is_empty() && world.sim.requests().is_empty(),
        "nothing was done for them"
    );
    for mode in Mode::BOTH {
        let answer = handler.ask_raw(mode, &ask("GET", "/health")).await.expect(200);
        assert_eq!(answer.json(), json!({"status": "ok"}));
    }
    let work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
    assert_eq!(work.len(), 1);
    handler.carry(work, 1).await;
    handler.invoke("Maintenance", &timer(&Value::Null)).await.expect(200);
    let listed = handler.ask_raw(Mode::Default, &by(&oid(KNOWN))).await.expect(200).json();
    // Whatever the time of day, the maintenance may have opened today's slot as well.
    let mut runs = listed["value"].as_array().unwrap().iter();
    let run = runs.find(|run| run["slot"] == "2024-03-05T06:00:00Z").expect("the run of the slot");
    assert_eq!(run["status"], "complete", "{listed}");
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn without_a_list_it_is_whoever_is_signed_in_and_with_a_key_it_is_not_asked() {
    let world = world(5).await;
    let handler = start(&world, &[(ENTRA.0, ENTRA.1.to_owned())]).await;
    for mode in Mode::BOTH {
        handler.ask_raw(mode, &by(&oid(STRANGER))).await.expect(200);
        handler.ask_raw(mode, &ask("GET", "/exports")).await.expect(401);
    }
    handler.end().await.expect_quiet();
    // A list that is blank or misspelt is none that was left out: nobody is let in, and exports go on.
    for (name, text) in [("EASM_PRINCIPALS", " "), ("EASM_PRINCIPAL", KNOWN)] {
        let vars = [(ENTRA.0, ENTRA.1.to_owned()), (name, text.to_owned())];
        let handler = start(&world, &vars).await;
        for mode in Mode::BOTH {
            handler.ask_raw(mode, &by(&oid(STRANGER))).await.expect(503);
            handler.ask_raw(mode, &by(&oid(KNOWN))).await.expect(503);
            handler.ask_raw(mode, &ask("GET", "/health")).await.expect(503);
        }
        handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200);
        handler.end().await;
    }
    for auth in [None, Some("key".to_owned()), Some(String::new())] {
        let vars: Vec<_> = auth.map(|text| ("EASM_AUTH", text)).into_iter().collect();
        let handler = start(&world, &vars).await;
        for mode in Mode::BOTH {
            for text in ["", "!!", oid(STRANGER).as_str()] {
                handler.ask_raw(mode, &by(text)).await.expect(200);
            }
        }
        handler.end().await.expect_quiet();
    }
}

#[tokio::test]
async fn while_a_setting_is_wrong_or_the_platform_asks_nobody_nobody_is_let_in() {
    let world = world(5).await;
    let set = |list: &[(&'static str, &str)]| {
        list.iter().map(|(name, value)| (*name, (*value).to_owned())).collect::<Vec<_>>()
    };
    let off = [IN_AZURE[1], ("WEBSITE_AUTH_ENABLED", "False")];
    // Settings, and the problem that health names.
    let cases = [
        (set(&[("EASM_AUTH", "entra "), ("EASM_PRINCIPALS", "everybody")]), "settings"),
        (set(&[("EASM_AUTH", "anybody")]), "settings"),
        (set(&[ENTRA, ("EASM_PRINCIPALS", "me@example.net")]), "settings"),
        (set(&[ENTRA, ("EASM_PRINCIPALS", &format!("{KNOWN};{STRANGER}"))]), "settings"),
        (set(&[("EASM_AUTH", "key"), ("EASM_PRINCIPALS", KNOWN)]), "settings"),
        (set(&[ENTRA, off[0], off[1]]), "authorization"),
        (set(&[ENTRA, off[0], ("WEBSITE_AUTH_ENABLED", "0")]), "authorization"),
    ];
    let mut found = Vec::new();
    for (vars, problem) in cases {
        let handler = start(&world, &vars).await;
        for mode in Mode::BOTH {
            for ask in [
                by(&oid(KNOWN)),
                by(&oid(STRANGER)),
                ask("GET", "/assets"),
                ask("POST", "/exports"),
            ] {
                let answer = handler.ask_raw(mode, &ask).await;
                if answer.status != 503 {
                    found.push(format!("{vars:?} {mode:?}: {answer:?}"));
                }
            }
            let health = handler.ask_raw(mode, &ask("GET", "/health")).await;
            if health.status != 503 || !health.json()["problems"].to_string().contains(problem) {
                found.push(format!("{vars:?} {mode:?}: {health:?}"));
            }
        }
        handler.ping().await;
        handler.end().await;
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn who_called_is_nowhere_written_down() {
    let world = world(5).await;
    let mut vars = listed().to_vec();
    vars.push(("EASM_LOG", "trace".to_owned()));
    let handler = start(&world, &vars).await;
    let text = principal(&[
        ("oid", KNOWN),
        ("name", "Somebody Somewhere"),
        ("email", "some@body.example"),
    ]);
    for mode in Mode::BOTH {
        let ask =
            by(&text).header("X-MS-TOKEN-AAD-ACCESS-TOKEN", "eyJ0eXAi.canaryOfAPlatformToken.x");
        handler.ask_raw(mode, &ask).await.expect(200);
    }
    let logs = handler.end().await;
    let all = logs.stdout + &logs.stderr;
    for word in ["Somebody", "some@body", &text[40..80], "canaryOfAPlatformToken"] {
        assert!(!all.contains(word), "{word}: {all}");
    }
}
