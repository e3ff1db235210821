//! What all targets of a deployment need: settings, the schedule, doors that are shut, the store.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::{Check, Limits, Status, TOOLS_TIME, step};
use crate::app;
use crate::config::{
    Auth, BlobAccess, BlobUrl, Credential, Env, Named, STORE_URL, Settings, StoreUrl, check_store,
};
use crate::error::{Error, Kind, Result};
use crate::functions::access::{self, Platform};
use crate::host::app_root;
use crate::net::retry::RetryPolicy;
use crate::schedule::{self, Schedule};
use crate::store::Store;
use crate::store::blob::NO_CONTAINER;

/// The settings as a whole, and those of each target of several that are wrong: of those that `is_meant`, and
/// of those without a name if `all` are.
pub fn settings(env: &Env, all: bool, is_meant: impl Fn(&Named) -> bool) -> Vec<Check> {
    let check = |found| Check::new("settings", Duration::ZERO, found);
    let unknown = env.unknown();
    let mut checks = Vec::new();
    if !unknown.is_empty() {
        // Says which were meant.
        checks.extend(Settings::read(env).err().map(|err| check(Err(err))));
    }
    match Settings::read(&env.clone().without(&unknown)) {
        Err(err) => checks.push(check(Err(err))),
        Ok(settings) => {
            let meant = settings.targets.iter().filter(|target| is_meant(target));
            let wrong = meant.filter_map(|target| {
                let err = target.settings.as_ref().err()?;
                Some(check(Err(err.clone())).of(&target.name))
            });
            checks.extend(wrong);
            checks.extend(
                settings.nameless.iter().filter(|_| all).map(|err| check(Err(err.clone()))),
            );
            if checks.is_empty() {
                let n_targets = settings.targets.len();
                checks.push(check(Ok(match n_targets {
                    1 => "one target".to_owned(),
                    _ => format!("{n_targets} targets"),
                })));
            }
        }
    }
    checks
}

/// When the timer exports. Without a schedule the host drops the timer with one line in its log.
pub fn schedule(env: &Env) -> Check {
    let found = match env.get(schedule::SETTING).map(Schedule::parse) {
        None => Err(Error::new(Kind::Config, "read EXPORT_SCHEDULE")
            .because("it is not set, so the timer of a function app never goes off")
            .advise(
                "set EXPORT_SCHEDULE to six fields in UTC, such as `0 0 6 * * *`; exports that are \
                 started by hand need none",
            )),
        Some(Err(err)) => Err(err),
        Some(Ok(schedule)) => Ok(format!("the timer goes off at `{}`, in UTC", schedule.text())),
    };
    Check::new("schedule", Duration::ZERO, found)
}

/// Whether whoever calls the functions in `root` is asked who they are.
pub fn authorization(env: &Env, root: &Path) -> Check {
    let found = Auth::read(env).and_then(|auth| {
        access::check(&auth, env, &access::open_functions(&auth, root)?)?;
        Ok(match (auth, access::platform(env)) {
            (Auth::Key, _) if !app_root::has_functions(root) => {
                "no function.json is here to look at; look where host.json is"
            }
            (Auth::Key, _) => "no function is open to anybody",
            (Auth::Entra { .. }, Platform::On) => "the platform's authentication is on",
            (Auth::Entra { .. }, Platform::Off | Platform::Unsaid | Platform::Elsewhere) => {
                "EASM_AUTH is entra: only the app itself, in Azure, can tell whether the platform's \
                 authentication is on"
            }
        })
    });
    Check::new("authorization", Duration::ZERO, found.map(str::to_owned))
}

/// The store: it is there, and what is written there can be read and taken away again.
pub async fn store(settings: &Settings, env: &Env, limits: Limits) -> Check {
    let is_signed_in =
        matches!(&settings.store, StoreUrl::Blob(BlobUrl { access: BlobAccess::Identity, .. }));
    let uses_tools =
        is_signed_in && matches!(settings.own.credential, Credential::Developer { .. });
    let limit = if uses_tools { limits.step.max(TOOLS_TIME) } else { limits.step };
    let retry = RetryPolicy { tries_max: 1, ..RetryPolicy::default() };
    let opened = check_store(STORE_URL, &settings.store, env)
        .and_then(|()| app::store(&settings.store, &settings.own, env, retry));
    let store = match opened {
        Ok(store) => store,
        Err(err) => return Check::new("store", Duration::ZERO, Err(err)),
    };
    if let StoreUrl::Folder(folder) = &settings.store {
        let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.exists()).collect();
        let checked = async {
            store.check().await?;
            Ok(format!("files can be written to {}", store.name()))
        };
        let check = step("store", limit, checked).await;
        take_away(folder, &missing);
        return check;
    }
    let path = format!("_doctor/{:016x}.json", fastrand::u64(..));
    let probed = async {
        if is_signed_in {
            store.check().await?;
        }
        match probe(store.as_ref(), &path).await {
            // An export makes one of Azurite's that is missing, and so would the look at the store.
            Err(err) if !is_signed_in && err.reason() == Some(NO_CONTAINER) => {
                Ok("the container is missing; the first export makes it".to_owned())
            }
            probed => probed,
        }
    };
    let mut check = step("store", limit, probed).await;
    if check.status != Status::Ok {
        // It may have been written, and its answer lost. Nobody waits long for a store that is away.
        let removed = tokio::time::timeout(CLEAN_UP_TIME, store.delete(&path)).await;
        if !matches!(removed, Ok(Ok(()))) {
            check.message += &format!("; the probe {path} may be left, and can be deleted");
        }
    }
    check
}

/// How long it is tried to take away a probe that something went wrong with.
const CLEAN_UP_TIME: Duration = Duration::from_millis(200);

/// Takes away what was `missing` of the path to `folder`, the innermost first, as far as it is empty.
fn take_away(folder: &Path, missing: &[&Path]) {
    let inner = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let inner: Vec<_> = inner.filter(|_| !missing.is_empty()).map(|entry| entry.path()).collect();
    // A folder that is not empty stays, so nothing can be lost.
    let all = inner.iter().map(|path| path.as_path()).chain(missing.iter().copied());
    all.for_each(|path| std::fs::remove_dir(path).unwrap_or(()));
}

/// Writes a document that nobody needs to `path`, reads it and takes it away.
async fn probe(store: &dyn Store, path: &str) -> Result<String> {
    const CONTENT: &[u8] = b"{\"probe\": \"of easm-export doctor; may be deleted\"}";
    store.create(path, Bytes::from_static(CONTENT)).await?;
    let read = store.read(path).await?;
    store.delete(path).await?;
    match read {
        Some((content, _)) if content == CONTENT => {
            Ok(format!("a probe was written to {}, read and removed", store.name()))
        }
        _ => Err(Error::new(Kind::Store, "read the probe")
            .because("what was written is not what is read")
            .advise("see whether something else changes or hides files there")),
    }
}
