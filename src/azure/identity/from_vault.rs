//! An app registration whose secret is in Key Vault.
//!
//! `secret -> ask Entra -> (refused: look again -> another one? ask Entra once more) -> token`
//!
//! The credential of `azure_identity` keeps the secret and its tokens, so one is made for each
//! question and dropped behind it: [`super::Tokens`] keeps the token, [`VaultSecret`] the secret, for
//! a quarter of an hour.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::http::ClientOptions;
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};
use tracing::{debug, info};

use super::refusal::{Asked, refuses_secret};
use crate::azure::keyvault::{Held, READING, VaultSecret};
use crate::error::{Error, Kind};
use crate::net::egress::into_azure;

/// Signs in as `client_id` with the secret that Key Vault has.
pub(super) struct FromVault {
    pub tenant_id: String,
    pub client_id: String,
    pub secret: Arc<VaultSecret>,
    /// The way to Entra.
    pub entra: ClientOptions,
    pub asked: Asked,
}

impl fmt::Debug for FromVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromVault")
    }
}

impl FromVault {
    /// Asks Entra once, with this secret.
    async fn ask(&self, held: &Held, scopes: &[&str]) -> azure_core::Result<AccessToken> {
        let secret = held.value().expose().to_owned().into();
        let options = ClientSecretCredentialOptions { client_options: self.entra.clone() };
        let client_id = self.client_id.clone();
        ClientSecretCredential::new(&self.tenant_id, client_id, secret, Some(options))?
            .get_token(scopes, None)
            .await
    }

    /// What it means that Entra refuses what Key Vault has now.
    fn refused(&self, refusal: &azure_core::Error, held: &Held) -> Error {
        let err = self.secret.concern(self.asked.error(refusal));
        match self.secret.is_young(held) {
            // Asked again at once it would say the same, and read the vault each time.
            true => err
                .as_kind(Kind::Unavailable { retry_after: None })
                .during(READING)
                .because(
                    "Entra refuses the client secret, which was put into Key Vault a few minutes ago",
                )
                .advise(
                    "it may not be known everywhere yet; if it stays so, see that it is the value \
                     (not the id) of a secret of the app registration EASM_CLIENT_ID",
                ),
            false => err.advise(
                "put the value (not the id) of a secret of the app registration EASM_CLIENT_ID \
                 that has not expired into Key Vault as a new version; nothing is to be restarted",
            ),
        }
    }
}

#[async_trait]
impl TokenCredential for FromVault {
    async fn get_token(
        &self,
        scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let held = self.secret.current().await.map_err(into_azure)?;
        let refusal = match self.ask(&held, scopes).await {
            Err(err) if refuses_secret(&err) => err,
            answered => return answered,
        };
        debug!("Entra refused the client secret, reading it again from Key Vault");
        let newer = self.secret.look_again(&held).await.map_err(into_azure)?;
        if newer.is_same(&held) {
            return Err(into_azure(self.refused(&refusal, &newer)));
        }
        info!("Entra refused the client secret, and Key Vault has another one: using that");
        match self.ask(&newer, scopes).await {
            Err(err) if refuses_secret(&err) => Err(into_azure(self.refused(&err, &newer))),
            answered => answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use azure_core::Bytes;
    use azure_core::http::headers::Headers;
    use azure_core::http::{
        AsyncRawResponse, Body, HttpClient, Request, RetryOptions, StatusCode, Transport,
    };
    use url::Url;

    use super::*;
    use crate::azure::identity::{EASM_SCOPE, Make, Tokens};
    use crate::azure::keyvault::fake::{Hand, Shelf, Version};
    use crate::error::Result;
    use crate::net::Bearer;

    /// Entra, as far as it knows one secret of one app. A token says which secret it was given for.
    #[derive(Debug, Default)]
    struct Entra {
        good: Mutex<Vec<String>>,
        expired: Mutex<Vec<String>>,
        /// The secrets it was asked with.
        asked: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl HttpClient for Entra {
        async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
            let Body::Bytes(body) = request.body() else { panic!("a form is in memory") };
            let form = url::form_urlencoded::parse(body).into_owned();
            let mut secrets = form.filter(|(name, _)| name == "client_secret");
            let secret = secrets.next().expect("a secret").1;
            let is_in = |list: &Mutex<Vec<String>>| list.lock().expect("fine").contains(&secret);
            let (status, body) = match (is_in(&self.good), is_in(&self.expired)) {
                (true, _) => (
                    StatusCode::Ok,
                    format!(
                        r#"{{"token_type":"Bearer","expires_in":3600,"access_token":"for {secret}"}}"#
                    ),
                ),
                (false, is_expired) => {
                    let code = if is_expired { 7_000_222 } else { 7_000_215 };
                    let body = format!(
                        r#"{{"error":"invalid_client","error_description":"{secret}","error_codes":[{code}]}}"#
                    );
                    (StatusCode::Unauthorized, body)
                }
            };
            self.asked.lock().expect("fine").push(secret);
            // Others ask meanwhile.
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(AsyncRawResponse::from_bytes(status, Headers::new(), Bytes::from(body)))
        }
    }

    struct World {
        shelf: Arc<Shelf>,
        clock: Arc<Hand>,
        entra: Arc<Entra>,
        secret: Arc<VaultSecret>,
    }

    impl World {
        /// A vault that has `in_vault`, and an Entra that takes `good`.
        fn new(in_vault: &str, good: &[&str]) -> Self {
            let (shelf, clock) = (Arc::new(Shelf::default()), Arc::new(Hand::default()));
            let entra = Arc::new(Entra::default());
            shelf.put(in_vault);
            let world = Self { secret: shelf.secret(&clock), shelf, clock, entra };
            world.takes(good);
            world
        }

        fn takes(&self, good: &[&str]) {
            *self.entra.good.lock().expect("fine") =
                good.iter().map(|&secret| secret.to_owned()).collect();
        }

        /// Tokens of one audience.
        fn tokens(&self) -> Tokens {
            let authority = Url::parse("https://login.example").expect("a URL");
            let asked = Asked::Entra { authority: authority.clone(), advice: "look" };
            let mut cloud = azure_core::cloud::CustomConfiguration::default();
            cloud.authority_host = authority.to_string();
            let entra = ClientOptions {
                transport: Some(Transport::new(Arc::clone(&self.entra) as _)),
                retry: RetryOptions::none(),
                cloud: Some(Arc::new(cloud.into())),
                ..ClientOptions::default()
            };
            let secret = Arc::clone(&self.secret);
            let asked_by_credential = asked.clone();
            let make: Make = Box::new(move || {
                Ok(Arc::new(FromVault {
                    tenant_id: "a-tenant.example".to_owned(),
                    client_id: "an-app".to_owned(),
                    secret: Arc::clone(&secret),
                    entra: entra.clone(),
                    asked: asked_by_credential.clone(),
                }))
            });
            let url = Url::parse("https://a.example").expect("a URL");
            Tokens::made_by(make, asked, EASM_SCOPE, &url, Arc::clone(&self.clock) as _)
        }

        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut *self.entra.asked.lock().expect("fine"))
        }
    }

    fn words(token: Result<crate::secret::Secret>) -> String {
        token.map_or_else(|err| err.to_string(), |token| token.expose().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_was_replaced_is_read_once_for_all_and_used_at_once() {
        let world = World::new("value-1", &["value-1", "value-2"]);
        let (easm, arm) = (world.tokens(), world.tokens());
        assert_eq!(words(easm.token().await), "for value-1");
        assert_eq!(words(arm.token().await), "for value-1");
        assert_eq!((world.shelf.n_read(), world.asked().len()), (1, 2), "one reading for both");
        world.shelf.put("value-2");
        world.takes(&["value-2"]);
        // Both are to be replaced at the same moment.
        let refused = easm.token().await.expect("a token");
        world.shelf.pause_s.store(5, Ordering::SeqCst);
        let (of_easm, of_arm) = tokio::join!(easm.renew(&refused), arm.renew(&refused));
        assert_eq!((words(of_easm), words(of_arm)), ("for value-2".into(), "for value-2".into()));
        assert_eq!(world.shelf.n_read(), 2, "one reading more");
        assert_eq!(world.asked(), ["value-1", "value-1", "value-2", "value-2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_stays_wrong_is_final_and_named_by_its_place() {
        for is_expired in [false, true] {
            let world = World::new("value-1", &[]);
            if is_expired {
                world.entra.expired.lock().expect("fine").push("value-1".to_owned());
            }
            let err = world.tokens().token().await.err().expect("refused");
            assert_eq!(err.kind(), Kind::Unauthorized);
            let text = err.to_string();
            let why = if is_expired { "has expired" } else { "is wrong" };
            let code = if is_expired { "AADSTS7000222" } else { "AADSTS7000215" };
            for part in [
                why,
                code,
                "vault=v.vault.azure.net",
                "name=n-1",
                "as a new version",
                "EASM_CLIENT_ID",
            ] {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert!(!text.contains("value-1") && !text.contains("EASM_CLIENT_SECRET"), "{text}");
            assert_eq!((world.shelf.n_read(), world.asked().len()), (2, 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_of_the_last_minutes_may_not_be_known_everywhere_yet() {
        let world = World::new("", &[]);
        world.clock.0.store(10_000, Ordering::SeqCst);
        let version = |value: &str, made_s| Version {
            value: value.to_owned(),
            made_s: Some(made_s),
            ..Version::default()
        };
        world.shelf.put_version(version("value-1", 9_900));
        let err = world.tokens().token().await.err().expect("refused");
        assert_eq!(err.kind(), Kind::Unavailable { retry_after: None });
        let text = err.to_string();
        assert_eq!((world.shelf.n_read(), world.asked().len()), (2, 1), "nobody insists");
        assert!(text.contains("put into Key Vault a few minutes ago"), "{text}");
        assert!(text.contains("vault=v.vault.azure.net, name=n-1"), "{text}");
        world.takes(&["value-1"]);
        assert_eq!(words(world.tokens().token().await), "for value-1");
        // Also one that came just now in place of one that is known.
        world.shelf.put_version(version("value-2", 9_900));
        world.takes(&[]);
        let err = world.tokens().token().await.err().expect("refused");
        assert_eq!(err.kind(), Kind::Unavailable { retry_after: None });
        assert!(world.asked().contains(&"value-2".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_vault_that_fails_is_asked_again_by_nobody_else() {
        let world = World::new("value-1", &["value-1"]);
        world.shelf.fail();
        let err = world.tokens().token().await.err().expect("no secret");
        assert_eq!(err.operation(), READING);
        assert_eq!(world.shelf.n_read(), 1);
        assert!(world.asked().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_token_is_good_or_a_secret_is_kept_a_vault_that_fails_does_not_matter() {
        let world = World::new("value-1", &["value-1"]);
        let easm = world.tokens();
        assert_eq!(words(easm.token().await), "for value-1");
        world.shelf.fail();
        // Another audience, from the same secret.
        assert_eq!(words(world.tokens().token().await), "for value-1");
        assert_eq!(world.shelf.n_read(), 1);
        // Its time is over, and the token's nearly so: it lives for an hour by the machine's clock.
        tokio::time::sleep(crate::azure::keyvault::KEPT_MAX).await;
        let now_s = crate::clock::Clock::now(&crate::clock::SystemClock).unix_ms() / 1000;
        world.clock.0.store(now_s + 3500, Ordering::SeqCst);
        assert_eq!(words(easm.token().await), "for value-1");
        assert_eq!(world.shelf.n_read(), 2, "it was tried to replace it early");
        world.clock.0.store(now_s + 3700, Ordering::SeqCst);
        assert!(words(easm.token().await).contains("nobody at home"));
        world.shelf.put("value-1");
        assert_eq!(words(easm.token().await), "for value-1");
    }

    #[test]
    fn only_a_refusal_of_the_secret_itself_leads_to_another_look() {
        let check = |status: u16, codes: &str, want: bool| {
            let kind = azure_core::error::ErrorKind::HttpResponse {
                status: StatusCode::from(status),
                error_code: Some(codes.to_owned()),
                raw_response: None,
            };
            let err = azure_core::Error::with_message(kind, "words");
            assert_eq!(refuses_secret(&err), want, "{status} {codes}");
        };
        check(401, "7000215", true);
        check(400, "7000222", true);
        check(401, "50000, 7000215", true);
        check(400, "700016", false);
        check(401, "7000229", false);
        check(503, "7000215", false);
        check(401, "", false);
    }
}
