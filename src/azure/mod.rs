//! Azure's services as this program sees them: identity, Key Vault, ARM, the EASM data plane.

pub mod arm;
pub mod easm;
pub mod identity;
pub mod keyvault;
