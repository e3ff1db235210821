//! What the snapshots say: roles, networks, sign-in, keys, data, alerts.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Deployment, Resource, deployments, read};

/// Ids of the roles: <https://learn.microsoft.com/azure/role-based-access-control/built-in-roles>.
const ROLES: [(&str, &str); 7] = [
    ("3913510d-42f4-4e42-8a64-420c390055eb", "Monitoring Metrics Publisher"),
    ("4633458b-17de-408a-b874-0445c86b69e6", "Key Vault Secrets User"),
    ("974c5e8b-45b9-4653-ba55-5f855dd0fb88", "Storage Queue Data Contributor"),
    ("acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader"),
    ("b7e6dc6d-f1e8-4753-8033-0f276bb0955b", "Storage Blob Data Owner"),
    ("ba92f5b4-2d11-453d-a403-e96b0029c9fe", "Storage Blob Data Contributor"),
    ("c6a89b2d-59bc-44d0-9896-0f6e12d7b80a", "Storage Queue Data Message Sender"),
];

/// What stays open in a private deployment, and why.
const OPEN: [(&str, &str, &str); 4] = [
    (
        "Microsoft.OperationalInsights/workspaces",
        "publicNetworkAccessForIngestion",
        "closing it takes a private link scope, which is not one app's to make; writing takes a role",
    ),
    (
        "Microsoft.OperationalInsights/workspaces",
        "publicNetworkAccessForQuery",
        "reading takes a role",
    ),
    ("Microsoft.Insights/components", "publicNetworkAccessForIngestion", "as for the workspace"),
    ("Microsoft.Insights/components", "publicNetworkAccessForQuery", "as for the workspace"),
];

/// Kinds of resources that are reached over a network, with the parts that need a private endpoint.
const REACHED: [(&str, &[&str]); 3] = [
    ("Microsoft.Storage/storageAccounts", &["blob", "queue"]),
    ("Microsoft.KeyVault/vaults", &["vault"]),
    ("Microsoft.Web/sites", &["sites"]),
];

/// Kinds of resources, and what is below them, that have no door of their own: any other kind has to be thought about.
const DOORLESS: [&str; 14] = [
    "Microsoft.Authorization/roleAssignments",
    "Microsoft.Easm/workspaces",
    "Microsoft.EventGrid/systemTopics",
    "Microsoft.Insights/actionGroups",
    "Microsoft.Insights/diagnosticSettings",
    "Microsoft.Insights/scheduledQueryRules",
    "Microsoft.ManagedIdentity/userAssignedIdentities",
    "Microsoft.Network/natGateways",
    "Microsoft.Network/networkSecurityGroups",
    "Microsoft.Network/privateDnsZones",
    "Microsoft.Network/privateEndpoints",
    // The address that the NAT gateway sends from: nothing listens on it.
    "Microsoft.Network/publicIPAddresses",
    "Microsoft.Network/virtualNetworks",
    "Microsoft.Web/serverfarms",
];

/// A role assignment in the words of the table in docs/deploy.md: role, on, to.
type Assignment = [String; 3];

fn assignment(deployment: &Deployment, resource: &Resource) -> Assignment {
    let role_id =
        resource.property("/roleDefinitionId").as_str().unwrap().rsplit('/').next().unwrap();
    let role = ROLES.iter().find(|(id, _)| *id == role_id);
    let role = role.unwrap_or_else(|| panic!("{}: role {role_id}", deployment.name)).1;
    let to = match resource.property("/principalId").as_str().unwrap() {
        id if id
            .contains(deployment.one("Microsoft.ManagedIdentity/userAssignedIdentities").id()) =>
        {
            "identity"
        }
        id if id.contains("Microsoft.EventGrid/systemTopics") => "Event Grid topic",
        other => panic!("{}: {other} is assigned {role}", deployment.name),
    };
    assert_eq!(resource.property("/principalType"), "ServicePrincipal", "{}", deployment.name);
    let (scope, _) = resource.id().split_once("/providers/Microsoft.Authorization/").unwrap();
    let (_, scope) = scope.split_once("/providers/").expect("a resource, not the group");
    let words: Vec<&str> = scope.split('/').collect();
    let account = |name: &str| match name == deployment.account("host").name() {
        true => "host account",
        false => "data account",
    };
    let on = match words.as_slice() {
        ["Microsoft.Storage", "storageAccounts", name] => account(name).to_owned(),
        [
            "Microsoft.Storage",
            "storageAccounts",
            name,
            "queueServices",
            "default",
            "queues",
            queue,
        ] => {
            format!("{}, queue `{queue}`", account(name))
        }
        [
            "Microsoft.Storage",
            "storageAccounts",
            name,
            "blobServices",
            "default",
            "containers",
            container,
        ] => format!("{}, container `{container}`", account(name)),
        ["Microsoft.KeyVault", "vaults", _, "secrets", _] => "vault, secret".to_owned(),
        ["Microsoft.Insights", "components", _] => "Application Insights".to_owned(),
        ["Microsoft.Easm", "workspaces", _] => "EASM workspace".to_owned(),
        _ => panic!("{}: {role} on {scope}", deployment.name),
    };
    [role.to_owned(), on, to.to_owned()]
}

/// The rows of the first table of docs/deploy.md below `heading`.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = read("docs/deploy.md");
    let section = text.split(heading).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    let rows = section.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

#[test]
fn role_assignments_are_those_of_the_docs() {
    let rows = table("\n## Roles\n");
    assert_eq!(rows.len(), 8);
    let mut used = BTreeSet::new();
    for deployment in deployments() {
        let wanted: BTreeSet<Assignment> = rows
            .iter()
            .filter(|row| row[3] == "always" || deployment.has(row[3].trim_matches('`')))
            .map(|row| [row[0].clone(), row[1].clone(), row[2].clone()])
            .collect();
        let assignments = deployment.of_kind("Microsoft.Authorization/roleAssignments");
        let found: BTreeSet<Assignment> =
            assignments.iter().map(|resource| assignment(&deployment, resource)).collect();
        assert_eq!(found, wanted, "{}", deployment.name);
        // A name that is no GUID, or is given twice, is refused by Azure.
        let names: BTreeSet<&str> = assignments.iter().map(|resource| resource.name()).collect();
        assert_eq!(names.len(), assignments.len(), "{}", deployment.name);
        assert!(names.iter().all(|name| name.len() == 36), "{names:?}");
        used.extend(found);
    }
    assert_eq!(used.len(), rows.len(), "every row is seen in some deployment");
}

#[test]
fn nothing_is_open_in_a_private_deployment() {
    for deployment in deployments() {
        let endpoints = deployment.of_kind("Microsoft.Network/privateEndpoints");
        let reach = |resource: &Resource, part: &str| {
            endpoints.iter().any(|endpoint| {
                let connection = &endpoint.property("/privateLinkServiceConnections/0/properties");
                connection["privateLinkServiceId"] == resource.id()
                    && connection["groupIds"] == json!([part])
            })
        };
        if !deployment.has("isPrivate") {
            assert!(endpoints.is_empty(), "{}", deployment.name);
            continue;
        }
        for resource in &deployment.resources {
            let at = format!("{}: {}", deployment.name, resource.id());
            let Some((_, parts)) = REACHED.iter().find(|(kind, _)| *kind == resource.kind()) else {
                let is_below = REACHED.iter().any(|(kind, _)| resource.kind().starts_with(kind));
                let is_doorless = DOORLESS.iter().any(|kind| resource.kind().starts_with(kind));
                let is_open = OPEN.iter().any(|(kind, _, _)| resource.kind() == *kind);
                assert!(is_below || is_doorless || is_open, "{at}: is it reached from outside?");
                continue;
            };
            assert_eq!(resource.property("/publicNetworkAccess"), "Disabled", "{at}");
            if resource.kind() != "Microsoft.Web/sites" {
                assert_eq!(resource.property("/networkAcls/defaultAction"), "Deny", "{at}");
            }
            for part in *parts {
                // The host's queue is that of the work, the other one that of events.
                assert!(reach(resource, part), "{at}: no private endpoint for {part}");
            }
        }
        open_are_those_with_a_reason(&deployment);
        every_endpoint_has_a_name(&deployment, &endpoints);
        let app = deployment.one("Microsoft.Web/sites");
        let network = deployment.one("Microsoft.Network/virtualNetworks");
        assert_eq!(
            app.property("/virtualNetworkSubnetId"),
            &json!(format!("{}/subnets/app", network.id()))
        );
        let delegation =
            network.property("/subnets/0/properties/delegations/0/properties/serviceName");
        assert_eq!(delegation, "Microsoft.App/environments");
    }
}

/// Whatever says `Enabled` of a public network says so for a reason.
fn open_are_those_with_a_reason(deployment: &Deployment) {
    let mut found = BTreeSet::new();
    for resource in &deployment.resources {
        let Some(properties) = resource.0["properties"].as_object() else { continue };
        for (name, value) in properties {
            if name.starts_with("publicNetworkAccess") && value != "Disabled" {
                found.insert((resource.kind().to_owned(), name.clone()));
            }
        }
    }
    let wanted: BTreeSet<_> =
        OPEN.iter().map(|(kind, name, _)| ((*kind).to_owned(), (*name).to_owned())).collect();
    assert_eq!(found, wanted, "{}", deployment.name);
}

/// A private endpoint that no name leads to would be passed by.
fn every_endpoint_has_a_name(deployment: &Deployment, endpoints: &[&Resource]) {
    let groups = deployment.of_kind("Microsoft.Network/privateEndpoints/privateDnsZoneGroups");
    assert_eq!(groups.len(), endpoints.len(), "{}", deployment.name);
    for endpoint in endpoints {
        let part = endpoint.property("/privateLinkServiceConnections/0/properties/groupIds/0");
        let zone_of = match part.as_str().unwrap() {
            "blob" => "privatelink.blob.",
            "queue" => "privatelink.queue.",
            "vault" => "privatelink.vaultcore.azure.net",
            "sites" => "privatelink.azurewebsites.net",
            other => panic!("{other}"),
        };
        let group = groups.iter().find(|group| group.id().starts_with(endpoint.id())).unwrap();
        let zone = group.property("/privateDnsZoneConfigs/0/properties/privateDnsZoneId");
        assert!(zone.as_str().unwrap().contains(zone_of), "{}", endpoint.id());
    }
    let zones = deployment.of_kind("Microsoft.Network/privateDnsZones").len();
    let links = deployment.of_kind("Microsoft.Network/privateDnsZones/virtualNetworkLinks").len();
    assert_eq!((zones, links), (4, 4), "{}", deployment.name);
}

#[test]
fn entra_is_believed_only_where_the_platform_asks_for_it() {
    for deployment in deployments() {
        let configs = deployment.of_kind("Microsoft.Web/sites/config");
        let auth = configs.iter().filter(|config| config.name().ends_with("/authsettingsV2"));
        let auth: Vec<_> = auth.collect();
        // Where nobody signs in it is turned off: what is left out stays as it was deployed before.
        let [config] = auth[..] else { panic!("{}: {} of it", deployment.name, auth.len()) };
        let is_off = config.property("/platform/enabled") == &json!(false)
            && config.property("/globalValidation/requireAuthentication") == &json!(false);
        let is_asked_for = !is_off && {
            let is_on = config.property("/platform/enabled") == &json!(true)
                && config.property("/globalValidation/requireAuthentication") == &json!(true)
                && config.property("/globalValidation/unauthenticatedClientAction") == "Return401"
                && config.property("/globalValidation/excludedPaths") == &json!(["/api/health"])
                && config.property("/identityProviders/azureActiveDirectory/enabled")
                    == &json!(true);
            let registration =
                config.property("/identityProviders/azureActiveDirectory/registration");
            assert_eq!(registration.as_object().unwrap().len(), 2, "no secret: {registration}");
            assert!(is_on, "{}: {}", deployment.name, config.id());
            is_on
        };
        let is_believed = deployment.setting("EASM_AUTH").as_deref() == Some("entra");
        assert_eq!(is_believed, is_asked_for, "{}", deployment.name);
        assert_eq!(is_believed, deployment.has("signIn"), "{}", deployment.name);
        assert_eq!(
            is_believed,
            deployment.setting("EASM_PRINCIPALS").is_some(),
            "{}",
            deployment.name
        );
    }
}

#[test]
fn nothing_is_reached_with_a_key_or_in_the_clear() {
    for deployment in deployments() {
        let check = |resource: &Resource, pointer: &str, want: Value| {
            assert_eq!(resource.property(pointer), &want, "{}: {pointer}", resource.id());
        };
        for account in [deployment.account("host"), deployment.account("data")] {
            check(account, "/allowSharedKeyAccess", json!(false));
            check(account, "/allowBlobPublicAccess", json!(false));
            check(account, "/defaultToOAuthAuthentication", json!(true));
            check(account, "/supportsHttpsTrafficOnly", json!(true));
            check(account, "/minimumTlsVersion", json!("TLS1_2"));
        }
        for container in
            deployment.of_kind("Microsoft.Storage/storageAccounts/blobServices/containers")
        {
            check(container, "/publicAccess", json!("None"));
        }
        check(deployment.one("Microsoft.Insights/components"), "/DisableLocalAuth", json!(true));
        let logs = deployment.one("Microsoft.OperationalInsights/workspaces");
        check(logs, "/features/disableLocalAuth", json!(true));
        let app = deployment.one("Microsoft.Web/sites");
        check(app, "/httpsOnly", json!(true));
        check(app, "/siteConfig/minTlsVersion", json!("1.2"));
        check(app, "/siteConfig/scmMinTlsVersion", json!("1.2"));
        check(app, "/siteConfig/ftpsState", json!("Disabled"));
        check(
            app,
            "/functionAppConfig/deployment/storage/authentication/type",
            json!("UserAssignedIdentity"),
        );
        let doors = deployment.of_kind("Microsoft.Web/sites/basicPublishingCredentialsPolicies");
        assert_eq!(doors.len(), 2, "{}: ftp and scm", deployment.name);
        doors.iter().for_each(|door| check(door, "/allow", json!(false)));
        let vault = deployment.one("Microsoft.KeyVault/vaults");
        check(vault, "/enableRbacAuthorization", json!(true));
        check(vault, "/enablePurgeProtection", json!(true));
        check(vault, "/softDeleteRetentionInDays", json!(90));
        let audit = deployment.one("Microsoft.Insights/diagnosticSettings");
        check(audit, "/logs", json!([{"category": "AuditEvent", "enabled": true}]));
        check(audit, "/logAnalyticsDestinationType", json!("Dedicated"));
    }
}

#[test]
fn the_app_runs_on_flex_consumption_as_a_custom_handler() {
    for deployment in deployments() {
        let plan = deployment.one("Microsoft.Web/serverfarms");
        assert_eq!(plan.0["sku"], json!({"name": "FC1", "tier": "FlexConsumption"}));
        let app = deployment.one("Microsoft.Web/sites");
        let runtime = app.property("/functionAppConfig/runtime");
        assert_eq!(runtime, &json!({"name": "custom", "version": "1.0"}));
        let package = app.property("/functionAppConfig/deployment/storage/value").as_str().unwrap();
        let host = deployment.account("host").name();
        assert!(package.contains(host) && package.contains("'app-package'"), "{package}");
        let container = format!("{host}/default/app-package");
        let containers =
            deployment.of_kind("Microsoft.Storage/storageAccounts/blobServices/containers");
        assert!(containers.iter().any(|found| found.name() == container), "{}", deployment.name);
    }
}

#[test]
fn what_is_deleted_by_mistake_comes_back_and_nothing_else_deletes() {
    for deployment in deployments() {
        let data = deployment.account("data").name();
        let services = deployment.of_kind("Microsoft.Storage/storageAccounts/blobServices");
        let blobs = services.iter().find(|service| service.name().starts_with(data)).unwrap();
        for what in ["deleteRetentionPolicy", "containerDeleteRetentionPolicy"] {
            assert_eq!(blobs.property(&format!("/{what}/enabled")), &json!(true), "{what}");
            assert!(
                blobs.property(&format!("/{what}/days")).as_u64().is_some_and(|days| days >= 7)
            );
        }
        assert_eq!(blobs.property("/isVersioningEnabled"), &json!(false));
        let rules = deployment.of_kind("Microsoft.Storage/storageAccounts/managementPolicies");
        assert!(rules.is_empty(), "a lifecycle rule could delete the newest complete run");
    }
}

/// What the rule of an alert asks for.
pub fn query(rule: &Resource) -> String {
    rule.property("/criteria/allOf/0/query").as_str().unwrap().to_owned()
}

#[test]
fn every_target_is_watched_and_every_alert_leads_somewhere() {
    for deployment in deployments() {
        let rules = deployment.of_kind("Microsoft.Insights/scheduledQueryRules");
        let rows = table("\n## Alerts\n");
        let found = |name: &str| rules.iter().find(|rule| rule.name().ends_with(name)).unwrap();
        let named: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
        assert_eq!(named.len(), rules.len(), "{}: the table in the docs", deployment.name);
        named.iter().for_each(|name| assert!(found(name).id().contains(name)));

        let targets: Vec<String> = match deployment.setting("EASM_TARGETS") {
            Some(text) => {
                let targets: Vec<Value> = serde_json::from_str(&text).unwrap();
                targets.iter().map(|target| target["name"].as_str().unwrap().to_owned()).collect()
            }
            None => vec![deployment.setting("EASM_WORKSPACE").unwrap()],
        };
        let late = query(found("no-complete-run"));
        let list: Vec<String> = targets.iter().map(|target| format!("\"{target}\"")).collect();
        let list = format!("datatable(target: string) [{}]", list.join(", "));
        assert!(late.contains(&list), "{}: {late}", deployment.name);
        // What maintenance does not speak of is late, and so is what never was.
        assert!(
            late.contains("join kind=rightouter") && late.contains("isnull(age_hours)"),
            "{late}"
        );
        assert!(late.contains("age_hours < 0") && late.contains("\"newest_complete\""), "{late}");
        for name in ["ExportTimer", "ExportWorker", "Maintenance"] {
            assert!(query(found("failing")).contains(&format!("\"{name}\"")), "{name}");
            read(&format!("functions/{name}/function.json"));
        }
        assert!(query(found("poison")).contains("export-work-poison"));
        assert!(query(found("vault-refusals")).contains("HttpStatusCode == 403"));

        let people = deployment.of_kind("Microsoft.Insights/actionGroups");
        for rule in &rules {
            let groups = rule.property("/actions/actionGroups").as_array().unwrap();
            let wanted: Vec<Value> = people.iter().map(|group| json!(group.id())).collect();
            assert_eq!(groups, &wanted, "{}", rule.id());
            assert_eq!(rule.property("/enabled"), &json!(true), "{}", rule.id());
        }
    }
}

#[test]
fn events_speak_of_manifests_and_go_where_a_role_allows() {
    for deployment in deployments() {
        let subscriptions =
            deployment.of_kind("Microsoft.EventGrid/systemTopics/eventSubscriptions");
        assert_eq!(
            subscriptions.len(),
            usize::from(deployment.has("hasEvents")),
            "{}",
            deployment.name
        );
        for subscription in subscriptions {
            assert_eq!(subscription.property("/filter/subjectEndsWith"), "/manifest.json");
            assert_eq!(
                subscription.property("/filter/includedEventTypes"),
                &json!(["Microsoft.Storage.BlobCreated"])
            );
            let delivery = subscription.property("/deliveryWithResourceIdentity");
            assert_eq!(delivery["identity"]["type"], "SystemAssigned");
            let destination = &delivery["destination"]["properties"];
            let data = deployment.account("data");
            assert_eq!(destination["queueName"], "export-complete");
            assert_eq!(destination["resourceId"], data.id());
            let queue = format!("{}/default/export-complete", data.name());
            let queues =
                deployment.of_kind("Microsoft.Storage/storageAccounts/queueServices/queues");
            assert!(queues.iter().any(|found| found.name() == queue), "{queue}");
            let topic = deployment.one("Microsoft.EventGrid/systemTopics");
            assert_eq!(topic.property("/source"), data.id());
            // Of other containers nobody wants to hear.
            assert_eq!(
                subscription.property("/filter/subjectBeginsWith"),
                "/blobServices/default/containers/exports/blobs/"
            );
            assert!(subscription.property("/destination").is_null(), "that would want a key");
        }
    }
}
