//! `EASM_TARGETS`: several workspaces in one deployment, each with its own identity and options.
//!
//! A target's members are laid over the environment, each under the setting that it stands for, and then
//! read like a single target's settings: so both are checked by the same code. What [`Env::name`] says of a
//! value tells whoever reads an error whether a member or a setting is meant.
//!
//! The document must make sense as a whole: what is no array of objects is refused. Behind that each target
//! stands for itself: one whose members are wrong does not stop the others, nor does one that has no name to
//! keep its exports under, or shares it ([`Targets::nameless`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use super::env::Env;
use super::target::TargetSettings;
use crate::error::{Error, Kind, Result};
use crate::model::asset::AssetKind;
use crate::model::target::is_target_name;
use crate::secret;

/// The setting.
pub const TARGETS: &str = "EASM_TARGETS";

/// Most targets of one deployment.
const TARGETS_MAX: usize = 1000;

/// Largest document, in bytes: a thousand targets of a thousand bytes.
const DOCUMENT_BYTES_MAX: u64 = 1 << 20;

/// A member of a target.
#[derive(Debug)]
pub struct Member {
    /// Its name in the document.
    pub name: &'static str,
    /// The setting that it stands for.
    pub setting: &'static str,
    /// What its value looks like.
    pub form: Form,
    /// What it means, as one sentence.
    pub means: &'static str,
}

/// What a member's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A text of any sort.
    Text,
    /// A text that must be there and matches a regular expression.
    Required(&'static str),
    /// A text that matches a regular expression.
    Pattern(&'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Words, of these if any are named: an array, or one text with commas between them.
    Words(&'static [&'static str]),
}

const GUID: &str = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$";

const GUID_OR_DOMAIN: &str =
    "^([0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[A-Za-z0-9-]*\\.[A-Za-z0-9.-]*)$";

/// Azure's rule for names of resource groups.
const RESOURCE_NAME: &str = "^[\\p{L}\\p{N}_.()-]{0,89}[\\p{L}\\p{N}_()-]$";

const fn member(
    name: &'static str,
    setting: &'static str,
    form: Form,
    means: &'static str,
) -> Member {
    Member { name, setting, form, means }
}

/// The member that a target is known by.
const NAME: &str = "name";

/// Every member but the name (contract, section 2).
pub const MEMBERS: &[Member] = &[
    member(
        "tenantId",
        "EASM_TENANT_ID",
        Form::Required(GUID_OR_DOMAIN),
        "The tenant of the workspace: a GUID, or a domain name.",
    ),
    member("subscriptionId", "EASM_SUBSCRIPTION_ID", Form::Required(GUID), "A GUID."),
    member(
        "resourceGroup",
        "EASM_RESOURCE_GROUP",
        Form::Required(RESOURCE_NAME),
        "The workspace's.",
    ),
    member("workspace", "EASM_WORKSPACE", Form::Required(RESOURCE_NAME), "The workspace's name."),
    member(
        "region",
        "EASM_REGION",
        Form::Pattern("^([a-z0-9]{2,32})?$"),
        "For example eastus. Asked from ARM if neither this nor EASM_REGION is there.",
    ),
    member(
        "credential",
        "EASM_CREDENTIAL",
        Form::Word(&[
            "auto",
            "managed-identity",
            "client-secret",
            "federated",
            "workload-identity",
            "developer",
        ]),
        "How the target is signed in to.",
    ),
    member(
        "clientId",
        "EASM_CLIENT_ID",
        Form::Text,
        "The target's app registration; with managed-identity, a user-assigned identity.",
    ),
    member(
        "clientSecretName",
        "EASM_CLIENT_SECRET_NAME",
        Form::Pattern("^[A-Za-z0-9-]{0,127}$"),
        "Name of the Key Vault secret that holds the client secret.",
    ),
    member(
        "clientSecret",
        "EASM_CLIENT_SECRET",
        Form::Text,
        "The client secret itself: for a laptop. Refused in Azure.",
    ),
    member(
        "dataPlaneUrl",
        "EASM_DATA_PLANE_URL",
        Form::Pattern("^(https?://.*)?$"),
        "Base URL of the data plane.",
    ),
    member("filter", "EASM_FILTER", Form::Text, "EASM filter; empty: everything."),
    member("kinds", "EASM_KINDS", Form::Words(&AssetKind::NAMES), "Kinds of assets."),
    member("datasets", "EASM_DATASETS", Form::Words(&["assets"]), "Datasets."),
    member("format", "EASM_FORMAT", Form::Word(&["ndjson"]), "Format of the files."),
    member(
        "compression",
        "EASM_COMPRESSION",
        Form::Word(&["gzip", "none"]),
        "Compression of the files.",
    ),
    member("columns", "EASM_COLUMNS", Form::Words(&[]), "Columns, for formats that have them."),
    member("delta", "EASM_DELTA", Form::Word(&["off"]), "Comparing a run with the one before."),
    member(
        "schemaPolicy",
        "EASM_SCHEMA_POLICY",
        Form::Word(&["record"]),
        "What a change of members does.",
    ),
];

/// The member that stands for the setting `setting`.
pub fn member_of(setting: &str) -> Option<&'static str> {
    MEMBERS.iter().find(|member| member.setting == setting).map(|member| member.name)
}

/// `text` with the members in place of the settings that they stand for: what to do about a target of several
/// is to be done to them.
pub(super) fn in_members(text: &str) -> String {
    let mut members: Vec<&Member> = MEMBERS.iter().collect();
    // One name may begin with another.
    members.sort_by_key(|member| std::cmp::Reverse(member.setting.len()));
    members.iter().fold(text.to_owned(), |text, member| text.replace(member.setting, member.name))
}

/// A target by its name, and its settings or what is wrong with them.
#[derive(Debug, Clone)]
pub struct Named {
    /// The name, as it is written.
    pub name: String,
    /// The settings.
    pub settings: Result<TargetSettings>,
}

/// The targets of a deployment.
pub struct Targets {
    /// Those with a name of their own, in the order of the document. There is one at least.
    pub named: Vec<Named>,
    /// What is wrong with the names of others: nobody knows where to keep their exports.
    pub nameless: Vec<Error>,
}

/// The targets that `env` names: those of `EASM_TARGETS`, or the single one.
///
/// # Errors
/// [`Kind::Config`] if `EASM_TARGETS` makes no sense as a whole, or names none; or a single target's setting
/// is wrong.
pub fn read(env: &Env) -> Result<Targets> {
    let Some(written) = env.get(TARGETS) else {
        let settings = TargetSettings::read(env)?;
        let named = vec![Named { name: settings.name.clone(), settings: Ok(settings) }];
        return Ok(Targets { named, nameless: Vec::new() });
    };
    let text = match written.strip_prefix('@') {
        Some(file) => from_file(env, file.trim())?,
        None => written.to_owned(),
    };
    let documents: Vec<Members> = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|err| {
            // What it holds is not repeated: there may be a secret in it.
            let (line, column) = (err.line(), err.column());
            refuse(format!("it is no JSON array of objects (line {line}, column {column})"))
                .advise("see `easm-export schema settings` for what it looks like")
        })?;
    // Before anything is said of it.
    documents.iter().for_each(Members::keep_secret);
    if documents.is_empty() || documents.len() > TARGETS_MAX {
        let n_targets = documents.len();
        return Err(refuse(format!("it names {n_targets} targets"))
            .advise(format!("name 1 to {TARGETS_MAX}, or take it away")));
    }
    let mut nameless = Vec::new();
    let mut of_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut names = Vec::new();
    for (at, document) in documents.iter().enumerate() {
        match document.target_name(at) {
            Ok(name) => {
                of_name.entry(name.to_ascii_lowercase()).or_default().push(at);
                names.push((name, document));
            }
            Err(err) => nameless.push(err),
        }
    }
    let shared = of_name.values().filter(|all| all.len() > 1);
    nameless.extend(shared.map(|all| {
        let numbers: Vec<String> = all.iter().map(|at| (at + 1).to_string()).collect();
        let name = documents[all[0]].target_name(all[0]).unwrap_or_default();
        refuse(format!("targets number {} are all named {name}", numbers.join(", ")))
            .advise("give each a name of its own, which differs not only in case")
    }));
    let is_own = |(name, _): &(String, &Members)| of_name[&name.to_ascii_lowercase()].len() == 1;
    let named: Vec<Named> = names
        .into_iter()
        .filter(is_own)
        .map(|(name, document)| {
            let read = document.laid_over(env, &name);
            let settings = read.and_then(|env| TargetSettings::read(&env));
            Named { name, settings }
        })
        .collect();
    match nameless.first() {
        Some(err) if named.is_empty() => Err(err.clone()),
        _ => Ok(Targets { named, nameless }),
    }
}

fn refuse(reason: impl Into<String>) -> Error {
    Error::new(Kind::Config, format!("read {TARGETS}")).because(reason)
}

/// The text of `file`, relative to the folder of the app.
fn from_file(env: &Env, file: &str) -> Result<String> {
    if file.starts_with(['[', '{']) {
        // It is not repeated, as above.
        return Err(refuse("the document itself stands behind the @")
            .advise("leave out the @, which is for the name of a file"));
    }
    let path = env.app_root().join(file);
    let failed = |reason: String| {
        refuse(format!("{file:?} {reason}"))
            .advise("name a file beside host.json, or below the current folder, after the @")
    };
    let mut text = String::new();
    let read = File::open(path)
        .and_then(|file| file.take(DOCUMENT_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Err(err) => Err(failed(format!("cannot be read: {}", err.kind()))),
        Ok(_) if text.len() as u64 > DOCUMENT_BYTES_MAX => {
            Err(failed(format!("is larger than {} KiB", DOCUMENT_BYTES_MAX >> 10)))
        }
        Ok(_) => Ok(text),
    }
}

/// The members of a target as they are written, also those that are written twice.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

impl Members {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name)?.1.as_str()
    }

    /// Keeps a client secret out of everything that is said, whether it is allowed here or not.
    fn keep_secret(&self) {
        let secrets = self.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case("clientSecret"));
        secrets.filter_map(|(_, value)| value.as_str()).for_each(secret::inherit);
    }

    /// The name of the target, the `at`th of all.
    fn target_name(&self, at: usize) -> Result<String> {
        let number = at + 1;
        let is_written = self.0.iter().any(|(name, _)| name == NAME);
        let name = if is_written { self.text(NAME) } else { self.text("workspace") };
        match name.map(str::trim) {
            Some(name) if is_target_name(name) => Ok(name.to_owned()),
            Some(name) => {
                let what = if is_written { "name" } else { "workspace, which is its name," };
                Err(refuse(format!("the {what} of target number {number} is {name:?}")).advise(
                    "give it a name of letters, digits, - and _, at most 63, a letter or digit first",
                ))
            }
            None => Err(refuse(match is_written {
                true => format!("the name of target number {number} is no text"),
                false => format!("target number {number} has no name"),
            })
            .advise("give each target its name and workspace, as texts")),
        }
    }

    /// `env` with these members in place of the settings that they stand for.
    fn laid_over(&self, env: &Env, target: &str) -> Result<Env> {
        let mut given = Vec::new();
        let mut seen = BTreeSet::new();
        let wrong = |name: &str, reason: &str, advice: String| {
            Error::new(Kind::Config, format!("read {name} of target {target} in {TARGETS}"))
                .because(reason)
                .advise(advice)
        };
        for (name, value) in &self.0 {
            if !seen.insert(name) {
                return Err(wrong(name, "it is written twice", "write it once".into()));
            }
            if name == NAME {
                continue;
            }
            let Some(member) = MEMBERS.iter().find(|member| member.name == name) else {
                return Err(wrong(name, "there is no such member", did_you_mean(name)));
            };
            let text = match (member.form, value) {
                (_, Value::String(text)) => Some(text.clone()),
                (Form::Words(_), Value::Array(words)) => words_of(words),
                _ => None,
            };
            let text = text.ok_or_else(|| {
                let allowed = match member.form {
                    Form::Words(_) => "an array of texts",
                    _ => "a text",
                };
                wrong(name, "its value is of another sort", format!("use {allowed}"))
            })?;
            given.push((member.setting, text));
        }
        Ok(env.of_target(target, given))
    }
}

/// The words as a setting has them. `None`: one is no text, or has a comma in it.
fn words_of(words: &[Value]) -> Option<String> {
    let words = words.iter().map(|word| word.as_str().filter(|word| !word.contains(',')));
    Some(words.collect::<Option<Vec<_>>>()?.join(","))
}

fn did_you_mean(name: &str) -> String {
    /// Below this two names are about different things (Jaro-Winkler similarity, 0 to 1).
    const SIMILARITY_MIN: f64 = 0.85;
    let similarity = |member: &&Member| {
        strsim::jaro_winkler(&name.to_ascii_lowercase(), &member.name.to_ascii_lowercase())
    };
    let closest =
        MEMBERS.iter().max_by(|left, right| similarity(left).total_cmp(&similarity(right)));
    match closest.filter(|member| similarity(member) >= SIMILARITY_MIN) {
        Some(member) => format!("did you mean {}?", member.name),
        None => {
            let names: Vec<&str> = MEMBERS.iter().map(|member| member.name).collect();
            format!("remove it; there are {NAME}, {}", names.join(", "))
        }
    }
}

/// The JSON Schema of the targets, draft 2020-12.
pub fn schema() -> Value {
    let name = json!({
        "type": "string",
        "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
        "description": "The target's name, unique in the deployment, ignoring case. Default: the workspace's.",
    });
    let mut properties = Map::new();
    properties.insert(NAME.to_owned(), name);
    for member in MEMBERS {
        let mut property = match member.form {
            Form::Text => json!({ "type": "string" }),
            Form::Required(pattern) | Form::Pattern(pattern) => {
                json!({ "type": "string", "pattern": pattern })
            }
            // Empty it counts as not there.
            Form::Word(words) => {
                let words = [words, &[""]].concat();
                json!({ "type": "string", "enum": words })
            }
            Form::Words(words) => {
                let word = match words {
                    [] => json!({ "type": "string", "pattern": "^[^,]*$" }),
                    words => json!({ "type": "string", "enum": words }),
                };
                json!({ "anyOf": [{ "type": "array", "items": word }, { "type": "string" }] })
            }
        };
        let means = format!("{} Default: the setting {}.", member.means, member.setting);
        let is_required = matches!(member.form, Form::Required(_));
        let means = if is_required { member.means.to_owned() } else { means };
        property["description"] = means.into();
        properties.insert(member.name.to_owned(), property);
    }
    let is_required = |member: &&Member| matches!(member.form, Form::Required(_));
    let required: Vec<&str> =
        MEMBERS.iter().filter(is_required).map(|member| member.name).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "EASM_TARGETS",
        "description": "The workspaces that one deployment of easm-export exports.",
        "type": "array",
        "minItems": 1,
        "maxItems": TARGETS_MAX,
        "items": {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        },
    })
}

#[cfg(test)]
#[path = "targets_tests.rs"]
mod tests;
