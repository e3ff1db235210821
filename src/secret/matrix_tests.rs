//! Secrets that nobody registered, in every shape and every spelling: one table.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::redact;

/// How many characters in a row of a secret are one too many (issue: "never 8 consecutive").
const RUN_CHARS: usize = 8;

/// Each cell is tried with so many secrets.
const SEEDS: u64 = 8;

/// Words around a secret that have to stay.
const FRONT: &str = "frontmost";
const BEHIND: &str = "hindmost";

const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A shape: a secret between what is in front of it, its key, and what is behind.
struct Shape {
    name: &'static str,
    front: &'static str,
    secret: fn(&mut fastrand::Rng) -> String,
    behind: &'static str,
    /// What has to stay readable.
    stays: &'static [&'static str],
}

fn random(rng: &mut fastrand::Rng, others: &str, n_chars: usize) -> String {
    let chars: Vec<char> = LETTERS.chars().chain(others.chars()).collect();
    (0..n_chars).map(|_| chars[rng.usize(..chars.len())]).collect()
}

fn token(rng: &mut fastrand::Rng) -> String {
    random(rng, "-_", 60)
}

fn client_secret(rng: &mut fastrand::Rng) -> String {
    random(rng, "-_.", 3) + "8Q~" + &random(rng, "-_.~", 34)
}

fn password(rng: &mut fastrand::Rng) -> String {
    random(rng, "-_.!*$^", 24)
}

fn account_key(rng: &mut fastrand::Rng) -> String {
    STANDARD.encode(std::array::from_fn::<u8, 64, _>(|_| rng.u8(..)))
}

fn signature(rng: &mut fastrand::Rng) -> String {
    percent_encoded(&STANDARD.encode(std::array::from_fn::<u8, 32, _>(|_| rng.u8(..))), LETTERS)
}

fn basic(rng: &mut fastrand::Rng) -> String {
    STANDARD.encode(format!("operator:{}", password(rng)))
}

fn form_value(rng: &mut fastrand::Rng) -> String {
    percent_encoded(&random(rng, "-_.~+/=&?#", 40), LETTERS)
}

fn guid(rng: &mut fastrand::Rng) -> String {
    let hex = format!("{:032x}", rng.u128(..));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn web_token(rng: &mut fastrand::Rng) -> String {
    let header = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, random(rng, "", 27));
    let payload = format!(r#"{{"aud":"api://x","sub":"{}"}}"#, random(rng, "", 40));
    let signature = random(rng, "-_", 342);
    [URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload), signature].join(".")
}

fn unsigned_web_token(rng: &mut fastrand::Rng) -> String {
    web_token(rng).rsplit_once('.').expect("three parts").0.to_owned()
}

fn encrypted_web_token(rng: &mut fastrand::Rng) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A256GCM"}"#);
    format!(
        "{header}..{}.{}.{}",
        random(rng, "-_", 16),
        random(rng, "-_", 90),
        random(rng, "-_", 22)
    )
}

fn pem_body(rng: &mut fastrand::Rng) -> String {
    let lines = [random(rng, "+/", 64), random(rng, "+/", 64), random(rng, "+/", 30)];
    lines.join("\n") + "=="
}

#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    Shape { name: "bearer header", front: "Authorization: Bearer ", secret: token, behind: "", stays: &["Authorization", "Bearer"] },
    Shape { name: "bearer alone", front: "sent bearer ", secret: token, behind: ", and more", stays: &["sent bearer", "more"] },
    Shape { name: "basic header", front: "authorization: basic ", secret: basic, behind: "", stays: &["authorization", "basic"] },
    Shape { name: "proxy's header", front: "Proxy-Authorization: Basic ", secret: basic, behind: "", stays: &["Proxy-Authorization", "Basic"] },
    Shape { name: "signed header", front: "Authorization: SharedKey contoso:", secret: signature, behind: "", stays: &["SharedKey contoso"] },
    Shape { name: "negotiated header", front: "Authorization: Negotiate ", secret: account_key, behind: "", stays: &["Negotiate"] },
    Shape { name: "functions header", front: "x-functions-key: ", secret: token, behind: "", stays: &["x-functions-key"] },
    Shape { name: "identity header", front: "X-IDENTITY-HEADER: ", secret: guid, behind: "", stays: &["X-IDENTITY-HEADER"] },
    Shape { name: "cookie", front: "Cookie: theme=none; AppServiceAuthSession=", secret: token, behind: "; lang=none", stays: &["Cookie", "AppServiceAuthSession", "lang"] },
    Shape { name: "set-cookie", front: "Set-Cookie: id=", secret: token, behind: "; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT; HttpOnly", stays: &["Set-Cookie", "id", "Path=/", "07:28:00 GMT; HttpOnly"] },
    Shape { name: "JSON member", front: r#"{"tenant":"contoso","client_secret":""#, secret: client_secret, behind: r#"","n":1}"#, stays: &["contoso", "client_secret", r#","n":1}"#] },
    Shape { name: "JSON member with space", front: r#"{"accessToken" : ""#, secret: token, behind: r#"", "expiresOn": "2026-11-28 00:50:26"}"#, stays: &["accessToken", "2026-11-28 00:50:26"] },
    Shape { name: "JSON list", front: r#"{"Headers":{"X-Functions-Key":[""#, secret: token, behind: r#""],"Host":["contoso.example"]}}"#, stays: &["X-Functions-Key", "contoso.example"] },
    Shape { name: "nested JSON", front: r#"{"outer":"{\"tenant\":\"contoso\",\"clientSecret\":\""#, secret: client_secret, behind: r#"\",\"n\":1}"}"#, stays: &["contoso", "clientSecret"] },
    Shape { name: "key=value", front: "EASM_CLIENT_SECRET=", secret: client_secret, behind: "", stays: &["EASM_CLIENT_SECRET"] },
    Shape { name: "key=value in parentheses", front: "(host=contoso.example, api_key=", secret: token, behind: ", status=403)", stays: &["contoso.example", "api_key", "status=403"] },
    Shape { name: "key = 'value'", front: "password = '", secret: password, behind: "'", stays: &["password"] },
    Shape { name: "key: value", front: "db-password: ", secret: password, behind: "", stays: &["password"] },
    Shape { name: "option", front: "login --client-secret ", secret: client_secret, behind: " --tenant contoso", stays: &["client-secret", "contoso"] },
    Shape { name: "pair", front: r#"[("IDENTITY_HEADER", ""#, secret: guid, behind: r#""), ("A", "contoso")]"#, stays: &["IDENTITY_HEADER", "contoso"] },
    Shape { name: "XML element", front: "<Name>contoso</Name><AccountKey>", secret: account_key, behind: "</AccountKey><N>1</N>", stays: &["contoso", "AccountKey", "<N>1</N>"] },
    Shape { name: "form body", front: "client_id=contoso&client_secret=", secret: form_value, behind: "&grant_type=client_credentials", stays: &["contoso", "client_secret", "client_credentials"] },
    Shape { name: "assertion in a form", front: "client_assertion=", secret: web_token, behind: "&scope=contoso", stays: &["client_assertion", "contoso"] },
    Shape { name: "query string", front: "GET https://contoso.example/api/runs?code=", secret: token, behind: "&limit=50", stays: &["contoso.example/api/runs?code", "limit=50"] },
    Shape { name: "second in a query string", front: "GET /api/runs?limit=50&access_token=", secret: form_value, behind: "", stays: &["limit=50", "access_token"] },
    Shape { name: "URL user info", front: "https://operator:", secret: password, behind: "@proxy.contoso.example:8080/path", stays: &["https://", "@proxy.contoso.example:8080/path"] },
    Shape { name: "token as URL user", front: "https://", secret: token, behind: "@git.contoso.example/", stays: &["https://", "@git.contoso.example/"] },
    Shape { name: "connection string", front: "DefaultEndpointsProtocol=https;AccountName=contoso;AccountKey=", secret: account_key, behind: ";EndpointSuffix=core.windows.net", stays: &["contoso", "AccountKey", "core.windows.net"] },
    Shape { name: "service bus", front: "Endpoint=sb://contoso.example/;SharedAccessKeyName=Root;SharedAccessKey=", secret: account_key, behind: ";EntityPath=q", stays: &["contoso.example", "SharedAccessKey", "EntityPath=q"] },
    Shape { name: "database", front: "Server=tcp:contoso.example,1433;User ID=sa;Password=", secret: password, behind: ";Encrypt=True", stays: &["contoso.example,1433", "User ID=sa", "Encrypt=True"] },
    Shape { name: "shared access signature", front: "BlobEndpoint=https://contoso.example/;SharedAccessSignature=sv=2024-11-04&ss=b&sig=", secret: signature, behind: ";X=1", stays: &["contoso.example", "sv=2024-11-04&ss=b&sig", "X=1"] },
    Shape { name: "SAS URL", front: "https://contoso.blob.core.windows.net/c/p?sv=2024-11-04&se=2026-11-29T00%3A00%3A00Z&sr=b&sp=r&sig=", secret: signature, behind: "&skoid=1", stays: &["contoso.blob.core.windows.net/c/p", "sv=2024-11-04", "skoid=1"] },
    Shape { name: "web token", front: "", secret: web_token, behind: "", stays: &[] },
    Shape { name: "unsigned web token", front: "got ", secret: unsigned_web_token, behind: ".", stays: &["got"] },
    Shape { name: "encrypted web token", front: "got ", secret: encrypted_web_token, behind: "!", stays: &["got", "!"] },
    Shape { name: "PEM", front: "-----BEGIN PRIVATE KEY-----\n", secret: pem_body, behind: "\n-----END PRIVATE KEY-----", stays: &["-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"] },
    Shape { name: "PEM in JSON", front: r#"{"private_key":"-----BEGIN RSA PRIVATE KEY-----\n"#, secret: token, behind: r#"\n-----END RSA PRIVATE KEY-----\n","n":1}"#, stays: &["private_key", "-----BEGIN RSA PRIVATE KEY-----", r#","n":1}"#] },
    Shape { name: "storage key", front: "found ", secret: account_key, behind: ".", stays: &["found"] },
    Shape { name: "client secret", front: "found ", secret: client_secret, behind: "", stays: &["found"] },
];

/// How a shape is spelled, and how what is left of it is read.
struct Spelling {
    name: &'static str,
    /// The text of a shape with a secret, with nothing around it.
    write: fn(&Shape, &str) -> String,
    /// What a reader makes of it.
    read: fn(&str) -> String,
    /// Whether the words around it are left out.
    is_at_ends: bool,
    /// Whether nothing can be read of what is left of the shape.
    is_opaque: bool,
}

fn plain(shape: &Shape, secret: &str) -> String {
    [shape.front, secret, shape.behind].concat()
}

fn upper(shape: &Shape, secret: &str) -> String {
    [&shape.front.to_uppercase(), secret, shape.behind].concat()
}

fn lower(shape: &Shape, secret: &str) -> String {
    [&shape.front.to_lowercase(), secret, shape.behind].concat()
}

fn broken(shape: &Shape, secret: &str, line_break: &str) -> String {
    let mut at = secret.len() / 2;
    // Nobody breaks what is escaped.
    while secret[..at].chars().rev().take(2).any(|c| c == '%') {
        at += 1;
    }
    [shape.front, &secret[..at], line_break, &secret[at..], shape.behind].concat()
}

fn json_escaped(shape: &Shape, secret: &str) -> String {
    let text = serde_json::json!(plain(shape, secret)).to_string();
    text[1..text.len() - 1].to_owned()
}

fn unicode_escaped(shape: &Shape, secret: &str) -> String {
    let mut escaped = String::new();
    for c in plain(shape, secret).chars() {
        match c.is_ascii_alphanumeric() || c == ' ' {
            true => escaped.push(c),
            false => escaped += &format!("\\u{:04x}", u32::from(c)),
        }
    }
    escaped
}

fn percent_encoded(text: &str, stays: &str) -> String {
    let byte = |byte: u8| match stays.contains(char::from(byte)) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn percent_decoded(text: &str) -> String {
    let escaped = |text: &str| u8::from_str_radix(text.get(..2)?, 16).ok();
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match escaped(part) {
            Some(byte) => decoded.extend([&[byte], &part.as_bytes()[2..]].concat()),
            None => decoded.extend(["%", part].concat().as_bytes()),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn json_unescaped(text: &str) -> String {
    let escaped = |text: &str| u8::from_str_radix(text.get(..2)?, 16).ok().map(char::from);
    let mut parts = text.split("\\u00");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match escaped(part) {
            Some(c) => plain.extend([&c.to_string(), &part[2..]]),
            None => plain.extend(["\\u00", part]),
        }
    }
    plain.replace("\\n", "\n").replace("\\r", "\r").replace("\\\"", "\"").replace("\\\\", "\\")
}

#[rustfmt::skip]
const SPELLINGS: &[Spelling] = &[
    Spelling { name: "plain", write: plain, read: str::to_owned, is_at_ends: false, is_opaque: false },
    Spelling { name: "URL-encoded", write: |shape, secret| percent_encoded(&plain(shape, secret), LETTERS), read: percent_decoded, is_at_ends: false, is_opaque: false },
    Spelling { name: "URL-encoded twice", write: |shape, secret| percent_encoded(&percent_encoded(&plain(shape, secret), LETTERS), LETTERS), read: |text| percent_decoded(&percent_decoded(text)), is_at_ends: false, is_opaque: false },
    Spelling { name: "Base64", write: |shape, secret| STANDARD.encode(plain(shape, secret)), read: str::to_owned, is_at_ends: false, is_opaque: true },
    Spelling { name: "Base64 for URLs", write: |shape, secret| URL_SAFE_NO_PAD.encode(plain(shape, secret)), read: str::to_owned, is_at_ends: false, is_opaque: true },
    Spelling { name: "escaped", write: json_escaped, read: json_unescaped, is_at_ends: false, is_opaque: false },
    Spelling { name: "escaped as UTF-16", write: unicode_escaped, read: json_unescaped, is_at_ends: false, is_opaque: false },
    Spelling { name: "key in upper case", write: upper, read: str::to_owned, is_at_ends: false, is_opaque: false },
    Spelling { name: "key in lower case", write: lower, read: str::to_owned, is_at_ends: false, is_opaque: false },
    Spelling { name: "across a line break", write: |shape, secret| broken(shape, secret, "\n"), read: str::to_owned, is_at_ends: false, is_opaque: false },
    Spelling { name: "across a folded line", write: |shape, secret| broken(shape, secret, "\r\n    "), read: str::to_owned, is_at_ends: false, is_opaque: false },
    Spelling { name: "at both ends", write: plain, read: str::to_owned, is_at_ends: true, is_opaque: false },
];

/// What can be made of `text`: as it is, and decoded in each way.
fn readings(text: &str) -> Vec<String> {
    let mut all = vec![text.to_owned(), percent_decoded(text), json_unescaped(text)];
    all.push(percent_decoded(&all[1]));
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/-_".contains(c);
    for run in text.split(|c| !is_base64(c)) {
        let standard = run.replace('-', "+").replace('_', "/");
        for at in 0..standard.len().min(4) {
            let whole = at + (standard.len() - at) / 4 * 4;
            let bytes = STANDARD_NO_PAD.decode(&standard[at..whole]).unwrap_or_default();
            all.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    all
}

/// What is wrong with how `shape` in `spelling` is redacted.
fn fault(shape: &Shape, spelling: &Spelling, seed: u64) -> Option<String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let secret = (shape.secret)(&mut rng);
    let spelled = (spelling.write)(shape, &secret);
    let text = match spelling.is_at_ends {
        true => spelled,
        false => format!("{FRONT} {spelled} {BEHIND}"),
    };
    let clean = redact(&text);
    let told = format!("{} x {}, SEED={seed}\n  {text}\n  {clean}", shape.name, spelling.name);

    let lines = || secret.lines().chain(secret.split('%'));
    let windows = |line: &str| {
        (RUN_CHARS..=line.len())
            .map(|end| line[end - RUN_CHARS..end].to_owned())
            .collect::<Vec<_>>()
    };
    let decoded = percent_decoded(&secret);
    let password =
        STANDARD.decode(&secret).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let password = password.ok().filter(|text| text.is_ascii()).unwrap_or_default();
    let parts: Vec<String> = lines().chain([&*decoded, &*password]).flat_map(windows).collect();
    for reading in readings(&clean) {
        if let Some(part) = parts.iter().find(|part| reading.contains(*part)) {
            return Some(format!("LEAK of {part}: {told}"));
        }
    }
    let read = (spelling.read)(&clean).to_lowercase();
    let around: &[&str] = if spelling.is_at_ends { &[] } else { &[FRONT, BEHIND] };
    let stays = if spelling.is_opaque { &[] } else { shape.stays };
    let is_lost = |word: &&&str| !read.contains(&word.to_lowercase());
    around.iter().chain(stays).find(is_lost).map(|word| format!("LOST {word}: {told}"))
}

#[test]
fn whatever_its_shape_and_spelling_a_secret_is_gone_and_all_around_it_stays() {
    let mut faults = Vec::new();
    for (shape, spelling) in
        SHAPES.iter().flat_map(|shape| SPELLINGS.iter().map(move |s| (shape, s)))
    {
        faults.extend((0..SEEDS).find_map(|seed| fault(shape, spelling, seed)));
    }
    assert!(faults.is_empty(), "{} cells\n{}", faults.len(), faults.join("\n"));
}
