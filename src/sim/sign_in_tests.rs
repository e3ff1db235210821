//! Who gets a token from whom, what it opens, and how each refusal looks.

use std::collections::HashMap;

use tokio::net::TcpStream;

use super::test_client::*;
use super::*;

const APP_IDENTITY_OBJECT: &str = "0b1ec700-51d0-4000-8000-00000000b001";
const JWT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn with_assertion<'a>(assertion: &'a str, scope: &'a str) -> [(&'a str, &'a str); 5] {
    let [grant, client, _, scope] = with_secret("", scope);
    [grant, client, ("client_assertion", assertion), ("client_assertion_type", JWT), scope]
}

/// Statuses of the data plane and of ARM for tokens of these planes, and ARM's code.
async fn opened(client: &Client, easm: &str, arm: &str) -> (u16, u16, String) {
    let subscription = &client.running.state().options().subscription_id;
    let workspaces = format!(
        "/subscriptions/{subscription}/providers/Microsoft.Easm/workspaces?api-version=2023-04-01-preview"
    );
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let data = client.raw("GET", &client.list(NEWEST, &[]), &bearer(easm)).await;
    let arm = client.raw("GET", &workspaces, &bearer(arm)).await;
    let code = arm.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    if data.status == 403 {
        assert_eq!(data.code(), "AuthorizationFailed");
        for (got, action) in [(&data, "assets/read"), (&arm, "workspaces/read")] {
            let message = got.json()["error"]["message"].to_string();
            assert!(message.contains("with object id '") && message.contains(action), "{message}");
        }
    }
    (data.status, arm.status, code)
}

#[tokio::test]
async fn an_app_with_its_secret_gets_a_token_for_each_plane() {
    let client = Client::new(small()).await;
    let secret = secret(&client.running);
    let told = sign_in(&client.running, &with_secret(&secret, EASM_SCOPE)).await;
    let body = told.json();
    assert_eq!(told.status, 200);
    assert_eq!(
        (&body["token_type"], &body["expires_in"], &body["ext_expires_in"]),
        (&"Bearer".into(), &3600.into(), &3600.into())
    );
    let arm = "https://management.azure.com//.default";
    let arm = sign_in(&client.running, &with_secret(&secret, arm)).await.token();
    assert_eq!(opened(&client, &told.token(), &arm).await, (200, 200, String::new()));

    let issued = client.running.issued(&told.token()).unwrap();
    assert_eq!((issued.audience, issued.tenant_id.as_str()), (Audience::Easm, TENANT));
    assert_eq!(issued.client_id.as_deref(), Some(APP_CLIENT_ID));
    let claims = tokens::claims(&told.token()).unwrap();
    for (name, want) in [
        ("aud", EASM),
        ("iss", &format!("https://sts.windows.net/{TENANT}/")),
        ("tid", TENANT),
        ("oid", &issued.object_id),
        ("appid", APP_CLIENT_ID),
        ("ver", "1.0"),
    ] {
        assert_eq!(claims[name], want, "{name}");
    }
    let times = ["iat", "nbf", "exp"].map(|name| claims[name].as_u64().unwrap());
    assert_eq!([times[1] - times[0], times[2] - times[0]], [0, 3600]);
    let claims = tokens::claims(&arm).unwrap();
    assert_eq!(claims["aud"], "https://management.azure.com");
    let found = client.running.issued(&format!("Bearer {}", told.token()));
    assert_eq!(found, Some(issued), "a whole header will do");
    let seen = client.running.requests();
    let of_entra: Vec<_> = seen.iter().filter(|seen| seen.path.ends_with("/token")).collect();
    assert_eq!((of_entra[1].method.as_str(), of_entra[1].status), ("POST", 200));
}

#[tokio::test]
async fn an_app_is_let_in_by_what_it_trusts() {
    let client = Client::new(small()).await;
    for assertion in [
        client.fresh_token(EXCHANGE).await,
        client.fresh_token(&format!("{EXCHANGE}&client_id={APP_IDENTITY}")).await,
        client.fresh_token(&format!("{EXCHANGE}&object_id={APP_IDENTITY_OBJECT}")).await,
        client.running.workload_token(),
    ] {
        let [easm, arm] = [EASM_SCOPE, "https://management.azure.com/.default"];
        let easm = sign_in(&client.running, &with_assertion(&assertion, easm)).await.token();
        let arm = sign_in(&client.running, &with_assertion(&assertion, arm)).await.token();
        assert_eq!(opened(&client, &easm, &arm).await, (200, 200, String::new()));
        let issued = client.running.issued(&easm).unwrap();
        assert_eq!(issued.client_id.as_deref(), Some(APP_CLIENT_ID), "not the identity's");
    }
    let claims = tokens::claims(&client.running.workload_token()).unwrap();
    assert_eq!((&claims["sub"], &claims["aud"][0]), (&WORKLOAD_SUBJECT.into(), &EXCHANGE.into()));
}

#[tokio::test]
async fn each_refusal_has_its_code_and_repeats_the_form() {
    let running = Simulator::start(small()).await.unwrap();
    let client = Client { running, token: String::new() };
    let running = &client.running;
    let good = secret(running);
    let other = client.fresh_token(&format!("{EXCHANGE}&client_id={OTHER_IDENTITY}")).await;
    let access = client.fresh_token(EASM).await;
    let form = with_secret(&good, EASM_SCOPE);
    let without = |name: &str| -> Vec<_> { form.into_iter().filter(|(n, _)| *n != name).collect() };
    let with = |name: &'static str, value: &'static str| -> Vec<_> {
        without(name).into_iter().chain([(name, value)]).collect()
    };
    let unsigned = format!("e30.{}.x", text::base64_url(br#"{"iss":"i","sub":"s","aud":"a"}"#));
    let mut both = with_assertion(&other, EASM_SCOPE).to_vec();
    both.push(("client_secret", &good));
    let cases = [
        (without("grant_type"), 400, "invalid_request", 900_144),
        (without("client_id"), 400, "invalid_request", 900_144),
        (without("scope"), 400, "invalid_request", 900_144),
        (without("client_secret"), 401, "invalid_client", 7_000_218),
        (with("grant_type", "password"), 400, "unsupported_grant_type", 70_003),
        (with("client_id", OTHER_IDENTITY), 400, "unauthorized_client", 700_016),
        (with("client_secret", "canary~wrong"), 401, "invalid_client", 7_000_215),
        (with("scope", "https://easm.example/.default"), 400, "invalid_resource", 500_011),
        (with("scope", EASM), 400, "invalid_scope", 1_002_012),
        (with("scope", "openid https://vault.azure.net/.default"), 400, "invalid_scope", 1_002_012),
        (both, 400, "invalid_request", 9_002_313),
        (with_assertion(&other, EASM_SCOPE).to_vec(), 400, "invalid_request", 700_213),
        (with_assertion(&access, EASM_SCOPE).to_vec(), 400, "invalid_request", 70_021),
        (with_assertion(&unsigned, EASM_SCOPE).to_vec(), 400, "invalid_request", 70_021),
        (with_assertion("nonsense", EASM_SCOPE).to_vec(), 400, "invalid_request", 50_027),
    ];
    for (form, status, error, code) in cases {
        let told = sign_in(running, &form).await;
        assert_eq!(told.refusal(), (status, error.to_owned(), code), "{form:?}");
        check_shape(&told, code, &form);
    }
    let told = post(running, "contoso.example", &encoded(&form)).await;
    assert_eq!(told.refusal(), (400, "invalid_request".to_owned(), 90_002));
    check_shape(&told, 90_002, &form);
}

/// Fails unless a refusal has every member that Entra's have, and the form.
#[track_caller]
fn check_shape(told: &Told, code: u64, form: &[(&str, &str)]) {
    let body = told.json();
    let description = body["error_description"].as_str().unwrap();
    assert!(description.starts_with(&format!("AADSTS{code}: ")), "{description}");
    assert!(description.contains(&encoded(form)), "{description}");
    for (_, value) in form {
        assert!(description.contains(value), "{value}: {description}");
    }
    for name in ["timestamp", "trace_id", "correlation_id"] {
        assert!(description.contains(body[name].as_str().unwrap()), "{name}");
    }
    let uri = format!("https://login.microsoftonline.com/error?code={code}");
    assert_eq!(body["error_uri"], uri);
}

#[tokio::test]
async fn an_app_is_refused_as_its_options_say() {
    for (refusal, status, error, code, also_assertion) in [
        (Refusal::SecretExpired, 401, "invalid_client", 7_000_222, false),
        (Refusal::ConditionalAccess, 400, "invalid_grant", 53_003, true),
        (Refusal::Disabled, 400, "unauthorized_client", 7_000_112, true),
        (Refusal::Throttled, 429, "temporarily_unavailable", 90_055, true),
    ] {
        let running = Simulator::start(app(|app| app.refusal = Some(refusal))).await.unwrap();
        let (secret, workload) = (secret(&running), running.workload_token());
        let form = with_secret(&secret, EASM_SCOPE);
        let told = sign_in(&running, &form).await;
        assert_eq!(told.refusal(), (status, error.to_owned(), code), "{refusal:?}");
        assert_eq!(told.retry_after.as_deref(), (status == 429).then_some("1"), "{refusal:?}");
        check_shape(&told, code, &form);
        let told = sign_in(&running, &with_assertion(&workload, EASM_SCOPE)).await;
        assert_eq!(told.status != 200, also_assertion, "{refusal:?}");
    }
    let running = Simulator::start(app(|app| app.secret = None)).await.unwrap();
    let told = sign_in(&running, &with_secret("anything", EASM_SCOPE)).await;
    assert_eq!(told.refusal().2, 7_000_215);
    let nobody = app(|app| app.trusts.clear());
    let running = Simulator::start(nobody).await.unwrap();
    let workload = running.workload_token();
    let told = sign_in(&running, &with_assertion(&workload, EASM_SCOPE)).await;
    assert_eq!(told.refusal().2, 700_213);
}

#[tokio::test]
async fn an_assertion_opens_until_it_expires_and_whatever_is_revoked() {
    let client = Client::new(Options { token_seconds: 0, ..small() }).await;
    let assertion = client.fresh_token(EXCHANGE).await;
    let told = sign_in(&client.running, &with_assertion(&assertion, EASM_SCOPE)).await;
    assert_eq!(told.refusal(), (401, "invalid_client".to_owned(), 700_024));
    assert!(client.running.issued(&assertion).is_some(), "known after its end");

    let client = Client::new(Options { revoke_after: Some(0), ..small() }).await;
    let assertion = client.fresh_token(EXCHANGE).await;
    assert_eq!(client.get(&client.list(NEWEST, &[])).await.status, 401);
    let of_system = client.running.issued(&client.token).unwrap();
    assert_eq!((of_system.audience, of_system.client_id), (Audience::Easm, None));
    let form = with_assertion(&assertion, EASM_SCOPE);
    assert_eq!(sign_in(&client.running, &form).await.status, 200);
}

#[tokio::test]
async fn planes_refuse_other_tenants_and_whoever_has_no_role() {
    let home = "0e0e0e0e-51d0-4000-8000-00000000403e";
    let client = Client::new(Options { home_tenant_id: home.to_owned(), ..small() }).await;
    let arm = client.fresh_token(ARM).await;
    let code = "InvalidAuthenticationTokenTenant";
    assert_eq!(opened(&client, &client.token, &arm).await, (401, 401, code.to_owned()));
    assert_eq!(client.running.issued(&arm).unwrap().tenant_id, home);
    // The same identity, by way of the app, is let in.
    let assertion = client.fresh_token(EXCHANGE).await;
    let [easm, arm] = [EASM_SCOPE, "https://management.azure.com/.default"];
    let easm = sign_in(&client.running, &with_assertion(&assertion, easm)).await.token();
    let arm = sign_in(&client.running, &with_assertion(&assertion, arm)).await.token();
    assert_eq!(opened(&client, &easm, &arm).await.0, 200);
    // At home there is no such app.
    let form = encoded(&with_assertion(&assertion, EASM_SCOPE));
    assert_eq!(post(&client.running, home, &form).await.refusal().2, 700_016);

    let mut options = app(|app| app.has_role = false);
    options.identities[0].has_role = false;
    let client = Client::new(options).await;
    let denied = (403, 403, "AuthorizationFailed".to_owned());
    let arm = client.fresh_token(ARM).await;
    assert_eq!(opened(&client, &client.token, &arm).await, denied);
    let secret = secret(&client.running);
    let easm = sign_in(&client.running, &with_secret(&secret, EASM_SCOPE)).await.token();
    let arm = "https://management.azure.com/.default";
    let arm = sign_in(&client.running, &with_secret(&secret, arm)).await.token();
    assert_eq!(opened(&client, &easm, &arm).await, denied);
}

#[tokio::test]
async fn an_assertion_of_another_tenant_is_trusted_by_nobody() {
    let home = "0e0e0e0e-51d0-4000-8000-00000000403e";
    for (home, want) in [(TENANT, None), (home, Some(70_021))] {
        let probe = Simulator::start(small()).await.unwrap();
        let exchange = format!("{EXCHANGE}/.default");
        let secret = secret(&probe);
        let form = with_secret(&secret, &exchange);
        let subject = probe.issued(&sign_in(&probe, &form).await.token()).unwrap().object_id;
        let mut options = app(|app| app.trusts = vec![subject]);
        options.home_tenant_id = home.to_owned();
        let running = Simulator::start(options).await.unwrap();
        let assertion = sign_in(&running, &form).await.token();
        let told = sign_in(&running, &with_assertion(&assertion, EASM_SCOPE)).await;
        assert_eq!(told.json()["error_codes"][0].as_u64(), want, "{home}");
    }
}

#[tokio::test]
async fn an_identity_that_does_not_exist_is_refused_as_app_service_does() {
    let mut options = small();
    options.identities.remove(0);
    let running = Simulator::start(options).await.unwrap();
    let client = Client { running, token: String::new() };
    for (query, want) in [
        ("", "Unable to load the proper Managed Identity."),
        (
            "&client_id=nobody",
            "No User Assigned or Delegated Managed Identity found for specified \
             ClientId/ResourceId/PrincipalId.",
        ),
        (
            "&object_id=nobody",
            "No User Assigned or Delegated Managed Identity found for specified \
             ClientId/ResourceId/PrincipalId.",
        ),
    ] {
        let got = client.identity(&format!("api-version=2019-08-01&resource={EASM}{query}")).await;
        let want = serde_json::json!({"statusCode": 400, "message": want});
        assert_eq!((got.status, got.json()), (400, want), "{query}");
    }
    for resource in ["https://storage.azure.com/", "https://vault.azure.net", EXCHANGE, EASM] {
        let query = format!("api-version=2019-08-01&resource={resource}&client_id={APP_IDENTITY}");
        assert_eq!(client.identity(&query).await.status, 200, "{resource}");
    }
}

#[tokio::test]
async fn faults_of_the_script_and_limits_hold_for_entra_too() {
    let entry = Scripted {
        path_contains: "/oauth2/v2.0/token".to_owned(),
        query_contains: String::new(),
        from: 0,
        times: 1,
        fault: Fault::Status { status: 503, retry_after: None },
    };
    let running = Simulator::start(Options { script: vec![entry], ..small() }).await.unwrap();
    let secret = secret(&running);
    for status in [503, 200] {
        let told = sign_in(&running, &with_secret(&secret, EASM_SCOPE)).await;
        assert_eq!(told.status, status);
    }
    let long = "a".repeat(http::FORM_BYTES_MAX + 1);
    assert_eq!(post(&running, TENANT, &long).await.status, 413);
    let plain = http(&running).build().unwrap();
    for (path, status) in [(format!("/{TENANT}/oauth2/v2.0/token"), 400), ("/x".to_owned(), 404)] {
        let got = plain.get(format!("{}{path}", running.authority())).send().await.unwrap();
        assert_eq!(got.status(), status, "GET {path}");
    }
    let statuses: Vec<u16> = running.requests().iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [503, 200, 413, 400, 404]);
}

#[tokio::test]
async fn its_authority_vouches_for_other_servers() {
    let running = Simulator::start(small()).await.unwrap();
    let (certificate, key) = running.certificate(&["vault.example"]);
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ));
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let tls = tls.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let tls = Arc::new(tls.with_single_cert(chain, key).unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let config = axum_server::tls_rustls::RustlsConfig::from_config(tls);
    let server = axum_server::from_tcp_rustls(listener, config).unwrap();
    let app = Router::new().fallback(async || "hello");
    let serving = tokio::spawn(server.serve(app.into_make_service()));
    let trusting = http(&running).resolve("vault.example", addr).build().unwrap();
    let url = format!("https://vault.example:{}/", addr.port());
    assert_eq!(trusting.get(url).send().await.unwrap().text().await.unwrap(), "hello");
    let wrong_name = format!("https://127.0.0.1:{}/", addr.port());
    assert!(trusting.get(wrong_name).send().await.is_err());
    serving.abort();
}

#[tokio::test]
async fn stopping_closes_every_door_and_leaves_no_file() {
    let entry = Scripted {
        path_contains: "/oauth2/".to_owned(),
        query_contains: String::new(),
        from: 1,
        times: 9,
        fault: Fault::Hang,
    };
    let running = Simulator::start(Options { script: vec![entry], ..small() }).await.unwrap();
    let doors = [running.url(), running.authority(), running.vault_url()];
    let doors = doors.map(|url| url.split("//").nth(1).unwrap().to_owned());
    let (ca, workload) = (running.ca_file().to_owned(), running.workload_file());
    assert!(ca.exists() && workload.exists());
    let (secret, keeps_open) = (secret(&running), http(&running).build().unwrap());
    let url = format!("{}/{TENANT}/oauth2/v2.0/token", running.authority());
    let form = encoded(&with_secret(&secret, EASM_SCOPE));
    let request = || keeps_open.post(&url).body(form.clone()).send();
    assert_eq!(request().await.unwrap().status(), 200);
    let hangs = tokio::spawn(request());
    while running.requests().len() < 2 {
        tokio::task::yield_now().await;
    }
    let started = std::time::Instant::now();
    running.stop().await;
    assert!(started.elapsed() < STOP_MAX);
    assert!(hangs.await.unwrap().is_err());
    for door in &doors {
        assert!(TcpStream::connect(door).await.is_err(), "{door} is open");
    }
    assert!(!ca.exists() && !workload.exists());

    let running = Simulator::start(small()).await.unwrap();
    let doors = [running.url(), running.authority(), running.vault_url()];
    drop(running);
    for url in doors {
        let door = url.split("//").nth(1).unwrap();
        let limit = tokio::time::Instant::now() + STOP_MAX;
        while TcpStream::connect(door).await.is_ok() {
            assert!(tokio::time::Instant::now() < limit, "{door} is open");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn each_way_to_sign_in_has_the_settings_that_it_needs_and_no_others() {
    let running = Simulator::start(small()).await.unwrap();
    assert_eq!(running.settings(), running.settings_for(SignIn::ManagedIdentity));
    let entra = ["AZURE_AUTHORITY_HOST", "SSL_CERT_FILE"];
    let identity = ["IDENTITY_ENDPOINT", "IDENTITY_HEADER"];
    let vault = ["EASM_CLIENT_SECRET_NAME", "EASM_KEY_VAULT_URL"];
    let workload = ["AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID"];
    for (sign_in, want) in [
        (SignIn::ManagedIdentity, identity.to_vec()),
        (SignIn::ClientSecret, [&entra[..], &["EASM_CLIENT_ID", "EASM_CLIENT_SECRET"]].concat()),
        (SignIn::KeyVault, [&entra[..], &identity, &["EASM_CLIENT_ID"], &vault].concat()),
        (SignIn::Federated, [&entra[..], &identity, &["EASM_CLIENT_ID"]].concat()),
        (SignIn::WorkloadIdentity, [&entra[..], &workload].concat()),
    ] {
        let settings = running.settings_for(sign_in);
        let names: Vec<&str> = settings.iter().skip(7).map(|(name, _)| *name).collect();
        assert_eq!(names, want, "{sign_in:?}");
        let settings: HashMap<_, _> = settings.into_iter().collect();
        assert_eq!(settings["EASM_CREDENTIAL"], sign_in.as_str());
        for file in ["SSL_CERT_FILE", "AZURE_FEDERATED_TOKEN_FILE"] {
            let path = settings.get(file);
            assert!(path.is_none_or(|path| Path::new(path).exists()), "{file}");
        }
        if let Some(file) = settings.get("AZURE_FEDERATED_TOKEN_FILE") {
            assert_eq!(fs::read_to_string(file).unwrap(), running.workload_token());
        }
        if let Some(found) = settings.get("EASM_CLIENT_SECRET") {
            assert_eq!(found, &secret(&running));
        }
        if let Some(name) = settings.get("EASM_CLIENT_SECRET_NAME") {
            assert_eq!(running.state().secret(name).unwrap().value, secret(&running));
            assert_eq!(settings["EASM_KEY_VAULT_URL"], running.vault_url());
        }
    }
}
