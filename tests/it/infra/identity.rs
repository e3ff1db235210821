//! The identity of the app: it is the only one, and every setting that names one names this.

use serde_json::json;

use super::deployments;

/// Settings that hold the client id of the identity.
const NAME_IT: [&str; 3] = [
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "AzureWebJobsStorage__clientId",
    "EASM_IDENTITY_CLIENT_ID",
];

#[test]
fn the_app_has_one_identity_and_every_setting_names_it() {
    for deployment in deployments() {
        let identity = deployment.one("Microsoft.ManagedIdentity/userAssignedIdentities").id();
        let app = deployment.one("Microsoft.Web/sites");
        let wanted = json!({"type": "UserAssigned", "userAssignedIdentities": {identity: {}}});
        assert_eq!(app.0["identity"], wanted, "{}", deployment.name);
        let deployer = app.property("/functionAppConfig/deployment/storage/authentication");
        assert_eq!(deployer["userAssignedIdentityResourceId"], identity, "{}", deployment.name);

        // Only Azure knows the client id, so it is asked for.
        let asked = format!("reference('{identity}', ");
        for name in NAME_IT {
            let value = deployment.setting(name).unwrap();
            let at = format!("{}: {name}: {value}", deployment.name);
            assert!(value.contains(&asked) && value.contains(").clientId"), "{at}");
        }
        for (name, value) in deployment.settings() {
            let is_asked = value.contains("Microsoft.ManagedIdentity");
            assert_eq!(is_asked, NAME_IT.contains(&name.as_str()), "{}: {name}", deployment.name);
        }
        let telemetry = deployment.setting(NAME_IT[0]).unwrap();
        assert!(telemetry.contains("'ClientId={0};Authorization=AAD'"), "{telemetry}");
        let credential = deployment.setting("AzureWebJobsStorage__credential").unwrap();
        assert_eq!(credential, "managedidentity", "{}", deployment.name);
        let account = deployment.setting("AzureWebJobsStorage__accountName").unwrap();
        assert_eq!(account, deployment.account("host").name(), "{}", deployment.name);
    }
}

#[test]
fn the_secret_that_it_may_read_is_the_one_that_the_settings_name() {
    for deployment in deployments() {
        let roles = deployment.of_kind("Microsoft.Authorization/roleAssignments");
        let vault = deployment.one("Microsoft.KeyVault/vaults");
        let below = format!("{}/secrets/", vault.id());
        let secrets: Vec<&str> = roles
            .iter()
            .filter_map(|role| role.id().strip_prefix(&below))
            .map(|rest| rest.split('/').next().unwrap())
            .collect();
        let named = deployment.setting("EASM_CLIENT_SECRET_NAME");
        assert_eq!(secrets, Vec::from_iter(named.as_deref()), "{}", deployment.name);
        if let Some(url) = deployment.setting("EASM_KEY_VAULT_URL") {
            assert!(url.contains(&format!("'{}'", vault.name())), "{}: {url}", deployment.name);
        }
    }
}
