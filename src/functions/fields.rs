//! What callers send: fields of a query or of a JSON body, each refused by its name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::Error;
use crate::host::http::{HttpRequest, Refusal};

/// Names that the platform reads in a query, and this program does not.
const OF_THE_PLATFORM: &[&str] = &["code", "clientId"];

/// Fields by name.
#[derive(Debug)]
pub struct Fields(BTreeMap<String, Value>);

impl Fields {
    /// The fields of the query of `request`, all of which are among `known`.
    ///
    /// # Errors
    /// A refusal that names the first that is not.
    pub fn of_query(request: &HttpRequest, known: &[&str]) -> Result<Self, Refusal> {
        let ours =
            request.query.iter().filter(|(name, _)| !OF_THE_PLATFORM.contains(&name.as_str()));
        let ours = ours.map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        Self::checked(ours.collect(), known)
    }

    /// The members of the JSON object in the body of `request`, all of which are among `known`. No body
    /// has none.
    ///
    /// # Errors
    /// A refusal of a body that is not there, too large or no JSON object, and of a member.
    pub fn of_body(request: &HttpRequest, known: &[&str]) -> Result<Self, Refusal> {
        let bytes = request.body.bytes()?.unwrap_or_default();
        if bytes.trim_ascii().is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        let members: Map<String, Value> = serde_json::from_slice(bytes).map_err(|err| {
            let at = format!("line {}, column {}", err.line(), err.column());
            Refusal::bad_input(format!("body: not a JSON object ({at})"))
        })?;
        Self::checked(members.into_iter().collect(), known)
    }

    fn checked(fields: BTreeMap<String, Value>, known: &[&str]) -> Result<Self, Refusal> {
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(Self(fields)),
            Some(unknown) => {
                let unknown: String = unknown.chars().take(NAME_CHARS_MAX).collect();
                let advice = match known.is_empty() {
                    true => "say it in the body".to_owned(),
                    false => format!("use {}", known.join(", ")),
                };
                Err(Refusal::bad_input(format!("{unknown:?} is not known here; {advice}")))
            }
        }
    }

    /// The text `name`. `null` is as good as nothing.
    ///
    /// # Errors
    /// A refusal if it is something else.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(refused(name, "a text")),
        }
    }

    /// The texts `name`: an array, or one text with commas between them.
    ///
    /// # Errors
    /// A refusal if it is something else.
    pub fn texts(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.0.get(name) {
            Some(Value::Array(values)) => {
                let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
                let texts = texts.ok_or_else(|| refused(name, "an array of texts"))?;
                Ok(Some(texts.join(",")))
            }
            _ => Ok(self.text(name)?.map(str::to_owned)),
        }
    }

    /// The number `name`, which is within `allowed`.
    ///
    /// # Errors
    /// A refusal if it is not.
    pub fn number(
        &self,
        name: &str,
        allowed: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, Refusal> {
        let number = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(other) => other.as_u64(),
        };
        let words = match (*allowed.start(), *allowed.end()) {
            (min, u64::MAX) => format!("a whole number from {min}"),
            (min, max) => format!("a whole number from {min} to {max}"),
        };
        number
            .filter(|number| allowed.contains(number))
            .map(Some)
            .ok_or_else(|| refused(name, &words))
    }

    /// The switch `name`.
    ///
    /// # Errors
    /// A refusal if it is none.
    pub fn switch(&self, name: &str) -> Result<bool, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(is_on)) => Ok(*is_on),
            Some(_) => Err(refused(name, "true or false")),
        }
    }
}

/// Longest part of an unknown name that is repeated.
const NAME_CHARS_MAX: usize = 40;

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
            let found = Fields::of_query(&request, &["limit"])
                .and_then(|_| Fields::of_body(&request, &["filter"]));
            let said = found.err().map(|refusal| format!("{refusal:?}"));
            match (&said, want) {
                (None, None) => {}
                (Some(said), Some(want)) => assert!(said.contains(want), "{said}"),
                _ => panic!("{query:?} {body}: {said:?}"),
            }
        };
        check(&[("limit", "1"), ("code", "KEY")], "", None);
        check(&[("limits", "1")], "", Some("limits"));
        check(&[], r#"{"filter": "x"}"#, None);
        check(&[], r#"{"filtre": "x"}"#, Some("filtre"));
        check(&[], r#"{"filter": "x""#, Some("body: not a JSON object (line 1, column 14)"));
        check(&[], r#"["filter"]"#, Some("body"));
        check(&[], "null", Some("body"));
    }

    #[test]
    fn a_field_of_another_sort_is_refused_by_name() {
        let read = |body: &str| Fields::of_body(&request(&[], body), &["a"]).expect("known");
        let number =
            |body: &str| read(body).number("a", 1..=9).map_err(|refusal| format!("{refusal:?}"));
        assert_eq!(number(r#"{"a": 3}"#), Ok(Some(3)));
        assert_eq!(number(r#"{"a": "3"}"#), Ok(Some(3)));
        assert_eq!(number(r#"{"a": null}"#), Ok(None));
        for bad in
            [r#"{"a": 0}"#, r#"{"a": 10}"#, r#"{"a": -1}"#, r#"{"a": 1.5}"#, r#"{"a": true}"#]
        {
            assert!(number(bad).is_err_and(|said| said.contains("a: use")), "{bad}");
        }
        assert_eq!(read(r#"{"a": ["x", "y"]}"#).texts("a"), Ok(Some("x,y".to_owned())));
        assert!(read(r#"{"a": [1]}"#).texts("a").is_err());
        assert!(read(r#"{"a": 1}"#).text("a").is_err());
        assert!(read(r#"{"a": "true"}"#).switch("a").is_err());
    }
}
