//! What a refusal to give a token means, in one table: Entra's codes to sentence and advice.
//!
//! The answer's own text is never used. It repeats what was sent, the client secret among it.

use azure_core::error::ErrorKind;
use url::Url;

use super::OPERATION;
use crate::error::{Error, Kind};
use crate::net::egress::{SENDING, causes, from_azure, retry_after};

/// Whom a token is asked of.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// The platform's identity endpoint.
    ManagedIdentity {
        /// Where it is, if anywhere.
        endpoint: Option<Url>,
        /// Whether a user-assigned identity is named.
        is_named: bool,
    },
    /// Entra's token endpoint.
    Entra {
        /// Where it is.
        authority: Url,
        /// What to look at when nothing more is known.
        advice: &'static str,
    },
    /// The developer's command line tools.
    Tools,
}

impl Asked {
    /// What to look at when nothing more is known.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::ManagedIdentity { is_named: true, .. } => {
                "check that this identity is assigned here: EASM_IDENTITY_CLIENT_ID, or for the \
                 target EASM_CLIENT_ID, names a managed identity by its client id"
            }
            Self::ManagedIdentity { is_named: false, .. } => {
                "check that a managed identity is assigned here; a user-assigned one has to be \
                 named by EASM_IDENTITY_CLIENT_ID"
            }
            Self::Entra { advice, .. } => advice,
            Self::Tools => "run `az login`",
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::ManagedIdentity { .. } => "the identity endpoint",
            Self::Entra { .. } => "Entra",
            Self::Tools => "the command line tool",
        }
    }

    fn url(&self) -> Option<&Url> {
        match self {
            Self::ManagedIdentity { endpoint, .. } => endpoint.as_ref(),
            Self::Entra { authority, .. } => Some(authority),
            Self::Tools => None,
        }
    }

    /// What `err` means.
    pub fn error(&self, err: &azure_core::Error) -> Error {
        let unavailable = Kind::Unavailable { retry_after: None };
        let url = self.url().cloned().or_else(|| Url::parse("tool:").ok());
        match url.and_then(|url| from_azure(&url, err)) {
            Some(below) if below.operation() == SENDING => {
                let reason = below.reason().unwrap_or_default().to_owned();
                return below
                    .because(format!("{}: {reason}", self.name()))
                    .during(OPERATION)
                    .or_advise(self.advice());
            }
            // A failure of whoever vouches, or of a tool: it says so itself.
            Some(below) => return below,
            None => {}
        }
        let Some((status, codes)) = answer(err) else {
            let reason = "what came in place of a token cannot be read";
            return Error::new(unavailable, OPERATION).because(reason).advise(self.advice());
        };
        match (self, status) {
            (_, 429) => Error::new(Kind::Throttled { retry_after: retry_after(err) }, OPERATION)
                .because("too many tokens were asked for")
                .with("status", status)
                .advise("try again later"),
            (_, 408 | 500..=599) => {
                Error::new(Kind::Unavailable { retry_after: retry_after(err) }, OPERATION)
                    .because(format!("{} cannot serve us now", self.name()))
                    .with("status", status)
                    .advise("try again later")
            }
            (Self::ManagedIdentity { .. }, 400 | 404) => Error::new(Kind::Unauthorized, OPERATION)
                .because("the managed identity is not assigned here")
                .with("status", status)
                .advise(self.advice()),
            (Self::ManagedIdentity { .. } | Self::Tools, _) => {
                Error::new(Kind::Unauthorized, OPERATION)
                    .because("the identity endpoint refuses")
                    .with("status", status)
                    .advise(self.advice())
            }
            (Self::Entra { .. }, _) => {
                let known = codes.iter().find_map(|code| meaning(*code));
                let (kind, reason, advice) =
                    known.unwrap_or((Kind::Unauthorized, "Entra refuses", self.advice()));
                let mut err = Error::new(kind, OPERATION).because(reason).with("status", status);
                for code in codes {
                    err = err.with("code", format!("AADSTS{code}"));
                }
                err.advise(advice)
            }
        }
    }
}

/// Entra's codes ("Microsoft Entra authentication and authorization error codes").
pub(super) fn meaning(code: u32) -> Option<(Kind, &'static str, &'static str)> {
    let (reason, advice) = match code {
        SECRET_WRONG => (
            "the client secret is wrong",
            "set EASM_CLIENT_SECRET to the value (not the id) of a secret of the app registration \
             EASM_CLIENT_ID",
        ),
        SECRET_EXPIRED => (
            "the client secret has expired",
            "add a secret to the app registration and set EASM_CLIENT_SECRET; \
             EASM_CREDENTIAL=federated needs none",
        ),
        700_016 | 7_000_229 => (
            "the app registration is not known in this tenant",
            "check EASM_CLIENT_ID and EASM_TENANT_ID; to an app of another tenant an administrator \
             has to consent first",
        ),
        90_002 | 900_023 => ("there is no such tenant", "check EASM_TENANT_ID"),
        7_000_112 | 50_057 => (
            "the app registration is disabled",
            "have an administrator enable the enterprise application, or use another",
        ),
        70_021 | 700_211 | 700_212 | 700_213 | 700_222 | 700_223 => (
            "the app registration does not trust the identity that vouches for it",
            "add a federated credential to it: its issuer, its subject (the managed identity's \
             object id) and the audience api://AzureADTokenExchange must be exactly those",
        ),
        700_024 => (
            "the token that vouches for the app registration has expired",
            "check this machine's clock",
        ),
        500_011 | 650_057 => (
            "the service is not known in this tenant",
            "check EASM_TENANT_ID: it must be the tenant that has the EASM workspace",
        ),
        90_072 => (
            "the account that is signed in is not known in this tenant",
            "check EASM_TENANT_ID, or sign in with an account of the tenant",
        ),
        50_074 | 50_076 | 50_079 | 50_158 | 50_173 | 700_082 => {
            ("whoever is signed in has to sign in again", "sign in again")
        }
        65_001 | 650_052 | 650_056 => (
            "nobody consented to the app registration in this tenant",
            "have an administrator of the tenant consent to it",
        ),
        53_000..=53_004 | 530_032 | 530_034 | 53_011 => {
            return Some((
                Kind::Denied,
                "a conditional access policy blocks the sign-in",
                "have an administrator exempt this app, or the place where it runs, from the policy",
            ));
        }
        _ => return None,
    };
    Some((Kind::Unauthorized, reason, advice))
}

/// Entra's codes for a client secret that is wrong, and for one that has expired: another one may be
/// good.
const SECRET_WRONG: u32 = 7_000_215;
const SECRET_EXPIRED: u32 = 7_000_222;

/// Whether `err` says that Entra refuses the client secret itself, and nothing else about the sign-in.
pub(super) fn refuses_secret(err: &azure_core::Error) -> bool {
    answer(err).is_some_and(|(status, codes)| {
        (400..=499).contains(&status)
            && codes.iter().any(|code| [SECRET_WRONG, SECRET_EXPIRED].contains(code))
    })
}

/// Status and Entra's codes of the answer at the bottom of `err`, if there was one.
fn answer(err: &azure_core::Error) -> Option<(u16, Vec<u32>)> {
    causes(err).find_map(|cause| {
        let ErrorKind::HttpResponse { status, error_code, .. } =
            cause.downcast_ref::<azure_core::Error>()?.kind()
        else {
            return None;
        };
        let codes = error_code.as_deref().unwrap_or_default().split(',');
        Some((u16::from(*status), codes.filter_map(|code| code.trim().parse().ok()).collect()))
    })
}

/// The first of Entra's codes in `text`.
pub(super) fn aadsts(text: &str) -> Option<u32> {
    let (_, behind) = text.split_once("AADSTS")?;
    let digits: String = behind.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_in_what_a_tool_says() {
        let check = |text, want| assert_eq!(aadsts(text), want, "{text}");
        check("ERROR: AADSTS50076: Due to a change", Some(50_076));
        check("Please run 'az login'", None);
        check("AADSTS", None);
    }
}
