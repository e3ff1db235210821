//! JSON as the host's library (Newtonsoft.Json) reads and writes it: members keep their order,
//! numbers and special characters have that library's spelling.
//!
//! Not copied: what that library reads although it is no JSON (comments, single quotes).

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// From this power of ten on, .NET writes a fraction with an exponent.
const PLAIN_EXPONENT_MAX: i32 = 14;
/// Down to this power of ten it does not.
const PLAIN_EXPONENT_MIN: i32 = -5;

#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    Array(Vec<Json>),
    /// Members in their order. A name that comes twice has the value that came last.
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|err| err.to_string())
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub fn object<const N: usize>(members: [(&str, Json); N]) -> Self {
        Self::Object(members.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// The member `name` in any case, as the host's settings and replies are read.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        let member = members.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        member.map(|(_, value)| value)
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Without white space.
    pub fn compact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None);
        out
    }

    /// Two spaces a level, as an output binding writes an object.
    pub fn indented(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, Some(0));
        out
    }

    /// A number, truth value or text as .NET makes text of it: `1.5`, `True`; nothing for others.
    pub fn scalar(&self) -> Option<String> {
        match self {
            Self::Bool(true) => Some("True".to_owned()),
            Self::Bool(false) => Some("False".to_owned()),
            Self::Number(number) if number.is_f64() => Some(fraction(number)),
            Self::Number(number) => Some(number.to_string()),
            Self::Text(text) => Some(text.clone()),
            Self::Null | Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// The same with every text in it replaced by what `change` makes of it, if anything.
    pub fn with_texts(self, change: fn(&str) -> Option<String>) -> Self {
        match self {
            Self::Text(text) => Self::Text(change(&text).unwrap_or(text)),
            Self::Array(items) => {
                Self::Array(items.into_iter().map(|item| item.with_texts(change)).collect())
            }
            Self::Object(members) => {
                let each =
                    members.into_iter().map(|(name, value)| (name, value.with_texts(change)));
                Self::Object(each.collect())
            }
            other => other,
        }
    }

    fn write(&self, out: &mut String, level: Option<usize>) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) if number.is_f64() => {
                let text = fraction(number);
                out.push_str(&text);
                if !text.contains(['.', 'E']) {
                    out.push_str(".0");
                }
            }
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::Text(text) => quote(text, out),
            Self::Array(items) => {
                let each = items.iter().map(|item| (None, item));
                write_all(out, ['[', ']'], level, each);
            }
            Self::Object(members) => {
                let each = members.iter().map(|(name, value)| (Some(name.as_str()), value));
                write_all(out, ['{', '}'], level, each);
            }
        }
    }
}

fn write_all<'a>(
    out: &mut String,
    [open, close]: [char; 2],
    level: Option<usize>,
    values: impl Iterator<Item = (Option<&'a str>, &'a Json)>,
) {
    out.push(open);
    let inner = level.map(|level| level + 1);
    let mut is_empty = true;
    for (name, value) in values {
        if !is_empty {
            out.push(',');
        }
        is_empty = false;
        new_line(out, inner);
        if let Some(name) = name {
            quote(name, out);
            out.push_str(if inner.is_some() { ": " } else { ":" });
        }
        value.write(out, inner);
    }
    if !is_empty {
        new_line(out, level);
    }
    out.push(close);
}

fn new_line(out: &mut String, level: Option<usize>) {
    if let Some(level) = level {
        out.push('\n');
        out.push_str(&"  ".repeat(level));
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The shortest digits that give the number again, with .NET's rule for exponents: `1.5`, `1E+20`.
fn fraction(number: &Number) -> String {
    let value = number.as_f64().expect("a number is within the range of f64");
    let short = format!("{value:e}");
    let (digits, exponent) = short.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a small number");
    if (PLAIN_EXPONENT_MIN..=PLAIN_EXPONENT_MAX).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}E{sign}{:02}", exponent.abs())
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Json::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut all: Vec<(String, Json)> = Vec::new();
        while let Some((name, value)) = members.next_entry::<String, Json>()? {
            match all.iter_mut().find(|(found, _)| *found == name) {
                Some(member) => member.1 = value,
                None => all.push((name, value)),
            }
        }
        Ok(Json::Object(all))
    }
}

#[test]
fn json_is_written_as_the_host_writes_it() {
    // What is read, and what is written.
    let cases = [
        (r#"{"b" : 1, "a":[ ], "b":2}"#, r#"{"b":2,"a":[]}"#),
        (r#""\u0001\u001f\u0085\u2028/é\"\\\n""#, r#""\u0001\u001f\u0085\u2028/é\"\\\n""#),
        ("1.50", "1.5"),
        ("1.0", "1.0"),
        ("1e14", "100000000000000.0"),
        ("1e15", "1E+15"),
        ("1.25e-6", "1.25E-06"),
        ("0.00001", "0.00001"),
        ("18446744073709551615", "18446744073709551615"),
        ("[true,null,-3]", "[true,null,-3]"),
    ];
    for (read, written) in cases {
        assert_eq!(Json::parse(read).unwrap().compact(), written, "{read}");
    }
    let nested = Json::parse(r#"{"a":[1,{}],"b":{"c":[]}}"#).unwrap();
    let lines = "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": {\n    \"c\": []\n  }\n}";
    assert_eq!(nested.indented(), lines);
    assert!(Json::parse("{broken}").is_err());
}
