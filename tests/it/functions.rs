//! The function app under the host double: timers, queue and HTTP, with Azurite's queue and blobs.
//!
//! ```text
//! town      an app root as it is packaged, the simulator, Azurite, hosts that share an account
//! runs      runs to their end: undisturbed, killed again and again, with every message lost
//! doors     HTTP through the host: default mode, forwarding, proxying
//! targets   several targets in one app
//! recorded  what a real host sent, as the functions are given it
//! ```

mod doors;
mod recorded;
pub mod runs;
mod targets;
pub mod town;
