//! The settings under which easm-export exports from a simulator (contract,
//! section 2), for each way to sign in.

use super::{App, CLIENT_SECRET_NAME, Running};

/// How the program under test signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignIn {
    /// As a managed identity.
    ManagedIdentity,
    /// As an app, with its secret.
    ClientSecret,
    /// As an app, with the secret that Key Vault holds, which a managed identity
    /// reads.
    KeyVault,
    /// As an app that trusts a managed identity.
    Federated,
    /// As an app that trusts a service account of a cluster.
    WorkloadIdentity,
}

impl SignIn {
    /// Every way, for tests that try each.
    pub const ALL: [Self; 5] = [
        Self::ManagedIdentity,
        Self::ClientSecret,
        Self::Federated,
        Self::WorkloadIdentity,
        Self::KeyVault,
    ];

    /// As `EASM_CREDENTIAL` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ManagedIdentity => "managed-identity",
            Self::ClientSecret | Self::KeyVault => "client-secret",
            Self::Federated => "federated",
            Self::WorkloadIdentity => "workload-identity",
        }
    }
}

impl Running {
    /// The settings to sign in as the managed identity. `EASM_REGION` is left
    /// out, so that ARM is asked.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        self.settings_for(SignIn::ManagedIdentity)
    }

    /// The settings to sign in this way. If an app does it, then the first one in
    /// the workspace's tenant, with the secret that it started with.
    pub fn settings_for(&self, sign_in: SignIn) -> Vec<(&'static str, String)> {
        let options = self.state.options();
        let is_local = |app: &&App| app.tenant_id.eq_ignore_ascii_case(&options.tenant_id);
        let app = options.apps.iter().find(is_local).cloned().unwrap_or_default();
        let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let mut settings = vec![
            ("EASM_TENANT_ID", options.tenant_id.clone()),
            ("EASM_SUBSCRIPTION_ID", options.subscription_id.clone()),
            ("EASM_RESOURCE_GROUP", options.resource_group.clone()),
            ("EASM_WORKSPACE", options.workspace.clone()),
            ("EASM_DATA_PLANE_URL", self.url()),
            ("EASM_ARM_URL", self.url()),
            ("EASM_CREDENTIAL", sign_in.as_str().to_owned()),
        ];
        if sign_in != SignIn::ManagedIdentity {
            settings.push(("AZURE_AUTHORITY_HOST", self.authority()));
            settings.push(("SSL_CERT_FILE", path(self.ca_file())));
        }
        if matches!(sign_in, SignIn::ManagedIdentity | SignIn::Federated | SignIn::KeyVault) {
            settings.push(("IDENTITY_ENDPOINT", format!("{}/msi/token", self.url())));
            settings.push(("IDENTITY_HEADER", options.identity_header.clone()));
        }
        match sign_in {
            SignIn::ManagedIdentity => {}
            SignIn::ClientSecret => {
                settings.push(("EASM_CLIENT_ID", app.client_id));
                settings.push(("EASM_CLIENT_SECRET", app.secret.unwrap_or_default()));
            }
            SignIn::KeyVault => {
                let name = options.vault.secrets.first().map(|secret| secret.name.as_str());
                settings.push(("EASM_CLIENT_ID", app.client_id));
                settings.push((
                    "EASM_CLIENT_SECRET_NAME",
                    name.unwrap_or(CLIENT_SECRET_NAME).to_owned(),
                ));
                settings.push(("EASM_KEY_VAULT_URL", self.vault_url()));
            }
            SignIn::Federated => settings.push(("EASM_CLIENT_ID", app.client_id)),
            SignIn::WorkloadIdentity => {
                settings.push(("AZURE_FEDERATED_TOKEN_FILE", path(&self.workload_file())));
                settings.push(("AZURE_CLIENT_ID", app.client_id));
                settings.push(("AZURE_TENANT_ID", options.tenant_id.clone()));
            }
        }
        settings
    }
}
