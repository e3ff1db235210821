//! Everything an operator can set, checked.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::credential::{OwnIdentity, refuse_secret_in_azure};
use super::env::Env;
use super::target::TargetSettings;
use super::targets::{self, Named, Targets};
use super::{names, parse};
use crate::error::{Error, Kind, Result};

/// The setting that names the store.
pub const STORE_URL: &str = "EASM_STORE_URL";

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A folder.
    Folder(PathBuf),
    /// A place in a container of Blob Storage.
    Blob(BlobUrl),
}

/// A place in a container of Blob Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobUrl {
    /// URL of the container.
    pub container: Url,
    /// In front of every path: segments without a slash at either end, or empty.
    pub prefix: String,
    /// How requests are signed.
    pub access: BlobAccess,
}

/// How requests to Blob Storage are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobAccess {
    /// With tokens of the app's own identity.
    Identity,
    /// With Azurite's published development key.
    DevelopmentKey,
}

/// The settings, checked. Fields are named after the settings of the contract, section 2.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The targets, in the order of the settings: those of `EASM_TARGETS`, or the single one. There is
    /// one at least.
    pub targets: Vec<Named>,
    /// What is wrong with the names of others in `EASM_TARGETS`, which are left out for it.
    pub nameless: Vec<Error>,
    /// The app's own identity: for the store, and for Key Vault.
    pub own: OwnIdentity,
    /// `EASM_ARM_URL`
    pub arm_url: Url,
    /// `EASM_DP_API_VERSION` or `EASM_API_VERSION`
    pub data_plane_api_version: String,
    /// `EASM_CP_API_VERSION` or `EASM_API_VERSION`
    pub arm_api_version: String,
    /// `EASM_STORE_URL`
    pub store: StoreUrl,
    /// `EASM_PAGE_SIZE`, 1 to 100.
    pub page_size: u32,
    /// `EASM_CONCURRENCY`, 1 to 64.
    pub concurrency: usize,
    /// `EASM_SHARDS`, 1 to 64.
    pub shards: u32,
    /// `EASM_RUN_HOURS_MAX`: how long a run may wait without saving anything.
    pub run_idle_max: Duration,
    /// `EASM_RANGE_ASSETS_MAX`
    pub range_assets_max: u64,
    /// `EASM_PART_BYTES_MAX`, uncompressed.
    pub part_bytes_max: u64,
    /// `EASM_RETENTION_DAYS`: how long complete runs are kept; 0: for ever.
    pub retention_days: u32,
    /// `EASM_SLICE_SECONDS`: longest that an invocation works.
    pub slice: Duration,
}

impl Settings {
    /// Reads and checks all settings of `env`.
    ///
    /// # Errors
    /// [`Kind::Config`], naming the setting, what is allowed and what was found.
    pub fn read(env: &Env) -> Result<Self> {
        refuse_unknown(env)?;
        refuse_secret_in_azure(env)?;
        let Targets { named: targets, nameless } = targets::read(env)?;
        // Where nothing else says so, the app is at home in the tenant of the first.
        let home = targets.iter().find_map(|target| target.settings.as_ref().ok());
        let own = OwnIdentity::read(env, home.map_or("", |target| &target.tenant_id))?;
        let version = |own: &str| -> Result<String> {
            let (name, found) = match (env.get(own), env.get("EASM_API_VERSION")) {
                (Some(version), _) => (own, version),
                (None, Some(version)) => ("EASM_API_VERSION", version),
                (None, None) => (own, names::default(own)),
            };
            check_api_version(name, found)?;
            Ok(found.to_owned())
        };
        let one = |name: &str, allowed| parse::number(name, get(env, name), allowed);
        let small = |name: &str, max: u64| -> Result<u32> {
            Ok(u32::try_from(one(name, 1..=max)?).expect("the largest maximum is 100"))
        };
        Ok(Self {
            targets,
            nameless,
            own,
            arm_url: parse::service_url("EASM_ARM_URL", get(env, "EASM_ARM_URL"))?,
            data_plane_api_version: version("EASM_DP_API_VERSION")?,
            arm_api_version: version("EASM_CP_API_VERSION")?,
            store: parse::store_url(STORE_URL, get(env, STORE_URL))?,
            page_size: small("EASM_PAGE_SIZE", 100)?,
            concurrency: small("EASM_CONCURRENCY", 64)? as usize,
            shards: small("EASM_SHARDS", 64)?,
            range_assets_max: one("EASM_RANGE_ASSETS_MAX", 50..=u64::MAX)?,
            part_bytes_max: one("EASM_PART_BYTES_MAX", 32_768..=u64::MAX)?,
            retention_days: u32::try_from(one("EASM_RETENTION_DAYS", 0..=RETENTION_DAYS_MAX)?)
                .expect("a hundred years of days"),
            slice: Duration::from_secs(one("EASM_SLICE_SECONDS", 1..=3600)?),
            run_idle_max: parse::hours("EASM_RUN_HOURS_MAX", get(env, "EASM_RUN_HOURS_MAX"))?,
        })
    }

    /// The name of the target `name`, however it is written.
    pub fn target_name(&self, name: &str) -> Option<&str> {
        let mut names = self.targets.iter().map(|target| target.name.as_str());
        names.find(|found| found.eq_ignore_ascii_case(name))
    }

    /// The settings of the target `name`, or what is wrong with them.
    ///
    /// # Errors
    /// [`Kind::Config`], naming the target and its member.
    pub fn target(&self, name: &str) -> Result<&TargetSettings> {
        let is_meant = |target: &&Named| target.name.eq_ignore_ascii_case(name);
        match self.targets.iter().find(is_meant) {
            Some(target) => target.settings.as_ref().map_err(Clone::clone),
            None => Err(Error::new(Kind::Config, "find the target")
                .because(format!("there is no target {name:?}"))
                .advise("give it its name back in EASM_TARGETS")),
        }
    }
}

/// Longest that runs are kept: a hundred years.
const RETENTION_DAYS_MAX: u64 = 36_525;

/// The value of the setting `name`, or its default.
fn get<'a>(env: &'a Env, name: &str) -> &'a str {
    env.get(name).unwrap_or(names::default(name))
}

fn refuse_unknown(env: &Env) -> Result<()> {
    let unknown = env.unknown();
    if unknown.is_empty() {
        return Ok(());
    }
    let meant = unknown.iter().filter_map(|name| Some((name, names::closest(name)?)));
    let meant: Vec<String> = match &unknown[..] {
        [_] => meant.map(|(_, known)| known.to_owned()).collect(),
        _ => meant.map(|(name, known)| format!("{known} for {name}")).collect(),
    };
    let advice = match meant.is_empty() {
        false => format!("did you mean {}?", meant.join(", ")),
        true => "remove it, or see docs/configuration.md for the settings there are".to_owned(),
    };
    Err(Error::new(Kind::Config, "read settings")
        .because(format!("unknown setting {}", unknown.join(", ")))
        .advise(advice))
}

fn check_api_version(name: &str, text: &str) -> Result<()> {
    let date = text.strip_suffix("-preview").unwrap_or(text);
    let is_date = date.len() == 10
        && date.char_indices().all(|(at, c)| match at {
            4 | 7 => c == '-',
            _ => c.is_ascii_digit(),
        });
    let allowed = "an api-version such as 2024-10-01-preview";
    if is_date { Ok(()) } else { Err(parse::refuse(name, allowed, text)) }
}

/// Refuses the store `url`, which the setting or flag `name` names, where it cannot be used.
///
/// # Errors
/// A refusal of a folder in Azure.
pub fn check_store(name: &str, url: &StoreUrl, env: &Env) -> Result<()> {
    match url {
        StoreUrl::Folder(_) if env.is_in_azure() => {
            let kind = if name.starts_with('-') { Kind::Usage } else { Kind::Config };
            Err(Error::new(kind, format!("read {name}"))
                .because("a folder does not last in Azure")
                .advise("use https://{account}.blob.core.windows.net/{container}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::asset::AssetKind;
    use crate::model::request::{Compression, Request};

    const GOOD: &[(&str, &str)] = &[
        ("EASM_TENANT_ID", "11111111-2222-3333-4444-555555555555"),
        ("EASM_SUBSCRIPTION_ID", "66666666-7777-8888-9999-aaaaaaaaaaaa"),
        ("EASM_RESOURCE_GROUP", "rg-easm"),
        ("EASM_WORKSPACE", "contoso"),
        ("IDENTITY_ENDPOINT", "http://127.0.0.1/msi/token"),
        ("IDENTITY_HEADER", "a-made-up-identity-header"),
    ];

    fn read(changes: &[(&str, &str)]) -> Result<Settings> {
        let env = |vars: &[(&str, &str)]| {
            Env::new(vars.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())))
        };
        Settings::read(&env(changes).or(env(GOOD)))
    }

    fn request(settings: &Settings) -> &Request {
        &settings.target("contoso").expect("good").request
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let settings = read(&[]).expect("good settings");
        assert_eq!(request(&settings).filter, "state = \"confirmed\"");
        assert_eq!(request(&settings).kinds, AssetKind::ALL);
        assert_eq!(request(&settings).compression, Compression::Gzip);
        assert_eq!(settings.arm_url.as_str(), "https://management.azure.com/");
        assert_eq!(settings.data_plane_api_version, "2024-10-01-preview");
        assert_eq!(settings.arm_api_version, "2023-04-01-preview");
        assert_eq!(settings.store, StoreUrl::Folder("./exports".into()));
        assert_eq!((settings.page_size, settings.concurrency, settings.shards), (100, 8, 8));
        assert_eq!((settings.part_bytes_max, settings.range_assets_max), (67_108_864, 20_000));
    }

    #[test]
    fn a_bad_value_is_refused_by_name_with_what_is_allowed() {
        let check = |name: &str, value: &str| {
            let err = read(&[(name, value)]).expect_err(name);
            assert_eq!(err.kind(), Kind::Config);
            let text = err.to_string();
            assert!(text.contains(name) && text.contains("use "), "{text}");
        };
        check("EASM_TENANT_ID", "my tenant");
        check("EASM_SUBSCRIPTION_ID", "production");
        check("EASM_RESOURCE_GROUP", "a/b");
        check("EASM_WORKSPACE", "../up");
        check("EASM_REGION", "East US");
        check("EASM_CREDENTIAL", "password");
        check("EASM_DATA_PLANE_URL", "http://example.com");
        check("EASM_ARM_URL", "management.azure.com");
        check("EASM_API_VERSION", "latest");
        check("EASM_DP_API_VERSION", "2024/10/01");
        check("EASM_STORE_URL", "s3://bucket");
        check("EASM_DATASETS", "risk");
        check("EASM_KINDS", "hosts");
        check("EASM_FORMAT", "xml");
        check("EASM_COMPRESSION", "lzma");
        check("EASM_DELTA", "on");
        check("EASM_SCHEMA_POLICY", "fail");
        check("EASM_PAGE_SIZE", "101");
        check("EASM_PAGE_SIZE", "0");
        check("EASM_CONCURRENCY", "65");
        check("EASM_SHARDS", "many");
        check("EASM_PART_BYTES_MAX", "1024");
        check("EASM_RANGE_ASSETS_MAX", "49");
        check("EASM_RETENTION_DAYS", "-1");
        check("EASM_RETENTION_DAYS", "forever");
        check("EASM_SLICE_SECONDS", "0");
        check("EASM_SLICE_SECONDS", "3601");
        check("EASM_RUN_HOURS_MAX", "0");
        check("EASM_RUN_HOURS_MAX", "-1");
        check("EASM_RUN_HOURS_MAX", "NaN");
        check("EASM_RUN_HOURS_MAX", "1e9");
        check("EASM_RUN_HOURS_MAX", "a day");
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let err = Settings::read(&Env::new([])).expect_err("nothing set").to_string();
        for (name, _) in &GOOD[..4] {
            assert!(err.contains(name), "{err}");
        }
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let err = read(&[("EASM_FILTERS", "x")]).expect_err("unknown").to_string();
        assert!(err.contains("EASM_FILTERS") && err.contains("did you mean EASM_FILTER?"), "{err}");
    }

    #[test]
    fn an_empty_filter_exports_everything() {
        assert_eq!(request(&read(&[("EASM_FILTER", "")]).expect("good")).filter, "");
    }

    #[test]
    fn a_planes_own_version_beats_the_common_one() {
        let settings = read(&[
            ("EASM_API_VERSION", "2022-11-01-preview"),
            ("EASM_DP_API_VERSION", "2023-03-01-preview"),
        ]);
        let settings = settings.expect("good");
        assert_eq!(settings.data_plane_api_version, "2023-03-01-preview");
        assert_eq!(settings.arm_api_version, "2022-11-01-preview");
    }

    #[test]
    fn a_folder_is_refused_in_azure() {
        let host = [("FUNCTIONS_CUSTOMHANDLER_PORT", "1"), ("WEBSITE_SITE_NAME", "app")];
        let local = [host[0], host[1], ("AZURE_FUNCTIONS_ENVIRONMENT", "Development")];
        let check = |vars: &[(&str, &str)]| {
            let env = Env::new(vars.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())));
            check_store("--store", &StoreUrl::Folder("./exports".into()), &env)
        };
        assert!(check(&host).expect_err("refused").to_string().contains("read --store"));
        assert!(check(&local).is_ok());
    }
}
