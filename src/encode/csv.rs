//! CSV: RFC 4180 with a header row (contract, section 5). Columns are top-level members.

use std::borrow::Cow;
use std::collections::HashMap;

use csv::{Terminator, Writer, WriterBuilder};
use serde_json::value::RawValue;

use crate::error::{Error, Kind, Result};

/// The columns of whoever names none (contract, section 5).
pub const COLUMNS_DEFAULT: [&str; 12] = [
    "id",
    "kind",
    "name",
    "displayName",
    "uuid",
    "state",
    "createdDate",
    "updatedDate",
    "externalId",
    "labels",
    "wildcard",
    "discoGroupName",
];

/// Most columns of a table.
pub const COLUMNS_MAX: usize = 100;

/// Writes rows of a table into memory.
pub struct Csv {
    columns: Vec<String>,
    writer: Writer<Vec<u8>>,
}

impl Csv {
    /// A table with a header row of `columns`.
    ///
    /// # Errors
    /// [`Kind::Internal`] if it cannot be written, which does not happen in memory.
    pub fn new(columns: Vec<String>) -> Result<Self> {
        let to = Vec::new();
        let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(to);
        writer.write_record(&columns).map_err(|err| unwritten(&err))?;
        Ok(Self { columns, writer })
    }

    /// Adds a row for `record`, one JSON object. What it does not have stays empty.
    ///
    /// # Errors
    /// [`Kind::Unreadable`] if it is no JSON object.
    pub fn add(&mut self, record: &[u8]) -> Result<()> {
        let members: HashMap<Cow<'_, str>, &RawValue> =
            serde_json::from_slice(record).map_err(|_| unreadable())?;
        for column in &self.columns {
            let value = members.get(column.as_str()).map(|value| cell(value.get())).transpose()?;
            self.writer
                .write_field(value.unwrap_or_default().as_bytes())
                .map_err(|err| unwritten(&err))?;
        }
        self.writer.write_record(None::<&[u8]>).map_err(|err| unwritten(&err))
    }

    /// Bytes of the table so far.
    pub fn n_bytes(&self) -> usize {
        self.writer.get_ref().len()
    }

    /// The whole table.
    ///
    /// # Errors
    /// [`Kind::Internal`] if it cannot be written, which does not happen in memory.
    pub fn end(self) -> Result<Vec<u8>> {
        self.writer.into_inner().map_err(|err| unwritten(err.error()))
    }
}

/// What stands in the cell of the value `json`: a text as it is meant, a number, `true` or `false` as it
/// is written, nothing for `null`, the elements of an array with `;` between them, an object as JSON.
fn cell(json: &str) -> Result<Cow<'_, str>> {
    Ok(match json.as_bytes().first() {
        Some(b'"') => harmless(text(json)?),
        Some(b'n') | None => Cow::Borrowed(""),
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(json).map_err(|_| unreadable())?;
            let elements = elements.iter().map(|element| match element.get() {
                quoted if quoted.starts_with('"') => text(quoted),
                "null" => Ok(Cow::Borrowed("")),
                other => Ok(Cow::Borrowed(other)),
            });
            let elements = elements.collect::<Result<Vec<_>>>()?;
            harmless(Cow::Owned(elements.join(";")))
        }
        Some(_) => Cow::Borrowed(json),
    })
}

fn text(json: &str) -> Result<Cow<'_, str>> {
    // Without an escape it stands there as it is meant.
    let inner = &json[1..json.len() - 1];
    match inner.contains('\\') {
        false => Ok(Cow::Borrowed(inner)),
        true => serde_json::from_str(json).map(Cow::Owned).map_err(|_| unreadable()),
    }
}

/// `text`, made one that no spreadsheet runs as a formula (contract, section 5).
fn harmless(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => Cow::Owned(format!("'{text}")),
        false => text,
    }
}

fn unreadable() -> Error {
    Error::new(Kind::Unreadable, "write CSV").because("an asset is no JSON object")
}

fn unwritten(err: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Internal, "write CSV").because(err.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[&str], records: &[&str]) -> String {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        let mut csv = Csv::new(columns).expect("a header");
        for record in records {
            csv.add(record.as_bytes()).expect("a row");
        }
        String::from_utf8(csv.end().expect("a table")).expect("text")
    }

    #[test]
    fn every_sort_of_value_has_its_cell() {
        let check = |value: &str, want: &str| {
            let found = table(&["a", "b"], &[&format!(r#"{{"a":{value},"b":1}}"#)]);
            assert_eq!(found, format!("a,b\r\n{want},1\r\n"), "{value}");
        };
        check(r#""plain""#, "plain");
        check(r#""a,b""#, "\"a,b\"");
        check(r#""say \"x\"""#, "\"say \"\"x\"\"\"");
        check(r#""two\nlines""#, "\"two\nlines\"");
        check(r#""\u00e4ö""#, "äö");
        check("1.50", "1.50");
        check("-1", "-1");
        check("12345678901234567890.10", "12345678901234567890.10");
        check("true", "true");
        check("null", "");
        check(r#"["x","y"]"#, "x;y");
        check(r#"["x",null,2,{"c":3}]"#, "\"x;;2;{\"\"c\"\":3}\"");
        check("[]", "");
        check(r#"{"c":"d"}"#, "\"{\"\"c\"\":\"\"d\"\"}\"");
    }

    #[test]
    fn a_text_that_a_spreadsheet_would_run_is_made_harmless() {
        for first in ["=", "+", "-", "@", "\\t", "\\r"] {
            let found = table(&["a"], &[&format!(r#"{{"a":"{first}x"}}"#)]);
            let cell = found.strip_prefix("a\r\n").expect("a header").trim_start_matches('"');
            assert!(cell.starts_with('\''), "{found:?}");
        }
        assert_eq!(table(&["a"], &[r#"{"a":["=x","y"]}"#]), "a\r\n'=x;y\r\n");
    }

    #[test]
    fn what_a_record_does_not_have_stays_empty_and_no_record_leaves_the_header() {
        assert_eq!(table(&["a", "b"], &["{}", r#"{"b":1,"c":2}"#]), "a,b\r\n,\r\n,1\r\n");
        assert_eq!(table(&["a"], &[]), "a\r\n");
        // A row of one empty cell is a row.
        assert_eq!(table(&["a"], &["{}"]), "a\r\n\"\"\r\n");
        assert!(Csv::new(vec!["a".to_owned()]).and_then(|mut csv| csv.add(b"[1]")).is_err());
    }
}
