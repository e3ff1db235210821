//! What is hidden of a text, what stays, and how much work it is.

use super::names::{Means, meaning};
use super::text::Text;
use super::{find, find_in};
use crate::secret::redact;

/// How often a byte is looked at, at most, whatever the text.
const LOOKS_PER_BYTE_MAX: usize = 100;

/// Size of the texts that try to make work.
const LONG_BYTES: usize = 4 << 20;

/// `text` with `●` in place of what is hidden.
fn shown(text: &str) -> String {
    let mut hidden = Vec::new();
    find(text.as_bytes(), &mut hidden);
    let mut shown = String::new();
    let mut at = 0;
    for range in hidden {
        assert!(at <= range.start, "in order, each behind the one before: {text}");
        shown.push_str(&text[at..range.start]);
        shown.push('●');
        at = range.end;
    }
    shown + &text[at..]
}

#[track_caller]
fn check(text: &str, want: &str) {
    assert_eq!(shown(text), want, "{text}");
    let clean = redact(text).into_owned();
    assert_eq!(redact(&clean), clean, "redacting again changes nothing");
}

#[test]
fn only_the_secret_of_a_pair_is_hidden() {
    for (text, want) in [
        ("password=hunter2 next", "password=● next"),
        ("password=a", "password=●"),
        ("(secret=abc, host=x)", "(secret=●, host=x)"),
        ("(secret=abc,host=x)", "(secret=●,host=x)"),
        ("(secret=ab)c,d)", "(secret=●)"),
        ("secret=a&b=2&token=c", "secret=●&b=2&token=●"),
        ("secret=a&amp;b=2", "secret=●&amp;b=2"),
        ("token=>'abc', b", "token=>'●', b"),
        ("token := abc", "token := abc"),
        ("token := a1b2c3d4", "token := ●"),
        ("password: hunter", "password: ●"),
        ("password: hunter2 is refused", "password: ● is refused"),
        ("password: refused by the host", "password: refused by the host"),
        ("api_key: \"abc\"", "api_key: \"●\""),
        ("{\"api key\":\"it's\"}", "{\"api key\":\"●\"}"),
        (r#"{"password":"a\"b\\","n":1}"#, r#"{"password":"●","n":1}"#),
        (r#"{\"password\":\"a\\\"b\",\"n\":1}"#, r#"{\"password\":\"●\",\"n\":1}"#),
        (r#"{"m":"password=ab","n":1}"#, r#"{"m":"password=●","n":1}"#),
        (r#"{"m":"password=ab\nnext","n":1}"#, r#"{"m":"password=●\nnext","n":1}"#),
        (r"password=DOMAIN\secret1 b", "password=● b"),
        (r#"{"password":12345678,"n":1}"#, r#"{"password":●,"n":1}"#),
        (r#"{"password":"cut off"#, r#"{"password":"●"#),
        (r#"{"tokens":["a1", "b2"],"n":1}"#, r#"{"tokens":["a1", "b2"],"n":1}"#),
        (r#"{"token":["a1", "b2"],"n":1}"#, r#"{"token":["●", "●"],"n":1}"#),
        ("{\"token\": [\n  \"a1\",\n  \"b2\"\n]}", "{\"token\": [\n  \"●\",\n  \"●\"\n]}"),
        ("{client_secret: Some(\"abc\"), n: 1}", "{client_secret: Some(\"●\"), n: 1}"),
        ("(\"MSI_SECRET\", \"abc\")", "(\"MSI_SECRET\", \"●\")"),
        ("<Password>abc</Password>", "<Password>●</Password>"),
        ("<d:Password>abc</d:Password>", "<d:Password>●</d:Password>"),
        ("az login --password abc12 --tenant t", "az login --password ● --tenant t"),
        ("form[password]=abc", "form[password]=●"),
        ("headers[\"x-api-key\"] = 'abc'", "headers[\"x-api-key\"] = '●'"),
        ("password: |\n  abcd1234efgh\n  ijkl5678\nnext: 1", "password: |\n  ●\nnext: 1"),
        ("token=abcd1234\nefgh5678 next", "token=● next"),
        ("token=abcd1234\nefgh5678=next", "token=●\nefgh5678=next"),
        ("token=abcd1234\nx-md5-size: 5", "token=●\nx-md5-size: 5"),
        ("token=abcd1234\n2026-11-28T00:50:26Z INFO", "token=●\n2026-11-28T00:50:26Z INFO"),
        ("Server=x;Password=p;w,1)x;Database=d", "Server=x;Password=●;Database=d"),
        ("Pwd=abc;User ID=sa", "Pwd=●;User ID=sa"),
        ("AccountKey=YWJj=;B=1", "AccountKey=●;B=1"),
        ("sig=YWJj=", "sig=●"),
        ("?sv=1&sig=a%2Bb%3D&se=2", "?sv=1&sig=●&se=2"),
        ("SharedAccessSignature=sv=1&sig=ab;C=1", "SharedAccessSignature=sv=1&sig=●;C=1"),
        ("ConnectionString=Server=x;Password=ab1;B=1", "ConnectionString=Server=x;Password=●;B=1"),
        ("ConnectionString=amqps://u:p@h/x", "ConnectionString=amqps://●@h/x"),
        (r#"{"m":"\"token\":\"abc","n":1}"#, r#"{"m":"\"token\":\"●","n":1}"#),
        ("token=\"a1b2c3d4\nb=\"c\"", "token=\"●\nb=\"c\""),
        ("\"token\":\"a1b2c3d4\nlast\"", "\"token\":\"●\""),
        ("token='abc is cut off", "token='● is cut off"),
        ("token=a1b2c3d4\na1b2c3d4\na1b2c3d4 b", "token=● b"),
        ("token: aBcDeF token: AbcDef", "token: ● token: AbcDef"),
        ("/api?code=abc&n=1", "/api?code=●&n=1"),
        ("grant=x&amp;code=abc&amp;b=1", "grant=x&amp;code=●&amp;b=1"),
        (
            "connection string: a1b2c3d4 connection str: a1b2",
            "connection string: ● connection str: ●",
        ),
        ("grant=x&code=abc", "grant=x&code=●"),
        ("key=0123456789abcdef", "key=●"),
    ] {
        check(text, want);
    }
}

#[test]
fn only_the_credentials_of_a_header_are_hidden() {
    for (text, want) in [
        ("Authorization: Bearer abc", "Authorization: Bearer ●"),
        ("authorization=Bearer+a1b2", "authorization=●"),
        ("Authorization: a1b2c3d4 next", "Authorization: ● next"),
        ("Authorization: Own2 a1b2c3d4 next", "Authorization: ● ● next"),
        ("Authorization: own a1b2c3d4 next", "Authorization: own ● next"),
        ("Authorization: SharedKey contoso:a1b2= next", "Authorization: SharedKey contoso:● next"),
        (
            "Authorization: SharedAccessSignature sr=x&sig=a1&se=1",
            "Authorization: SharedAccessSignature sr=x&sig=●&se=1",
        ),
        (
            "{\"authorization\": \"Bearer a b\", \"n\": 1}",
            "{\"authorization\": \"Bearer ●\", \"n\": 1}",
        ),
        ("{\"authorization\": Sensitive, \"n\": 1}", "{\"authorization\": Sensitive, \"n\": 1}"),
        (
            "{\"Authorization\":[\"Bearer a1\"],\"n\":1}",
            "{\"Authorization\":[\"Bearer ●\"],\"n\":1}",
        ),
        ("{\"authorization\":\"a1\"}", "{\"authorization\":\"●\"}"),
        ("sent Bearer a1b2c3d4, then", "sent Bearer ●, then"),
        ("sent Basic a1b2c3d4, then NTLM a1b2c3d4", "sent Basic ●, then NTLM ●"),
        ("DPoP a1b2c3d4 Negotiate a1b2c3d4", "DPoP ● Negotiate ●"),
        ("SharedKeyLite contoso:a1b2c3d4= is", "SharedKeyLite contoso:● is"),
        ("{\"authorization\":\"SharedKey a:b=\"}", "{\"authorization\":\"SharedKey a:●\"}"),
        ("Authorization: Bearer a1b2c3d4:e5 f", "Authorization: Bearer ● f"),
        ("Authorization: Bearer a1b2c3d4=e5 f", "Authorization: Bearer ● f"),
        ("a=Bearer+a1b2c3d4&b=1", "a=Bearer+●&b=1"),
        ("sent Bearer\na1b2c3d4 now", "sent Bearer\n● now"),
        ("Cookie: a=[REDACTED]; b=2", "Cookie: a=[REDACTED]; b=●"),
        ("Cookie: a=1; b2c3; d", "Cookie: a=●; ●; d"),
        ("{\"cookie\":\"a=1; HttpOnly\"}", "{\"cookie\":\"a=●; HttpOnly\"}"),
        (
            "Set-Cookie: a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; b=2",
            "Set-Cookie: a=●; Expires=Wed, 21 Oct 2026 07:28:00 GMT; b=●",
        ),
        ("sent Bearer 'a1b2c3d4', then", "sent Bearer '●', then"),
        ("Authorization:\n Bearer a1b2c3d4", "Authorization:\n Bearer ●"),
        ("Cookie: a=1; b=two; c", "Cookie: a=●; b=●; c"),
        ("Set-Cookie: a=1; Path=/; Secure; HttpOnly", "Set-Cookie: a=●; Path=/; Secure; HttpOnly"),
        (
            "{\"set-cookie\":[\"a=1; Path=/\",\"b=2\"]}",
            "{\"set-cookie\":[\"a=●; Path=/\",\"b=●\"]}",
        ),
        ("cookie: a1b2c3d4", "cookie: ●"),
        ("cookie=abc; d", "cookie=●; d"),
    ] {
        check(text, want);
    }
}

#[test]
fn what_is_known_by_its_looks_is_hidden_alone() {
    let key = "A".repeat(86);
    for last in ["A", "Q", "g", "w"] {
        check(&format!("a {}{last}== b", &key[1..]), "a ● b");
    }
    let client_secret = format!("a_~7Q~{}", "a1.~".repeat(8));
    let function_key = "a_-".repeat(14) + "bcAzFu12345w==";
    for (text, want) in [
        (format!("a {key}== b"), "a ●== b".replace("==", "")),
        (format!("a/{key}== b"), "a/● b".to_owned()),
        (format!("a {key}A== b"), format!("a {key}A== b")),
        (format!("a {key}=="), "a ●".to_owned()),
        (format!("a ({function_key}) b"), "a (●) b".to_owned()),
        (format!("a ({client_secret}) b"), "a (●) b".to_owned()),
        (function_key.replace("AzFu", "azfu"), function_key.replace("AzFu", "azfu")),
        ("(eyJhbGciOiJub25lIn0.e30.)".to_owned(), "(●)".to_owned()),
        ("eyJhbGciOiJub25lIn0 and on".to_owned(), "eyJhbGciOiJub25lIn0 and on".to_owned()),
        ("eyJhbGciOi\nJub25lIn0a1.e30abc d".to_owned(), "● d".to_owned()),
        ("eyJhbGciOiJkaXIifQ..a1.b2.c3 d".to_owned(), "● d".to_owned()),
        ("eyjhbGciOiJub25lIn0.e30".to_owned(), "eyjhbGciOiJub25lIn0.e30".to_owned()),
        ("eyJhbGciO.e30".to_owned(), "eyJhbGciO.e30".to_owned()),
        ("eyJhbGciOiJub25lIn0... And".to_owned(), "eyJhbGciOiJub25lIn0... And".to_owned()),
        (format!("a {key}==A b"), format!("a {key}==A b")),
        (client_secret[1..].to_owned(), client_secret[1..].to_owned()),
        (client_secret[..36].to_owned(), client_secret[..36].to_owned()),
        (client_secret.replace('Q', "q"), client_secret.replace('Q', "q")),
        ("https://u:p@p@h/".to_owned(), "https://●@h/".to_owned()),
        ("https://h0st.example\na@b".to_owned(), "https://h0st.example\na@b".to_owned()),
        ("eyJhbGciOiJub25lIn0. And".to_owned(), "eyJhbGciOiJub25lIn0. And".to_owned()),
        (
            "-----BEGIN A KEY-----\nab c\n-----END A KEY----- d".to_owned(),
            "-----BEGIN A KEY-----\n●\n-----END A KEY----- d".to_owned(),
        ),
        (
            "-----BEGIN A-----ab-----END A-----".to_owned(),
            "-----BEGIN A-----●-----END A-----".to_owned(),
        ),
        ("-----BEGIN A KEY-----\nab c".to_owned(), "-----BEGIN A KEY-----\n●".to_owned()),
        ("-----BEGIN A-KEY-----\nab c".to_owned(), "-----BEGIN A-KEY-----\nab c".to_owned()),
        ("https://u:p@h/@b".to_owned(), "https://●@h/@b".to_owned()),
        ("https://t@h:1/ amqp://u:p%40@h".to_owned(), "https://●@h:1/ amqp://●@h".to_owned()),
        ("https://u:p/w#@h/ b@c".to_owned(), "https://●@h/ b@c".to_owned()),
        ("https://host\nsomebody@example".to_owned(), "https://host\nsomebody@example".to_owned()),
    ] {
        check(&text, &want);
    }
}

#[test]
fn text_without_secrets_passes_unchanged() {
    for text in [
        "Token was refused, asking for a new one",
        "the bearer token is refused; bearer tokens are refused, too",
        "get a token: the bearer token is refused (status=401, host=contoso.example)",
        "get a token: `az` has no token for us",
        "get a token: AADSTS7000215 (status=401, code=AADSTS7000215)",
        "get a token: acct1.vault.azure.net: connection refused",
        "get a token: 127.0.0.1:8080 is refused; token: 2026-11-28T00:50:26Z",
        "https://login.example/oauth2/v2.0/token: 403 Forbidden",
        "set EASM_CLIENT_SECRET to the value (not the id) of a secret",
        "check EASM_TENANT_ID, EASM_CLIENT_ID and EASM_CLIENT_SECRET",
        "set EASM_CREDENTIAL=federated, which needs no secret",
        "EASM_KEY_VAULT_URL=https://contoso.vault.azure.net EASM_CLIENT_SECRET_NAME=easm-client-1a2b3c4d",
        "AZURE_FEDERATED_TOKEN_FILE=/run/1a2b3c4d/token IDENTITY_ENDPOINT=http://127.0.0.1/msi/token",
        "token: none was sent",
        "the secret: easm-client-secret was not found",
        "secret name easm-client-secret, version 1a2b3c4d5e6f708192a3b4c5d6e7f809",
        "secret::redact at src/secret/mod.rs:12:5 in easm_export::secret::Secret",
        "n_tokens=5 tokens: 12 keys=1234567890123456 token_bytes=4096 token=7",
        "token_type=Bearer&expires_in=3599 \"tokenType\": \"Bearer1234\"",
        "(status=400, code=AuthorizationFailed, host=contoso.example)",
        r#"{"token":{"n":1},"secret": {}, "password":[]}"#,
        r#"{"error":{"code":"AuthorizationFailed1","message":"no key"}}"#,
        r#"{"secret":null,"token":"","password":"***","authorization":"REDACTED","key":"id"}"#,
        "client_secret=[REDACTED]&a=b Bearer [REDACTED] Cookie: a=[REDACTED]; b=[REDACTED]",
        "WWW-Authenticate: Bearer authorization_uri=\"https://login.example/1a2b3c4d\", resource=\"x1\"",
        "Basic authentication, basic realm=\"contoso1\", Negotiate, NTLM",
        "Idempotency-Key: 1a2b3c4d-5e6f-7081 partitionKey=1a2b3c4d5e6f7081 publicKey: 1a2b3c4d5e6f7081",
        "sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "run 3f2504e0-4f89-11d3-9a0c-0305e82c3301 of 20261128T000000Z-contoso",
        "runs/2026/11/28/20261128T000000Z-contoso/part-000123-e4.csv.gz \"0x8DC1A2B3C4D5E6F\"",
        "Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==",
        "https://contoso.example:8443/a@b/c?d=e@f http://[::1]:80/@ file:///tmp/a@b",
        "mailto:somebody@contoso.example, somebody+1@contoso.example",
        "scope=\"https://vault.azure.net/.default\"",
        "https://contoso.example/api?sv=2024-11-04&skip=1&mark=eyJ&$skipToken=1a2b3c4d5e6f7081",
        "{\"nextPageToken\":\"1a2b3c4d5e6f7081\",\"continuationToken\":\"1a2b3c4d5e6f7081\"}",
        "design=1a2b3c4d assigned: 1a2b3c4d bypass=1a2b3c4d PWD=/home/site/wwwroot OLDPWD=/",
        "SECRET=@Microsoft.KeyVault(SecretUri=https://contoso.vault.azure.net/secrets/a1)",
        "if token == expected && key != other { let token = x; }",
        "assertion `left == right` failed\n  left: 1\n right: 2",
        "key: value key=short123 \"key\": \"not random at all, 100 %\"",
        "-----BEGIN a sentence, and ----- more",
        "Cookie: none was sent; cookies: 4; authorization: denied",
        "{\"authorization\": \"not sent\", \"proxy-authorization\": \"Bearer [REDACTED]\"}",
        "{\"authorization\": \"Bearer\"}",
        "bearer a1b2, forbearer a1b2c3d4e5",
        "if n_token>a1b2c3d4 [\"token\", \"a1b2c3d4\"]",
        "the password:\nis missing; token=\nHost: a1b2c3d4",
        "8Q~ 7q~ AzFu eyJ == :// ://@ ?code= &code=403 sig= token: bearer ",
        "Öffentlich: kein Geheimnis, 秘密 keines – „token“ sagt nichts",
    ] {
        check(text, text);
    }
}

#[test]
fn a_name_is_one_of_a_secret_by_how_it_ends() {
    use Means::{
        Authorization, ConnectionString, Cookie, Password, Secret, SecretIfRandom, Signature,
    };
    for (names, want) in [
        ("clientSecret client-secret CLIENT_SECRET client.secret clientsecret", Some(Secret)),
        ("EASM_CLIENT_SECRET secret secretText SecretString secret_value MSI_SECRET", Some(Secret)),
        ("CLIENT_SECRET_2 secret_old tokenPrimary bearer bearer_token dpop", Some(Secret)),
        ("token access_token accessToken ID_TOKEN sasToken X-MS-TOKEN-AAD-ID-TOKEN", Some(Secret)),
        ("x-functions-key Ocp-Apim-Subscription-Key apiKey X-API-KEY ApiKey1 APIKey", Some(Secret)),
        ("AccountKey account_key SharedAccessKey shared_key storageKey secretKey", Some(Secret)),
        ("primaryKey secondary_key privateKey masterKey hostKey systemKey", Some(Secret)),
        ("functionKey admin_key sessionKey WEBSITE_AUTH_ENCRYPTION_KEY", Some(Secret)),
        ("MACHINEKEY_DecryptionKey machineKey validationKey AUTH_SIGNING_KEY", Some(Secret)),
        ("X-IDENTITY-HEADER IDENTITY_HEADER identityHeader client_assertion", Some(Secret)),
        ("code_verifier authorization_code", Some(Secret)),
        ("password passwd Pwd PGPASSWORD db_pass userPass DBPASS", Some(Password)),
        ("passphrase pass-code", Some(Password)),
        ("sig SharedAccessSignature x-sig", Some(Signature)),
        ("key key1 credential keys tokens secrets signature x-ms-key", Some(SecretIfRandom)),
        ("Authorization proxy-authorization", Some(Authorization)),
        ("x-ms-authorization-auxiliary authorization-header", Some(Authorization)),
        ("Cookie set-cookie cookies", Some(Cookie)),
        ("ConnectionString connection_string STORE_CONNECTION-STRING", Some(ConnectionString)),
        ("connection_str connectionStr", Some(ConnectionString)),
        ("EASM_KEY_VAULT_URL EASM_CLIENT_SECRET_NAME TOKEN_FILE token_url key_id", None),
        ("tokenEndpoint client_assertion_type secret_expires expiry password_expired", None),
        ("public_key partitionKey RowKey Idempotency-Key nextPageToken skipToken", None),
        ("continuationToken cancellation_token sort_key foreignKey objectKey CACHE_KEY", None),
        ("bypass design keyboard tokenizer passed 1 value -", None),
    ] {
        for name in names.split(' ') {
            assert_eq!(meaning(name.as_bytes()), want, "{name}");
            let text = format!("{name}=0123456789abcdef");
            let shown = shown(&text);
            let is_hidden = !shown.contains("0123456789abcdef") && shown.starts_with(name);
            assert_eq!(is_hidden, want.is_some(), "{text} -> {shown}");
        }
    }
    assert_eq!(meaning(b"the client secret"), Some(Secret));
    assert_eq!(meaning(b""), None);
}

/// Pieces that mean something to a leaf.
const PIECES: &[&str] = &[
    "token",
    "=",
    ":",
    " ",
    "\n",
    "\r\n ",
    "\"",
    "'",
    "\\",
    ",",
    ";",
    "&",
    "?code=",
    "a1b2c3d4",
    "word",
    "[",
    "]",
    "(",
    ")",
    "<",
    ">",
    "{",
    "}",
    "authorization",
    "Bearer ",
    "cookie: ",
    "Expires=",
    "://",
    "@",
    "/",
    "eyJ",
    ".",
    "-----BEGIN ",
    "-----",
    "-----END A",
    "==",
    "8Q~",
    "AzFu",
    "password",
    "key",
    "sig",
    "connection string",
    "--",
    "Some(",
    "é",
    "\u{1f511}",
    "|",
    "[REDACTED]",
    "\0",
    "$",
    "%3D",
];

#[test]
fn whatever_is_put_together_ranges_are_in_the_text_and_in_order() {
    for seed in 0..5_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let n_pieces = rng.usize(..24);
        let text: String = (0..n_pieces).map(|_| PIECES[rng.usize(..PIECES.len())]).collect();
        let mut hidden = Vec::new();
        find(text.as_bytes(), &mut hidden);
        let mut at = 0;
        for range in hidden {
            let is_in_order =
                at <= range.start && range.start < range.end && range.end <= text.len();
            assert!(is_in_order, "SEED={seed} {text:?} {range:?}");
            at = range.end;
        }
    }
}

#[test]
fn work_grows_with_the_text_whatever_is_in_it() {
    let deep: String = (0..8).map(|n| "\\".repeat((1 << n) - 1) + "\"token").collect();
    for part in [
        "token=",
        "token:",
        "token\"",
        "token=\"",
        "token='",
        "token=\\",
        "token ",
        "token\n",
        "token=\n",
        "key=",
        "key=a,",
        "key=a;b ",
        "key=a&",
        "key=\"",
        "key=`",
        "tokens=[\"",
        "[\"token\":",
        "token,",
        "password: a b ",
        "cookie: ",
        "cookie=a; ",
        "a=b; ",
        "expires=; ",
        "authorization: ",
        "authorization: a ",
        "bearer ",
        "bearer a1b2c3d4\n",
        "basic\n",
        "://",
        "://a:b",
        "://a:b\n",
        "a://a1b2c3d4\n",
        "a://a:b/",
        "eyJ",
        "eyJ.",
        "-eyJ",
        " eyJa1b2c3d4e5\n",
        "eyJa1b2c3d4e5 ",
        "-----BEGIN ",
        "-----BEGIN A-----",
        "-----BEGIN A----------END",
        "A==",
        "AAAAAAAAAAAAA/",
        "8Q~",
        "AzFu",
        "a",
        "a1",
        "\\",
        "\\\"",
        " ",
        "\n",
        ",",
        ")",
        "&code=",
        "&code=1",
        "--token ",
        "<token>",
        "(\"token\", ",
        &deep,
    ] {
        for end in ["", "\"", "=", "=="] {
            let text = part.repeat(LONG_BYTES / 256 / part.len()) + end;
            let small = text.to_ascii_lowercase();
            let text = Text::new(text.as_bytes(), small.as_bytes());
            let n_calls = find_in(&text, &mut Vec::new());
            let n_looks = text.n_looked_at.get() / text.raw.len();
            assert!(n_looks <= LOOKS_PER_BYTE_MAX, "{part:?}: each byte {n_looks} times");
            assert!(n_calls <= text.raw.len() / 3 + 1, "{part:?}: {n_calls} calls");
        }
    }
}

#[test]
fn what_is_hidden_is_walked_once() {
    for part in ["token=", "token=token:", "eyJhbGciOiJub25l.", "-----BEGIN A-----"] {
        let text = part.repeat(LONG_BYTES / part.len());
        let small = text.to_ascii_lowercase();
        let text = Text::new(text.as_bytes(), small.as_bytes());
        assert_eq!(find_in(&text, &mut Vec::new()), 1, "{part}");
    }
}
