//! The list envelope, both generations, read in one pass (API reference, section 5).
//!
//! Assets are not parsed: each is found as a span of the body, and of its members only where the id
//! stands is noted.

use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;

use crate::json::{self, Fault, Shape, Visit};

/// A page as the service sends it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The assets, from 2023-03 on.
    pub value: Option<Vec<Asset>>,
    /// The assets, up to 2022-11.
    pub content: Option<Vec<Asset>>,
    /// How many assets match the filter now.
    pub total_elements: Option<u64>,
    /// The cursor behind this page.
    pub mark: Option<String>,
    /// Whether this is the last page; up to 2022-11.
    pub last: Option<bool>,
}

/// Where an asset stands in its page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// All of it.
    pub span: Range<usize>,
    /// Its id with its quotes, if it has one.
    pub id: Option<Range<usize>>,
}

/// What of an asset says where ranges are cut.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Described {
    /// When it was created.
    pub created_date: Value,
    /// Its name.
    pub name: Value,
}

impl Page {
    /// Reads `body` and moves it together: afterwards it has no white space between tokens, and the
    /// spans are right.
    ///
    /// # Errors
    /// Why it is not a page, in words that quote nothing of it.
    pub fn read(body: &mut Vec<u8>) -> Result<Self, String> {
        let mut reader = Reader::default();
        let length = json::scan(body, &mut reader)
            .map_err(|Fault { at }| format!("it is not JSON from byte {at} on"))?;
        body.truncate(length);
        let text = |span: &Option<Range<usize>>| span.clone().map(|span| &body[span]);
        // A cursor that cannot be read must not be taken for the end.
        let mark = text(&reader.mark).unwrap_or(b"null");
        let mark = serde_json::from_slice::<Option<String>>(mark)
            .map_err(|_| "its mark is neither text nor null".to_owned())?;
        Ok(Self {
            mark,
            total_elements: text(&reader.total_elements)
                .and_then(|n| serde_json::from_slice(n).ok()),
            last: text(&reader.last).and_then(|last| serde_json::from_slice(last).ok()),
            value: reader.value,
            content: reader.content,
        })
    }

    /// The assets, from whichever member holds them.
    pub fn assets(self) -> Option<Vec<Asset>> {
        self.value.or(self.content)
    }
}

/// Levels of a page: the members of the envelope, the assets, the members of an asset.
const ENVELOPE: usize = 1;
const ASSETS: usize = 2;
const ASSET: usize = 3;

/// The members of the envelope that mean something here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Member {
    Value,
    Content,
    TotalElements,
    Mark,
    Last,
    #[default]
    Other,
}

#[derive(Default)]
struct Reader {
    /// The member of the envelope that is being read.
    member: Member,
    /// Its elements so far, if it holds assets.
    assets: Vec<Asset>,
    /// Whether the member of an asset that is being read is its id.
    is_id: bool,
    id: Option<Range<usize>>,
    value: Option<Vec<Asset>>,
    content: Option<Vec<Asset>>,
    total_elements: Option<Range<usize>>,
    mark: Option<Range<usize>>,
    last: Option<Range<usize>>,
}

impl Visit for Reader {
    fn member(&mut self, depth: usize, name: &[u8]) {
        match depth {
            ENVELOPE => {
                self.member = match name {
                    b"value" => Member::Value,
                    b"content" => Member::Content,
                    b"totalElements" => Member::TotalElements,
                    b"mark" => Member::Mark,
                    b"last" => Member::Last,
                    _ => Member::Other,
                };
            }
            ASSET => self.is_id = name == b"id",
            _ => {}
        }
    }

    fn value(&mut self, depth: usize, shape: Shape, span: Range<usize>) {
        let holds_assets = matches!(self.member, Member::Value | Member::Content);
        match depth {
            ASSET if self.is_id => {
                // An empty id tells nothing apart.
                self.id = (shape == Shape::String && span.len() > 2).then_some(span);
                self.is_id = false;
            }
            ASSETS if holds_assets => self.assets.push(Asset { span, id: self.id.take() }),
            ASSETS => self.id = None,
            ENVELOPE => {
                let assets = std::mem::take(&mut self.assets);
                let assets = (shape == Shape::Array).then_some(assets);
                match self.member {
                    Member::Value => self.value = assets,
                    Member::Content => self.content = assets,
                    Member::TotalElements => self.total_elements = Some(span),
                    Member::Mark => self.mark = Some(span),
                    Member::Last => self.last = Some(span),
                    Member::Other => {}
                }
                self.member = Member::Other;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_the_envelope_are_read() {
        let check =
            |body: &str, n_assets: Option<usize>, mark: Option<&str>, total: Option<u64>| {
                let page = Page::read(&mut body.as_bytes().to_vec()).expect("a page");
                assert_eq!((page.mark.as_deref(), page.total_elements), (mark, total), "{body}");
                assert_eq!(page.assets().map(|assets| assets.len()), n_assets, "{body}");
            };
        check(
            r#"{"totalElements":2,"mark":"a\/b","value":[{},{}]}"#,
            Some(2),
            Some("a/b"),
            Some(2),
        );
        check(r#"{"content":[{}],"last":true,"mark":null,"new":{}}"#, Some(1), None, None);
        check(r#"{"value":null,"content":null}"#, None, None, None);
        check(r#"{"value":null,"content":[{"id":"a"}]}"#, Some(1), None, None);
        check(r#"{"value":{"a":{},"b":[]}}"#, None, None, None);
        check(r#"{"new":[{"value":[1,2]}],"value":[{"value":[1,2]}]}"#, Some(1), None, None);
        check(r#"{"error":{"code":"x"}}"#, None, None, None);
        check(r#"{"totalElements":"many"}"#, None, None, None);
        check("[[{}]]", None, None, None);
        check("7", None, None, None);
    }

    #[test]
    fn a_mark_that_cannot_be_read_is_not_the_end() {
        for mark in ["7", "{}", r#""\ud800""#] {
            let body = format!(r#"{{"value":[{{}}],"mark":{mark}}}"#);
            assert!(Page::read(&mut body.into_bytes()).is_err(), "{mark}");
        }
    }

    #[test]
    fn assets_and_their_ids_are_found_wherever_they_stand() {
        let check = |asset: &str, want: Option<&str>| {
            let mut body =
                format!("{{ \"value\": [ {asset} , {{ }} ], \"mark\": null }}").into_bytes();
            let assets = Page::read(&mut body).expect("a page").assets().expect("assets");
            assert_eq!(assets.len(), 2);
            let text = |span: Range<usize>| std::str::from_utf8(&body[span]).expect("UTF-8");
            assert_eq!(text(assets[0].span.clone()), asset.replace(' ', ""));
            assert_eq!(assets[0].id.clone().map(text), want, "{asset}");
            assert_eq!(assets[1].id, None, "an id is of its own asset");
        };
        check(r#"{"id":"host$$a","x":{"id":"no"}}"#, Some(r#""host$$a""#));
        check(
            r#"{ "asset": {"id":"no","deep":[[{}]]}, "id" : "host$$\u00e9"}"#,
            Some(r#""host$$\u00e9""#),
        );
        check(r#"{"asset":{"id":"no"}}"#, None);
        check(r#"{"id":null}"#, None);
        check(r#"{"id":""}"#, None);
        check(r#"{"id":["no"]}"#, None);
        check(r#"[{"id":"no"}]"#, None);
        check("7", None);
    }
}
