//! Names of assets and the members of `asset` that repeat them.
//!
//! A name is a pure function of kind, number among its kind and hash, and holds
//! the number, so it is unique within its kind. About a third are awkward on
//! purpose: umlauts, CJK, emoji, commas, quotes, backslashes.

use super::text::{self, Escapes};

const ORGS: [&str; 8] =
    ["northwind", "fabrikam", "adatum", "tailspin", "wingtip", "litware", "proseware", "relecloud"];
const LABELS: [&str; 8] = ["www", "mail", "shop", "api", "vpn", "dev", "static", "intranet"];

/// A name with its spelling inside a JSON string.
pub struct Name {
    pub raw: String,
    pub escaped: Vec<u8>,
    hash: u64,
    escapes: Escapes,
    is_cert: bool,
}

impl Name {
    pub fn new(kind: &str, serial: u32, hash: u64) -> Self {
        let raw = name(kind, serial, hash);
        let escapes = Escapes { slash: hash >> 32 & 3 == 0, unicode: hash >> 34 & 3 == 0 };
        let mut escaped = Vec::with_capacity(raw.len() + 16);
        text::push_escaped(&mut escaped, &raw, escapes);
        Self { raw, escaped, hash, escapes, is_cert: kind == "sslCert" }
    }

    /// The display name as it stands in JSON: the name, but for certificates,
    /// whose name is a hash.
    pub fn display_escaped(&self) -> Vec<u8> {
        if !self.is_cert {
            return self.escaped.clone();
        }
        let mut out = Vec::with_capacity(64);
        text::push_escaped(&mut out, &common_name(self.hash), self.escapes);
        out
    }
}

fn common_name(hash: u64) -> String {
    let org = org(hash);
    match hash >> 36 & 7 {
        0 => format!("Größe, \"{org}\" GmbH & Co. KG"),
        1 => format!("株式会社 {org} / 東京"),
        _ => format!("*.{org}.example"),
    }
}

fn org(hash: u64) -> &'static str {
    ORGS[(hash >> 40) as usize % ORGS.len()]
}

/// The name of asset number `serial` of `kind`.
pub fn name(kind: &str, serial: u32, hash: u64) -> String {
    let (label, org) = (LABELS[(hash >> 44) as usize % LABELS.len()], org(hash));
    let flavour = hash >> 48 & 15;
    let mut out = Vec::with_capacity(64);
    let mut put = |parts: &[&str]| parts.iter().for_each(|p| out.extend_from_slice(p.as_bytes()));
    let number = |n: u32| n.to_string();
    let serial_text = number(serial);
    match kind {
        "as" => put(&[&number(64_512 + serial)]),
        "ipAddress" if flavour == 0 => {
            put(&["2001:db8:", &format!("{:x}:{:x}", serial >> 16, serial & 0xffff), "::1"]);
        }
        "ipAddress" => put(&[&dotted(10, serial)]),
        "ipBlock" => put(&[&dotted(172, serial << 8), "/24"]),
        "sslCert" => {
            let mut sha1 = Vec::with_capacity(40);
            text::push_hex(&mut sha1, hash, 16);
            text::push_hex(&mut sha1, text::mix(hash ^ 0x5a1), 16);
            text::push_hex(&mut sha1, u64::from(serial), 8);
            out = sha1;
        }
        "contact" => match flavour {
            0 | 1 => put(&["\"müller, jörg\"+", &serial_text, "@", org, ".example"]),
            2 => put(&["back\\slash+", &serial_text, "@", org, ".example"]),
            _ => put(&[label, ".owner+", &serial_text, "@", org, ".example"]),
        },
        "page" => match flavour {
            0 => put(&["https://", label, ".", org, ".example/größe?id=", &serial_text]),
            1 => put(&["https://", org, ".example/東京/🚀?q=\"a, b\"&id=", &serial_text]),
            2 => put(&["http://", org, ".example:8080/a\\b,c/", &serial_text, "#top"]),
            3 => put(&["https://", org, ".example/+%2F%20/", &serial_text, "/?x=~ÿ"]),
            _ => put(&["https://", label, ".", org, ".example/path/", &serial_text, "/"]),
        },
        _ => match flavour {
            0 | 1 => put(&["müller-", &serial_text, ".", org, ".example"]),
            2 => put(&["例え-", &serial_text, ".", org, ".example"]),
            3 => put(&["🚀", &serial_text, ".", org, ".example"]),
            _ => put(&[label, "-", &serial_text, ".", org, ".example"]),
        },
    }
    String::from_utf8(out).expect("built from strings")
}

fn dotted(first: u32, n: u32) -> String {
    format!("{}.{}.{}.{}", first + (n >> 24), n >> 16 & 255, n >> 8 & 255, n & 255)
}

/// Appends the scalar members that `asset` has for a kind, without a comma at
/// either end (API reference, section 7, table "`asset` per kind").
pub fn push_scalars(out: &mut Vec<u8>, kind: &str, name: &Name, hash: u64) {
    let key = |out: &mut Vec<u8>, key: &str| {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b":\"");
        out.extend_from_slice(&name.escaped);
        out.push(b'"');
    };
    let more = text::mix(hash ^ 0x5ca1);
    match kind {
        "as" => {
            out.extend_from_slice(b"\"asn\":");
            out.extend_from_slice(&name.escaped);
            out.extend_from_slice(b",\"detailedFromWhoisAt\":null");
        }
        "contact" => key(out, "\"email\""),
        "domain" => {
            key(out, "\"domain\"");
            // Beyond 2^53, where a double loses digits (API reference, section 7).
            out.extend_from_slice(b",\"whoisId\":");
            text::push_u64(out, more | 1 << 60);
            out.extend_from_slice(b",\"detailedFromWhoisAt\":\"2024-03-17T00:00:00Z\"");
        }
        "host" => {
            key(out, "\"host\"");
            out.extend_from_slice(b",\"domain\":\"");
            out.extend_from_slice(org(hash).as_bytes());
            out.extend_from_slice(b".example\"");
        }
        "ipAddress" => {
            key(out, "\"ipAddress\"");
            let is_v6 = name.escaped.contains(&b':');
            out.extend_from_slice(if is_v6 {
                b",\"ipv4\":false,\"ipv6\":true"
            } else {
                b",\"ipv4\":true,\"ipv6\":false"
            });
        }
        "ipBlock" => {
            key(out, "\"ipBlock\"");
            let start = name.raw.trim_end_matches("/24");
            let end = start.strip_suffix(".0").unwrap_or(start);
            out.extend_from_slice(b",\"startIp\":\"");
            out.extend_from_slice(start.as_bytes());
            out.extend_from_slice(b"\",\"endIp\":\"");
            out.extend_from_slice(end.as_bytes());
            out.extend_from_slice(
                b".255\",\"detailedFromWhoisAt\":null,\"ipv4\":true,\"ipv6\":false",
            );
        }
        "page" => {
            key(out, "\"url\"");
            out.extend_from_slice(b",\"httpMethod\":\"GET\",\"service\":null,\"referrer\":\"\"");
            // Not only values that are known (API reference, section 13).
            out.extend_from_slice(match more & 7 {
                0 => b",\"siteStatus\":\"teapot\"",
                1 => b",\"siteStatus\":\"broken\"",
                _ => b",\"siteStatus\":\"active\"",
            });
            out.extend_from_slice(b",\"host\":\"");
            out.extend_from_slice(org(hash).as_bytes());
            out.extend_from_slice(b".example\",\"isRootUrl\":false,\"redirectType\":null");
        }
        "sslCert" => {
            key(out, "\"sha1\"");
            // Some serial numbers come as numbers, far beyond 64 bits.
            out.extend_from_slice(b",\"serialNumber\":");
            let quote: &[u8] = if more & 3 == 0 { b"" } else { b"\"" };
            out.extend_from_slice(quote);
            text::push_u64(out, more | 1 << 63);
            text::push_u64(out, hash | 1 << 63);
            out.extend_from_slice(quote);
            out.extend_from_slice(
                br#","sigAlgName":"SHA256withRSA","sigAlgOid":"1.2.840.113549.1.1.11","keyAlgorithm":"RSA","keySize":2048,"version":3,"invalidBefore":"2024-01-01T00:00:00Z","invalidAfter":"2026-01-01T23:59:59.000+00:00","certificateAuthority":false,"selfSigned":false,"validationType":"organizationValidation""#,
            );
        }
        _ => key(out, "\"hostName\""),
    }
}
