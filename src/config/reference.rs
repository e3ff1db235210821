//! Every setting there is: its name, its default and what it means. The settings are read with the
//! defaults of this table, and `docs/configuration.md` is made from it, so neither can say
//! something else.

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the environment.
    pub name: &'static str,
    /// What holds when it is not set; empty: nothing does.
    pub default: &'static str,
    /// What it means, as Markdown.
    pub meaning: &'static str,
    /// Whether this version does something with it. Those that it does not use yet are known all the
    /// same, so that one file of settings serves every version.
    pub is_used: bool,
}

/// Settings that belong together.
#[derive(Debug)]
pub struct Group {
    /// Heading.
    pub title: &'static str,
    /// What is to be said of all of them, as Markdown.
    pub text: &'static str,
    /// The settings.
    pub settings: &'static [Setting],
}

const fn used(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default, meaning, is_used: true }
}

const fn later(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default, meaning, is_used: false }
}

/// The settings, in the order in which one sets them up.
pub const GROUPS: &[Group] = &[
    Group {
        title: "The workspace",
        text: "The target that is exported. Its name is the workspace's.",
        settings: &[
            used(
                "EASM_TENANT_ID",
                "",
                "Required. The tenant of the workspace: a GUID, or a domain name.",
            ),
            used("EASM_SUBSCRIPTION_ID", "", "Required. A GUID."),
            used("EASM_RESOURCE_GROUP", "", "Required."),
            used("EASM_WORKSPACE", "", "Required."),
            used("EASM_REGION", "", "For example `eastus`. Asked from ARM if it is not set."),
            used(
                "EASM_DATA_PLANE_URL",
                "",
                "Base URL in front of `/subscriptions/...`. Made from the region if it is not set.",
            ),
            used(
                "EASM_ARM_URL",
                "https://management.azure.com",
                "Base URL of Azure Resource Manager.",
            ),
            used(
                "EASM_API_VERSION",
                "",
                "Version of both APIs, unless one of the next two is set.",
            ),
            used("EASM_DP_API_VERSION", "2024-10-01-preview", "Version of the data plane's API."),
            used("EASM_CP_API_VERSION", "2023-04-01-preview", "Version of ARM's API."),
        ],
    },
    Group {
        title: "Several workspaces",
        text: SEVERAL,
        settings: &[used(
            "EASM_TARGETS",
            "",
            "The targets: a JSON array, or `@file`, relative to the folder of `host.json`; of the command line to the current one.",
        )],
    },
    Group {
        title: "Signing in",
        text: SIGNING_IN,
        settings: &[
            used(
                "EASM_CREDENTIAL",
                "auto",
                "How the target is signed in to: `managed-identity`, `client-secret`, `federated`, `workload-identity`, `developer`, or `auto`.",
            ),
            used(
                "EASM_CLIENT_ID",
                "",
                "Client id of the target's app registration; with `managed-identity`, of a user-assigned identity.",
            ),
            used(
                "EASM_CLIENT_SECRET",
                "",
                "The client secret itself: for a laptop. Refused in Azure.",
            ),
            used(
                "EASM_CLIENT_SECRET_NAME",
                "",
                "Name of the Key Vault secret that holds the client secret: 1 to 127 letters, digits and dashes. Its newest version counts.",
            ),
            used(
                "EASM_KEY_VAULT_URL",
                "",
                "`https://{vault}.vault.azure.net`: where that secret is.",
            ),
            used(
                "EASM_IDENTITY_CLIENT_ID",
                "",
                "Client id of the app's own identity. `AZURE_CLIENT_ID` if it is not set; set to nothing, or neither set: the system-assigned one.",
            ),
            used(
                "AZURE_AUTHORITY_HOST",
                "https://login.microsoftonline.com",
                "Where Entra signs in: `https`, on loopback too.",
            ),
        ],
    },
    Group {
        title: "The store",
        text: STORE,
        settings: &[used("EASM_STORE_URL", "./exports", "Where the files go, see above.")],
    },
    Group {
        title: "What is exported",
        text: "The target's own request. Flags of `export` override it for one run.",
        settings: &[
            used(
                "EASM_FILTER",
                "state = \"confirmed\"",
                "EASM filter. Set to nothing: everything. Lines that begin with `#` are dropped.",
            ),
            used(
                "EASM_KINDS",
                "",
                "Comma separated: `as,contact,domain,host,ipAddress,ipBlock,page,sslCert`. All eight, and kinds that are new, if it is not set.",
            ),
            used("EASM_DATASETS", "assets", "`assets`, the only one of this version."),
            used("EASM_FORMAT", "ndjson", "`ndjson`, the only one of this version."),
            used("EASM_COMPRESSION", "gzip", "`gzip` or `none`."),
            later("EASM_COLUMNS", "", "Columns of `csv` and `parquet`."),
            used("EASM_DELTA", "off", "`off`, all that this version does."),
            used("EASM_SCHEMA_POLICY", "record", "`record`, all that this version does."),
        ],
    },
    Group {
        title: "How it is done",
        text: "The defaults fit an inventory of any size. Larger numbers take more memory.",
        settings: &[
            used("EASM_PAGE_SIZE", "100", "Assets a page: 1 to 100."),
            used(
                "EASM_CONCURRENCY",
                "8",
                "Requests to the data plane at once, for one process: 1 to 64. Of several targets those that got no answer for 5 s do not count, so that a service that hangs does not hold up the others.",
            ),
            used("EASM_SHARDS", "8", "Cursors at once: 1 to 64."),
            used(
                "EASM_PART_BYTES_MAX",
                "67108864",
                "Uncompressed bytes after which a file is closed, from 32768.",
            ),
            used(
                "EASM_RANGE_ASSETS_MAX",
                "20000",
                "A kind with more assets is cut into ranges when the run is planned, from 50.",
            ),
            used(
                "EASM_SLICE_SECONDS",
                "240",
                "Longest that an invocation of the function app works before it hands over: 1 to 3600, and well below the host's `functionTimeout`.",
            ),
            used(
                "EASM_RUN_HOURS_MAX",
                "12",
                "A waiting run that has saved nothing for so many hours gives up; may be a fraction.",
            ),
            used(
                "EASM_RETENTION_DAYS",
                "0",
                "Complete runs older than this are deleted; 0 keeps them.",
            ),
        ],
    },
    Group {
        title: "The function app",
        text: "",
        settings: &[
            used("EXPORT_SCHEDULE", "", "When the timer exports: six-field NCRONTAB, UTC."),
            used(
                "EASM_AUTH",
                "key",
                "Who may call the HTTP functions: `key`, whoever has a key of the host; `entra`, whoever the platform's authentication signed in with Entra. [functions.md](functions.md#who-may-call) has what each needs.",
            ),
            used(
                "EASM_PRINCIPALS",
                "",
                "With `entra`, which it is refused without: the object ids and application ids that may call, comma separated. Whoever is signed in, if it is not set.",
            ),
        ],
    },
    Group {
        title: "Logs",
        text: "Logs go to stderr; under the Functions host to stdout, one JSON object a line with invocation, function and run. No secret is in them at any level.",
        settings: &[
            used(
                "EASM_LOG",
                "",
                "A tracing filter such as `debug` or `easm_export=trace`. If it is not set: `info`, and of libraries only warnings.",
            ),
            used(
                "EASM_LOG_FORMAT",
                "",
                "`text` or `json`. If it is not set: `json` under the host, `text` on a terminal.",
            ),
        ],
    },
];

const SEVERAL: &str = "\
One deployment exports as many workspaces as are needed, each with its own identity, filter and format.
`EASM_TARGETS` stands in place of the four settings that name a workspace:

```json
[
  {
    \"name\": \"contoso\",
    \"tenantId\": \"11111111-2222-3333-4444-555555555555\",
    \"subscriptionId\": \"66666666-7777-8888-9999-aaaaaaaaaaaa\",
    \"resourceGroup\": \"rg-easm\",
    \"workspace\": \"easm-contoso\",
    \"credential\": \"federated\",
    \"clientId\": \"0a0a0a0a-1b1b-2c2c-3d3d-4e4e4e4e4e4e\",
    \"kinds\": [\"host\", \"domain\"]
  }
]
```

Each target has a name of its own, ignoring case; without `name` it is the workspace's. `tenantId`,
`subscriptionId`, `resourceGroup` and `workspace` are required; what else is missing comes from the setting of
that meaning. A client secret never comes half from the target and half from the settings. The members are
`name`, `tenantId`, `subscriptionId`, `resourceGroup`, `workspace`, `region`, `credential`, `clientId`,
`clientSecretName`, `clientSecret`, `dataPlaneUrl`, `filter`, `kinds`, `datasets`, `format`, `compression`,
`columns`, `delta` and `schemaPolicy`; any other is refused. `easm-export schema settings` prints a JSON Schema
for editors. At most 1,000 targets and 1 MiB.

A target whose members are wrong is named with the member, and those without a name of their own with their number, in the log, by `GET /api/health` and by `doctor`; the
others are exported all the same, and so they are where a target cannot be signed in to. What all share is
`EASM_CONCURRENCY`, and the room for pages in memory.";

const SIGNING_IN: &str = "\
Two identities are at work. The **target's** reads EASM and asks ARM for the region; it needs the role
Reader on the workspace or its subscription. The **app's own** writes to Blob Storage; it needs the role
Storage Blob Data Contributor on the container. It also reads the client secret where that is in Key Vault,
and needs the role Key Vault Secrets User for it. They may be the same.

| `EASM_CREDENTIAL` | The target is signed in to with | Needs |
| --- | --- | --- |
| `managed-identity` | the identity of the Function app or the App Service; the tenant must be the identity's own | `EASM_CLIENT_ID` or `EASM_IDENTITY_CLIENT_ID` if it is user-assigned |
| `client-secret` | an app registration and its secret | `EASM_CLIENT_ID`, and `EASM_CLIENT_SECRET_NAME` with `EASM_KEY_VAULT_URL`, or on a laptop `EASM_CLIENT_SECRET` |
| `federated` | an app registration, for a workspace in any tenant, without a secret: it trusts the app's own managed identity (a federated credential whose subject is the identity's object id and whose audience is `api://AzureADTokenExchange`). The registration is in the identity's tenant, multi-tenant, and let in by the workspace's: see [deploy.md](deploy.md#in-another-tenant-without-a-secret) | `EASM_CLIENT_ID` |
| `workload-identity` | an app registration that trusts a Kubernetes service account | `AZURE_FEDERATED_TOKEN_FILE`, and `EASM_CLIENT_ID` or `AZURE_CLIENT_ID` |
| `developer` | whoever is signed in to the Azure CLI (`az login`), else to the Azure Developer CLI (`azd auth login`) | |

`auto` takes the client secret if one is set, else workload identity if `AZURE_FEDERATED_TOKEN_FILE` is
there, else a managed identity if the platform offers one (`IDENTITY_ENDPOINT` and `IDENTITY_HEADER`), else
the developer. On a virtual machine, run `az login --identity`: its own endpoint is never asked, since
plain http goes nowhere but where the last section says.

The app's own identity is workload identity if `AZURE_FEDERATED_TOKEN_FILE` and a client id are there
(its tenant is `AZURE_TENANT_ID`, or the target's), else the managed identity if one is offered, else the
developer.

A token is kept until shortly before it expires, is asked for by one request at a time, and goes only to
the host that it was issued for.

A client secret in Key Vault is read when a token is needed, kept in memory for 15 minutes at most, and read
again at once when Entra refuses it: a new version is used without a restart. The vault must be in the tenant
of the app's own identity. [operations.md](operations.md#rotating-the-client-secret) has the steps.";

const STORE: &str = "\
| `EASM_STORE_URL` | Where that is |
| --- | --- |
| a path, or `file:///...` | A folder. Refused in Azure, where the disk does not last. |
| `https://{account}.blob.core.windows.net/{container}[/{prefix}]` | Blob Storage, with the app's own identity: no keys. The container must exist. |
| `http://127.0.0.1:{port}/devstoreaccount1/{container}[/{prefix}]` | Azurite, with its published development key. A missing container is created. |
| `https://127.0.0.1:{port}/devstoreaccount1/{container}[/{prefix}]` | Azurite over TLS (`--oauth basic`), with the app's own identity. |

A URL with a query (a SAS) is refused, and not repeated. A part is staged in blocks that the service
checks against their MD5, and appears under its name at once and whole; size and MD5 as stored are
compared with what was sent before it counts. (The service checks each block; the MD5 of the whole is kept
for whoever downloads it.) A part takes one request a block and two more. In an account with versioning
every save of a checkpoint leaves a version.";

/// The setting `name`.
pub fn setting(name: &str) -> Option<&'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings).find(|setting| setting.name == name)
}

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    for Group { title, text: intro, settings } in GROUPS {
        text += &format!("\n## {title}\n\n");
        if !intro.is_empty() {
            text += &format!("{intro}\n\n");
        }
        text += "| Setting | Default | Meaning |\n| --- | --- | --- |\n";
        for Setting { name, default, meaning, is_used } in *settings {
            let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
            let note = if *is_used { "" } else { " *Not part of this version.*" };
            text += &format!("| `{name}` | {default} | {meaning}{note} |\n");
        }
    }
    text + TAIL
}

const HEAD: &str = "\
<!-- Made from src/config/reference.rs; `UPDATE_DOCS=1 cargo test --locked documents` writes it anew. -->

# Settings

Settings are environment variables. The command line also reads `.env` and `local.settings.json`
(`Values`) in the current folder unless `--no-env-files` is given; real environment variables win, and
in Azure no file is read. An unknown `EASM_` name is refused by name. A bad value is refused with the
setting's name, what is allowed and what was found; a secret's value is never printed.

The names of the Python helper `mdeasm` are read as fallbacks: `TENANT_ID`, `SUBSCRIPTION_ID`,
`RESOURCE_GROUP_NAME`, `WORKSPACE_NAME`, `CLIENT_ID`, `CLIENT_SECRET`.
";

const TAIL: &str = "
## Where requests go

Requests go to hosts under `.easm.defender.microsoft.com`, `.vault.azure.net` and
`.blob.core.windows.net`, to what a setting above names, and to loopback. Plain `http://` goes only to
loopback and to the platform's `IDENTITY_ENDPOINT`, which is used as given. Redirects are never followed.
Loopback and the identity endpoint are reached without a proxy, everything else by the usual `HTTPS_PROXY`
and `NO_PROXY`. Trusted are the system's roots, or what `SSL_CERT_FILE` names. No request waits longer than
100 seconds for its answer.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_stands_in_the_table_once() {
        let mut names: Vec<_> =
            GROUPS.iter().flat_map(|group| group.settings).map(|setting| setting.name).collect();
        let n_names = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), n_names);
    }
}
