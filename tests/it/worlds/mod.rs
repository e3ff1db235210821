//! Worlds in which everything goes wrong, by seed: the engine among stores, services, queues and
//! processes that fail at every moment, in virtual time. Whatever happens, nothing is lost or
//! doubled, and every run ends.
//!
//! [`fate`] holds a world's dice and time, [`profile`] what the world is like. [`store`], [`source`]
//! and [`queue`] are what the engine meets, [`check`] what must be true at every moment.

mod check;
mod fate;
mod profile;
mod queue;
mod smoke;
mod source;
mod store;
