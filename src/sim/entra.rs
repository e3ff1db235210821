//! The token endpoint of Microsoft Entra ID, for apps that sign in as themselves.
//!
//! `POST /{tenant}/oauth2/v2.0/token`, a form with `grant_type=client_credentials`,
//! `client_id`, `scope` and `client_secret` or `client_assertion`.
//!
//! `form -> tenant -> app -> credential -> policy -> resource -> token`
//!
//! # Invariants
//! - A refusal has a code, a status and words that Entra uses for it, and repeats
//!   the form it got, secret and all. A program that prints an answer's text gives
//!   its secret away, and its tests see that.
//! - An assertion opens if the app trusts its subject: a token for exchange that
//!   this simulator issued to a managed identity of the home tenant, or the
//!   workload token.
//!
//! Start reading at [`answer`].

use serde_json::{Value, json};

use super::{
    App, Options, Refusal, State, WORKLOAD_SUBJECT,
    app_secrets::Verdict,
    http::{Answer, Call},
    text::{self, DateForm},
    tokens::{self, Audience, Principal},
};

/// The only kind of assertion there is.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Where the documentation of federated credentials is.
const FEDERATION_DOC: &str =
    "https://learn.microsoft.com/entra/workload-id/workload-identity-federation";

/// What is wrong with a request, before it is an [`Answer`].
#[derive(Debug)]
struct Wrong {
    status: u16,
    error: &'static str,
    /// The number after `AADSTS`.
    code: u32,
    message: String,
}

impl Wrong {
    fn new(status: u16, error: &'static str, code: u32, message: impl Into<String>) -> Self {
        Self { status, error, code, message: message.into() }
    }

    fn request(code: u32, message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request", code, message)
    }

    fn client(code: u32, message: impl Into<String>) -> Self {
        Self::new(401, "invalid_client", code, message)
    }

    fn missing(name: &str) -> Self {
        let message = format!("The request body must contain the following parameter: '{name}'.");
        Self::request(900_144, message)
    }
}

/// A form, decoded. A parameter that is empty counts as missing.
struct Form(Vec<(String, String)>);

impl Form {
    fn read(form: &str) -> Self {
        Self(url::form_urlencoded::parse(form.as_bytes()).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, value)| key == name && !value.is_empty())?;
        Some(&found.1)
    }

    fn need(&self, name: &str) -> Result<&str, Wrong> {
        self.get(name).ok_or_else(|| Wrong::missing(name))
    }
}

/// Answers a request that came in over TLS.
pub fn answer(state: &State, call: &Call) -> Answer {
    let tenant = match &call.segments[..] {
        [tenant, a, b, c] if (&a[..], &b[..], &c[..]) == ("oauth2", "v2.0", "token") => tenant,
        _ => return Answer::error(404, "NotFound", "Entra is simulated at its token endpoint."),
    };
    if call.method != "POST" {
        let wrong = "Endpoint only accepts POST requests. Received a request of another method.";
        return refusal(state, call, &Wrong::request(900_561, wrong));
    }
    match token(state, tenant, &Form::read(&call.form)) {
        Ok(token) => {
            let life = state.tokens().life_seconds();
            let body = json!({"token_type": "Bearer", "expires_in": life, "ext_expires_in": life,
                "access_token": token});
            Answer::json(200, body.to_string().into_bytes()).with("cache-control", "no-store")
        }
        Err(wrong) => refusal(state, call, &wrong),
    }
}

/// The token that a form asks for, or why there is none. The whole flow is here.
fn token(state: &State, tenant: &str, form: &Form) -> Result<String, Wrong> {
    let options = state.options();
    if !is_tenant(options, tenant) {
        let message = format!(
            "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and \
             are signing into the correct cloud. Check with your subscription administrator, this \
             may happen if there are no active subscriptions for the tenant."
        );
        return Err(Wrong::request(90_002, message));
    }
    let grant_type = form.need("grant_type")?;
    if grant_type != "client_credentials" {
        let message = format!("The app requested an unsupported grant type '{grant_type}'.");
        return Err(Wrong::new(400, "unsupported_grant_type", 70_003, message));
    }
    let (client_id, scope) = (form.need("client_id")?, form.need("scope")?);
    let app = app(options, tenant, client_id)?;
    match app.refusal {
        Some(Refusal::Throttled) => {
            let message = "There are too many incoming requests.";
            return Err(Wrong::new(429, "temporarily_unavailable", 90_055, message));
        }
        Some(Refusal::Disabled) => {
            let message = format!("Application '{}'(easm-export) is disabled.", app.client_id);
            return Err(Wrong::new(400, "unauthorized_client", 7_000_112, message));
        }
        Some(Refusal::SecretExpired | Refusal::ConditionalAccess) | None => {}
    }
    check_credential(state, app, form)?;
    if app.refusal == Some(Refusal::ConditionalAccess) {
        let message = "Access has been blocked by Conditional Access policies. The access policy \
                       does not allow token issuance.";
        return Err(Wrong::new(400, "invalid_grant", 53_003, message));
    }
    let (audience, resource) = resource(scope, tenant)?;
    let object_id = object_id(options.seed, app);
    let principal = Principal {
        tenant_id: &app.tenant_id,
        client_id: Some(&app.client_id),
        object_id: &object_id,
        has_role: app.has_role,
    };
    Ok(state.tokens().issue(audience, resource, principal))
}

/// Whether there is a tenant of this id.
fn is_tenant(options: &Options, tenant: &str) -> bool {
    let mut known = [&options.tenant_id, &options.home_tenant_id]
        .into_iter()
        .chain(options.apps.iter().map(|app| &app.tenant_id));
    known.any(|known| known.eq_ignore_ascii_case(tenant))
}

fn app<'a>(options: &'a Options, tenant: &str, client_id: &str) -> Result<&'a App, Wrong> {
    let is_meant = |app: &&App| {
        app.tenant_id.eq_ignore_ascii_case(tenant) && app.client_id.eq_ignore_ascii_case(client_id)
    };
    options.apps.iter().find(is_meant).ok_or_else(|| {
        let message = format!(
            "Application with identifier '{client_id}' was not found in the directory '{tenant}'. \
             This can happen if the application has not been installed by the administrator of \
             the tenant or consented to by any user in the tenant. You may have sent your \
             authentication request to the wrong tenant."
        );
        Wrong::new(400, "unauthorized_client", 700_016, message)
    })
}

/// Whether the form proves that it comes from the app.
fn check_credential(state: &State, app: &App, form: &Form) -> Result<(), Wrong> {
    match (form.get("client_secret"), form.get("client_assertion")) {
        (Some(secret), None) => check_secret(state, app, secret),
        (None, Some(assertion)) => {
            if form.need("client_assertion_type")? != ASSERTION_TYPE {
                return Err(malformed());
            }
            check_assertion(state, app, assertion)
        }
        (Some(_), Some(_)) => Err(malformed()),
        (None, None) => {
            let message = "The request body must contain the following parameter: \
                           'client_assertion' or 'client_secret'.";
            Err(Wrong::client(7_000_218, message))
        }
    }
}

fn malformed() -> Wrong {
    Wrong::request(9_002_313, "Invalid request. Request is malformed or invalid.")
}

fn check_secret(state: &State, app: &App, secret: &str) -> Result<(), Wrong> {
    let id = &app.client_id;
    let verdict = state.app_secrets().verdict(app, secret);
    if verdict == Verdict::Wrong {
        let message = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the \
             client secret value, not the client secret ID, for a secret added to app '{id}'."
        );
        return Err(Wrong::client(7_000_215, message));
    }
    if verdict == Verdict::Expired || app.refusal == Some(Refusal::SecretExpired) {
        let message = format!(
            "The provided client secret keys for app '{id}' are expired. Visit the Azure portal \
             to create new keys for your app: https://aka.ms/NewClientSecret, or consider using \
             certificate credentials for added security: https://aka.ms/certCreds."
        );
        return Err(Wrong::client(7_000_222, message));
    }
    Ok(())
}

fn check_assertion(state: &State, app: &App, assertion: &str) -> Result<(), Wrong> {
    let Some(claims) = tokens::claims(assertion) else {
        return Err(Wrong::request(50_027, "JWT token is invalid or malformed."));
    };
    let subject = if assertion == state.tokens().workload() {
        WORKLOAD_SUBJECT.to_owned()
    } else {
        let home = &state.options().home_tenant_id;
        let is_from_home = |tenant: &str| tenant.eq_ignore_ascii_case(home);
        match state.tokens().find(assertion) {
            Some((issued, is_good))
                if issued.audience == Audience::Exchange && is_from_home(&issued.tenant_id) =>
            {
                if !is_good {
                    return Err(out_of_date(&claims));
                }
                issued.object_id
            }
            _ => return Err(nobody_trusts(&claims)),
        }
    };
    if app.trusts.contains(&subject) {
        return Ok(());
    }
    let message = format!(
        "No matching federated identity record found for presented assertion subject '{subject}'. \
         Check your federated identity credential Subject, Audience and Issuer against the \
         presented assertion. {FEDERATION_DOC}"
    );
    Err(Wrong::request(700_213, message))
}

fn out_of_date(claims: &Value) -> Wrong {
    let date = |name: &str| date(claims[name].as_u64().unwrap_or_default());
    let message = format!(
        "Client assertion is not within its valid time range. Current time: {}, assertion valid \
         from {}, expiry time of assertion {}. Review the documentation at \
         https://learn.microsoft.com/entra/identity-platform/certificate-credentials .",
        self::date(tokens::now_seconds()),
        date("nbf"),
        date("exp")
    );
    Wrong::client(700_024, message)
}

fn nobody_trusts(claims: &Value) -> Wrong {
    let claim = |name: &str| match &claims[name] {
        Value::String(claim) => claim.clone(),
        other => other.to_string(),
    };
    let message = format!(
        "No matching federated identity record found for presented assertion. Assertion Issuer: \
         '{}'. Assertion Subject: '{}'. Assertion Audience: '{}'. {FEDERATION_DOC}",
        claim("iss"),
        claim("sub"),
        claim("aud")
    );
    Wrong::request(70_021, message)
}

/// The resource of a scope, which is one and ends in `/.default`.
fn resource<'a>(scope: &'a str, tenant: &str) -> Result<(Audience, &'a str), Wrong> {
    let resource = scope.strip_suffix("/.default").filter(|one| !one.contains(' '));
    let Some(resource) = resource else {
        let message = format!(
            "The provided value for scope {scope} is not valid. Client credential flows must have \
             a scope value with /.default suffixed to the resource identifier (application ID URI)."
        );
        return Err(Wrong::new(400, "invalid_scope", 1_002_012, message));
    };
    Audience::of(resource).map(|audience| (audience, resource)).ok_or_else(|| {
        let message = format!(
            "The resource principal named {resource} was not found in the tenant named {tenant}. \
             This can happen if the application has not been installed by the administrator of \
             the tenant or consented to by any user in the tenant. You might have sent your \
             authentication request to the wrong tenant."
        );
        Wrong::new(400, "invalid_resource", 500_011, message)
    })
}

/// What Entra says, and then what it was sent.
fn refusal(state: &State, call: &Call, wrong: &Wrong) -> Answer {
    let Wrong { status, error, code, message } = wrong;
    let (trace, correlation) = (state.fresh_id(), state.fresh_id());
    let now = date(tokens::now_seconds());
    // Decoded as well: a secret must be found however it is spelled.
    let (sent, decoded) = (&call.form, text::query_decoded(&call.form));
    let body = json!({
        "error": error,
        "error_description": format!(
            "AADSTS{code}: {message} Trace ID: {trace} Correlation ID: {correlation} \
             Timestamp: {now} Request: '{sent}' Decoded: '{decoded}'"
        ),
        "error_codes": [code],
        "timestamp": now,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
    });
    let answer = Answer::json(*status, body.to_string().into_bytes());
    if *status == 429 { answer.with("retry-after", "1") } else { answer }
}

/// A date as Entra writes it: `2022-10-27 23:39:22Z`.
fn date(seconds: u64) -> String {
    let mut date = Vec::new();
    text::push_date(&mut date, seconds as i64 * 1000, DateForm::Zulu);
    String::from_utf8_lossy(&date).replace('T', " ")
}

/// Object id of an app in its tenant.
fn object_id(seed: u64, app: &App) -> String {
    let high = text::hash(seed, app.tenant_id.to_ascii_lowercase().as_bytes());
    text::uuid(high, text::hash(high, app.client_id.to_ascii_lowercase().as_bytes()))
}

/// A secret that looks like Entra's: 40 characters, a tilde among them.
pub fn made_up_secret(seed: u64, client_id: &str) -> String {
    let mut rng = fastrand::Rng::with_seed(text::hash(seed ^ 0x5ec, client_id.as_bytes()));
    let tail: String = (0..34).map(|_| rng.alphanumeric()).collect();
    format!("sim8Q~{tail}")
}
