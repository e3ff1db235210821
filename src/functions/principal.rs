//! The signed-in principal that the platform's authentication passes on with a request.
//!
//! The platform takes these headers away from what a caller sends, and sets them itself, all of them, when
//! it has checked a token or a session (App Service, "Work with user identities"):
//!
//! ```text
//! X-MS-CLIENT-PRINCIPAL      base64 of {"auth_typ", "claims": [{"typ", "val"}], "name_typ", "role_typ"}
//! X-MS-CLIENT-PRINCIPAL-ID   who it is: with Entra, the object id
//! X-MS-CLIENT-PRINCIPAL-IDP  who signed it in: `aad` is Entra
//! X-MS-CLIENT-PRINCIPAL-NAME for people, and never looked at: names can be chosen and given anew
//! ```
//!
//! What counts are the claims. The other headers may be missing, but may not say something else.
//!
//! # Invariants
//! - What cannot be read, is there twice, or contradicts itself is no principal.
//! - A user who works through an application is not that application.
//!
//! Start reading at [`Principal::read`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::config::is_guid;
use crate::host::http::{Headers, Refusal};

/// Claims in base64.
const CLAIMS: &str = "x-ms-client-principal";

/// Who it is.
const ID: &str = "x-ms-client-principal-id";

/// Who signed it in.
const PROVIDER: &str = "x-ms-client-principal-idp";

/// Entra, as the platform calls it in header and claims.
const ENTRA: &str = "aad";

/// Longest of these headers that is read. The platform's front end takes less in all headers together.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Types of the claim with the object id: as the token has it, and as the platform renames it.
const OBJECT_ID: [&str; 2] =
    ["oid", "http://schemas.microsoft.com/identity/claims/objectidentifier"];

/// Types of the claim with the id of the application that asked for the token: in tokens of version 1, and
/// of version 2.
const APPLICATION_ID: [&str; 2] = ["appid", "azp"];

/// Types of the claim with the subject.
const SUBJECT: [&str; 2] =
    ["sub", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"];

/// Types of the claim with the scopes, which only tokens of users have.
const SCOPE: [&str; 2] = ["scp", "http://schemas.microsoft.com/identity/claims/scope"];

/// Type of the claim that says whose the token is, where an app registration asks for it.
const TOKEN_TYPE: [&str; 1] = ["idtyp"];

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Its object id, in lower case: of a user, or of an application's service principal.
    object_id: String,
    /// Its application id, in lower case, if it is an application that calls for itself.
    application_id: Option<String>,
}

/// What the platform passes on.
#[derive(Deserialize)]
struct Passed {
    auth_typ: String,
    claims: Vec<Claim>,
}

#[derive(Deserialize)]
struct Claim {
    typ: String,
    val: Value,
}

impl Principal {
    /// The principal that `headers` name.
    ///
    /// # Errors
    /// A refusal with `401`.
    pub fn read(headers: &Headers) -> Result<Self, Refusal> {
        let Some(encoded) = once(headers, CLAIMS)? else {
            return Err(Refusal::unauthorized(
                "sign in with Entra and send its token; if you did, an operator must turn the platform's \
                 authentication on",
            ));
        };
        let passed = STANDARD.decode(encoded).ok();
        let passed: Option<Passed> = passed.and_then(|json| serde_json::from_slice(&json).ok());
        let Passed { auth_typ, claims } = passed.ok_or_else(unreadable)?;
        let providers = [Some(auth_typ.as_str()), once(headers, PROVIDER)?];
        if providers.into_iter().flatten().any(|provider| !provider.eq_ignore_ascii_case(ENTRA)) {
            return Err(Refusal::unauthorized(
                "sign in with Entra: what another identity provider says does not count here",
            ));
        }
        let object_id = only(&claims, &OBJECT_ID)?;
        let application_id = only(&claims, &APPLICATION_ID)?;
        let subjects: Vec<&str> = of_types(&claims, &SUBJECT).filter_map(Value::as_str).collect();
        if let Some(id) = once(headers, ID)? {
            let mut known = object_id.iter().chain(&application_id).chain(&subjects);
            if !known.any(|known| known.eq_ignore_ascii_case(id)) {
                return Err(contradiction());
            }
        }
        let object_id = object_id.filter(|id| is_guid(id)).ok_or_else(unreadable)?;
        // Entra gives an application its own object id for a subject, and a user one for each application.
        let is_application = match only(&claims, &TOKEN_TYPE)? {
            Some(whose) => whose.eq_ignore_ascii_case("app"),
            None => {
                let is_own = |subject: &&str| subject.eq_ignore_ascii_case(object_id);
                let has_scope = of_types(&claims, &SCOPE).next().is_some();
                !has_scope && !subjects.is_empty() && subjects.iter().all(is_own)
            }
        };
        let application_id = application_id.filter(|id| is_application && is_guid(id));
        Ok(Self {
            object_id: object_id.to_ascii_lowercase(),
            application_id: application_id.map(str::to_ascii_lowercase),
        })
    }

    /// Its object id, in lower case.
    pub fn object_id(&self) -> &str {
        &self.object_id
    }

    /// Refuses it unless it is one of `principals`, which are in lower case; none: whoever is signed in.
    ///
    /// # Errors
    /// A refusal with `403`.
    pub fn check(&self, principals: &[String]) -> Result<(), Refusal> {
        let Self { object_id, application_id } = self;
        let is_listed = |id: &String| id == object_id || Some(id) == application_id.as_ref();
        match principals.is_empty() || principals.iter().any(is_listed) {
            true => Ok(()),
            false => Err(Refusal::forbidden(format!(
                "{object_id} may not call; have an operator add this object id to EASM_PRINCIPALS"
            ))),
        }
    }
}

/// The value of the header `name`, if it is there. None of these has a comma in it: with one, there are
/// several, and one may be the caller's own.
fn once<'a>(headers: &'a Headers, name: &str) -> Result<Option<&'a str>, Refusal> {
    match headers.get(name) {
        Some(value) if value.contains(',') => Err(contradiction()),
        Some(value) if value.is_empty() || value.len() > HEADER_BYTES_MAX => Err(unreadable()),
        value => Ok(value),
    }
}

/// The value of the claim of one of `types`, which may stand there again with the same value.
fn only<'a>(claims: &'a [Claim], types: &[&str]) -> Result<Option<&'a str>, Refusal> {
    let mut found = None::<&str>;
    for value in of_types(claims, types) {
        let value = value.as_str().ok_or_else(unreadable)?;
        if found.is_some_and(|found| !found.eq_ignore_ascii_case(value)) {
            return Err(contradiction());
        }
        found = Some(value);
    }
    Ok(found)
}

/// The values of all claims of one of `types`.
fn of_types<'a>(claims: &'a [Claim], types: &[&str]) -> impl Iterator<Item = &'a Value> {
    let is_of = |claim: &&Claim| types.contains(&claim.typ.as_str());
    claims.iter().filter(is_of).map(|claim| &claim.val)
}

fn unreadable() -> Refusal {
    Refusal::unauthorized(
        "the principal that was passed on cannot be read; sign in anew, and send no header \
         X-MS-CLIENT-PRINCIPAL of your own",
    )
}

fn contradiction() -> Refusal {
    Refusal::unauthorized(
        "the headers contradict each other about who calls; send no header X-MS-CLIENT-PRINCIPAL of your own",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const USER: &str = "11111111-2222-3333-4444-aaaaaaaaaaaa";
    const APP: &str = "66666666-7777-8888-9999-bbbbbbbbbbbb";
    const OTHER: &str = "00000000-0000-0000-0000-00000000000c";

    fn encoded(json: &Value) -> String {
        STANDARD.encode(json.to_string())
    }

    fn principal(provider: &str, claims: &[(&str, &str)]) -> Value {
        let claims = claims.iter().map(|(typ, val)| json!({"typ": typ, "val": val}));
        json!({"auth_typ": provider, "claims": claims.collect::<Vec<_>>(),
            "name_typ": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
            "role_typ": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"})
    }

    fn read(headers: &[(&str, &str)]) -> Result<Principal, Refusal> {
        let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Principal::read(&Headers::new(headers))
    }

    /// The ids of a principal with `claims`, as far as there are any.
    fn ids(claims: &[(&str, &str)]) -> Option<(String, Option<String>)> {
        let found = read(&[(CLAIMS, &encoded(&principal(ENTRA, claims)))]).ok();
        found.map(|Principal { object_id, application_id }| (object_id, application_id))
    }

    #[test]
    fn ids_are_found_in_the_claims_of_users_and_applications() {
        let check = |claims: &[(&str, &str)], object_id: &str, application_id: Option<&str>| {
            let want = (object_id.to_owned(), application_id.map(str::to_owned));
            assert_eq!(ids(claims), Some(want), "{claims:?}");
        };
        let shouted = USER.to_uppercase();
        check(&[("oid", USER)], USER, None);
        check(&[(OBJECT_ID[1], &shouted), ("groups", OTHER), ("groups", APP)], USER, None);
        check(&[("oid", USER), (OBJECT_ID[1], USER)], USER, None);
        // An application that calls for itself, by either version's token.
        for id in APPLICATION_ID {
            check(&[("oid", USER), ("sub", USER), (id, APP)], USER, Some(APP));
            check(&[("oid", USER), (SUBJECT[1], &shouted), (id, APP)], USER, Some(APP));
            check(&[("oid", USER), ("sub", "x"), ("idtyp", "app"), (id, APP)], USER, Some(APP));
        }
        // Users of an application are not the application.
        check(&[("oid", USER), ("sub", "x"), ("appid", APP)], USER, None);
        check(&[("oid", USER), ("appid", APP)], USER, None);
        check(&[("oid", USER), ("sub", USER), (SUBJECT[1], "x"), ("appid", APP)], USER, None);
        for scope in SCOPE {
            let two =
                [("oid", USER), ("sub", USER), ("azp", APP), (scope, "read"), (scope, "write")];
            check(&two[..4], USER, None);
            check(&two, USER, None);
        }
        check(&[("oid", USER), ("sub", USER), ("appid", APP), ("idtyp", "user")], USER, None);
        // An audience is nobody.
        check(&[("oid", USER), ("sub", USER), ("aud", APP)], USER, None);
    }

    #[test]
    fn what_cannot_be_read_is_twice_there_or_contradicts_itself_is_no_principal() {
        let good = encoded(&principal(ENTRA, &[("oid", USER), ("sub", "a-subject")]));
        let of = |provider: &str| encoded(&principal(provider, &[("oid", USER)]));
        let check = |headers: &[(&str, &str)], word: &str| match read(headers) {
            Err(refusal) => assert!(refusal.names(word), "{headers:?}: {refusal:?}"),
            Ok(found) => panic!("{headers:?}: {found:?}"),
        };
        read(&[(CLAIMS, &good)]).expect("a principal");
        read(&[("X-MS-CLIENT-PRINCIPAL", &good), (ID, USER), (PROVIDER, "AAD")]).expect("it too");
        read(&[(CLAIMS, &good), (ID, "a-subject")]).expect("it too");

        check(&[], "sign in");
        // The other headers are no proof.
        check(&[(ID, USER), (PROVIDER, ENTRA)], "sign in");
        for unreadable in ["", "%", "e30=", "bnVsbA==", &good[..20], USER] {
            check(&[(CLAIMS, unreadable)], "cannot be read");
        }
        check(&[(CLAIMS, &principal(ENTRA, &[("oid", USER)]).to_string())], "contradict");
        let large = [("oid", USER), ("groups", &"x".repeat(HEADER_BYTES_MAX))];
        check(&[(CLAIMS, &encoded(&principal(ENTRA, &large)))], "cannot be read");

        let twice = format!("{good},{good}");
        check(&[(CLAIMS, &twice)], "contradict");
        check(&[("X-MS-CLIENT-PRINCIPAL", &good), (CLAIMS, &good)], "contradict");
        check(&[(CLAIMS, &good), (ID, &format!("{USER},{OTHER}"))], "contradict");
        check(&[(CLAIMS, &good), (ID, OTHER)], "contradict");
        check(&[(CLAIMS, &good), (ID, "")], "cannot be read");
        check(&[(CLAIMS, &good), (PROVIDER, "aad,google")], "contradict");

        check(&[(CLAIMS, &good), (PROVIDER, "google")], "another identity provider");
        for provider in ["", "google", "anonymous", "aad "] {
            check(&[(CLAIMS, &of(provider))], "another identity provider");
        }
    }

    #[test]
    fn claims_that_name_nobody_or_two_are_no_principal() {
        let check = |claims: &[(&str, &str)]| assert_eq!(ids(claims), None, "{claims:?}");
        check(&[]);
        check(&[("name", USER)]);
        check(&[("oid", "someone@contoso.com")]);
        check(&[("oid", "")]);
        check(&[("OID", USER)]);
        check(&[("appid", APP), ("idtyp", "app")]);
        check(&[("oid", USER), ("oid", OTHER)]);
        check(&[("oid", USER), (OBJECT_ID[1], OTHER)]);
        check(&[("oid", USER), ("appid", APP), ("azp", OTHER)]);
        check(&[("oid", USER), ("idtyp", "app"), ("idtyp", "user")]);
        let bad = json!({"auth_typ": ENTRA, "claims": [{"typ": "oid", "val": [USER]}]});
        assert!(read(&[(CLAIMS, &encoded(&bad))]).is_err());
    }

    #[test]
    fn a_list_lets_in_object_ids_and_applications_of_their_own_and_nobody_else() {
        let check = |claims: &[(&str, &str)], principals: &[&str], want: bool| {
            let found = read(&[(CLAIMS, &encoded(&principal(ENTRA, claims)))]).expect("one");
            let principals: Vec<String> = principals.iter().map(|&id| id.to_owned()).collect();
            let checked = found.check(&principals);
            assert_eq!(checked.is_ok(), want, "{claims:?} {principals:?}");
            assert!(checked.err().is_none_or(|refusal| refusal.names(found.object_id())));
        };
        let shouted = USER.to_uppercase();
        check(&[("oid", USER)], &[], true);
        check(&[("oid", &shouted)], &[OTHER, USER], true);
        check(&[("oid", USER)], &[OTHER], false);
        let application = [("oid", USER), ("sub", USER), ("appid", APP)];
        check(&application, &[APP], true);
        check(&application, &[USER], true);
        check(&application, &[OTHER], false);
        check(&[("oid", USER), ("appid", APP), ("scp", "read")], &[APP], false);
        check(&[("oid", USER), ("sub", APP), ("groups", OTHER)], &[APP, OTHER], false);
    }
}
