//! The list envelope, both generations, read in one pass (API reference, section 5).
//!
//! Assets are not parsed: each is found as a slice of the body, checked to be JSON, and kept as the
//! service's own bytes. Of an asset only its id is looked at, and only as far as it takes.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A page as the service sends it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<'a> {
    /// The assets, from 2023-03 on.
    #[serde(borrow)]
    pub value: Option<Vec<&'a RawValue>>,
    /// The assets, up to 2022-11.
    #[serde(borrow)]
    pub content: Option<Vec<&'a RawValue>>,
    /// How many assets match the filter now.
    pub total_elements: Option<u64>,
    /// The cursor behind this page.
    #[serde(borrow)]
    pub mark: Option<Cow<'a, str>>,
    /// Whether this is the last page; up to 2022-11.
    pub last: Option<bool>,
}

impl<'a> Page<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// What is not JSON, or not a page.
    pub fn read(body: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(body)
    }

    /// The assets, from whichever member holds them.
    pub fn assets(self) -> Option<Vec<&'a RawValue>> {
        self.value.or(self.content)
    }
}

/// The text of an asset's `id` as it stands in `asset`, quotes and escapes included; `None` if it
/// has none.
///
/// Reading stops behind the id, which almost always comes first.
pub fn id(asset: &RawValue) -> Option<&str> {
    struct FindId<'f, 'a>(&'f mut Option<&'a str>);

    impl<'a> Visitor<'a> for FindId<'_, 'a> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an asset")
        }

        fn visit_map<M: MapAccess<'a>>(self, mut members: M) -> Result<(), M::Error> {
            while let Some(name) = members.next_key::<Cow<'_, str>>()? {
                if name == "id" {
                    let value: &RawValue = members.next_value()?;
                    *self.0 = Some(value.get());
                    // The rest of the asset is of no interest here. What is not read to its end is
                    // reported as an error by the parser, which the caller expects.
                    return Ok(());
                }
                members.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }

    let mut found = None;
    let mut parser = serde_json::Deserializer::from_str(asset.get());
    // An error means no more than that members follow the id: the asset itself was checked when
    // its page was read.
    let _ = parser.deserialize_map(FindId(&mut found));
    found.filter(|id| id.starts_with('"') && id.len() > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_the_envelope_are_read() {
        let check = |body: &str, n_assets: Option<usize>, mark: Option<&str>, total: Option<u64>| {
            let page = Page::read(body.as_bytes()).expect("a page");
            assert_eq!((page.mark.as_deref(), page.total_elements), (mark, total), "{body}");
            assert_eq!(page.assets().map(|assets| assets.len()), n_assets, "{body}");
        };
        check(r#"{"totalElements":2,"mark":"a\/b","value":[{},{}]}"#, Some(2), Some("a/b"), Some(2));
        check(r#"{"content":[{}],"last":true,"mark":null,"new":{}}"#, Some(1), None, None);
        check(r#"{"value":null,"content":null}"#, None, None, None);
        check(r#"{"error":{"code":"x"}}"#, None, None, None);
        assert!(Page::read(b"{\"value\":[{\"id\":1}").is_err());
        assert!(Page::read(b"<html>").is_err());
    }

    #[test]
    fn an_id_is_found_wherever_it_stands() {
        let check = |asset: &str, want: Option<&str>| {
            let asset: &RawValue = serde_json::from_str(asset).expect("JSON");
            assert_eq!(id(asset), want, "{asset}");
        };
        check(r#"{"id":"host$$a","x":{"id":"no"}}"#, Some(r#""host$$a""#));
        check(r#"{"asset":{"id":"no","deep":[[{}]]},"id":"host$$\u00e9"}"#, Some(r#""host$$\u00e9""#));
        check(r#"{"asset":{"id":"no"}}"#, None);
        check(r#"{"id":null}"#, None);
        check(r#"{"id":""}"#, None);
        check(r#"{"id":7}"#, None);
        check("{}", None);
        check("[]", None);
        check("7", None);
    }
}
