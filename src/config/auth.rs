//! Who may call the HTTP functions: `EASM_AUTH` and `EASM_PRINCIPALS`.
//!
//! Read apart from the other settings too: whatever else is wrong, nobody is let in who may not call.

use super::env::Env;
use super::target::is_guid;
use super::{names, parse};
use crate::error::{Error, Kind, Result};

/// The setting that says who may call.
pub const AUTH: &str = "EASM_AUTH";

/// The setting that names the principals that may call.
pub const PRINCIPALS: &str = "EASM_PRINCIPALS";

/// Who may call the HTTP functions other than `Health`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Whoever has a key: the host asks for it.
    Key,
    /// Whoever the platform has signed in with Entra.
    Entra {
        /// Object ids and application ids that may call: GUIDs in lower case, each once. Empty: whoever is
        /// signed in.
        principals: Vec<String>,
    },
}

impl Auth {
    /// Reads and checks both settings of `env`.
    ///
    /// # Errors
    /// [`Kind::Config`], naming the setting, what is allowed and what was found.
    pub fn read(env: &Env) -> Result<Self> {
        let listed = env.get(PRINCIPALS);
        match env.get(AUTH).unwrap_or(names::default(AUTH)) {
            "entra" => {
                refuse_lost_list(env)?;
                Ok(Self::Entra { principals: listed.map_or(Ok(Vec::new()), principals)? })
            }
            "key" if listed.is_some() => {
                Err(Error::new(Kind::Config, format!("read {PRINCIPALS}"))
                    .because(format!("{AUTH} is key, so it would protect nothing"))
                    .advise(format!("set {AUTH} to entra, or take {PRINCIPALS} away")))
            }
            "key" => Ok(Self::Key),
            other => Err(parse::refuse(AUTH, "key or entra", other)),
        }
    }
}

/// Refuses a list that is misspelt or blank: it would let in everybody whom the tenant knows.
fn refuse_lost_list(env: &Env) -> Result<()> {
    let unknown = env.unknown();
    let is_meant = |name: &&str| {
        names::closest(name) == Some(PRINCIPALS) || name.to_ascii_uppercase().contains("PRINCIPAL")
    };
    let meant = unknown.into_iter().find(is_meant);
    if let Some(name) = meant {
        return Err(Error::new(Kind::Config, format!("read {name}"))
            .because("there is no such setting")
            .advise(format!("did you mean {PRINCIPALS}?")));
    }
    match env.get(PRINCIPALS).is_none() && env.raw(PRINCIPALS).is_some() {
        true => Err(Error::new(Kind::Config, format!("read {PRINCIPALS}"))
            .because("it is set to nothing")
            .advise("name who may call, or take it away: then whoever is signed in may")),
        false => Ok(()),
    }
}

/// Comma separated GUIDs. A list without any is refused: it would let in everybody.
fn principals(text: &str) -> Result<Vec<String>> {
    const ALLOWED: &str = "object ids and application ids of Entra, which are GUIDs such as \
                           6f0cd1a5-7d1c-4a34-9a0e-0123456789ab, with commas between them";
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let mut principals = words
        .map(|word| match is_guid(word) {
            true => Ok(word.to_ascii_lowercase()),
            false => Err(parse::refuse(PRINCIPALS, ALLOWED, word)),
        })
        .collect::<Result<Vec<String>>>()?;
    principals.sort_unstable();
    principals.dedup();
    match principals.is_empty() {
        true => Err(parse::refuse(PRINCIPALS, ALLOWED, text)),
        false => Ok(principals),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "11111111-2222-3333-4444-aaaaaaaaaaaa";
    const TWO: &str = "66666666-7777-8888-9999-bbbbbbbbbbbb";

    fn read(auth: &str, principals: &str) -> Result<Auth> {
        read_of(&[(AUTH, auth), (PRINCIPALS, principals)])
    }

    fn read_of(vars: &[(&str, &str)]) -> Result<Auth> {
        let vars = vars.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Auth::read(&Env::new(vars))
    }

    #[test]
    fn a_list_that_is_misspelt_or_blank_lets_nobody_in() {
        let lost = ["EASM_PRINCIPAL", "EASM_Principals", "EASM_ALLOWED_PRINCIPALS"]
            .map(|name| (name, ONE));
        for (name, value) in [(PRINCIPALS, ""), (PRINCIPALS, " ")].into_iter().chain(lost) {
            let err = read_of(&[(AUTH, "entra"), (name, value)]).expect_err(name);
            assert!(err.to_string().contains(PRINCIPALS), "{err}");
        }
        assert_eq!(read_of(&[("EASM_PRINCIPAL", ONE)]).expect("a warning elsewhere"), Auth::Key);
    }

    #[test]
    fn who_may_call_is_read_from_two_settings() {
        let entra = |principals: &[&str]| Auth::Entra {
            principals: principals.iter().map(|&id| id.to_owned()).collect(),
        };
        let check = |auth: &str, principals: &str, want: Auth| {
            assert_eq!(read(auth, principals).expect("good"), want, "{auth} {principals}");
        };
        check("", "", Auth::Key);
        check("key", " ", Auth::Key);
        let all = read_of(&[(AUTH, "entra")]).expect("good");
        assert_eq!(all, entra(&[]));
        check("entra", ONE, entra(&[ONE]));
        let shouted = ONE.to_uppercase();
        check("entra", &format!(" {TWO},, {shouted} ,{ONE},"), entra(&[ONE, TWO]));
    }

    #[test]
    fn what_would_let_in_the_wrong_ones_is_refused_by_name() {
        let check = |auth: &str, principals: &str, name: &str, word: &str| {
            let err = read(auth, principals).expect_err("refused");
            assert_eq!(err.kind(), Kind::Config);
            let text = err.to_string();
            assert!(text.contains(&format!("read {name}")) && text.contains(word), "{text}");
        };
        check("Entra", "", AUTH, "Entra");
        check("none", "", AUTH, "key or entra");
        check("none", ONE, AUTH, "none");
        // Keys are no principals.
        check("key", ONE, PRINCIPALS, "EASM_AUTH to entra");
        check("", ONE, PRINCIPALS, "protect nothing");
        check("entra", "someone@contoso.com", PRINCIPALS, "someone@contoso.com");
        check("entra", &format!("{ONE};{TWO}"), PRINCIPALS, "commas");
        check("entra", &format!("{ONE},{{{TWO}}}"), PRINCIPALS, "{66666666");
        check("entra", ",", PRINCIPALS, "GUIDs");
    }
}
