//! What Key Vault gives to whom, how each refusal looks, and how secrets change.

use reqwest::Method;
use serde_json::{Value, json};

use super::test_client::*;
use super::vault_reader::*;
use super::*;

const HOME: &str = "0e0e0e0e-51d0-4000-8000-00000000403e";
const VAULT_SCOPE: &str = "https://vault.azure.net/.default";
const NO_SECRET: &str = "a secret that nobody accepts";

#[tokio::test]
async fn without_a_token_the_vault_says_who_hands_them_out() {
    let reader = Reader::new(small()).await;
    let authority = reader.client.running.authority();
    let refused = reader.with(PATH, "").await;
    let challenge = format!(
        "Bearer authorization=\"{authority}/{TENANT}\", resource=\"https://vault.azure.net\""
    );
    assert_eq!((refused.status, &refused.headers["www-authenticate"]), (401, &challenge));
    let body = json!({"error": {"code": "Unauthorized",
        "message": "AKV10000: Request is missing a Bearer or PoP token."}});
    assert_eq!(refused.json(), body);
    // Whoever follows it gets in.
    let token = reader.app_token(VAULT_SCOPE).await;
    assert_eq!(reader.with(PATH, &token).await.value(), secret(&reader.client.running));
    for name in ["x-ms-request-id", "x-ms-keyvault-region"] {
        assert!(refused.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn a_challenge_may_lie() {
    let mut options = small();
    options.vault.challenge = Challenge {
        authorization: Some("https://evil.example/t".to_owned()),
        resource: "https://management.azure.com".to_owned(),
    };
    let reader = Reader::new(options).await;
    let challenge = "Bearer authorization=\"https://evil.example/t\", \
                     resource=\"https://management.azure.com\"";
    assert_eq!(reader.with(PATH, "").await.headers["www-authenticate"], challenge);
}

#[tokio::test]
async fn the_newest_version_and_every_older_one_can_be_read() {
    let reader = Reader::new(small()).await;
    let newest = reader.get(PATH).await;
    let version = reader.state().secret(CLIENT_SECRET_NAME).unwrap();
    let host = reader.client.running.vault_addr();
    assert!(version.id.len() == 32 && version.id.bytes().all(|b| b.is_ascii_hexdigit()));
    let wanted = json!({
        "value": secret(&reader.client.running),
        "id": format!("https://{host}/secrets/easm-client-secret/{}", version.id),
        "attributes": {"enabled": true, "created": version.created, "updated": version.updated,
            "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90},
    });
    assert_eq!(newest.json(), wanted);
    assert!(newest.headers["content-type"].starts_with("application/json"));
    for path in ["/secrets/easm-client-secret", "//secrets/EASM-Client-Secret/"] {
        assert_eq!(reader.get(path).await.json(), wanted, "{path}");
    }

    let options = &reader.state().options().vault.secrets[0];
    assert_eq!(options.versions.len(), 2, "there is an older one");
    let next = reader.state().set_secret(CLIENT_SECRET_NAME, NO_SECRET);
    assert_ne!(next, version.id);
    assert_eq!(reader.get(PATH).await.value(), NO_SECRET);
    assert_eq!(reader.get(&format!("{PATH}{next}")).await.value(), NO_SECRET);
    let before = reader.get(&format!("{PATH}{}", version.id)).await;
    assert_eq!(before.json(), wanted);
}

#[tokio::test]
async fn the_older_version_of_the_default_secret_is_not_the_apps() {
    let mut options = small();
    let older = "0".repeat(32);
    older.clone_into(&mut options.vault.secrets[0].versions[0].id);
    let reader = Reader::new(options).await;
    let value = reader.get(&format!("{PATH}{older}")).await.value();
    assert_eq!((value.len(), reader.entra(&value).await), (40, 7_000_215));
    let value = reader.get(PATH).await.value();
    assert_eq!(reader.entra(&value).await, 0);
}

#[tokio::test]
async fn a_secret_says_what_its_owner_wrote() {
    let version = SecretVersion {
        id: "f".repeat(32),
        value: "\"quoted\"\nvalue".to_owned(),
        content_type: Some("text/plain".to_owned()),
        exp: Some(1_700_000_000),
        nbf: Some(32_503_680_000),
        created: 1_600_000_000,
        updated: 1_600_000_001,
        ..SecretVersion::default()
    };
    let other = VaultSecret { name: "other".to_owned(), versions: vec![version] };
    let mut options = small();
    options.vault.secrets.push(other);
    let reader = Reader::new(options).await;
    // Over, and not begun: both are read all the same.
    let got = reader.get("/secrets/other/").await;
    assert_eq!(got.value(), "\"quoted\"\nvalue");
    assert_eq!(got.json()["contentType"], "text/plain");
    let attributes = json!({"enabled": true, "created": 1_600_000_000, "updated": 1_600_000_001,
        "exp": 1_700_000_000, "nbf": 32_503_680_000_u64,
        "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90});
    assert_eq!(got.json()["attributes"], attributes);

    reader.state().change_secret("other", |version| {
        version.exp = None;
        version.nbf = Some(5);
    });
    let attributes = &reader.get("/secrets/other/").await.json()["attributes"];
    assert_eq!((&attributes["exp"], &attributes["nbf"]), (&Value::Null, &json!(5)));
    assert!(attributes["updated"].as_u64().unwrap() > 1_700_000_000, "{attributes}");
}

#[tokio::test]
async fn tokens_that_are_not_for_this_vault_are_refused_with_a_challenge() {
    let reader = Reader::new(small()).await;
    let arm = reader.client.fresh_token(ARM).await;
    let away = Reader::new(Options { home_tenant_id: HOME.to_owned(), ..small() }).await;
    let foreign = away.app_token(VAULT_SCOPE).await;
    let late = Reader::new(Options { token_seconds: 0, ..small() }).await;
    let revoked = Reader::new(small()).await;
    revoked.state().tokens().revoke_all();
    let issuer = format!(
        "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/{HOME}/, found \
         https://sts.windows.net/{TENANT}/."
    );
    for (reader, token, message) in [
        (
            &reader,
            "e30.e30.x",
            "AKV10046: Unable to resolve the key used for signature validation.",
        ),
        (
            &reader,
            &arm,
            "AKV10022: Invalid audience. Expected https://vault.azure.net, found: \
             https://management.azure.com.",
        ),
        (&away, &foreign, &issuer),
        (&late, &late.token, "[TokenExpired] Error validating token: 'S2S12086'."),
        (&revoked, &revoked.token, "[TokenExpired] Error validating token: 'S2S12086'."),
    ] {
        let refused = reader.with(PATH, token).await;
        let body = json!({"error": {"code": "Unauthorized", "message": message}});
        assert_eq!((refused.status, refused.json()), (401, body));
        let challenge = &refused.headers["www-authenticate"];
        assert!(challenge.ends_with("resource=\"https://vault.azure.net\""), "{challenge}");
    }
    // The vault is at home with the identities, whatever the workspace's tenant.
    assert_eq!(away.get(PATH).await.status, 200);
    let challenge = &away.with(PATH, "").await.headers["www-authenticate"];
    assert!(challenge.contains(&format!("/{HOME}\"")), "{challenge}");
}

#[tokio::test]
async fn only_readers_read() {
    let reader = Reader::new(small()).await;
    let resource = |client_id: &str| format!("https://vault.azure.net&client_id={client_id}");
    let app = reader.app_token(VAULT_SCOPE).await;
    let [own, other] = [APP_IDENTITY, OTHER_IDENTITY].map(resource);
    let (own, other) =
        (reader.client.fresh_token(&own).await, reader.client.fresh_token(&other).await);
    for (token, status) in [(&reader.token, 200), (&own, 200), (&app, 200), (&other, 403)] {
        assert_eq!(reader.with(PATH, token).await.status, status);
    }
    let (.., message) = reader.with(PATH, &other).await.refusal();
    let oid = reader.client.running.issued(&other).unwrap().object_id;
    let caller = format!(
        "Caller: appid={OTHER_IDENTITY};oid={oid};iss=https://sts.windows.net/{TENANT}/\r\n"
    );
    assert!(message.contains(&caller), "{message}");
    // Who may read the workspace need not be let in here, nor the other way round.
    let mut options = small();
    options.vault.readers = vec![Some(OTHER_IDENTITY.to_owned())];
    options.identities[2].has_role = false;
    let reader = Reader::new(options).await;
    let other = reader.client.fresh_token(&resource(OTHER_IDENTITY)).await;
    let own = reader.client.fresh_token(&resource(APP_IDENTITY)).await;
    for (token, status) in [(&reader.token, 403), (&own, 403), (&other, 200)] {
        assert_eq!(reader.with(PATH, token).await.status, status);
    }
}

#[tokio::test]
async fn each_refusal_has_its_code_and_words_and_can_be_switched() {
    let reader = Reader::new(small()).await;
    let value = secret(&reader.client.running);
    for (refusal, status, code, inner, words) in refusals() {
        let mut options = small();
        options.vault.refusal = Some(refusal.clone());
        let from_the_start = Reader::new(options).await;
        reader.state().set_vault_refusal(Some(refusal.clone()));
        for reader in [&reader, &from_the_start] {
            let refused = reader.get(PATH).await;
            let (got_status, got_code, got_inner, message) = refused.refusal();
            let got = (got_status, got_code.as_str(), got_inner.as_str());
            assert_eq!(got, (status, code, inner), "{refusal:?}");
            assert!(message.contains(words), "{refusal:?}: {message}");
            let retry_after = refused.headers.get("retry-after").map(String::as_str);
            assert_eq!(retry_after, (status == 429).then_some("7"), "{refusal:?}");
            for hidden in [&value, &reader.token] {
                assert!(!refused.text.contains(hidden), "{refusal:?} tells {hidden}");
            }
            // A stranger learns nothing of it.
            assert_eq!(reader.with(PATH, "").await.status, 401, "{refusal:?}");
        }
    }
    reader.state().set_vault_refusal(Some(VaultRefusal::Throttled { retry_after: None }));
    assert!(!reader.get(PATH).await.headers.contains_key("retry-after"));
    reader.state().set_vault_refusal(None);
    assert_eq!(reader.get(PATH).await.value(), value);
}

#[tokio::test]
async fn what_is_disabled_deleted_or_was_never_there_is_refused() {
    let reader = Reader::new(small()).await;
    let older = reader.state().secret(CLIENT_SECRET_NAME).unwrap();
    let newest = reader.state().set_secret(CLIENT_SECRET_NAME, NO_SECRET);
    reader.state().change_secret(CLIENT_SECRET_NAME, |version| version.enabled = false);
    let disabled = json!({"error": {"code": "Forbidden",
        "message": "Operation get is not allowed on a disabled secret.",
        "innererror": {"code": "SecretDisabled"}}});
    for path in [PATH.to_owned(), format!("{PATH}{newest}")] {
        let refused = reader.get(&path).await;
        assert_eq!((refused.status, refused.json()), (403, disabled.clone()), "{path}");
    }
    assert_eq!(reader.get(&format!("{PATH}{}", older.id)).await.value(), older.value);
    reader.state().change_secret(CLIENT_SECRET_NAME, |version| version.enabled = true);
    assert_eq!(reader.get(PATH).await.value(), NO_SECRET);

    reader.state().delete_secret(CLIENT_SECRET_NAME);
    let version = format!("easm-client-secret/{}", older.id);
    for name in ["easm-client-secret", &version, "never-there"] {
        let refused = reader.get(&format!("/secrets/{name}")).await;
        let message = format!(
            "A secret with (name/id) {name} was not found in this key vault. If you recently \
             deleted this secret you may be able to recover it using the correct recovery \
             command. For help resolving this issue, please see \
             https://go.microsoft.com/fwlink/?linkid=2125182"
        );
        let body = json!({"error": {"code": "SecretNotFound", "message": message}});
        assert_eq!((refused.status, refused.json()), (404, body));
    }
    reader.state().set_secret(CLIENT_SECRET_NAME, "begins anew");
    assert_eq!(reader.get(PATH).await.value(), "begins anew");
    assert_eq!(reader.get(&format!("{PATH}{}", older.id)).await.status, 404);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let reader = Reader::new(small()).await;
    for (method, target, status, code) in [
        (Method::GET, PATH.to_owned(), 400, "BadParameter"),
        (Method::GET, format!("/secrets/easm_client_secret?{VERSION}"), 400, "BadParameter"),
        (Method::PUT, format!("{PATH}?{VERSION}"), 405, "MethodNotAllowed"),
        (Method::GET, format!("/keys/easm?{VERSION}"), 404, "NotFound"),
        (Method::GET, format!("/msi/token?{VERSION}"), 404, "NotFound"),
        (Method::GET, format!("/secrets/a/b/c?{VERSION}"), 404, "NotFound"),
    ] {
        let refused = reader.send(method.clone(), &target, &reader.token).await.unwrap();
        let (got, got_code, ..) = refused.refusal();
        assert_eq!((got, got_code.as_str()), (status, code), "{method} {target}");
    }
    // The other doors have no secrets.
    let bearer = format!("Authorization: Bearer {}\r\n", reader.token);
    let target = format!("{PATH}?{VERSION}");
    assert_eq!(reader.client.raw("GET", &target, &bearer).await.status, 404);
}

#[tokio::test]
async fn the_secrets_of_an_app_come_and_go() {
    let reader = Reader::new(small()).await;
    let (state, first) = (reader.state(), secret(&reader.client.running));
    let [wrong, expired] = [7_000_215, 7_000_222];
    state.add_app_secret(APP_CLIENT_ID, "second");
    for (secret, code) in [(first.as_str(), 0), ("second", 0), ("third", wrong)] {
        assert_eq!(reader.entra(secret).await, code, "{secret} is added to");
    }
    state.expire_app_secret(APP_CLIENT_ID, &first);
    for (secret, code) in [(first.as_str(), expired), ("second", 0)] {
        assert_eq!(reader.entra(secret).await, code, "{secret} after one expired");
    }
    state.remove_app_secret(&APP_CLIENT_ID.to_uppercase(), &first);
    for (secret, code) in [(first.as_str(), wrong), ("second", 0)] {
        assert_eq!(reader.entra(secret).await, code, "{secret} after one was removed");
    }
    state.rotate_app_secret(APP_CLIENT_ID, "third");
    for (secret, code) in [(first.as_str(), wrong), ("second", wrong), ("third", 0)] {
        assert_eq!(reader.entra(secret).await, code, "{secret} after a rotation");
    }
}

#[tokio::test]
async fn a_rotation_leaves_other_apps_and_other_tenants_alone() {
    let other = "a9911ca7-51d0-4000-8000-00000000ca98";
    let mut options = small();
    let own = |client_id: &str, tenant_id: &str, secret: &str| App {
        client_id: client_id.to_owned(),
        tenant_id: tenant_id.to_owned(),
        secret: Some(secret.to_owned()),
        ..App::default()
    };
    options.apps = vec![
        own(APP_CLIENT_ID, TENANT, "at home"),
        own(APP_CLIENT_ID, HOME, "abroad"),
        own(other, TENANT, "of another"),
    ];
    let running = Simulator::start(options).await.unwrap();
    let code = async |tenant: &str, client_id: &str, secret: &str| {
        let [grant, _, secret, scope] = with_secret(secret, EASM_SCOPE);
        let form = encoded(&[grant, ("client_id", client_id), secret, scope]);
        let told = post(&running, tenant, &form).await;
        if told.status == 200 { 0 } else { told.refusal().2 }
    };
    assert_eq!(code(HOME, APP_CLIENT_ID, "at home").await, 7_000_215);
    running.state().rotate_app_secret(APP_CLIENT_ID, "new");
    for (tenant, client_id, secret, want) in [
        (TENANT, APP_CLIENT_ID, "new", 0),
        (HOME, APP_CLIENT_ID, "new", 0),
        (TENANT, APP_CLIENT_ID, "at home", 7_000_215),
        (HOME, APP_CLIENT_ID, "abroad", 7_000_215),
        (TENANT, other, "of another", 0),
        (TENANT, other, "new", 7_000_215),
    ] {
        assert_eq!(code(tenant, client_id, secret).await, want, "{tenant} {client_id} {secret}");
    }
}

#[tokio::test]
async fn no_more_versions_are_kept_than_the_limit_says() {
    let reader = Reader::new(small()).await;
    let first = reader.state().secret(CLIENT_SECRET_NAME).unwrap().id;
    let mut newest = String::new();
    for _ in 0..1000 {
        newest = reader.state().set_secret(CLIENT_SECRET_NAME, NO_SECRET);
    }
    assert_eq!(reader.get(&format!("{PATH}{first}")).await.status, 404);
    assert_eq!(reader.get(&format!("{PATH}{newest}")).await.status, 200);
}

#[tokio::test]
async fn its_certificate_names_loopback_and_a_host_of_azure() {
    let reader = Reader::new(small()).await;
    let addr = reader.client.running.vault_addr();
    let named =
        http(&reader.client.running).resolve(VAULT_HOST, addr).resolve("vault.example", addr);
    let named = named.build().unwrap();
    for (host, is_good) in
        [("127.0.0.1", true), ("localhost", true), (VAULT_HOST, true), ("vault.example", false)]
    {
        let origin = format!("https://{host}:{}", addr.port());
        let url = format!("{origin}{PATH}?{VERSION}");
        let got = named.get(url).bearer_auth(&reader.token).send().await;
        assert_eq!(got.is_ok(), is_good, "{host}");
        if let Ok(got) = got {
            let body: Value = serde_json::from_slice(&got.bytes().await.unwrap()).unwrap();
            let id = body["id"].as_str().unwrap();
            assert!(id.starts_with(&format!("{origin}/secrets/")), "{id}");
        }
    }
}
