//! Settings: as written ([`Env`]), then as usable ([`Settings`]).
//!
//! The environment arrives as a value, so that a test passes a map; nothing here reads the process
//! environment. [`Settings::read`] checks everything once, and the rest of the program trusts it. Of
//! several targets each is checked for itself ([`targets`]).
//! What a setting means is the contract, section 2; which there are is [`reference`].

pub mod auth;
pub mod credential;
pub mod env;
pub mod files;
pub mod names;
pub mod parse;
pub mod reference;
mod settings;
mod target;
pub mod targets;

pub use auth::Auth;
pub use credential::{ClientSecret, Credential, Identities, OwnIdentity};
pub use env::Env;
pub use settings::{BlobAccess, BlobUrl, STORE_URL, Settings, StoreUrl, check_store};
pub use target::{TargetSettings, is_guid, is_resource_name, region};
pub use targets::Named;
