//! Pre-rendered insides of `asset` objects, so that a page is mostly memcpy.
//!
//! A [`Pool`] holds, for one kind, a few dozen fragments: the members of an
//! `asset` object that do not depend on the very asset. Which fragment an asset
//! gets is decided by its hash, in `inventory`. Members and shapes follow the
//! table of the API reference, section 7; every value is made up.
//!
//! # Invariants
//! - A fragment is a comma-separated list of members, never empty, never with a
//!   comma at either end, and exactly as long as asked for (or as its shortest
//!   form, `"trace":""`).
//! - No key comes twice in one fragment, and none that `inventory` writes.
//! - Fragments depend on seed, kind and number alone.
//!
//! What must occur somewhere in an inventory (awkward strings, numbers, nulls,
//! unknown members) is spread over the fragments rather than put into each.

use super::{
    members::{Members, Shape, members},
    text,
};

/// Fragments of one kind, compact and, where wanted, with white space.
pub type Pool = Vec<Box<[u8]>>;

/// Renders `n` fragments of `kind` whose lengths average `mean_bytes`, from
/// four tenths to sixteen tenths of it.
pub fn pool(seed: u64, kind: &str, n: usize, mean_bytes: f64) -> Pool {
    let fragment = |number: usize| {
        let spread = if n > 1 { number as f64 / (n - 1) as f64 } else { 0.5 };
        let bytes = mean_bytes * (0.4 + 1.2 * spread);
        let seed = text::mix(seed ^ text::hash(number as u64, kind.as_bytes()));
        let mut pen = Pen::new(seed);
        pen.fragment(members(kind), number, bytes as usize);
        pen.out.into_bytes().into_boxed_slice()
    };
    (0..n).map(fragment).collect()
}

/// Values of observations, already escaped as JSON: what breaks careless readers.
const AWKWARD: &[&str] = &[
    r#"a \"quoted\" word"#,
    r"C:\\inetpub\\wwwroot\\",
    r#"<a href=\"\/shop\/?q=1&amp;r=2\">"#,
    r#"{\"a\": {}, \"b\": [1, 2], \"id\": \"host$$nobody\"}"#,
    r#"]}, {\"value\": ["#,
    r"first line\nsecond line\r\n\tthird",
    r"caf\u00e9 \u6771\u4eac \ud83d\ude80",
    "Zürich, Österreich",
    "東京都千代田区",
    "🚀 launch 👩\u{200d}💻",
    "=1+2",
    "-5 \u{2028} spaced",
    "",
    "a,b;c|d",
    "null",
];

const WORDS: &[&str] = &[
    "northwind traders",
    "fabrikam",
    "adatum corporation",
    "tailspin toys",
    "wingtip",
    "litware",
    "proseware",
    "relecloud",
    "text/html; charset=utf-8",
    "clientTransferProhibited",
    "ARIN",
    "RIPE NCC",
    "US",
    "DE",
    "nginx",
    "Apache",
    "no-cache, private",
    "en-GB",
    "+49 89 5550123",
    "Registrar of the North GmbH",
    "ok",
    "utf-8",
    "Welcome",
    "Sign in",
    "Not found",
];

const SOURCES: &[&str] =
    &["pdns", "whois", "crawls", "minicrawls", "portscan", "certificates", "Pdns.A.hostToIP"];

/// Writes members; knows how to make up every shape.
struct Pen {
    out: String,
    rng: fastrand::Rng,
    /// Moments that this fragment's dates come from. The observations of one
    /// asset stem from few scans, so dates repeat, and that is much of why real
    /// pages compress well.
    moments: [i64; N_MOMENTS],
    /// The same for hosts and addresses: an asset has few neighbours.
    neighbours: [u16; N_NEIGHBOURS],
}

const N_MOMENTS: usize = 5;
const N_NEIGHBOURS: usize = 4;

/// Room that is left to the filler at the end: about one element.
const FILLER_BYTES: usize = 300;

impl Pen {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        // 2018 to 2025, with a millisecond part.
        let moments =
            [(); N_MOMENTS].map(|()| 1_514_764_800_000 + rng.i64(0..7 * 365 * 86_400_000));
        let neighbours = [(); N_NEIGHBOURS].map(|()| rng.u16(..));
        Self { out: String::new(), rng, moments, neighbours }
    }

    fn fragment(&mut self, members: Members, number: usize, bytes: usize) {
        let n = members.len();
        for step in 0..n {
            let left = bytes.saturating_sub(self.out.len());
            if left < FILLER_BYTES {
                break;
            }
            let (key, shape) = members[(number * 7 + step) % n];
            let before = self.out.len();
            let goal = before + (left - FILLER_BYTES) / (n - step);
            self.member(key, shape, goal);
            if self.out.len() + r#""trace":"","#.len() > bytes {
                self.out.truncate(before);
                continue;
            }
            self.out.push(',');
        }
        // An undeclared member brings the fragment to its exact length.
        self.out.push_str("\"trace\":\"");
        while self.out.len() + 1 < bytes {
            let c = if self.rng.u8(..8) > 0 { 'x' } else { self.rng.alphanumeric() };
            self.out.push(c);
        }
        self.out.push('"');
    }

    /// One member: elements are added until `goal`, but at least one or, now
    /// and then, none at all (API reference, section 13: "empty arrays").
    fn member(&mut self, key: &str, shape: Shape, goal: usize) {
        self.push(&format!("\"{key}\":"));
        match shape {
            Shape::DomainAsset => return self.domain_asset(),
            Shape::HostCore => return self.host_core(),
            Shape::Cause => return self.cause(),
            Shape::Unknown => return self.unknown(),
            _ => {}
        }
        self.out.push('[');
        if self.rng.u8(..12) > 0 {
            self.element(shape);
            while self.out.len() < goal {
                self.out.push(',');
                self.element(shape);
            }
        }
        self.out.push(']');
    }

    fn element(&mut self, shape: Shape) {
        match shape {
            Shape::Text => {
                let value = self.words();
                self.observation(&format!("\"{value}\""));
            }
            Shape::Host => {
                let value = self.host();
                self.observation(&format!("\"{value}\""));
            }
            Shape::Ip => {
                let value = self.ip();
                self.observation(&format!("\"{value}\""));
            }
            Shape::Person => {
                let n = self.rng.u16(..);
                let value =
                    self.pick(&["Jörg Müller", "Ana López", "王小明", "O'Neil, Pat", "n/a"]);
                self.observation(&format!("\"{value} {n}\""));
            }
            Shape::Int => {
                let value = self.pick(&["200", "301", "404", "500", "-0", "0", "1e5", "-1"]);
                self.observation(value);
            }
            Shape::Long => {
                let value = match self.rng.u8(..6) {
                    0 => "9007199254740993".to_owned(),
                    1 => format!("-{}", self.rng.u32(..)),
                    2 => "1.0E2".to_owned(),
                    _ => self.rng.u32(..).to_string(),
                };
                self.observation(&value);
            }
            Shape::Millis => {
                let value = 1_200_000_000_000 + self.rng.u64(..600_000_000) * 1000;
                self.observation(&value.to_string());
            }
            Shape::Flag => {
                let value = self.pick(&["true", "false"]);
                self.observation(value);
            }
            Shape::Place => {
                let value = self.place();
                self.observation(&value);
            }
            Shape::MinHash => self.min_hash(),
            Shape::Digest => {
                let value = self.hex(40);
                self.observation(&format!("\"{value}\""));
            }
            Shape::Source => self.source(),
            Shape::Header => {
                let name = self.pick(&["Server", "X-Powered-By", "Set-Cookie", "x-trace"]);
                let value = self.words();
                self.seen(&format!(r#""headerName":"{name}","headerValue":"{value}""#));
            }
            Shape::Attribute => {
                let kind = self.pick(&["address", "GoogleAnalyticsAccount", "undeclaredType"]);
                let value = self.words();
                self.seen(&format!(
                    r#""attributeType":"{kind}","attributeValue":"{value}","sources":[]"#
                ));
            }
            Shape::Cookie => {
                let (name, domain, expiry) = (self.hex(12), self.host(), self.zulu());
                self.seen(&format!(
                    r#""cookieName":"__s_{name}","cookieDomain":".{domain}","cookieExpiryDate":"{expiry}""#
                ));
            }
            Shape::Cert => self.cert(),
            Shape::Service => self.service(),
            Shape::Component => self.component(),
            Shape::Words => {
                let value = self.words();
                self.push(&format!("\"{value}\""));
            }
            Shape::Soa => {
                let (server, serial) = (self.host(), self.rng.u64(1 << 53..));
                self.seen(&format!(
                    r#""nameServer":"{server}","email":"hostmaster@{server}","serialNumber":{serial}"#
                ));
            }
            Shape::Alexa => {
                let rank = self.rng.u32(..1_000_000);
                self.seen(&format!(r#""alexaRank":{rank},"category":"all""#));
            }
            Shape::Reputation => {
                let (cidr, at) = (self.ip(), self.zulu());
                self.seen(&format!(
                    r#""listName":"Blocklist \/ daily","threatType":"Scanner","trusted":false,"cidr":"{cidr}/24","listUpdatedAt":"{at}""#
                ));
            }
            Shape::Block => {
                let block = self.ip();
                self.seen(&format!(r#""ipBlock":"{block}/20","sources":[]"#));
            }
            Shape::Resource => {
                let (host, md5, sha) = (self.host(), self.hex(32), self.hex(64));
                let size = self.rng.u32(..90_000);
                self.seen(&format!(
                    r#""url":"https:\/\/{host}\/app.js","resources":[{{"md5":"{md5}","responseBodySize":{size},"sha256":"{sha}","contentType":"text\/javascript","cached":false,"sriChecks":null}}]"#
                ));
            }
            Shape::Banner => {
                let (port, sha, text) = (self.port(), self.hex(64), self.words());
                self.seen(&format!(
                    r#""port":{port},"banner":"{text}","scanType":"tcp","bannerMetadata":null,"sha256":"{sha}","sources":[]"#
                ));
            }
            Shape::Tls => {
                let suite = self.pick(&["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"]);
                self.seen(&format!(
                    r#""tlsVersions":["TLS 1.2","TLS 1.3"],"cipherSuites":["{suite}"],"sources":[]"#
                ));
            }
            Shape::Guid => {
                let (a, b, at) = (self.guid(), self.guid(), self.zulu());
                self.push(&format!(
                    r#"{{"pageGuid":"{a}","crawlStateGuid":"{b}","loadDate":"{at}","recent":true}}"#
                ));
            }
            Shape::Policy => {
                let name = self.pick(&["InsecureLoginFormPolicy", "ExpiredCert, \\\"soon\\\""]);
                let affected = self.rng.bool();
                self.seen(&format!(
                    r#""policyName":"{name}","isAffected":{affected},"description":"","sources":[]"#
                ));
            }
            Shape::Scan => {
                let (port, from, to) = (self.port(), self.zulu(), self.zulu());
                self.push(&format!(
                    r#"{{"port":{port},"bannerMetadata":"","startScan":"{from}","endScan":"{to}"}}"#
                ));
            }
            Shape::DomainAsset | Shape::HostCore | Shape::Cause | Shape::Unknown => {
                self.push("null");
            }
        }
    }

    /// `{"value": ..., seen fields, "sources": [...]}`, with `count` and
    /// `recent` often missing (API reference, section 7, "Observed values").
    fn observation(&mut self, value: &str) {
        self.push(&format!("{{\"value\":{value},"));
        self.seen_fields();
        self.push(",\"sources\":[");
        for n in 0..self.rng.u8(..3) {
            self.push(if n > 0 { "," } else { "" });
            self.source();
        }
        self.push("]}");
    }

    fn seen(&mut self, members: &str) {
        self.push(&format!("{{{members},"));
        self.seen_fields();
        self.out.push('}');
    }

    fn seen_fields(&mut self) {
        let (first, last) = (self.date(), self.date());
        self.push(&format!(r#""firstSeen":"{first}","lastSeen":"{last}""#));
        if self.rng.bool() {
            let count = self.rng.u8(1..20);
            self.push(&format!(",\"count\":{count}"));
        }
        if self.rng.u8(..5) < 2 {
            self.push(",\"recent\":true");
        }
    }

    fn source(&mut self) {
        let (source, first, last) = (self.pick(SOURCES), self.date(), self.date());
        let count = self.rng.u8(1..20);
        let reason = self.pick(&["", r#","reason":null"#, r#","reason":"seed, \"manual\"""#]);
        self.push(&format!(
            r#"{{"source":"{source}","firstSeen":"{first}","lastSeen":"{last}","count":{count}{reason}}}"#
        ));
    }

    fn min_hash(&mut self) {
        self.push("{\"values\":[");
        for n in 0..12 {
            let value = self.rng.i32(..);
            self.push(if n > 0 { "," } else { "" });
            self.push(&value.to_string());
        }
        self.push("],");
        self.seen_fields();
        self.push(",\"sources\":[]}");
    }

    fn cert(&mut self) {
        let (sha1, serial, name) = (self.hex(40), self.hex(32), self.host());
        let (from, to) = (self.date(), self.date());
        self.seen(&format!(
            r#""sha1":"{sha1}","subjectCommonNames":["{name}"],"organizations":["Fabrikam"],"organizationalUnits":[],"sigAlgName":"SHA256withRSA","serialNumber":"{serial}","invalidBefore":"{from}","invalidAfter":"{to}","keySize":2048,"keyAlgorithm":"RSA","version":3,"selfSigned":false,"validationType":"undeclaredValidation""#
        ));
    }

    fn service(&mut self) {
        let port = self.port();
        let (state, first, last) =
            (self.pick(&["open", "closed", "filtered", "half-open"]), self.date(), self.date());
        self.push(&format!(
            r#"{{"scheme":"https","port":{port},"portStates":[{{"value":"{state}","port":{port},"firstSeen":"{first}","lastSeen":"{last}"}}],"webComponents":["#
        ));
        self.component();
        self.push(r#"],"sslCerts":[],"exceptions":[],"sources":[],"#);
        self.seen_fields();
        self.out.push('}');
    }

    fn component(&mut self) {
        let name = self.pick(&["nginx", "Apache", "PHP", "WordPress \\/ core", "jQuery"]);
        let (major, minor) = (self.rng.u8(1..9), self.rng.u8(..30));
        let cve = self.rng.u16(1000..);
        let score = self.pick(&["7.5", "1.0E2", "9.8", "0.0", "5e0"]);
        let (port, end) = (self.port(), self.pick(&["null", "\"2026-01-31T00:00:00Z\""]));
        self.seen(&format!(
            r#""name":"{name}","type":"Server","version":"{major}.{minor}","ruleId":[],"cve":[{{"name":"CVE-2024-{cve}","cweId":"CWE-79","cvssScore":{score},"cvss3Summary":{{"version":"3.1","baseScore":{score},"baseSeverity":"HIGH","impactScore":-0.0,"remediationLevel":null}}}}],"endOfLife":{end},"ports":[{{"port":{port},"count":1}}],"sources":[],"service":null"#
        ));
    }

    fn domain_asset(&mut self) {
        let (domain, whois) = (self.host(), self.rng.u64(1 << 53..1 << 60));
        self.push(&format!(
            r#"{{"domain":"{domain}","whoisId":{whois},"registrarIanaIds":[],"nameServers":["#
        ));
        self.element(Shape::Host);
        self.push("],\"registrantOrgs\":[");
        self.element(Shape::Text);
        self.push("],\"soaRecords\":[");
        self.element(Shape::Soa);
        self.push("],\"alexaInfos\":[],\"detailedFromWhoisAt\":null,\"count\":1}");
    }

    fn host_core(&mut self) {
        let (host, score, guid) = (self.host(), self.rng.u8(..100), self.guid());
        self.push(&format!(
            r#"{{"host":"{host}","hostReputationScore":{score}.25,"domainReputationScore":-1E-3,"phishCauseCount":0,"alexaRank":null,"uuid":"{guid}"}}"#
        ));
    }

    fn cause(&mut self) {
        let path = self.rng.u8(..40);
        self.push(&format!(
            r#"{{"cause":"links","causeElementXPath":"\/html\/body\/a[{path}]","location":"","possibleMatches":1,"loopDetected":false,"version":2,"domChangeIndex":null}}"#
        ));
    }

    fn unknown(&mut self) {
        let (token, nested) = (self.hex(16), self.rng.u64(..));
        self.push(&format!(
            r#"{{"schema":2,"token":"{token}","nested":{{"deep":[[],{{}},[null,true,{nested}]]}},"ratio":-2.5e-3}}"#
        ));
    }

    fn place(&mut self) -> String {
        let (lat, lon) = (self.rng.i16(-8999..9000), self.rng.i16(-17999..18000));
        let city = self.pick(&["Zürich", "M\\u00fcnchen", "東京", "Reading", "Saint-Étienne"]);
        format!(
            r#"{{"countryCode":"de","countryName":"germany","region":"by","city":"{city}","areaCode":null,"postalCode":"","latitude":{}.{:02},"longitude":{}.{:02},"dmaCode":0,"metroCodeId":-0}}"#,
            lat / 100,
            lat % 100 * lat.signum(),
            lon / 100,
            lon % 100 * lon.signum()
        )
    }

    fn words(&mut self) -> String {
        if self.rng.u8(..6) == 0 {
            return self.pick(AWKWARD).to_owned();
        }
        let (word, tail) = (self.pick(WORDS), self.neighbour());
        format!("{word} {tail}")
    }

    fn host(&mut self) -> String {
        let word = self.pick(&["www", "mail", "api", "cdn", "shop", "xn--mller-kva"]);
        let n = self.neighbour();
        let org = self.pick(&["northwind", "fabrikam", "adatum", "litware"]);
        format!("{word}-{n}.{org}.example")
    }

    fn ip(&mut self) -> String {
        let [a, b] = self.neighbour().to_be_bytes();
        let c = self.rng.u8(..8);
        format!("10.{c}.{a}.{b}")
    }

    fn neighbour(&mut self) -> u16 {
        self.neighbours[self.rng.usize(..N_NEIGHBOURS)]
    }

    fn port(&mut self) -> &'static str {
        self.pick(&["80", "443", "8443", "22", "3389"])
    }

    fn guid(&mut self) -> String {
        text::uuid(self.rng.u64(..), self.rng.u64(..))
    }

    fn date(&mut self) -> String {
        if self.rng.u8(..8) == 0 { self.zulu() } else { self.moment(text::DateForm::Offset) }
    }

    fn zulu(&mut self) -> String {
        self.moment(text::DateForm::Zulu)
    }

    fn moment(&mut self, form: text::DateForm) -> String {
        let ms = self.moments[self.rng.usize(..N_MOMENTS)];
        let mut out = Vec::with_capacity(32);
        text::push_date(&mut out, ms, form);
        String::from_utf8(out).expect("dates are ASCII")
    }

    fn hex(&mut self, nibbles: usize) -> String {
        let digit = |_| char::from_digit(self.rng.u32(..16), 16).expect("a nibble has a digit");
        (0..nibbles).map(digit).collect()
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.rng.usize(..list.len())]
    }

    fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [&str; 9] = [
        "as",
        "contact",
        "domain",
        "host",
        "ipAddress",
        "ipBlock",
        "page",
        "sslCert",
        "mailServer",
    ];

    #[test]
    fn fragments_parse_have_no_key_twice_and_average_the_size_asked_for() {
        for kind in KINDS {
            for mean in [60.0, 700.0, 2000.0, 18_000.0] {
                let pool = pool(1, kind, 16, mean);
                let bytes: usize = pool.iter().map(|fragment| fragment.len()).sum();
                assert!((bytes as f64 / 16.0 - mean).abs() < 2.0, "{kind} {mean}");
                for fragment in &pool {
                    let body = format!("{{{}}}", std::str::from_utf8(fragment).unwrap());
                    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
                    let n_keys = value.as_object().unwrap().len();
                    let mut compact = 0;
                    let mut depth = 0;
                    let mut spaced = Vec::new();
                    text::push_spaced(&mut spaced, fragment, &mut depth);
                    let indent = b"\n\"";
                    compact += spaced.windows(2).filter(|w| w == indent).count();
                    assert_eq!(compact + 1, n_keys, "a key came twice: {body}");
                }
            }
        }
    }

    #[test]
    fn fragments_depend_on_the_seed_alone() {
        assert_eq!(pool(7, "host", 4, 900.0), pool(7, "host", 4, 900.0));
        assert_ne!(pool(7, "host", 4, 900.0), pool(8, "host", 4, 900.0));
    }
}
