//! `EASM_AUTH=entra`: who is let in by what the platform's authentication passes on, seen as the host sees
//! it.

use serde_json::json;

use super::functions::post;
use super::functions_host::{Handler, Mode, assert_documented, principal};
use super::functions_payload::{Ask, SLOT, ask, slot};
use super::world;
use crate::support::World;

const USER: &str = "11111111-2222-3333-4444-aaaaaaaaaaaa";
const APP: &str = "66666666-7777-8888-9999-bbbbbbbbbbbb";
const STRANGER: &str = "00000000-0000-0000-0000-00000000000c";
const HEADER: &str = "X-MS-CLIENT-PRINCIPAL";
/// Names and values.
type Vars<'a> = &'a [(&'a str, &'a str)];

const ENTRA: (&str, &str) = ("EASM_AUTH", "entra");

/// HTTP functions that do not let in everybody.
const SHUT: [&str; 3] = ["/exports", "/assets", "/openapi.json"];

/// A world whose HTTP functions demand no key at the host.
async fn open_world() -> World {
    let world = world(20).await;
    for name in ["Exports", "Assets", "OpenApi", "Health"] {
        let folder = world.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let binding = json!({"type": "httpTrigger", "direction": "in", "name": "req",
            "authLevel": "anonymous", "route": name.to_lowercase()});
        let text =
            json!({"bindings": [binding, {"type": "http", "direction": "out", "name": "res"}]});
        std::fs::write(folder.join("function.json"), text.to_string()).unwrap();
    }
    world
}

/// `ask` of the user `id`.
fn by(ask: Ask, id: &str) -> Ask {
    let claims = principal(&[("oid", id), ("sub", "a-subject"), ("name", "Somebody Somewhere")]);
    ask.header(HEADER, &claims).header("X-MS-CLIENT-PRINCIPAL-ID", id)
}

#[tokio::test]
async fn with_entra_whoever_is_signed_in_and_listed_is_answered_and_nobody_else() {
    let world = open_world().await;
    let listed = format!("{STRANGER}, {}, {APP}", USER.to_uppercase());
    let of_app = principal(&[
        ("oid", "33333333-2222-3333-4444-aaaaaaaaaaaa"),
        ("azp", APP),
        ("idtyp", "app"),
    ]);
    let listed = listed.replace(STRANGER, APP);
    for (principals, status_of_others) in [(Some(&listed), 403), (None, 200)] {
        let list = principals.map(|principals| ("EASM_PRINCIPALS", principals.as_str()));
        let vars: Vec<_> = [ENTRA].into_iter().chain(list).collect();
        let handler = Handler::start(&world, &vars).await;
        let document = handler.ask_raw(Mode::Default, &by(ask("GET", "/openapi.json"), USER)).await;
        let document = document.expect(200).json();
        assert_eq!(document["security"], json!([{"entra": []}]));
        for mode in Mode::BOTH {
            for path in SHUT {
                let ask = ask("GET", path);
                let answer = handler.ask_raw(mode, &ask).await.expect_error(401, "sign in");
                assert_eq!(answer.headers["www-authenticate"], "Bearer");
                assert_documented(&document, &ask, &answer);
                let answer = handler.ask_raw(mode, &by(ask.clone(), STRANGER)).await;
                let answer = answer.expect(status_of_others);
                assert!(status_of_others == 200 || answer.body.contains(STRANGER), "{answer:?}");
                assert_documented(&document, &ask, &answer);
                handler.ask_raw(mode, &by(ask.clone(), USER)).await.expect(200);
                handler.ask_raw(mode, &ask.header(HEADER, &of_app)).await.expect(200);
            }
            // Nobody opens a run without.
            handler.ask_raw(mode, &post(&json!({}))).await.expect(401);
            let health = handler.ask_raw(mode, &ask("GET", "/health")).await.expect(200);
            assert_documented(&document, &ask("GET", "/health"), &health);
        }
        handler.end().await.expect_quiet();
    }
}

#[tokio::test]
async fn headers_that_do_not_prove_who_calls_let_nobody_in() {
    let world = open_world().await;
    let handler = Handler::start(&world, &[ENTRA]).await;
    let good = principal(&[("oid", USER)]);
    let twice = format!("{good}, {good}");
    let other = format!("{USER},{STRANGER}");
    let cases: [Vars; 7] = [
        &[("X-MS-CLIENT-PRINCIPAL-ID", USER), ("X-MS-CLIENT-PRINCIPAL-IDP", "aad")],
        &[(HEADER, "not base64")],
        &[(HEADER, &twice)],
        &[(HEADER, &good), ("x-ms-client-principal", &good)],
        &[(HEADER, &good), ("X-MS-CLIENT-PRINCIPAL-ID", STRANGER)],
        &[(HEADER, &good), ("X-MS-CLIENT-PRINCIPAL-ID", &other)],
        &[(HEADER, &good), ("X-MS-CLIENT-PRINCIPAL-IDP", "github")],
    ];
    for mode in Mode::BOTH {
        for headers in cases {
            let with = |ask: Ask, (name, value): &(&str, &str)| ask.header(name, value);
            let ask = headers.iter().fold(ask("GET", "/openapi.json"), with);
            handler.ask_raw(mode, &ask).await.expect_error(401, "");
        }
    }
    handler.end().await.expect_quiet();
}

#[tokio::test]
async fn timers_and_the_queue_need_nobody_to_be_signed_in() {
    let world = open_world().await;
    let handler = Handler::start(&world, &[ENTRA, ("EASM_PRINCIPALS", USER)]).await;
    let work = handler.invoke("ExportTimer", &slot(SLOT)).await.expect(200).work();
    handler.carry(work, 1).await;
    let listed = handler.ask_raw(Mode::Forwarding, &by(ask("GET", "/exports"), USER)).await;
    assert_eq!(listed.expect(200).json()["value"][0]["status"], "complete");
    handler.end().await.expect_quiet();
}

/// Whatever is wrong with what says who may call, it lets in nobody.
#[tokio::test]
async fn settings_that_do_not_say_who_may_call_shut_all_functions_but_health() {
    let world = open_world().await;
    let off = [ENTRA, ("WEBSITE_SITE_NAME", "easm"), ("WEBSITE_AUTH_ENABLED", "False")];
    let cases: [(Vars, &str, &str); 6] = [
        (&[("EASM_AUTH", "none")], "EASM_AUTH", "settings"),
        (&[ENTRA, ("EASM_PRINCIPALS", "somebody")], "EASM_PRINCIPALS", "settings"),
        (&[ENTRA, ("EASM_PRINCIPALS", ",")], "EASM_PRINCIPALS", "settings"),
        (&[("EASM_PRINCIPALS", USER)], "EASM_PRINCIPALS", "settings"),
        // Nothing stands in front of functions that demand nothing.
        (&[], "authLevel", "authorization"),
        (&off, "authentication is off", "authorization"),
    ];
    for (vars, word, problem) in cases {
        let handler = Handler::start(&world, vars).await;
        for mode in Mode::BOTH {
            for path in SHUT {
                let answer = handler.ask_raw(mode, &by(ask("GET", path), USER)).await;
                answer.expect_error(503, word);
            }
            let health = handler.ask_raw(mode, &ask("GET", "/health")).await.expect(503);
            let problems = &health.json()["problems"];
            assert!(problems.as_array().unwrap().contains(&json!(problem)), "{vars:?}: {problems}");
        }
        handler.end().await;
    }
}

#[tokio::test]
async fn in_azure_a_platform_that_is_silent_is_warned_of_once_and_one_that_is_on_is_trusted() {
    let world = open_world().await;
    for (said, n_warnings) in [("True", 0), ("", 1)] {
        let vars = [ENTRA, ("WEBSITE_SITE_NAME", "easm"), ("WEBSITE_AUTH_ENABLED", said)];
        let handler = Handler::start(&world, &vars).await;
        for mode in Mode::BOTH {
            let of_user = by(ask("GET", "/openapi.json"), USER);
            handler.ask_raw(mode, &of_user).await.expect(200);
            handler.ask_raw(mode, &ask("GET", "/openapi.json")).await.expect(401);
        }
        let logs = handler.end().await.expect_quiet();
        assert_eq!(logs.stdout.matches("WEBSITE_AUTH_ENABLED").count(), n_warnings, "{said}");
    }
}

#[tokio::test]
async fn of_who_calls_the_log_has_the_object_id_and_nothing_else() {
    let world = open_world().await;
    let handler = Handler::start(&world, &[ENTRA, ("EASM_LOG", "trace")]).await;
    for mode in Mode::BOTH {
        handler.ask_raw(mode, &by(ask("GET", "/openapi.json"), USER)).await.expect(200);
    }
    let logs = handler.end().await.expect_quiet();
    assert!(logs.stdout.contains(USER), "{}", logs.stdout);
    let header = principal(&[("oid", USER), ("sub", "a-subject"), ("name", "Somebody Somewhere")]);
    for word in ["Somebody", "a-subject", &header[..40], &header[header.len() - 40..]] {
        assert!(!logs.stdout.contains(word), "{word}: {}", logs.stdout);
    }
}
