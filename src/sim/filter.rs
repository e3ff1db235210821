//! The part of the filter language that the simulator evaluates.
//!
//! `text -> tokens -> Filter -> reach(kind): which to look at -> matches(asset)`
//!
//! Fields: `kind` (also `type`), `state` (also `status`), `name`, `id`, `uuid`,
//! `externalID`, `label`, `wildcard`, `createdAt`, `updatedAt`. Operators:
//! `= ! != in !in ^= !^= ~ !~ empty !empty` on text, `= ! !=` on `wildcard`, and
//! `>= <= between` on dates, which take no other (API reference, section 6).
//!
//! # Choices where the reference is silent
//! - AND binds tighter than OR, and parentheses group.
//! - Enum values and UUIDs ignore case; names, ids and labels do not.
//! - A `label` condition holds if it holds for any label, its negation if not.
//! - `between` includes both ends. An empty filter matches everything.
//!
//! Anything else is an [`Error`] with its position, which becomes a 400.

use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, format_description::BorrowedFormatItem, macros};

/// Longest filter that is read. Fifty UUIDs take about 2 KB.
pub const FILTER_BYTES_MAX: usize = 32 * 1024;
/// Deepest nesting of parentheses, so that parsing cannot exhaust the stack.
pub const DEPTH_MAX: usize = 32;

/// What a filter asks of an asset.
pub trait Fields {
    fn kind(&self) -> &str;
    fn state(&self) -> &str;
    fn name(&self) -> String;
    fn id(&self) -> String;
    fn uuid(&self) -> String;
    fn external_id(&self) -> Option<String>;
    fn labels(&self) -> Vec<&'static str>;
    fn wildcard(&self) -> bool;
    fn created_ms(&self) -> i64;
    fn updated_ms(&self) -> i64;
}

/// Why a filter was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Byte offset in the filter.
    pub position: usize,
    pub message: String,
}

/// A filter that was understood.
#[derive(Debug, Clone)]
pub enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Text { field: TextField, not: bool, test: TextTest },
    Wildcard(bool),
    Time { updated: bool, from_ms: i64, to_ms: i64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextField {
    Kind,
    State,
    Name,
    Id,
    Uuid,
    ExternalId,
    Label,
}

#[derive(Debug, Clone)]
pub enum TextTest {
    In(Vec<String>),
    StartsWith(String),
    Contains(String),
    Empty,
}

impl Filter {
    /// Reads a filter. Empty text is the filter that matches everything.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > FILTER_BYTES_MAX {
            let message = format!("a filter has at most {FILTER_BYTES_MAX} bytes");
            return Err(Error { position: FILTER_BYTES_MAX, message });
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0, end: text.len() };
        if parser.tokens.is_empty() {
            return Ok(Self::All(Vec::new()));
        }
        let filter = parser.any(0)?;
        match parser.peek() {
            None => Ok(filter),
            Some(_) => parser.refuse("expected AND, OR or the end"),
        }
    }

    /// Whether the asset passes.
    pub fn matches(&self, asset: &impl Fields) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(asset)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(asset)),
            Self::Text { field, not, test } => test.holds(*field, asset) != *not,
            Self::Wildcard(want) => asset.wildcard() == *want,
            Self::Time { updated, from_ms, to_ms } => {
                let ms = if *updated { asset.updated_ms() } else { asset.created_ms() };
                (*from_ms..=*to_ms).contains(&ms)
            }
        }
    }

    /// Where the assets of `kind` are that may pass: each that passes is there, others may be too.
    pub fn reach(&self, kind: &str) -> Reach<'_> {
        match self {
            Self::All(parts) => parts.iter().fold(Reach::ALL, |all, part| {
                let Reach { from_ms, to_ms, name_prefix } = part.reach(kind);
                // Where there are several beginnings, each is necessary: the longest leaves least.
                let is_longer = name_prefix.len() > all.name_prefix.len();
                Reach {
                    from_ms: from_ms.max(all.from_ms),
                    to_ms: to_ms.min(all.to_ms),
                    name_prefix: if is_longer { name_prefix } else { all.name_prefix },
                }
            }),
            Self::Any(parts) => parts.iter().fold(Reach::NONE, |any, part| {
                let Reach { from_ms, to_ms, name_prefix: _ } = part.reach(kind);
                Reach {
                    from_ms: from_ms.min(any.from_ms),
                    to_ms: to_ms.max(any.to_ms),
                    name_prefix: "",
                }
            }),
            Self::Text { field: TextField::Kind, not, test } => {
                if test.holds_for(kind, true) == *not { Reach::NONE } else { Reach::ALL }
            }
            Self::Text {
                field: TextField::Name,
                not: false,
                test: TextTest::StartsWith(start),
            } => Reach { name_prefix: start, ..Reach::ALL },
            Self::Time { updated: false, from_ms, to_ms } => {
                Reach { from_ms: *from_ms, to_ms: *to_ms, ..Reach::ALL }
            }
            Self::Text { .. } | Self::Wildcard(_) | Self::Time { updated: true, .. } => Reach::ALL,
        }
    }
}

/// Bounds on the assets of one kind that may pass a filter, for an index of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach<'a> {
    /// Creation times, both ends included. None passes if the last is before the first.
    pub from_ms: i64,
    pub to_ms: i64,
    /// What their names begin with.
    pub name_prefix: &'a str,
}

impl Reach<'_> {
    const ALL: Self = Self { from_ms: i64::MIN, to_ms: i64::MAX, name_prefix: "" };
    const NONE: Self = Self { from_ms: i64::MAX, to_ms: i64::MIN, name_prefix: "" };
}

impl TextTest {
    fn holds(&self, field: TextField, asset: &impl Fields) -> bool {
        match field {
            TextField::Kind => self.holds_for(asset.kind(), true),
            TextField::State => self.holds_for(asset.state(), true),
            TextField::Uuid => self.holds_for(&asset.uuid(), true),
            TextField::Name => self.holds_for(&asset.name(), false),
            TextField::Id => self.holds_for(&asset.id(), false),
            TextField::ExternalId => {
                self.holds_for(asset.external_id().as_deref().unwrap_or(""), false)
            }
            TextField::Label => match (self, asset.labels()) {
                (Self::Empty, labels) => labels.is_empty(),
                (_, labels) => labels.iter().any(|label| self.holds_for(label, false)),
            },
        }
    }

    fn holds_for(&self, value: &str, ignore_case: bool) -> bool {
        if ignore_case && !matches!(self, Self::In(_) | Self::Empty) {
            // The tested values were lowered when the filter was read.
            return self.holds_for(&value.to_ascii_lowercase(), false);
        }
        match self {
            Self::In(list) if ignore_case => list.iter().any(|v| v.eq_ignore_ascii_case(value)),
            Self::In(list) => list.iter().any(|v| v == value),
            Self::StartsWith(start) => value.starts_with(start.as_str()),
            Self::Contains(part) => value.contains(part.as_str()),
            Self::Empty => value.is_empty(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Comma,
    Bar,
    Op(&'static str),
    Word(String),
    Quoted(String),
}

/// Longest first, so that `!=` is not read as `!`.
const OPERATORS: &[&str] = &["!^=", "!=", "!~", "^=", ">=", "<=", "=", "~", "!"];

const WORD_OPERATORS: &[&str] = &["in", "empty", "between"];

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Error> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let start = at;
        at += c.len_utf8();
        let token = match c {
            c if c.is_whitespace() => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '|' => Token::Bar,
            '"' => {
                let (value, length) = quoted(&text[at..]).ok_or_else(|| Error {
                    position: start,
                    message: "the quote is never closed".to_owned(),
                })?;
                at += length;
                Token::Quoted(value)
            }
            '!' if starts_word(&text[at..], "in") => {
                at += "in".len();
                Token::Op("!in")
            }
            '!' if starts_word(&text[at..], "empty") => {
                at += "empty".len();
                Token::Op("!empty")
            }
            '!' | '^' | '=' | '~' | '<' | '>' | '#' => {
                let op = OPERATORS.iter().find(|op| text[start..].starts_with(**op));
                let Some(op) = op else {
                    let message = format!("unknown operator '{c}'");
                    return Err(Error { position: start, message });
                };
                at = start + op.len();
                Token::Op(op)
            }
            _ => {
                let rest = &text[start..];
                let length = rest.find(ends_word).unwrap_or(rest.len());
                at = start + length;
                Token::Word(rest[..length].to_owned())
            }
        };
        found.push((start, token));
    }
    Ok(found)
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || "(),|\"!^=~<>#".contains(c)
}

fn starts_word(text: &str, word: &str) -> bool {
    let Some(head) = text.get(..word.len()) else { return false };
    head.eq_ignore_ascii_case(word) && text[word.len()..].chars().next().is_none_or(ends_word)
}

/// The text up to the closing quote, and the length read with it.
fn quoted(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, at + 1)),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    end: usize,
}

impl Parser {
    fn any(&mut self, depth: usize) -> Result<Filter, Error> {
        let mut parts = vec![self.all(depth)?];
        while self.keyword("or") {
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Filter::Any(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Filter, Error> {
        let mut parts = vec![self.one(depth)?];
        while self.keyword("and") || self.take(&Token::Bar) {
            parts.push(self.one(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Filter::All(parts) })
    }

    fn one(&mut self, depth: usize) -> Result<Filter, Error> {
        if !self.take(&Token::Open) {
            return self.condition();
        }
        if depth >= DEPTH_MAX {
            self.at -= 1;
            return self.refuse(&format!("parentheses nest at most {DEPTH_MAX} deep"));
        }
        let inner = self.any(depth + 1)?;
        self.want(&Token::Close, "expected ')'")?;
        Ok(inner)
    }

    fn condition(&mut self) -> Result<Filter, Error> {
        let Some(Token::Word(field)) = self.peek().cloned() else {
            return self.refuse("expected a field name");
        };
        let text = |field| Some(field);
        let field = match field.to_ascii_lowercase().as_str() {
            "createdat" => return self.time(false),
            "updatedat" => return self.time(true),
            "wildcard" => return self.wildcard(),
            "kind" | "type" => text(TextField::Kind),
            "state" | "status" => text(TextField::State),
            "name" => text(TextField::Name),
            "id" => text(TextField::Id),
            "uuid" => text(TextField::Uuid),
            "externalid" => text(TextField::ExternalId),
            "label" => text(TextField::Label),
            _ => None,
        };
        let Some(field) = field else {
            return self.refuse("this field is not known here");
        };
        self.at += 1;
        self.text(field)
    }

    fn text(&mut self, field: TextField) -> Result<Filter, Error> {
        let op = self.operator()?;
        let not = op.starts_with('!');
        let lower = matches!(field, TextField::Kind | TextField::State | TextField::Uuid);
        let case = |text: String| if lower { text.to_ascii_lowercase() } else { text };
        let test = match op.trim_start_matches('!') {
            "=" | "" => TextTest::In(vec![self.value()?]),
            "in" => TextTest::In(self.list()?),
            "^=" => TextTest::StartsWith(case(self.value()?)),
            "~" => TextTest::Contains(case(self.value()?)),
            "empty" => TextTest::Empty,
            _ => {
                self.at -= 1;
                return self.refuse("this field does not take this operator");
            }
        };
        Ok(Filter::Text { field, not, test })
    }

    fn wildcard(&mut self) -> Result<Filter, Error> {
        self.at += 1;
        let op = self.operator()?;
        if !matches!(op, "=" | "!" | "!=") {
            self.at -= 1;
            return self.refuse("wildcard takes = and ! only");
        }
        let value = self.value()?;
        match value.to_ascii_lowercase().as_str() {
            "true" => Ok(Filter::Wildcard(op == "=")),
            "false" => Ok(Filter::Wildcard(op != "=")),
            _ => {
                self.at -= 1;
                self.refuse("expected true or false")
            }
        }
    }

    fn time(&mut self, updated: bool) -> Result<Filter, Error> {
        self.at += 1;
        let (from_ms, to_ms) = match self.operator()? {
            ">=" => (self.date()?, i64::MAX),
            "<=" => (i64::MIN, self.date()?),
            "between" => {
                self.want(&Token::Open, "expected '('")?;
                let from_ms = self.date()?;
                self.want(&Token::Comma, "expected ','")?;
                let to_ms = self.date()?;
                self.want(&Token::Close, "expected ')'")?;
                (from_ms, to_ms)
            }
            _ => {
                self.at -= 1;
                return self.refuse("a date takes >=, <= and between only");
            }
        };
        Ok(Filter::Time { updated, from_ms, to_ms })
    }

    fn date(&mut self) -> Result<i64, Error> {
        const DAY: &[BorrowedFormatItem<'static>] =
            macros::format_description!("[year]-[month]-[day]");
        let text = self.value()?;
        let instant = OffsetDateTime::parse(&text, &Rfc3339)
            .or_else(|_| Date::parse(&text, DAY).map(|day| day.midnight().assume_utc()));
        let Ok(instant) = instant else {
            self.at -= 1;
            return self.refuse("expected a date such as \"2024-01-31T00:00:00.000Z\"");
        };
        Ok(instant.unix_timestamp() * 1000 + i64::from(instant.millisecond()))
    }

    fn operator(&mut self) -> Result<&'static str, Error> {
        let op = match self.peek() {
            Some(Token::Op(op)) => *op,
            Some(Token::Word(word)) => {
                match WORD_OPERATORS.iter().find(|k| k.eq_ignore_ascii_case(word)) {
                    Some(op) => op,
                    None => return self.refuse("expected an operator"),
                }
            }
            _ => return self.refuse("expected an operator"),
        };
        self.at += 1;
        Ok(op)
    }

    fn value(&mut self) -> Result<String, Error> {
        let (Some(Token::Quoted(value)) | Some(Token::Word(value))) = self.peek().cloned() else {
            return self.refuse("expected a value");
        };
        self.at += 1;
        Ok(value)
    }

    fn list(&mut self) -> Result<Vec<String>, Error> {
        self.want(&Token::Open, "expected '('")?;
        let mut values = vec![self.value()?];
        while self.take(&Token::Comma) {
            values.push(self.value()?);
        }
        self.want(&Token::Close, "expected ',' or ')'")?;
        Ok(values)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    fn keyword(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(w)) if w.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn want(&mut self, token: &Token, message: &str) -> Result<(), Error> {
        if self.take(token) { Ok(()) } else { self.refuse(message) }
    }

    fn refuse<T>(&self, message: &str) -> Result<T, Error> {
        let position = self.tokens.get(self.at).map_or(self.end, |(at, _)| *at);
        Err(Error { position, message: message.to_owned() })
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
