use std::collections::{BTreeSet, HashMap};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::test_client::*;
use super::*;

#[tokio::test]
async fn a_cursor_covers_every_asset_exactly_once() {
    for seed in 1..4 {
        for size in ["1", "7", "64", "65", "100", "1000"] {
            let options = Options { seed, asset_bytes: 1, ..small() };
            let client = Client::new(options).await;
            let found = ids(&client.walk(NEWEST, "", size).await);
            let unique: BTreeSet<_> = found.iter().collect();
            assert_eq!((found.len(), unique.len()), (130, 130), "SEED={seed} size {size}");
        }
    }
}

#[tokio::test]
async fn what_is_served_is_the_truth_byte_for_byte() {
    for whitespace in [false, true] {
        let client = Client::new(Options { whitespace, ..small() }).await;
        for filter in ["", "kind = host", "createdAt >= \"2024-01-01T00:00:00.000Z\""] {
            let target = client.list(NEWEST, &[("filter", filter), ("maxpagesize", "100")]);
            let mut lines = Vec::new();
            for page in ["0", "1"] {
                let got = client.get(&format!("{target}&skip={page}")).await;
                lines.extend(raw_items(&got.body));
            }
            lines.sort();
            assert_eq!(lines, client.running.inventory().ndjson(filter), "{filter}");
        }
    }
}

/// The items of a page as they stand in it, white space between tokens removed.
fn raw_items(body: &[u8]) -> Vec<Vec<u8>> {
    let mut compact = Vec::new();
    let (mut in_string, mut escaped) = (false, false);
    for &byte in body {
        if !in_string && byte.is_ascii_whitespace() {
            continue;
        }
        compact.push(byte);
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        value: Vec<&'a serde_json::value::RawValue>,
    }
    let envelope: Envelope<'_> = serde_json::from_slice(&compact).unwrap();
    envelope.value.iter().map(|raw| raw.get().as_bytes().to_vec()).collect()
}

#[tokio::test]
async fn the_old_versions_have_the_old_envelope_and_each_version_its_dates() {
    let client = Client::new(small()).await;
    for (version, date_end) in [("2022-11-01-preview", "+00:00"), ("2023-03-01-preview", "+0000")] {
        let got = client.get(&client.list(version, &[("mark", "*")])).await.json();
        let old = version < "2023-03";
        for key in ["totalPages", "numberOfElements", "number", "size", "first", "last", "content"]
        {
            assert_eq!(got.get(key).is_some(), old, "{version} {key}");
        }
        assert_eq!(got.get("value").is_some(), !old);
        assert_eq!(got["totalElements"], 130);
        let item = &got[if old { "content" } else { "value" }][0];
        assert!(item["createdDate"].as_str().unwrap().ends_with(date_end));
        let link = got["nextLink"].as_str().unwrap();
        assert!(link.starts_with("https://eastus.easm-api-prod.trafficmanager.net/"));
        assert!(!link.contains(version));
    }
    let pages = client.walk("2022-11-01-preview", "", "25").await;
    assert_eq!(pages.len(), 6);
    let last = client.get(&client.list("2022-11-01-preview", &[("skip", "5")])).await.json();
    assert_eq!((&last["last"], &last["number"]), (&true.into(), &5.into()));
    assert_eq!(last["content"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn skip_is_a_page_index_without_a_mark() {
    let client = Client::new(small()).await;
    let all = ids(&client.walk(NEWEST, "", "100").await);
    let got =
        client.get(&client.list(NEWEST, &[("skip", "2"), ("maxpagesize", "50")])).await.json();
    assert!(got["mark"].is_null() && got.get("nextLink").is_none());
    assert_eq!(ids(&[got["value"].as_array().unwrap().clone()]), all[100..]);
}

#[tokio::test]
async fn marks_repeat_their_answer_need_encoding_and_belong_to_their_filter() {
    let client = Client::new(small()).await;
    let first = client.get(&client.list(NEWEST, &[("mark", "*")])).await.json();
    let mark = first["mark"].as_str().unwrap();
    assert!(['+', '/', '='].iter().all(|c| mark.contains(*c)));

    let again = client.list(NEWEST, &[("mark", mark)]);
    assert_eq!(client.get(&again).await.body, client.get(&again).await.body);

    for bad in [
        client.list(NEWEST, &[("mark", mark), ("filter", "kind = host")]),
        client.list(NEWEST, &[("mark", "AoE+/AAAA==")]),
        client.list(NEWEST, &[("mark", "")]),
        format!("{}&mark={mark}", client.list(NEWEST, &[])), // `+` not encoded
    ] {
        let got = client.get(&bad).await;
        assert_eq!((got.status, got.code().as_str()), (400, "InvalidMark"), "{bad}");
        assert_eq!(got.headers["x-ms-error-code"], "InvalidMark");
    }
}

#[tokio::test]
async fn every_way_to_end_a_cursor_ends_it() {
    for (end, n_pages) in [
        (EndOfCursor::NullMark, 3),
        (EndOfCursor::AbsentMark, 3),
        (EndOfCursor::RepeatedMark, 3),
        (EndOfCursor::EmptyPage, 4),
    ] {
        let client = Client::new(Options { end_of_cursor: end, ..small() }).await;
        let pages = client.walk(NEWEST, "", "50").await;
        assert_eq!(pages.len(), n_pages, "{end:?}");
        assert_eq!(ids(&pages).len(), 130);
        // Nothing to list is one empty page.
        let nothing = client.walk(NEWEST, "name = nobody", "50").await;
        assert!(nothing.len() == 1 && nothing[0].is_empty(), "{end:?}");
    }
}

#[tokio::test]
async fn a_cycle_shows_a_mark_again_and_an_endless_cursor_never_does() {
    for (cursor, n_different) in [(CursorFault::Cycle, 4), (CursorFault::Endless, 13)] {
        for filter in ["", "kind = as"] {
            let client = Client::new(Options { cursor, ..small() }).await;
            let mut marks = vec!["*".to_owned()];
            let mut first_ids = BTreeSet::new();
            for n in 0..12 {
                let params = [("mark", marks[n].as_str()), ("filter", filter)];
                let got = client.get(&client.list(NEWEST, &params)).await.json();
                first_ids.insert(got["value"][0]["id"].as_str().unwrap().to_owned());
                marks.push(got["mark"].as_str().unwrap().to_owned());
            }
            assert_eq!(marks.iter().collect::<BTreeSet<_>>().len(), n_different, "{cursor:?}");
            if cursor == CursorFault::Endless {
                assert_eq!(first_ids.len(), 1);
            }
        }
    }
}

#[tokio::test]
async fn duplicates_come_on_a_later_page_and_are_not_counted() {
    let client = Client::new(Options { duplicates: 0.2, assets: 1000, ..small() }).await;
    let pages = client.walk(NEWEST, "", "50").await;
    let all = ids(&pages);
    let unique: BTreeSet<_> = all.iter().collect();
    assert_eq!(unique.len(), 1000);
    assert!((150..260).contains(&(all.len() - 1000)), "{}", all.len());
    for page in &pages {
        let on_page = ids(std::slice::from_ref(page));
        assert_eq!(on_page.iter().collect::<BTreeSet<_>>().len(), on_page.len());
    }
    let got = client.get(&client.list(NEWEST, &[("mark", "*")])).await.json();
    assert_eq!(got["totalElements"], 1000);
}

#[tokio::test]
async fn assets_vanish_between_pages_and_the_others_all_come() {
    let client = Client::new(Options { shrink_after: Some((2, 30)), ..small() }).await;
    let found: BTreeSet<_> = ids(&client.walk(NEWEST, "", "25").await).into_iter().collect();
    let inventory = client.running.inventory();
    for i in 0..inventory.len() {
        assert!(inventory.vanishes(i) || found.contains(&inventory.id(i)));
    }
    let got = client.get(&client.list(NEWEST, &[("maxpagesize", "100")])).await.json();
    assert_eq!(got["totalElements"], 100);
    assert_eq!(got["value"].as_array().unwrap().len(), 100);
    assert_eq!(inventory.ndjson_after_shrink("").len(), 100);
    let gone = (0..130).find(|i| inventory.vanishes(*i)).unwrap();
    let target = format!("{}/assets/{}", client.workspace(), inventory.uuid(gone));
    assert_eq!(client.get(&format!("{target}?api-version={NEWEST}")).await.status, 404);
}

#[tokio::test]
async fn one_asset_is_found_by_id_base64_and_uuid() {
    let client = Client::new(small()).await;
    let inventory = client.running.inventory();
    for i in 0..40 {
        let id = inventory.id(i);
        let percent = text::query_encoded(&id).replace('+', "%20");
        let forms = [
            percent,
            text::query_encoded(&text::base64(id.as_bytes())),
            text::base64_url(id.as_bytes()),
            inventory.uuid(i),
        ];
        let mut want = Vec::new();
        inventory.line(i, &mut want);
        for form in forms {
            let target = format!("{}/assets/{form}?api-version={NEWEST}", client.workspace());
            let got = client.get(&target).await;
            assert_eq!(got.status, 200, "{id} as {form}");
            assert_eq!(got.body, want);
        }
    }
    let target = format!("{}/assets/host%24%24nobody?api-version=x", client.workspace());
    assert_eq!(client.get(&target).await.status, 404);
}

#[tokio::test]
async fn bad_calls_are_refused_with_the_error_body_of_the_service() {
    let client = Client::new(small()).await;
    let list = |params: &[(&str, &str)]| client.list(NEWEST, params);
    for (target, status) in [
        (format!("{}/assets", client.workspace()), 400),
        (list(&[("mark", "*"), ("skip", "0")]), 400),
        (list(&[("filter", "asn = 1")]), 400),
        (list(&[("maxpagesize", "many")]), 400),
        (list(&[]).replace("contoso", "fabrikam"), 404),
        (list(&[]).replace("/assets", "/assetz"), 404),
        (list(&[]).replace("rg-easm", "RG-EASM").replace("resourceGroups", "resourcegroups"), 200),
    ] {
        let got = client.get(&target).await;
        assert_eq!(got.status, status, "{target}");
        if status != 200 {
            assert!(got.json()["error"]["innererror"].is_null());
            assert_eq!(got.headers["x-ms-error-code"], got.code());
        }
        assert_eq!(got.headers["server"], "digitalfootprint-web");
        assert_eq!(got.headers["cache-control"], "no-store");
        assert!(got.headers.contains_key("x-ms-request-id"));
    }
    let got = client.get(&list(&[("filter", "kind = host and asn = 1")])).await;
    assert!(got.json()["error"]["message"].as_str().unwrap().contains("position 16"));
}

#[tokio::test]
async fn a_token_is_good_for_its_plane_only_until_it_expires() {
    let client = Client::new(small()).await;
    let (easm, arm) = (client.list(NEWEST, &[]), arm_list(&client));
    let arm_token = client.fresh_token(ARM).await;
    for (target, token, status) in [
        (&easm, client.token.as_str(), 200),
        (&arm, &arm_token, 200),
        (&easm, &arm_token, 401),
        (&arm, &client.token, 401),
        (&easm, "nonsense", 401),
    ] {
        let got = client.raw("GET", target, &format!("Authorization: Bearer {token}\r\n")).await;
        assert_eq!(got.status, status);
        assert_eq!(got.headers.contains_key("www-authenticate"), status == 401);
    }
    assert_eq!(client.raw("GET", &easm, "").await.status, 401);
    assert_eq!(client.token.split('.').count(), 3);
    assert_ne!(client.token, client.fresh_token(EASM).await);

    let client = Client::new(Options { token_seconds: 0, ..small() }).await;
    assert_eq!(client.get(&easm).await.status, 401);
}

#[tokio::test]
async fn tokens_are_revoked_once_in_the_middle_of_a_run() {
    let mut client = Client::new(Options { revoke_after: Some(2), ..small() }).await;
    let target = client.list(NEWEST, &[]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(client.get(&target).await.status);
    }
    client.token = client.fresh_token(EASM).await;
    for _ in 0..3 {
        seen.push(client.get(&target).await.status);
    }
    assert_eq!(seen, [200, 200, 401, 401, 200, 200, 200]);
}

#[tokio::test]
async fn the_identity_endpoint_says_what_it_does_not_like() {
    let client = Client::new(small()).await;
    let good = format!("api-version=2019-08-01&resource={EASM}/&client_id={APP_IDENTITY}");
    let got = client.identity(&good).await;
    assert_eq!(got.status, 200);
    let body = got.json();
    assert_eq!((&body["token_type"], &body["client_id"]), (&"Bearer".into(), &APP_IDENTITY.into()));
    assert!(body["expires_on"].as_str().unwrap().parse::<u64>().is_ok());
    assert_eq!(client.running.client_ids(), [None, Some(APP_IDENTITY.to_owned())]);

    assert_eq!(client.identity("api-version=2019-08-01").await.status, 400);
    assert_eq!(client.identity("api-version=2019-08-01&resource=https://x/").await.status, 400);
    assert_eq!(client.identity(&format!("resource={EASM}")).await.status, 400);
    let wrong = "X-IDENTITY-HEADER: wrong\r\n";
    assert_eq!(client.raw("GET", &format!("/msi/token?{good}"), wrong).await.status, 401);
}

fn arm_list(client: &Client) -> String {
    let subscription = &client.running.state().options().subscription_id;
    format!(
        "/subscriptions/{subscription}/providers/Microsoft.Easm/workspaces\
         ?api-version=2023-04-01-preview"
    )
}

#[tokio::test]
async fn arm_names_the_data_plane_as_a_bare_host() {
    let mut client = Client::new(small()).await;
    client.token = client.fresh_token(ARM).await;
    let list = arm_list(&client);
    let of_group = list.replace("/providers", "/RESOURCEGROUPS/rg-EASM/providers");
    let one = of_group.replace("Easm/workspaces", "easm/workspaces/CONTOSO");
    for (target, pointer) in [(&list, "/value/0"), (&of_group, "/value/0"), (&one, "")] {
        let got = client.get(target).await;
        assert_eq!(got.status, 200, "{target}");
        let body = got.json();
        let found = body.pointer(pointer).unwrap();
        assert_eq!(found["properties"]["dataPlaneEndpoint"], "eastus.easm.defender.microsoft.com");
        assert_eq!(found["location"], "eastus");
        assert!(found["id"].as_str().unwrap().contains("/resourcegroups/"));
    }
    for (target, code) in [
        (one.replace("CONTOSO", "other"), "ResourceNotFound"),
        (of_group.replace("rg-EASM", "other"), "ResourceGroupNotFound"),
        (list.replace("5ab5", "0000"), "SubscriptionNotFound"),
    ] {
        let got = client.get(&target).await;
        assert_eq!((got.status, got.code().as_str()), (404, code), "{target}");
    }
}

#[tokio::test]
async fn drawn_faults_repeat_by_seed_and_never_too_often_in_a_row() {
    async fn statuses(seed: u64, marks: &[&str]) -> Vec<u16> {
        let options = Options { seed, fault_rate: 0.6, asset_bytes: 1, assets: 8, ..small() };
        let client = Client::new(options).await;
        let mut seen = Vec::new();
        for skip in marks {
            for _ in 0..6 {
                let got = client.get(&client.list(NEWEST, &[("skip", skip)])).await;
                let spoiled =
                    got.status == 200 && serde_json::from_slice::<Value>(&got.body).is_err();
                seen.push(if spoiled { 1 } else { got.status });
            }
        }
        seen
    }
    let skips = ["0", "1", "2", "3", "4", "5", "6", "7"];
    let one = statuses(5, &skips).await;
    assert_eq!(one, statuses(5, &skips).await);
    assert_ne!(one, statuses(6, &skips).await);
    assert!(one.iter().filter(|s| **s != 200).count() > 10, "{one:?}");
    for of_request in one.chunks(6) {
        assert!(of_request.windows(3).all(|w| w.contains(&200)), "{of_request:?}");
    }
}

#[tokio::test]
async fn scripted_faults_strike_exactly_where_they_should() {
    let entry = Scripted {
        path_contains: "/assets".to_owned(),
        query_contains: "filter=kind = \"host\"".to_owned(),
        from: 1,
        times: 2,
        fault: Fault::Status { status: 429, retry_after: Some("7".to_owned()) },
    };
    let client = Client::new(Options { script: vec![entry], ..small() }).await;
    let (host, page) = ("kind = \"host\"", "kind = \"page\"");
    let mut seen = Vec::new();
    for filter in [host, page, host, page, host, host] {
        let got = client.get(&client.list(NEWEST, &[("filter", filter)])).await;
        assert_eq!(got.headers.contains_key("retry-after"), got.status == 429);
        seen.push(got.status);
    }
    assert_eq!(seen, [200, 200, 429, 200, 429, 200]);
    let log: Vec<u16> = client.running.requests().iter().skip(1).map(|s| s.status).collect();
    assert_eq!(log, seen);
}

#[tokio::test]
async fn each_fault_does_what_its_name_says() {
    async fn meet(fault: Fault) -> (Client, Got) {
        let client = Client::new(scripted(fault, 1)).await;
        let got = client.get(&client.list(NEWEST, &[])).await;
        let after = client.get(&client.list(NEWEST, &[])).await;
        assert_eq!(after.status, 200);
        after.json();
        (client, got)
    }
    let (client, got) = meet(Fault::Reset).await;
    assert_eq!((got.status, got.body.len()), (0, 0));
    assert_eq!(client.running.requests()[1].status, 0);

    let (_, got) = meet(Fault::CutBody).await;
    let announced: usize = got.headers["content-length"].parse().unwrap();
    assert_eq!((got.status, got.body.len()), (200, announced / 2));

    let (_, got) = meet(Fault::Truncated).await;
    assert_eq!(got.headers["content-length"], got.body.len().to_string());
    assert!(got.body.len() > 1000 && serde_json::from_slice::<Value>(&got.body).is_err());

    let (_, got) = meet(Fault::Garbage).await;
    assert!(got.status == 200 && serde_json::from_slice::<Value>(&got.body).is_err());

    let (_, got) = meet(Fault::NotJson(502)).await;
    assert_eq!((got.status, got.headers["content-type"].as_str()), (502, "text/html"));

    let (_, got) = meet(Fault::Redirect("http://127.0.0.1:1/x".to_owned())).await;
    assert_eq!((got.status, got.headers["location"].as_str()), (302, "http://127.0.0.1:1/x"));

    let (client, got) = meet(Fault::EchoToken(400)).await;
    assert!(String::from_utf8(got.body).unwrap().contains(&client.token));

    let started = std::time::Instant::now();
    let (_, got) = meet(Fault::Slow(Duration::from_millis(50))).await;
    assert!(got.status == 200 && started.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn stopping_does_not_wait_for_answers_that_never_end() {
    for fault in [Fault::Hang, Fault::EndlessBody] {
        let client = Client::new(scripted(fault.clone(), 9)).await;
        let mut tcp = TcpStream::connect(client.running.addr()).await.unwrap();
        let target = client.list(NEWEST, &[]);
        let head = format!("GET {target} HTTP/1.1\r\nHost: sim\r\n\r\n");
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut some = vec![0; 100_000];
        if fault == Fault::EndlessBody {
            tcp.read_exact(&mut some).await.unwrap();
        } else {
            let wait = tokio::time::timeout(Duration::from_millis(50), tcp.read(&mut some));
            assert!(wait.await.is_err());
        }
        let drained = tokio::spawn(async move {
            let _cut = tcp.read_to_end(&mut Vec::new()).await;
        });
        let started = std::time::Instant::now();
        client.running.stop().await;
        assert!(started.elapsed() < STOP_MAX * 2);
        tokio::time::timeout(STOP_MAX, drained).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn gzip_is_honoured_where_it_is_switched_on() {
    use std::io::Read as _;
    for gzip in [false, true] {
        let client = Client::new(Options { gzip, ..small() }).await;
        let auth = format!("Authorization: Bearer {}\r\nAccept-Encoding: gzip\r\n", client.token);
        let target = client.list(NEWEST, &[]);
        let got = client.raw("GET", &target, &auth).await;
        assert_eq!(got.headers.contains_key("content-encoding"), gzip);
        let mut body = got.body.clone();
        if gzip {
            body.clear();
            flate2::read::GzDecoder::new(&got.body[..]).read_to_end(&mut body).unwrap();
        }
        assert_eq!(body, client.get(&target).await.body);
    }
}

#[tokio::test]
async fn the_settings_point_at_the_simulator() {
    let running = Simulator::start(Options::default()).await.unwrap();
    let settings: HashMap<_, _> = running.settings().into_iter().collect();
    assert_eq!(settings.len(), 9);
    assert_eq!(settings["EASM_DATA_PLANE_URL"], running.url());
    assert_eq!(settings["IDENTITY_ENDPOINT"], format!("{}/msi/token", running.url()));
    assert!(!settings["IDENTITY_HEADER"].is_empty());
    running.stop().await;
}
