//! Everything that can be wrong with the secret, the vault, or who reads it: how the run ends, what is
//! said, and what is not.

use easm_export::sim::{
    APP_CLIENT_ID, CLIENT_SECRET_NAME, Challenge, Fault, Options, SignIn, VaultRefusal,
};
use futures::StreamExt as _;
use tokio::process::Command;

use super::{
    LONG_AGO, World, assert_nothing_leaked, assert_tokens_are_where_they_belong, change, command,
    finish, n_reads, n_sign_ins, small, value, world,
};

const WRONG: &str = "wRg8Q~canary-of-a-wrong-secret-0123456789";
const N_AT_ONCE: usize = 4;

/// What is wrong, and how the run ends: its code, and parts of the line.
struct Wrong {
    name: &'static str,
    options: Options,
    make: fn(&World),
    settings: fn(&World, &mut Command),
    code: &'static str,
    parts: &'static [&'static str],
    /// How often the vault is asked with a token.
    n_reads: usize,
}

impl Wrong {
    /// Something in the vault that is looked at once.
    fn new(
        name: &'static str,
        make: fn(&World),
        code: &'static str,
        parts: &'static [&'static str],
    ) -> Self {
        Self { name, options: small(), make, settings: |_, _| {}, code, parts, n_reads: 1 }
    }

    fn of(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    fn read(self, n_reads: usize) -> Self {
        Self { n_reads, ..self }
    }

    fn set(self, settings: fn(&World, &mut Command)) -> Self {
        Self { settings, ..self }
    }
}

fn refuse(world: &World, refusal: VaultRefusal) {
    world.sim.state().set_vault_refusal(Some(refusal));
}

fn asking_for(resource: &str) -> impl FnOnce(&mut Options) {
    move |options| {
        options.vault.challenge = Challenge { authorization: None, resource: resource.to_owned() }
    }
}

fn in_the_vault() -> Vec<Wrong> {
    vec![
        Wrong::new(
            "deleted",
            |world| world.sim.state().delete_secret(CLIENT_SECRET_NAME),
            "secret_missing",
            &["no secret of that name", "status=404", "EASM_CLIENT_SECRET_NAME"],
        ),
        Wrong::new(
            "empty",
            |world| change(world, |version| version.value.clear()),
            "secret_missing",
            &["is empty", "add a version"],
        ),
        Wrong::new(
            "disabled",
            |world| change(world, |version| version.enabled = false),
            "secret_disabled",
            &["is disabled", "SecretDisabled", "enable it"],
        ),
        Wrong::new(
            "expired",
            |world| change(world, |version| version.exp = Some(LONG_AGO)),
            "secret_expired",
            &["expired on 2020-09-13", "new version"],
        ),
        Wrong::new(
            "too early",
            |world| change(world, |version| version.nbf = Some(4_102_444_800)),
            "secret_expired",
            &["not to be used before 2100-01-01", "activation date"],
        ),
        Wrong::new(
            "wrong",
            |world| change(world, |version| version.value = WRONG.to_owned()),
            "unauthorized",
            &["the client secret is wrong", "AADSTS7000215", "as a new version"],
        )
        .read(2),
        Wrong::new(
            "expired in Entra",
            |world| world.sim.state().expire_app_secret(APP_CLIENT_ID, &value(world)),
            "unauthorized",
            &["the client secret has expired", "AADSTS7000222", "as a new version"],
        )
        .read(2),
    ]
}

fn around_the_vault() -> Vec<Wrong> {
    let nothing: fn(&World) = |_| {};
    vec![
        Wrong::new(
            "no role",
            |world| refuse(world, VaultRefusal::Rbac),
            "vault_denied",
            &["may not read", "ForbiddenByRbac", "Key Vault Secrets User"],
        ),
        Wrong::new("no reader", nothing, "vault_denied", &["Key Vault Secrets User"])
            .of(|options| options.vault.readers.clear()),
        Wrong::new(
            "no policy",
            |world| refuse(world, VaultRefusal::AccessPolicy),
            "vault_denied",
            &["access policies", "AccessDenied", "permission Get"],
        ),
        Wrong::new(
            "firewall",
            |world| refuse(world, VaultRefusal::Firewall),
            "vault_firewall",
            &["firewall", "ForbiddenByFirewall", "networking"],
        ),
        Wrong::new(
            "no public access",
            |world| refuse(world, VaultRefusal::Connection),
            "vault_firewall",
            &["closed to public networks", "ForbiddenByConnection", "private endpoint"],
        ),
        Wrong::new(
            "a page in place of a challenge",
            |world| refuse(world, VaultRefusal::Fault(Fault::NotJson(403))),
            "vault_denied",
            &["status=403", "Key Vault Secrets User"],
        )
        .read(0),
        Wrong::new(
            "no vault",
            |world| refuse(world, VaultRefusal::Fault(Fault::NotJson(404))),
            "not_found",
            &["no Key Vault", "EASM_KEY_VAULT_URL"],
        )
        .read(0),
        Wrong::new(
            "a request it does not know",
            |world| {
                let fault = Fault::Status { status: 400, retry_after: None };
                refuse(world, VaultRefusal::Fault(fault));
            },
            "bad_request",
            &["Key Vault refuses the request"],
        )
        .read(0),
        Wrong::new(
            "a redirect",
            |world| {
                let elsewhere = format!("{}/secrets/elsewhere", world.sim.url());
                refuse(world, VaultRefusal::Fault(Fault::Redirect(elsewhere)));
            },
            "redirected",
            &["redirect", "EASM_KEY_VAULT_URL"],
        )
        .read(0),
        Wrong::new("another audience", nothing, "unauthorized", &["gets none"])
            .of(asking_for("https://management.azure.com"))
            .read(0),
        Wrong::new("a longer audience", nothing, "unauthorized", &["gets none"])
            .of(asking_for("https://vault.azure.net/a"))
            .read(0),
        Wrong::new("no audience", nothing, "unauthorized", &["gets none"])
            .of(asking_for(""))
            .read(0),
        Wrong::new("another tenant", nothing, "unauthorized", &["another tenant", "AKV10032"])
            .of(|options| {
                options.home_tenant_id = "07e27e27-51d0-4000-8000-000000000007".to_owned();
            })
            .set(|world, command| {
                // The app's own identity is of the workspace's tenant, the vault of the other.
                let cluster = world.sim.settings_for(SignIn::WorkloadIdentity);
                command.envs(cluster.into_iter().filter(|(name, _)| name.starts_with("AZURE_")));
            }),
        Wrong::new("no identity", nothing, "unauthorized", &["not assigned here"])
            .of(|options| options.identities.clear())
            .read(0),
        Wrong::new("a stranger", nothing, "untrusted", &["not trusted", "SSL_CERT_FILE"])
            .set(|_, command| {
                command.env_remove("SSL_CERT_FILE");
            })
            .read(0),
    ]
}

/// The newest run's `error.code`.
fn code_of_run(world: &World) -> String {
    let files = world.files();
    let path = files.iter().rfind(|path| path.ends_with("/run.json")).unwrap();
    let run: serde_json::Value = world.document(path);
    assert_eq!(run["status"], "failed");
    run["error"]["code"].as_str().unwrap().to_owned()
}

/// The run ends at once with a code of its own and one sentence that names vault and secret; nothing
/// that is secret is said or stored, at the loudest.
#[tokio::test]
async fn each_thing_that_is_wrong_ends_the_run_with_its_own_sentence() {
    let check = async |wrong: Wrong| {
        let Wrong { name, options, make, settings, code, parts, n_reads: wanted } = wrong;
        let world = world(options).await;
        let good = value(&world);
        make(&world);
        let export = |log: &str| {
            let mut command = command(&world, &["export"]);
            settings(&world, command.env("EASM_LOG", log));
            command
        };
        let done = finish(export("error")).await;
        assert_eq!(done.code, 1, "{name}: {}", done.stderr);
        let line = done.error_line();
        let place = ["vault=127.0.0.1", &format!("name={CLIENT_SECRET_NAME}")];
        for part in parts.iter().chain(&place) {
            assert!(line.contains(part), "{name}: {part}: {line}");
        }
        assert_eq!(code_of_run(&world), code, "{name}: {line}");
        assert_eq!(n_reads(&world), wanted, "{name}");
        let seen = world.sim.requests();
        assert!(!seen.iter().any(|seen| seen.path.contains("elsewhere")), "{name}: not followed");
        let is_asked = line.contains("AADSTS") || name == "another tenant";
        assert_eq!(n_sign_ins(&world), usize::from(is_asked), "{name}");
        let loud = finish(export("trace")).await;
        assert_eq!(loud.code, 1, "{name}: {}", loud.stderr);
        assert!(loud.stderr.len() > 1000, "{name}: trace says something");
        let values = [good, WRONG.to_owned()];
        assert_nothing_leaked(&world, &loud, &values, name);
        assert_nothing_leaked(&world, &done, &values, name);
        assert_tokens_are_where_they_belong(&world);
        assert_eq!(world.sim.state().most_vault_reads_at_once().max(1), 1, "{name}");
    };
    let all = in_the_vault().into_iter().chain(around_the_vault());
    futures::stream::iter(all.map(check)).buffer_unordered(N_AT_ONCE).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn settings_that_cannot_be_meant_are_refused_before_anybody_is_asked() {
    let world = world(small()).await;
    let vault = world.sim.vault_url();
    /// Settings, the one that is taken away, and a part of what is said.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: &[Case<'_>] = &[
        (&[("EASM_CLIENT_SECRET", WRONG)], "", "remove one of them"),
        (&[], "EASM_KEY_VAULT_URL", "EASM_KEY_VAULT_URL"),
        (&[("EASM_CLIENT_SECRET_NAME", WRONG)], "", "EASM_CLIENT_SECRET_NAME"),
        (&[("EASM_KEY_VAULT_URL", "contoso")], "", "EASM_KEY_VAULT_URL"),
        (&[("EASM_KEY_VAULT_URL", &vault.replace("https", "http"))], "", "EASM_KEY_VAULT_URL"),
        (&[("EASM_KEY_VAULT_URL", &format!("{vault}/secrets"))], "", "without a path"),
    ];
    for (vars, missing, part) in cases {
        for credential in ["client-secret", "auto"] {
            let mut command = command(&world, &["export"]);
            command.env("EASM_CREDENTIAL", credential).envs(vars.iter().copied());
            command.env_remove(missing);
            let done = finish(command).await.expect_code(2);
            let line = done.error_line();
            assert!(line.contains(part) && !line.contains("canary"), "{vars:?}: {line}");
        }
    }
    assert!(world.sim.requests().is_empty(), "nobody is asked");
    // The name that `mdeasm` reads gives way.
    let mut command = command(&world, &["export"]);
    finish({
        command.env("CLIENT_SECRET", WRONG);
        command
    })
    .await
    .expect_code(0);
}
