//! The settings of one target: the single one, or one of `EASM_TARGETS` laid over the rest.

use url::Url;

use super::credential::Identities;
use super::env::Env;
use super::targets::in_members;
use super::{names, parse};
use crate::error::{Error, Kind, Result};
use crate::model::asset::AssetKind;
use crate::model::request::Request;
use crate::model::target::{Inventory, is_target_name};

/// One workspace to export, with the identity used for it and its options. Fields are named after the
/// settings of the contract, section 2.
#[derive(Debug, Clone)]
pub struct TargetSettings {
    /// The target's name; of a single target, the workspace's.
    pub name: String,
    /// Whether it is one of `EASM_TARGETS`.
    pub is_listed: bool,
    /// `EASM_TENANT_ID`
    pub tenant_id: String,
    /// `EASM_SUBSCRIPTION_ID`
    pub subscription_id: String,
    /// `EASM_RESOURCE_GROUP`
    pub resource_group: String,
    /// `EASM_WORKSPACE`
    pub workspace: String,
    /// `EASM_REGION`; absent: ask ARM.
    pub region: Option<String>,
    /// `EASM_CREDENTIAL` and what belongs to it.
    pub identities: Identities,
    /// `EASM_DATA_PLANE_URL`; absent: from the region.
    pub data_plane_url: Option<Url>,
    /// The target's own request: `EASM_DATASETS`, `EASM_FILTER`, `EASM_KINDS`, `EASM_FORMAT`,
    /// `EASM_COMPRESSION`.
    pub request: Request,
}

const TENANT: &str = "EASM_TENANT_ID";
const SUBSCRIPTION: &str = "EASM_SUBSCRIPTION_ID";
const GROUP: &str = "EASM_RESOURCE_GROUP";
const WORKSPACE: &str = "EASM_WORKSPACE";

/// The settings that name the workspace.
pub const PLACE: [&str; 4] = [TENANT, SUBSCRIPTION, GROUP, WORKSPACE];

impl TargetSettings {
    /// Reads and checks what `env` says of one target.
    ///
    /// # Errors
    /// [`Kind::Config`], naming the setting, or the target and its member.
    pub(super) fn read(env: &Env) -> Result<Self> {
        refuse_later(env)?;
        let [tenant_id, subscription_id, resource_group, workspace] = required(env)?;
        check_guid_or_domain(&env.name(TENANT), &tenant_id)?;
        check_guid(&env.name(SUBSCRIPTION), &subscription_id)?;
        check_resource_name(&env.name(GROUP), &resource_group)?;
        let name = match env.target() {
            Some(name) => {
                check_resource_name(&env.name(WORKSPACE), &workspace)?;
                name.to_owned()
            }
            None if is_target_name(&workspace) => workspace.clone(),
            None => {
                let allowed = "letters, digits, - and _, at most 63, a letter or digit first; \
                               EASM_TARGETS gives a target another name";
                return Err(parse::refuse(WORKSPACE, allowed, &workspace));
            }
        };
        let data_plane_url = env.get("EASM_DATA_PLANE_URL");
        let data_plane_url =
            data_plane_url.map(|url| parse::service_url(&env.name("EASM_DATA_PLANE_URL"), url));
        let region = env.get("EASM_REGION").map(|text| region(&env.name("EASM_REGION"), text));
        Ok(Self {
            name,
            is_listed: env.target().is_some(),
            region: region.transpose()?,
            identities: Identities::read(env, &tenant_id)?,
            data_plane_url: data_plane_url.transpose()?,
            request: request(env)?,
            tenant_id,
            subscription_id,
            resource_group,
            workspace,
        })
    }
}

impl TargetSettings {
    /// Whose assets its runs export.
    pub fn inventory(&self) -> Inventory {
        Inventory {
            subscription_id: self.subscription_id.clone(),
            resource_group: self.resource_group.clone(),
            workspace: self.workspace.clone(),
            data_plane_url: self.data_plane_url.as_ref().map(Url::to_string),
        }
    }

    /// `err` of this target: where there are several, it says of which, and names members and no settings.
    pub fn concern(&self, err: Error) -> Error {
        match (self.is_listed, err.context(TARGET)) {
            (false, _) => err,
            (true, Some(_)) => err.reworded(in_members),
            (true, None) => err.reworded(in_members).with(TARGET, &self.name),
        }
    }
}

/// What errors call the target in their context.
const TARGET: &str = "target";

/// What asks for work that this version does not do is refused: left out in silence, it would be
/// missed only when it is needed.
fn refuse_later(env: &Env) -> Result<()> {
    for name in ["EASM_DELTA", "EASM_SCHEMA_POLICY"] {
        let only = names::default(name);
        if let Some(found) = env.get(name).filter(|found| *found != only) {
            let allowed = format!("{only}, all that this version does");
            return Err(parse::refuse(&env.name(name), &allowed, found));
        }
    }
    Ok(())
}

/// The four settings that name the workspace. All that are missing are named at once.
fn required(env: &Env) -> Result<[String; 4]> {
    let missing = PLACE.into_iter().filter(|name| env.get(name).is_none());
    let missing: Vec<String> = missing.map(|name| env.name(name)).collect();
    if !missing.is_empty() {
        let err = Error::new(Kind::Config, "read settings")
            .because(format!("{} not set", missing.join(", ")));
        return Err(match env.target() {
            Some(_) => err.advise("write it; EASM_TARGETS stands in place of the settings for it"),
            None => err.advise(
                "set them in the environment, in .env or in local.settings.json; \
                 `easm-export demo` needs none",
            ),
        });
    }
    Ok(PLACE.map(|name| env.get(name).expect("checked above").to_owned()))
}

/// Whether `text` is a GUID.
pub fn is_guid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let groups: Vec<&str> = text.split('-').collect();
    groups.len() == lengths.len()
        && groups.iter().zip(lengths).all(|(group, length)| {
            group.len() == length && group.chars().all(|c| c.is_ascii_hexdigit())
        })
}

fn check_guid(name: &str, text: &str) -> Result<()> {
    let example = "a GUID such as 6f0cd1a5-7d1c-4a34-9a0e-0123456789ab";
    if is_guid(text) { Ok(()) } else { Err(parse::refuse(name, example, text)) }
}

fn check_guid_or_domain(name: &str, text: &str) -> Result<()> {
    let is_domain =
        text.contains('.') && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    let allowed = "the tenant's GUID or its domain name";
    if is_guid(text) || is_domain { Ok(()) } else { Err(parse::refuse(name, allowed, text)) }
}

/// Azure's own rule for resource group names, which is wide enough for a workspace.
pub fn is_resource_name(text: &str) -> bool {
    (1..=90).contains(&text.chars().count())
        && text.chars().all(|c| c.is_alphanumeric() || "-_.()".contains(c))
        && !text.ends_with('.')
}

fn check_resource_name(name: &str, text: &str) -> Result<()> {
    let allowed = "letters, digits and -_.() as Azure allows them, at most 90";
    if is_resource_name(text) { Ok(()) } else { Err(parse::refuse(name, allowed, text)) }
}

/// The short name of a region, from the setting, member or flag `name`.
///
/// # Errors
/// A refusal.
pub fn region(name: &str, text: &str) -> Result<String> {
    let is_allowed = (2..=32).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let allowed = "a region's short name such as eastus: 2 to 32 lower-case letters and digits";
    if is_allowed { Ok(text.to_owned()) } else { Err(parse::refuse(name, allowed, text)) }
}

fn request(env: &Env) -> Result<Request> {
    let filter = match env.raw("EASM_FILTER") {
        Some(filter) => parse::filter(&env.name("EASM_FILTER"), filter)?,
        None => names::default("EASM_FILTER").to_owned(),
    };
    let read = |name: &str| (env.name(name), env.get(name).unwrap_or(names::default(name)));
    let (datasets, format, compression) =
        (read("EASM_DATASETS"), read("EASM_FORMAT"), read("EASM_COMPRESSION"));
    Ok(Request {
        datasets: parse::datasets(&datasets.0, datasets.1)?,
        filter,
        kinds: match env.get("EASM_KINDS") {
            Some(text) => parse::kinds(&env.name("EASM_KINDS"), text)?,
            None => AssetKind::ALL.to_vec(),
        },
        format: parse::format(&format.0, format.1)?,
        compression: parse::compression(&compression.0, compression.1)?,
        columns: Vec::new(),
        max_assets: None,
    })
}
