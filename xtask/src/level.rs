//! Who may call the packaged functions: the `authLevel` of those with an HTTP trigger.

/// Who stands in front of the functions, as `EASM_AUTH` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// The host, which asks for a key: levels as the repository has them.
    Key,
    /// The platform's authentication: the host asks for nothing.
    Entra,
}

impl Auth {
    /// What `word` means, if it means something.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "key" => Some(Self::Key),
            "entra" => Some(Self::Entra),
            _ => None,
        }
    }
}

/// Member of an HTTP trigger that says which key it demands.
const LEVEL: &str = "\"authLevel\"";

/// The `function.json` `text` with a level of `anonymous`, if it has an HTTP trigger. All else stays byte for
/// byte. The error says why it cannot be done.
pub fn anonymous(text: &str) -> Result<String, &'static str> {
    if !text.contains("\"httpTrigger\"") {
        return Ok(text.to_owned());
    }
    // Without it the host would demand a key; with two, one may belong to something else.
    let Some((before, rest)) = text.split_once(LEVEL).filter(|(_, rest)| !rest.contains(LEVEL))
    else {
        return Err("has not one authLevel");
    };
    let mut parts = rest.splitn(3, '"');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(colon), Some(_), Some(after)) if colon.trim() == ":" => {
            Ok(format!("{before}{LEVEL}{colon}\"anonymous\"{after}"))
        }
        _ => Err("has an authLevel that is no text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_level_of_an_http_trigger_becomes_another() {
        let check = |text: &str, want: Result<&str, &str>| {
            assert_eq!(anonymous(text).as_deref(), want.as_ref().copied(), "{text}");
        };
        check(
            "{\n \"bindings\": [{\"type\": \"httpTrigger\", \"authLevel\" :  \"function\", \"a\": \"function\"}]}\r\n",
            Ok(
                "{\n \"bindings\": [{\"type\": \"httpTrigger\", \"authLevel\" :  \"anonymous\", \"a\": \"function\"}]}\r\n",
            ),
        );
        let timer = r#"{"bindings": [{"type": "timerTrigger", "authLevel": "function"}]}"#;
        check(timer, Ok(timer));
        check(r#"{"bindings": [{"type": "httpTrigger"}]}"#, Err("has not one authLevel"));
        check(
            r#"[{"type": "httpTrigger", "authLevel": "admin"}, {"authLevel": "x"}]"#,
            Err("has not one authLevel"),
        );
        check(
            r#"[{"authLevel": 1, "type": "httpTrigger"}]"#,
            Err("has an authLevel that is no text"),
        );
    }
}
