//! Azure's own client reads the simulator's vault: it is the one witness here of
//! what programs expect of a vault.

use std::sync::Mutex;

use async_trait::async_trait;
use azure_core::{
    credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions},
    error::ErrorKind,
    http::{ClientOptions, RetryOptions, Transport},
    time::OffsetDateTime,
};
use azure_security_keyvault_secrets::{
    SecretClient, SecretClientOptions, models::SecretClientGetSecretOptions,
};
use serde_json::Value;

use super::test_client::*;
use super::vault_reader::*;
use super::*;

/// Hands out one token, and notes what was asked for.
#[derive(Debug)]
struct OneToken {
    token: String,
    scopes: Mutex<Vec<String>>,
}

#[async_trait]
impl TokenCredential for OneToken {
    async fn get_token(
        &self,
        scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        self.scopes.lock().unwrap().extend(scopes.iter().map(|&scope| scope.to_owned()));
        let expires_on = OffsetDateTime::now_utc() + Duration::from_secs(3600);
        Ok(AccessToken { token: Secret::new(self.token.clone()), expires_on })
    }
}

/// The client as programs have it: it insists on the name of a vault of Azure.
fn sdk(reader: &Reader) -> (SecretClient, Arc<OneToken>) {
    let addr = reader.client.running.vault_addr();
    let http = http(&reader.client.running).resolve(VAULT_HOST, addr).build().unwrap();
    let client_options = ClientOptions {
        transport: Some(Transport::new(Arc::new(http))),
        retry: RetryOptions::none(),
        ..ClientOptions::default()
    };
    let credential = Arc::new(OneToken { token: reader.token.clone(), scopes: Mutex::default() });
    let options = SecretClientOptions { client_options, ..SecretClientOptions::default() };
    let url = format!("https://{VAULT_HOST}:{}", addr.port());
    let client = SecretClient::new(&url, credential.clone(), Some(options)).unwrap();
    (client, credential)
}

/// What the client says of a read that was refused: status, its code, and the
/// vault's own two codes.
async fn refused(client: &SecretClient, name: &str) -> (u16, String, String, String) {
    let error = client.get_secret(name, None).await.expect_err("it is refused");
    let ErrorKind::HttpResponse { status, error_code, raw_response } = error.kind() else {
        panic!("{error:?}");
    };
    let body = raw_response.as_ref().unwrap().body();
    let error: Value = serde_json::from_slice::<Value>(body.as_ref()).unwrap()["error"].take();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let codes = [&error["code"], &error["innererror"]["code"]].map(text);
    let [code, inner] = codes;
    (u16::from(*status), error_code.clone().unwrap_or_default(), code, inner)
}

#[tokio::test]
async fn it_reads_values_versions_and_dates_after_one_challenge() {
    let reader = Reader::new(small()).await;
    let (client, credential) = sdk(&reader);
    let read = async |version: Option<String>| {
        let options =
            SecretClientGetSecretOptions { secret_version: version, ..Default::default() };
        let got = client.get_secret(CLIENT_SECRET_NAME, Some(options)).await.unwrap();
        got.into_model().unwrap()
    };
    let first = reader.state().secret(CLIENT_SECRET_NAME).unwrap();
    assert_eq!(read(None).await.value.unwrap(), secret(&reader.client.running));

    let next = reader.state().set_secret(CLIENT_SECRET_NAME, "next");
    reader.state().change_secret(CLIENT_SECRET_NAME, |version| version.exp = Some(1_700_000_000));
    let newest = read(None).await;
    assert_eq!(newest.value.as_deref(), Some("next"));
    assert!(newest.id.unwrap().ends_with(&format!("/secrets/easm-client-secret/{next}")));
    let attributes = newest.attributes.unwrap();
    assert_eq!(attributes.enabled, Some(true));
    assert_eq!(attributes.expires.unwrap().unix_timestamp(), 1_700_000_000);
    assert!(attributes.created.is_some() && attributes.not_before.is_none());
    assert_eq!(read(Some(first.id)).await.value, Some(first.value));

    let seen = reader.client.running.requests();
    let statuses: Vec<u16> =
        seen.iter().filter(|s| s.path.starts_with("/secrets/")).map(|s| s.status).collect();
    assert_eq!(statuses, [401, 200, 200, 200]);
    assert_eq!(*credential.scopes.lock().unwrap(), ["https://vault.azure.net/.default"]);
}

#[tokio::test]
async fn it_reads_the_code_of_a_refusal_only_if_the_message_has_no_escapes() {
    let reader = Reader::new(small()).await;
    let (client, _) = sdk(&reader);
    for (refusal, status, code, inner, words) in refusals() {
        reader.state().set_vault_refusal(Some(refusal.clone()));
        let got = refused(&client, CLIENT_SECRET_NAME).await;
        // A message of several lines is more than this client can take apart: its
        // code is the status then, and its message the whole body.
        let has_escapes = words.contains('\r');
        let said = if has_escapes { status.to_string() } else { code.to_owned() };
        assert_eq!(got, (status, said, code.to_owned(), inner.to_owned()), "{refusal:?}");
        let error = client.get_secret(CLIENT_SECRET_NAME, None).await.unwrap_err().to_string();
        assert_eq!(error.contains("{\"error\":"), has_escapes, "{error}");
    }
    reader.state().set_vault_refusal(None);
    let text = |codes: [&str; 3]| codes.map(str::to_owned);
    reader.state().change_secret(CLIENT_SECRET_NAME, |version| version.enabled = false);
    for (name, status, codes) in [
        (CLIENT_SECRET_NAME, 403, ["Forbidden", "Forbidden", "SecretDisabled"]),
        ("never-there", 404, ["SecretNotFound", "SecretNotFound", ""]),
    ] {
        let [said, code, inner] = text(codes);
        assert_eq!(refused(&client, name).await, (status, said, code, inner), "{name}");
    }
    reader.state().tokens().revoke_all();
    let [said, code, inner] = text(["Unauthorized", "Unauthorized", ""]);
    assert_eq!(refused(&client, CLIENT_SECRET_NAME).await, (401, said, code, inner));
}

#[tokio::test]
async fn it_follows_no_challenge_for_another_resource_and_asks_for_no_token() {
    let mut options = small();
    options.vault.challenge.resource = "https://management.azure.com".to_owned();
    let reader = Reader::new(options).await;
    let (client, credential) = sdk(&reader);
    let error = client.get_secret(CLIENT_SECRET_NAME, None).await.unwrap_err();
    assert!(error.to_string().contains("doesn't match the requested domain"), "{error}");
    assert_eq!(*credential.scopes.lock().unwrap(), [""; 0]);
    let seen = reader.client.running.requests();
    let last = seen.last().unwrap();
    assert_eq!((last.status, &last.authorization), (401, &None));
}
