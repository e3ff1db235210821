//! The environment as a value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::target::PLACE;
use super::{names, targets};
use crate::error::{Error, Kind, Result};
use crate::secret;

/// Names and values of settings, from wherever they came.
#[derive(Clone, Default)]
pub struct Env {
    vars: BTreeMap<String, String>,
    /// Whose members are laid over the variables, if anybody's.
    target: Option<Target>,
}

/// A target of several.
#[derive(Clone)]
struct Target {
    name: String,
    /// The settings that its members stand for.
    given: Vec<&'static str>,
}

impl Env {
    /// An environment of these names and values.
    pub fn new(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { vars: vars.into_iter().collect(), target: None }
    }

    /// The environment of a process.
    ///
    /// # Errors
    /// [`Kind::Config`] if a setting of ours is not Unicode: read as absent, its default would be
    /// exported in its place.
    pub fn of_process(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self> {
        let mut env = Self::default();
        for (name, value) in vars {
            // A name that is not Unicode is none of ours.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(env.vars.insert(name, value)),
                Err(_) if names::is_ours(&name) => {
                    return Err(Error::new(Kind::Config, format!("read {name}"))
                        .because("its value is not Unicode")
                        .advise("write it in UTF-8"));
                }
                Err(_) => {}
            }
        }
        Ok(env)
    }

    /// The environment of a process, as far as it can be read: to look for secrets in, not for
    /// settings.
    pub fn of_any(vars: &[(OsString, OsString)]) -> Self {
        let text = |text: &OsString| text.to_string_lossy().into_owned();
        Self::new(vars.iter().map(|(name, value)| (text(name), text(value))))
    }

    /// Adds names and values; what is already there wins.
    #[must_use]
    pub fn or(mut self, weaker: Self) -> Self {
        for (name, value) in weaker.vars {
            self.vars.entry(name).or_insert(value);
        }
        self
    }

    /// The environment without `names`.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        self.vars.retain(|name, _| !names.contains(&name.as_str()));
        self
    }

    /// The environment of the target `name`, one of several: what is `given` stands in place of the
    /// settings of that name. The place of a workspace and a client secret are never mixed of both.
    #[must_use]
    pub(super) fn of_target(&self, name: &str, given: Vec<(&'static str, String)>) -> Self {
        const SECRETS: [&str; 2] = ["EASM_CLIENT_SECRET", "EASM_CLIENT_SECRET_NAME"];
        let is_given = |name: &str| given.iter().any(|(given, _)| *given == name);
        let mut vars = self.vars.clone();
        let mut remove = |name: &str| {
            vars.remove(name);
            names::fallback(name).map(|fallback| vars.remove(fallback));
        };
        PLACE.into_iter().for_each(&mut remove);
        // Set to nothing it is nothing, and not what another name says.
        given.iter().for_each(|(setting, _)| remove(setting));
        if SECRETS.into_iter().any(is_given) {
            SECRETS.into_iter().for_each(&mut remove);
        }
        let target = Target {
            name: name.to_owned(),
            given: given.iter().map(|(setting, _)| *setting).collect(),
        };
        vars.extend(given.into_iter().map(|(setting, value)| (setting.to_owned(), value)));
        Self { vars, target: Some(target) }
    }

    /// The target of several that this is the environment of.
    pub(super) fn target(&self) -> Option<&str> {
        self.target.as_ref().map(|target| target.name.as_str())
    }

    /// What an error calls the setting `name`: the member that stands for it, where there are several
    /// targets and it is not the setting itself that is read.
    pub(super) fn name(&self, name: &str) -> String {
        let (Some(target), Some(member)) = (&self.target, targets::member_of(name)) else {
            return name.to_owned();
        };
        match target.given.contains(&name) || self.get(name).is_none() {
            true => format!("{member} of target {} in {}", target.name, targets::TARGETS),
            false => name.to_owned(),
        }
    }

    /// The folder of the app: where `host.json` is under the host, else the current one.
    pub fn app_root(&self) -> &Path {
        Path::new(self.get("FUNCTIONS_APP_ROOT_PATH").unwrap_or("."))
    }

    /// The value as written, which may be empty.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// The value of the setting `name`, or of the name it falls back to; without white space around
    /// it, and not there if empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = |name| self.raw(name).map(str::trim).filter(|value| !value.is_empty());
        value(name).or_else(|| names::fallback(name).and_then(value))
    }

    /// Keeps the secrets among the values out of everything that is said from now on.
    pub fn keep_secrets(&self) {
        let vars = self.vars.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        secret::environment::secrets(vars).iter().for_each(|value| secret::inherit(value));
    }

    /// Names that look like ours and are not, in order.
    pub fn unknown(&self) -> Vec<&str> {
        let ours = self.vars.keys().filter(|name| name.starts_with("EASM_"));
        ours.map(String::as_str).filter(|name| !names::is_known(name)).collect()
    }

    /// Whether the Functions host in Azure started this program (contract, section 2).
    pub fn is_in_azure(&self) -> bool {
        self.get("FUNCTIONS_CUSTOMHANDLER_PORT").is_some()
            && self.get("WEBSITE_SITE_NAME").is_some()
            && self.get("AZURE_FUNCTIONS_ENVIRONMENT") != Some("Development")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &[(&str, &str)]) -> Env {
        Env::new(vars.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn the_names_of_mdeasm_are_fallbacks() {
        let check = |vars: &[(&str, &str)], want: Option<&str>| {
            assert_eq!(env(vars).get("EASM_WORKSPACE"), want, "{vars:?}");
        };
        check(&[("WORKSPACE_NAME", "old")], Some("old"));
        check(&[("WORKSPACE_NAME", "old"), ("EASM_WORKSPACE", "new")], Some("new"));
        check(&[("WORKSPACE_NAME", "old"), ("EASM_WORKSPACE", " ")], Some("old"));
        check(&[("WORKSPACE", "other")], None);
    }

    #[test]
    fn only_names_that_look_like_ours_can_be_unknown() {
        let env = env(&[("EASM_FILTRE", ""), ("EASM_FILTER", ""), ("EASMX", ""), ("PATH", "")]);
        assert_eq!(env.unknown(), ["EASM_FILTRE"]);
    }

    #[test]
    fn what_is_already_there_wins() {
        let env = env(&[("A", "real")]).or(env(&[("A", "file"), ("B", "file")]));
        assert_eq!((env.raw("A"), env.raw("B")), (Some("real"), Some("file")));
    }
}
