//! Settings: as written ([`Env`]), then as usable ([`Settings`]).
//!
//! The environment arrives as a value, so that a test passes a map; nothing here reads the process
//! environment. [`Settings::read`] checks everything once, and the rest of the program trusts it.
//! What a setting means is the contract, section 2; which names exist is [`names`].

pub mod env;
pub mod files;
pub mod names;
pub mod parse;
mod settings;

pub use env::Env;
pub use settings::{Credential, Settings, StoreUrl};
