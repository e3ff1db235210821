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

use super::principal::Principal;
use super::{App, TABLE};
use crate::config::{Auth, Env};
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
    let shut = |words: &str| Err(Refusal::new(503, "settings", words));
    let auth = Auth::read(&app.env)?;
    let Auth::Entra { principals } = &auth else {
        return match app.open.get_or_init(|| open_functions(&auth, &app.root)).is_empty() {
            true => Ok(auth),
            false => {
                shut("a function is anonymous, but keys are to protect it; restore its authLevel")
            }
        };
    };
    match platform(&app.env) {
        Platform::On | Platform::Elsewhere => {}
        Platform::Off => {
            return shut(
                "EASM_AUTH is entra, but the platform's authentication is off; turn it on, or set \
                 EASM_AUTH to key and restore each authLevel",
            );
        }
        Platform::Unsaid => {
            // Once a process: it would be every request.
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                warn!(
                    "{PLATFORM_AUTH} is not set: see that the platform's authentication is on, since \
                     without it anybody may pass for any principal"
                );
            });
        }
    }
    let principal = Principal::read(&request.headers)?;
    debug!(principal.id = principal.object_id(), "Signed in");
    principal.check(principals)?;
    Ok(auth)
}

/// Functions other than `Health` that anybody may call though they should not, by their `function.json` in
/// `root`, the folder that the host serves.
pub fn open_functions(auth: &Auth, root: &Path) -> Vec<&'static str> {
    match auth {
        Auth::Key => {
            let mut open = app_root::anonymous(TABLE, root);
            open.retain(|name| *name != "Health");
            open
        }
        Auth::Entra { .. } => Vec::new(),
    }
}

/// What is said of the platform's authentication in the environment `env`.
pub fn platform(env: &Env) -> Platform {
    match env.get(PLATFORM_AUTH) {
        _ if !env.is_in_azure() => Platform::Elsewhere,
        None => Platform::Unsaid,
        Some(said) if said.eq_ignore_ascii_case("true") => Platform::On,
        Some(_) => Platform::Off,
    }
}

/// Why somebody may call who should not, if so, for the log.
pub(super) fn problem(app: &App) -> Option<String> {
    // What is wrong with the settings is told as such.
    let auth = Auth::read(&app.env).ok()?;
    let open = app.open.get_or_init(|| open_functions(&auth, &app.root));
    match (open.is_empty(), &auth, platform(&app.env)) {
        (false, ..) => Some(format!("anybody may call {}", open.join(", "))),
        (true, Auth::Entra { .. }, Platform::Off) => {
            Some("EASM_AUTH is entra, but the platform's authentication is off".to_owned())
        }
        (true, ..) => None,
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
        check(&[host[0], (PLATFORM_AUTH, "False")], Platform::Elsewhere);
    }
}
