//! What callers send: fields of a query or of a JSON body, each refused by its name. Which there are
//! stands in tables, which `openapi.json` is made from too.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::Error;
use crate::host::http::{HttpRequest, Refusal};

/// A field that callers may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub sort: Sort,
    /// What it means, in one sentence.
    pub means: &'static str,
}

/// What a field may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A text.
    Text,
    /// One of these words. The first is meant if none is given.
    Word(&'static [&'static str]),
    /// Texts: an array of them in JSON, or one text with commas between them.
    Texts,
    /// A whole number from the first to the second.
    Number(u64, u64),
    /// `true` or `false`.
    Switch,
}

/// Names that the platform reads in a query, and this program does not.
const OF_THE_PLATFORM: &[&str] = &["code", "clientId"];

/// Longest part of an unknown name that is repeated.
const NAME_CHARS_MAX: usize = 40;

/// Fields by name, all of them known.
#[derive(Debug)]
pub struct Fields {
    known: &'static [Field],
    values: BTreeMap<String, Value>,
}

impl Fields {
    /// The fields of the query of `request`.
    ///
    /// # Errors
    /// A refusal that names the first that is not `known`.
    pub fn of_query(request: &HttpRequest, known: &'static [Field]) -> Result<Self, Refusal> {
        let is_platforms =
            |name: &str| OF_THE_PLATFORM.iter().any(|platform| platform.eq_ignore_ascii_case(name));
        let ours = request.query.iter().filter(|(name, _)| !is_platforms(name));
        let ours = ours.map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        Self::checked(ours.collect(), known)
    }

    /// The members of the JSON object in the body of `request`. No body has none.
    ///
    /// # Errors
    /// A refusal of a body that is not there, too large or no JSON object, and of a member that is not
    /// `known`.
    pub fn of_body(request: &HttpRequest, known: &'static [Field]) -> Result<Self, Refusal> {
        let bytes = request.body.bytes()?.unwrap_or_default();
        if bytes.trim_ascii().is_empty() {
            return Ok(Self { known, values: BTreeMap::new() });
        }
        let members: Map<String, Value> = serde_json::from_slice(bytes).map_err(|err| {
            let at = format!("line {}, column {}", err.line(), err.column());
            Refusal::bad_input(format!("body: not a JSON object ({at})"))
        })?;
        Self::checked(members.into_iter().collect(), known)
    }

    fn checked(values: BTreeMap<String, Value>, known: &'static [Field]) -> Result<Self, Refusal> {
        let is_known = |name: &str| known.iter().any(|field| field.name == name);
        let Some(unknown) = values.keys().find(|name| !is_known(name)) else {
            return Ok(Self { known, values });
        };
        let unknown: String = unknown.chars().take(NAME_CHARS_MAX).collect();
        let names: Vec<&str> = known.iter().map(|field| field.name).collect();
        let advice = match names.is_empty() {
            true => "leave it out, or say it in the body".to_owned(),
            false => format!("use {}", names.join(", ")),
        };
        Err(Refusal::bad_input(format!("{unknown:?} is not known here; {advice}")))
    }

    /// The text or word `name`. `null` is as good as nothing.
    ///
    /// # Errors
    /// A refusal if it is something else.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let text = match self.values.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.as_str(),
            Some(_) => return Err(refused(name, "a text")),
        };
        match self.sort(name) {
            Sort::Word(words) if !words.contains(&text) => {
                Err(refused(name, &format!("one of {}", words.join(", "))))
            }
            _ => Ok(Some(text)),
        }
    }

    /// The texts `name`, with commas between them.
    ///
    /// # Errors
    /// A refusal if it is something else.
    pub fn texts(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.values.get(name) {
            Some(Value::Array(values)) => {
                let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
                let texts = texts.ok_or_else(|| refused(name, "an array of texts"))?;
                Ok(Some(texts.join(",")))
            }
            _ => Ok(self.text(name)?.map(str::to_owned)),
        }
    }

    /// The number `name`.
    ///
    /// # Errors
    /// A refusal if it is something else, or out of bounds.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let number = match self.values.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(other) => other.as_u64(),
        };
        let (min, max) = match self.sort(name) {
            Sort::Number(min, max) => (min, max),
            Sort::Text | Sort::Word(_) | Sort::Texts | Sort::Switch => (0, u64::MAX),
        };
        let words = match max {
            u64::MAX => format!("a whole number from {min}"),
            max => format!("a whole number from {min} to {max}"),
        };
        let number = number.filter(|number| (min..=max).contains(number));
        number.map(Some).ok_or_else(|| refused(name, &words))
    }

    /// The switch `name`.
    ///
    /// # Errors
    /// A refusal if it is none.
    pub fn switch(&self, name: &str) -> Result<bool, Refusal> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(is_on)) => Ok(*is_on),
            Some(_) => Err(refused(name, "true or false")),
        }
    }

    fn sort(&self, name: &str) -> Sort {
        let field = self.known.iter().find(|field| field.name == name);
        field.expect("only fields that are known are asked for").sort
    }
}

fn refused(name: &str, allowed: &str) -> Refusal {
    Refusal::bad_input(format!("{name}: use {allowed}"))
}

/// A refusal of a field by what reads settings and flags, which named it.
pub fn bad_field(err: &Error) -> Refusal {
    Refusal::bad_input(err.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::http::Body;

    const LIMIT: &[Field] = &[Field { name: "limit", sort: Sort::Number(1, 9), means: "" }];
    const FILTER: &[Field] = &[Field { name: "filter", sort: Sort::Text, means: "" }];

    fn request(query: &[(&str, &str)], body: &str) -> HttpRequest {
        let query = query.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        HttpRequest {
            method: "POST".to_owned(),
            query: query.collect(),
            headers: Default::default(),
            params: Default::default(),
            body: Body::Bytes(body.as_bytes().to_vec()),
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let check = |query: &[(&str, &str)], body: &str, want: Option<&str>| {
            let request = request(query, body);
            let found =
                Fields::of_query(&request, LIMIT).and_then(|_| Fields::of_body(&request, FILTER));
            let said = found.err().map(|refusal| format!("{refusal:?}"));
            match (&said, want) {
                (None, None) => {}
                (Some(said), Some(want)) => assert!(said.contains(want), "{said}"),
                _ => panic!("{query:?} {body}: {said:?}"),
            }
        };
        check(&[("limit", "1"), ("code", "KEY")], "", None);
        check(&[("Code", "KEY"), ("clientid", "x")], "", None);
        check(&[("limits", "1")], "", Some("limits"));
        check(&[], r#"{"filter": "x"}"#, None);
        check(&[], r#"{"filtre": "x"}"#, Some("filtre"));
        check(&[], r#"{"filter": "x""#, Some("body: not a JSON object (line 1, column 14)"));
        check(&[], r#"["filter"]"#, Some("body"));
        check(&[], "null", Some("body"));
        let nothing = Fields::of_query(&request(&[("filter", "x")], ""), &[]);
        assert!(format!("{nothing:?}").contains("say it in the body"), "{nothing:?}");
    }

    #[test]
    fn a_field_of_another_sort_is_refused_by_name() {
        const KNOWN: &[Field] = &[
            Field { name: "number", sort: Sort::Number(1, 9), means: "" },
            Field { name: "word", sort: Sort::Word(&["json", "csv"]), means: "" },
            Field { name: "texts", sort: Sort::Texts, means: "" },
            Field { name: "switch", sort: Sort::Switch, means: "" },
        ];
        let check = |member: &str, json: &str, want: Option<&str>| {
            let body = format!(r#"{{"{member}": {json}}}"#);
            let fields = Fields::of_body(&request(&[], &body), KNOWN).expect("known");
            let found = match member {
                "number" => fields.number(member).map(|number| format!("{number:?}")),
                "texts" => fields.texts(member).map(|texts| format!("{texts:?}")),
                "switch" => fields.switch(member).map(|is_on| is_on.to_string()),
                _ => fields.text(member).map(|text| format!("{text:?}")),
            };
            match (&found, want) {
                (Ok(found), Some(want)) => assert_eq!(found, want, "{body}"),
                (Err(refusal), None) => assert!(refusal.names(member), "{refusal:?}"),
                _ => panic!("{body}: {found:?}"),
            }
        };
        check("number", "3", Some("Some(3)"));
        check("number", r#""3""#, Some("Some(3)"));
        check("number", "null", Some("None"));
        for bad in ["0", "10", "-1", "1.5", "true", r#""x""#] {
            check("number", bad, None);
        }
        check("word", r#""csv""#, Some(r#"Some("csv")"#));
        check("word", r#""xml""#, None);
        check("word", "1", None);
        check("texts", r#"["x", "y"]"#, Some(r#"Some("x,y")"#));
        check("texts", r#""x,y""#, Some(r#"Some("x,y")"#));
        check("texts", "[1]", None);
        check("switch", "true", Some("true"));
        check("switch", r#""true""#, None);
    }
}
