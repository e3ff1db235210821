//! The canaries, and where they are planted: made up for these tests, in every credential that a
//! process may hold. The next way to sign in brings its canaries here, its sign-in to `upstreams` and to
//! `parrots`.

use easm_export::sim::{App, Options};

use crate::azurite::ACCOUNT_KEY;
/// A key that a caller sends.
pub use crate::contract::functions_payload::FUNCTION_KEY;

/// Opens the app registration. In the environment, or in the vault.
pub const CLIENT_SECRET: &str = r#"cS8Q~4+one/of=the"app\an&d%so ne~body"#;
/// What the identity endpoint demands.
pub const IDENTITY_HEADER: &str = r#"iH0-9+who/ever=asks"for\tok&ens%mu st~"#;
/// What an older identity endpoint demands.
pub const MSI_SECRET: &str = r#"mS3+an/older=way"to\de&mand%the sa~me5"#;
/// Who passes the proxy.
pub const PROXY_USER: &str = "pU6proxyuser-Kj2Lm9Qw4Zx7";
/// With what, as it is; in a URL it is escaped.
pub const PROXY_PASSWORD: &str = r#"pW1+let/me=through"the\pro&xy%ple a~se"#;
/// The key of the app's storage account, in a connection string: 64 bytes in base64.
pub const STORAGE_KEY: &str =
    "R3+dKo/pTn8vYb2sW0xZcLq/4fHgJk+7mNuEaIrD5tB1yVwC9eXlGi6QoPzS/hM+kUjFnAqTRb8s2dWy3xZvLg==";
/// The key of Application Insights, in a connection string.
pub const INSTRUMENTATION_KEY: &str = "1c5e7c0a-ca9a-4b1d-9e0f-5a6b7c8d9e0f";
/// The key of somebody's API.
pub const API_KEY: &str = r#"aK7+con/toso=has"an\api&its%ke y~isthis"#;
/// The password of somebody's database.
pub const PASSWORD: &str = r#"xP2+data/base=pass"word\of&cont%o so~12"#;
/// The signature of a SAS, as it is; in a URL it is escaped.
pub const SAS_SIGNATURE: &str = "Vq9+s8/Bn4mK2jH7gF6dS5aP0oI/uY1tR3eW+zXcCvM=";
/// A private key as a PEM block has it, without its first and its last line.
pub const PEM_BODY: &str =
    "MIGHAgEAMBMGByqG/SM49AgEGCCqG+SM49AwEHBG0waw\nIBAQQgZ8x2cV4bN6mL0kJ9hG7fD5sA3pO1iU/yT+rEwQ\n";
/// A token for the file of a workload, that no cluster issued.
pub const STRANGE_TOKEN: &str = concat!(
    "eyJraWQiOiJjYW5hcnkiLCJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.",
    "eyJzdWIiOiJ3b3JrbG9hZC1vZi1ub2JvZHkiLCJpc3MiOiJodHRwczovL2NhbmFyeS5leGFtcGxlIn0.",
    "Wk2mXv9Qp4Lr7Tn0Bs5Cd8Fg1Hj6Kl3Zx_Yu-Io2Ea9Sd4Fg7Hj0Kl5Zx8Cv1Bn6Mq3We"
);
/// The client secret of a settings file.
pub const FILE_SECRET: &str = r#"fS4~Q+in/a=file"of\set&tings%lies th~is"#;
/// Somebody's key in a settings file.
pub const FILE_KEY: &str = r#"fK8+be/side=it"liesn&other%ke y~oho9"#;
/// A password that nobody knows but its shape tells.
pub const SHAPED_PASSWORD: &str = "sP3xKq8ZtRw5YvNm2HbJd7LcGf4SaPo9";
/// A token that a caller sends.
pub const CALLER_TOKEN: &str = "cT9callersown0Token-Lk3Jh5Gf7Ds1Aq2Zw4Sx6Ed8Rf";
/// A cookie of a caller.
pub const CALLER_COOKIE: &str = "cC4callersCookie.Mn7Bv3Cx9Zl1Kj5Hg2Fd8Sa6Po4Iu";

/// `text` for a URL.
pub fn escaped(text: &str) -> String {
    let form: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    form.replace('+', "%20")
}

/// A URL with a shared access signature.
pub fn sas_url() -> String {
    let signature = escaped(SAS_SIGNATURE);
    format!(
        "https://acme.blob.core.windows.net/exports?sv=2024-11-04&ss=b&srt=co&sp=rwdl\
         &se=2027-01-01T00%3A00%3A00Z&sig={signature}"
    )
}

pub fn connection_string() -> String {
    format!(
        "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={STORAGE_KEY};\
         EndpointSuffix=core.windows.net"
    )
}

fn insights() -> String {
    format!(
        "InstrumentationKey={INSTRUMENTATION_KEY};\
         IngestionEndpoint=https://westeurope-5.in.applicationinsights.azure.com/"
    )
}

pub fn pem() -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{PEM_BODY}-----END PRIVATE KEY-----\n")
}

/// The URL of a proxy at `host`, with who passes it and with what.
pub fn proxy_url(host: &str) -> String {
    format!("http://{PROXY_USER}:{}@{host}", escaped(PROXY_PASSWORD))
}

/// What a process finds in its environment besides what it is told to use.
pub fn environment() -> Vec<(&'static str, String)> {
    // Nobody listens there, and loopback is reached without.
    let proxy = proxy_url("127.0.0.1:9");
    vec![
        ("EASM_CLIENT_SECRET", CLIENT_SECRET.to_owned()),
        ("IDENTITY_HEADER", IDENTITY_HEADER.to_owned()),
        ("MSI_SECRET", MSI_SECRET.to_owned()),
        ("HTTPS_PROXY", proxy.clone()),
        ("HTTP_PROXY", proxy),
        ("AzureWebJobsStorage", connection_string()),
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", insights()),
        ("CONTOSO_API_KEY", API_KEY.to_owned()),
        ("X_PASSWORD", PASSWORD.to_owned()),
        ("Y_SAS", sas_url()),
        ("CONTOSO_SIGNING_KEY", pem()),
    ]
}

/// Every canary: its name and its value.
pub fn canaries() -> Vec<(String, String)> {
    let all = [
        ("client secret", CLIENT_SECRET),
        ("identity header", IDENTITY_HEADER),
        ("MSI secret", MSI_SECRET),
        ("proxy user", PROXY_USER),
        ("proxy password", PROXY_PASSWORD),
        ("key of a connection string", STORAGE_KEY),
        ("instrumentation key", INSTRUMENTATION_KEY),
        ("API key", API_KEY),
        ("password", PASSWORD),
        ("SAS signature", SAS_SIGNATURE),
        ("private key", PEM_BODY),
        ("strange token", STRANGE_TOKEN),
        ("client secret of a file", FILE_SECRET),
        ("key of a file", FILE_KEY),
        ("shaped password", SHAPED_PASSWORD),
        ("function key", FUNCTION_KEY),
        ("caller's token", CALLER_TOKEN),
        ("caller's cookie", CALLER_COOKIE),
        ("Azurite's key", ACCOUNT_KEY),
    ];
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// A small workspace that demands the planted credentials.
pub fn options() -> Options {
    Options {
        assets: 24,
        asset_bytes: 900,
        identity_header: IDENTITY_HEADER.to_owned(),
        apps: vec![App { secret: Some(CLIENT_SECRET.to_owned()), ..App::default() }],
        ..Options::default()
    }
}
