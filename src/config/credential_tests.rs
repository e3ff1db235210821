use super::*;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const OTHER: &str = "99999999-2222-3333-4444-555555555555";
const PLATFORM: [(&str, &str); 2] =
    [("IDENTITY_ENDPOINT", "http://127.0.0.1/msi/token"), ("IDENTITY_HEADER", "a-made-up-one")];

fn read(vars: &[(&str, &str)]) -> Result<Identities> {
    let vars = vars.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Identities::read(&Env::new(vars), TENANT)
}

/// A credential in a word or two.
fn words(credential: &Credential) -> String {
    let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "system".to_owned());
    match credential {
        Credential::ManagedIdentity { client_id, .. } => format!("identity {}", id(client_id)),
        Credential::ClientSecret { client_id, secret, .. } => match secret {
            ClientSecret::Given(_) => format!("secret of {client_id}"),
            ClientSecret::InVault { vault_url, name } => {
                format!("{name} at {vault_url} of {client_id}")
            }
        },
        Credential::Federated { client_id, identity, .. } => {
            format!("{client_id} by {}", id(identity))
        }
        Credential::WorkloadIdentity { tenant_id, client_id, .. } => {
            format!("workload {client_id} in {}", &tenant_id[..1])
        }
        Credential::Developer { .. } => "developer".to_owned(),
    }
}

#[test]
fn the_credential_is_what_the_contract_says() {
    let check = |vars: &[(&str, &str)], target: &str, own: &str| {
        let found = read(vars).unwrap_or_else(|err| panic!("{vars:?}: {err}"));
        let found = (words(&found.target), words(&found.own.credential));
        assert_eq!(found, (target.to_owned(), own.to_owned()), "{vars:?}");
    };
    let with = |more: &[(&'static str, &'static str)]| [&PLATFORM[..], more].concat();
    let secret = ("EASM_CLIENT_SECRET", "a-made-up-client-secret");
    let app = ("EASM_CLIENT_ID", "app");
    let file = (TOKEN_FILE, "/run/token");
    let kube = [file, ("AZURE_CLIENT_ID", "k"), ("AZURE_TENANT_ID", OTHER)];
    check(&[], "developer", "developer");
    check(&PLATFORM, "identity system", "identity system");
    check(&with(&[("AZURE_CLIENT_ID", "z")]), "identity z", "identity z");
    let apps = [("EASM_IDENTITY_CLIENT_ID", "own"), ("AZURE_CLIENT_ID", "z")];
    check(&with(&apps), "identity own", "identity own");
    let none = [("EASM_IDENTITY_CLIENT_ID", ""), ("AZURE_CLIENT_ID", "z")];
    check(&with(&none), "identity system", "identity system");
    let two = [app, ("EASM_IDENTITY_CLIENT_ID", "own")];
    check(&with(&two), "identity app", "identity own");
    check(&[secret, app], "secret of app", "developer");
    check(&[("CLIENT_SECRET", "made-up"), ("CLIENT_ID", "app")], "secret of app", "developer");
    check(&with(&[secret, app]), "secret of app", "identity system");
    let vault = [(SECRET_NAME, "n-1"), (VAULT_URL, "https://v.vault.azure.net/"), app];
    let in_vault = "n-1 at https://v.vault.azure.net/ of app";
    check(&vault, in_vault, "developer");
    check(&with(&vault), in_vault, "identity system");
    let old = [vault[0], vault[1], app, ("CLIENT_SECRET", "made-up")];
    check(&with(&old), in_vault, "identity system");
    let azure = [("FUNCTIONS_CUSTOMHANDLER_PORT", "1"), ("WEBSITE_SITE_NAME", "app")];
    let own = ("EASM_IDENTITY_CLIENT_ID", "own");
    let deployed = [azure[0], azure[1], own, vault[0], vault[1], app];
    check(&with(&deployed), in_vault, "identity own");
    let in_cluster = [kube[0], kube[1], kube[2], vault[0], vault[1], app];
    check(&in_cluster, in_vault, "workload k in 9");
    check(&kube, "workload k in 1", "workload k in 9");
    check(&with(&kube), "workload k in 1", "workload k in 9");
    check(&[file, app], "workload app in 1", "workload app in 1");
    let forced = |name| ("EASM_CREDENTIAL", name);
    let managed = with(&[forced("managed-identity"), secret, app]);
    check(&managed, "identity app", "identity system");
    check(&with(&[forced("developer")]), "developer", "identity system");
    check(&with(&[forced("federated"), app]), "app by system", "identity system");
    let federated = [forced("federated"), app, ("AZURE_CLIENT_ID", "z")];
    check(&with(&federated), "app by z", "identity z");
    let no_tenant = [forced("workload-identity"), kube[0], kube[1]];
    check(&no_tenant, "workload k in 1", "workload k in 1");
    // A server with Azure Arc.
    check(&[PLATFORM[0]], "developer", "developer");
}

#[test]
fn what_cannot_work_is_named_by_its_cause() {
    let check = |vars: &[(&str, &str)], part: &str| {
        let err = read(vars).expect_err(part);
        assert_eq!(err.kind(), Kind::Config, "{err}");
        let text = err.to_string();
        assert!(text.contains(part) && !text.contains("made-up"), "{vars:?}: {text}");
    };
    let secret = ("EASM_CLIENT_SECRET", "a-made-up-client-secret");
    let app = ("EASM_CLIENT_ID", "app");
    let forced = |name| ("EASM_CREDENTIAL", name);
    check(&[PLATFORM[0], forced("managed-identity")], "only one is set");
    check(&[forced("managed-identity")], "no managed identity is offered here");
    check(&[forced("federated"), app], "no managed identity is offered here");
    check(&[forced("password")], "client-secret");
    check(&[secret], "EASM_CLIENT_ID is not set");
    check(&[forced("client-secret"), app], "nor EASM_CLIENT_SECRET is set");
    check(&[(SECRET_NAME, "n"), app], "EASM_CLIENT_SECRET_NAME is set, but not EASM_KEY_VAULT");
    let vault = [(SECRET_NAME, "n"), (VAULT_URL, "https://v.vault.azure.net"), app];
    check(&vault[..2], "EASM_CLIENT_ID is not set");
    check(&[vault[0], vault[1], app, secret], "remove one of them");
    for name in ["a_b", "made-up.secret~value", "n/1", "ü", &"n".repeat(128)] {
        check(&[(SECRET_NAME, name), vault[1], app], "EASM_CLIENT_SECRET_NAME: its value");
        // Whether it would be used or not.
        check(&[(SECRET_NAME, name), forced("developer")], "EASM_CLIENT_SECRET_NAME");
    }
    for url in [
        "v",
        "v.vault.azure.net",
        "http://v.vault.azure.net",
        "http://127.0.0.1:1",
        "https://v.vault.azure.net/secrets/n",
        "https://v.vault.azure.net/?a=made-up",
        "https://v.vault.azure.net#made-up",
        "https://made-up@v.vault.azure.net",
    ] {
        check(&[vault[0], (VAULT_URL, url), app], "EASM_KEY_VAULT_URL");
        check(&[(VAULT_URL, url), forced("developer")], "EASM_KEY_VAULT_URL");
    }
    check(&[forced("federated")], "EASM_CLIENT_ID is not set");
    check(&[forced("workload-identity"), app], "AZURE_FEDERATED_TOKEN_FILE is not set");
    check(&[(TOKEN_FILE, "f")], "EASM_CLIENT_ID is not set");
    let azure = [("FUNCTIONS_CUSTOMHANDLER_PORT", "1"), ("WEBSITE_SITE_NAME", "app")];
    check(&[azure[0], azure[1], secret, app], "EASM_CLIENT_SECRET is refused in Azure");
    check(&[azure[0], azure[1], secret, app], "EASM_KEY_VAULT_URL");
    let idle = [azure[0], azure[1], secret, forced("developer")];
    check(&idle, "EASM_CLIENT_SECRET is refused in Azure");
    let old = [("CLIENT_SECRET", "a-made-up-client-secret"), ("CLIENT_ID", "app")];
    check(&[azure[0], azure[1], old[0], old[1]], "CLIENT_SECRET is refused in Azure");
    check(&[PLATFORM[0], PLATFORM[1], ("AZURE_TENANT_ID", OTHER)], "another tenant");
    for host in ["http://login.example", "http://127.0.0.1:1", "login.example"] {
        check(&[("AZURE_AUTHORITY_HOST", host)], "AZURE_AUTHORITY_HOST");
    }
}
