//! Who may call: what stands in front of every HTTP function but `Health` (contract, section 2,
//! `EASM_AUTH`).
//!
//! With `key` the host asks for a key, so no function may be anonymous. With `entra` the platform's
//! authentication stands in front of the host, and passes on whom it signed in; whether the functions
//! demand a key besides does not matter.
//!
//! Start reading at [`admit`].

use std::path::Path;
use std::sync::Once;

use tracing::{debug, warn};

use super::App;
use super::principal::Principal;
use crate::config::{Auth, Env};
use crate::error::{Error, Kind, Result};
use crate::host::app_root;
use crate::host::http::{HttpRequest, Refusal};

/// Where the platform says whether its authentication is on: `True` or `False`. It injects it into apps on
/// Windows and Linux (App Service, "Environment variables"), and the host itself takes a principal from
/// the headers only if it is true.
const PLATFORM_AUTH: &str = "WEBSITE_AUTH_ENABLED";

/// What is said of the platform's authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// It is on.
    On,
    /// It is off: whoever calls may write a principal of their own into the headers.
    Off,
    /// Nothing, which is no reason to refuse: whether every plan says it, is not written anywhere.
    Unsaid,
    /// This is not Azure, where nothing stands in front.
    Elsewhere,
}

/// Refuses `request` unless whoever calls may. Gives what that was decided by.
///
/// # Errors
/// `503` while it is not certain that anybody else is kept out, `401` without a principal, `403` for one
/// that is not listed.
pub fn admit(app: &App, request: &HttpRequest) -> Result<Auth, Refusal> {
    let auth = Auth::read(&app.env).map_err(|err| {
        warn!("{err}");
        // Nobody knows who asks.
        Refusal::of(
            &Error::new(Kind::Config, "find out who may call")
                .because("EASM_AUTH or EASM_PRINCIPALS is wrong")
                .advise("the log of the app says what is"),
        )
    })?;
    app.check_access(&auth).map_err(|err| Refusal::of(&err))?;
    let Auth::Entra { principals } = &auth else { return Ok(auth) };
    if platform(&app.env) == Platform::Unsaid {
        // Once a process: it would be every request.
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            warn!(
                "{PLATFORM_AUTH} is not set: see that the platform's authentication is on, since without it \
                 anybody may pass for any principal"
            );
        });
    }
    let principal = Principal::read(&request.headers)?;
    debug!(principal.id = principal.object_id(), "Signed in");
    principal.check(principals)?;
    Ok(auth)
}

/// Functions other than `Health` that anybody may call though they should not, by their `function.json` in
/// `root`, the folder that the host serves.
///
/// # Errors
/// [`Kind::Config`] if they cannot be looked at: one may be open.
pub fn open_functions(auth: &Auth, root: &Path) -> Result<Vec<String>> {
    match auth {
        Auth::Key => app_root::anonymous(root).map_err(|err| {
            Error::new(Kind::Config, "look for open functions")
                .because(format!("the folder of the app cannot be read: {}", err.kind()))
                .advise("check FUNCTIONS_APP_ROOT_PATH, and start it in the folder with host.json")
        }),
        Auth::Entra { .. } => Ok(Vec::new()),
    }
}

/// What is said of the platform's authentication in the environment `env`.
pub fn platform(env: &Env) -> Platform {
    match env.get(PLATFORM_AUTH) {
        Some(said) if said.eq_ignore_ascii_case("true") => Platform::On,
        // Wherever that is said: an app in Azure may call itself one of a developer.
        Some(_) => Platform::Off,
        None if env.is_in_azure() => Platform::Unsaid,
        None => Platform::Elsewhere,
    }
}

/// Whether it is certain that nobody may call who should not: `open` are the [`open_functions`].
///
/// # Errors
/// [`Kind::Config`], naming what is open.
pub fn check(auth: &Auth, env: &Env, open: &[String]) -> Result<()> {
    match (auth, platform(env)) {
        (Auth::Key, _) if !open.is_empty() => Err(Error::new(Kind::Config, "read function.json")
            .because(format!("anybody may call {}", open.join(", ")))
            .advise(
                "package and deploy the functions again, whose authLevel is function; anonymous ones are \
                 for EASM_AUTH=entra",
            )),
        (Auth::Entra { .. }, Platform::Off) => {
            Err(Error::new(Kind::Config, format!("read {PLATFORM_AUTH}"))
                .because("EASM_AUTH is entra, but the platform's authentication is off")
                .advise(
                    "turn it on, or set EASM_AUTH to key and deploy the functions that demand one",
                ))
        }
        (Auth::Key | Auth::Entra { .. }, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_azure_the_platform_says_whether_its_authentication_is_on() {
        let host = [("FUNCTIONS_CUSTOMHANDLER_PORT", "1"), ("WEBSITE_SITE_NAME", "app")];
        let check = |vars: &[(&str, &str)], want: Platform| {
            let vars = vars.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(platform(&Env::new(vars)), want);
        };
        check(&[host[0], host[1], (PLATFORM_AUTH, "True")], Platform::On);
        check(&[host[0], host[1], (PLATFORM_AUTH, "true")], Platform::On);
        check(&[host[0], host[1], (PLATFORM_AUTH, "False")], Platform::Off);
        check(&[host[0], host[1], (PLATFORM_AUTH, "1")], Platform::Off);
        check(&host, Platform::Unsaid);
        check(&[host[0], (PLATFORM_AUTH, "False")], Platform::Off);
        let developer = ("AZURE_FUNCTIONS_ENVIRONMENT", "Development");
        check(&[host[0], host[1], developer, (PLATFORM_AUTH, "False")], Platform::Off);
        check(&[host[0], host[1], developer], Platform::Elsewhere);
    }
}
