//! Routes of HTTP functions: `exports/{runId?}`, `openapi.json`, `files/{*path}`.

use percent::decoded;

/// A route, segment by segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Param { name: String, is_optional: bool },
    Rest { name: String },
}

/// Names and values of a route's parameters; optional ones that are not there have none.
pub type Params = Vec<(String, Option<String>)>;

impl Route {
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.trim_start_matches('/').to_lowercase();
        if lower.starts_with("admin") || lower.starts_with("runtime") {
            return Err(format!(
                "The specified route conflicts with one or more built in routes: '{text}'."
            ));
        }
        let segment = |text: &str| {
            let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
                return Segment::Literal(text.to_owned());
            };
            let name = inner.split(':').next().unwrap_or_default();
            match inner.strip_prefix('*') {
                Some(rest) => Segment::Rest { name: rest.trim_start_matches('*').to_owned() },
                None => Segment::Param {
                    name: name.trim_end_matches('?').to_owned(),
                    is_optional: inner.ends_with('?'),
                },
            }
        };
        Ok(Self(text.trim_matches('/').split('/').map(segment).collect()))
    }

    /// The parameters in `path`, which is as it was sent, without the prefix and a query.
    pub fn matches(&self, path: &str) -> Option<Params> {
        let path = path.trim_start_matches('/');
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut given = path.split('/').filter(|part| !part.is_empty());
        let mut params = Vec::new();
        for segment in &self.0 {
            match segment {
                Segment::Literal(text) => {
                    given.next().filter(|part| decoded(part).eq_ignore_ascii_case(text))?;
                }
                Segment::Param { name, is_optional } => {
                    let value = given.next().map(decoded);
                    if value.is_none() && !is_optional {
                        return None;
                    }
                    params.push((name.clone(), value));
                }
                Segment::Rest { name } => {
                    let rest: Vec<String> = given.by_ref().map(decoded).collect();
                    params.push((name.clone(), (!rest.is_empty()).then(|| rest.join("/"))));
                }
            }
        }
        given.next().is_none().then_some(params)
    }

    /// Of several routes that match, the one with the lowest rank is meant: segment by segment, a
    /// text comes before a parameter, and that before a rest.
    pub fn rank(&self) -> Vec<u8> {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 0,
            Segment::Param { .. } => 1,
            Segment::Rest { .. } => 2,
        };
        self.0.iter().map(rank).collect()
    }
}

mod percent {
    /// A segment of a path without percent signs. `%2F` stays, as in the host's web server.
    pub fn decoded(part: &str) -> String {
        let (mut out, bytes) = (Vec::new(), part.as_bytes());
        let mut at = 0;
        while at < bytes.len() {
            let hex = part.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
            match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(byte) if byte != b'/' => {
                    out.push(byte);
                    at += 3;
                }
                _ => {
                    out.push(bytes[at]);
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

#[test]
fn a_route_finds_its_parameters() {
    // Route, path, and the parameters as `name=value`, or nothing.
    let cases = [
        ("exports/{runId?}", "exports", Some("runId")),
        ("exports/{runId?}", "exports/", Some("runId")),
        ("exports/{runId?}", "Exports/a%20b%2Fc", Some("runId=a b%2Fc")),
        ("exports/{runId?}", "exports/1/2", None),
        ("openapi.json", "openapi.json", Some("")),
        ("openapi.json", "openapi", None),
        ("{kind}/{id:int}", "host/7", Some("kind=host id=7")),
        ("{kind}/{id:int}", "host", None),
        ("files/{*path}", "files/a/b", Some("path=a/b")),
        ("files/{*path}", "files", Some("path")),
    ];
    for (route, path, want) in cases {
        let found = Route::parse(route).unwrap().matches(path).map(|params| {
            let text = |(name, value): (String, Option<String>)| match value {
                Some(value) => format!("{name}={value}"),
                None => name,
            };
            params.into_iter().map(text).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(found.as_deref(), want, "{route} {path}");
    }
    assert!(Route::parse("administration").is_err());
    let rank = |route: &str| Route::parse(route).unwrap().rank();
    assert!(rank("a/b") < rank("a/{x}") && rank("a/{x}") < rank("a/{*x}"));
}
