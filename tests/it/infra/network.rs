//! The private network: whatever is sent goes through it, and nothing is let in beside it.

use serde_json::{Value, json};

use super::{Deployment, deployments};

fn private() -> Deployment {
    deployments().into_iter().find(|deployment| deployment.has("isPrivate")).unwrap()
}

/// The subnet `name` of the network.
fn subnet(deployment: &Deployment, name: &str) -> Value {
    let network = deployment.one("Microsoft.Network/virtualNetworks");
    let subnets = network.property("/subnets").as_array().unwrap();
    let mut found = subnets.iter().filter(|subnet| subnet["name"] == name);
    found.next().unwrap_or_else(|| panic!("no subnet {name}"))["properties"].clone()
}

#[test]
fn what_the_app_sends_leaves_by_the_nat_gateway_and_its_address() {
    let deployment = private();
    let nat = deployment.one("Microsoft.Network/natGateways");
    assert_eq!(subnet(&deployment, "app")["natGateway"]["id"], nat.id());
    let address = deployment.one("Microsoft.Network/publicIPAddresses");
    assert_eq!(nat.property("/publicIpAddresses"), &json!([{"id": address.id()}]));
    assert_eq!(address.property("/publicIPAllocationMethod"), "Static");
    // The platform sets the outbound access of a delegated subnet itself.
    assert!(subnet(&deployment, "app")["defaultOutboundAccess"].is_null());
    assert_eq!(subnet(&deployment, "endpoints")["defaultOutboundAccess"], false);
    assert_eq!(subnet(&deployment, "endpoints")["privateEndpointNetworkPolicies"], "Disabled");
}

#[test]
fn no_rule_lets_anybody_in_from_outside() {
    for deployment in deployments() {
        let groups = deployment.of_kind("Microsoft.Network/networkSecurityGroups");
        assert_eq!(groups.len(), usize::from(deployment.has("isPrivate")));
        for group in groups {
            // The default ones are enough.
            assert!(group.property("/securityRules").is_null(), "{}", group.id());
            for name in ["app", "endpoints"] {
                let of_subnet = &subnet(&deployment, name)["networkSecurityGroup"]["id"];
                assert_eq!(of_subnet, group.id(), "{name}");
            }
        }
        let rules = deployment.of_kind("Microsoft.Network/networkSecurityGroups/securityRules");
        assert!(rules.is_empty(), "{}", deployment.name);
        let lets_trusted_in = deployment.has("isPrivate") && deployment.has("hasEvents");
        for (resource, bypass) in [
            (deployment.account("host"), "None"),
            (deployment.account("data"), if lets_trusted_in { "AzureServices" } else { "None" }),
            (deployment.one("Microsoft.KeyVault/vaults"), "None"),
        ] {
            let rules = resource.property("/networkAcls").as_object().unwrap();
            let at = format!("{}: {}", deployment.name, resource.id());
            assert_eq!(rules["bypass"], bypass, "{at}");
            for name in ["ipRules", "virtualNetworkRules", "resourceAccessRules"] {
                let n_rules = rules.get(name).map_or(0, |rules| rules.as_array().unwrap().len());
                assert_eq!(n_rules, 0, "{at}: {name}");
            }
        }
        let app = deployment.one("Microsoft.Web/sites");
        assert!(app.property("/siteConfig/ipSecurityRestrictions").is_null());
    }
}

#[test]
fn every_endpoint_is_in_its_subnet_and_every_zone_is_known_to_the_network() {
    let deployment = private();
    let network = deployment.one("Microsoft.Network/virtualNetworks");
    let wanted = format!("{}/subnets/endpoints", network.id());
    let endpoints = deployment.of_kind("Microsoft.Network/privateEndpoints");
    assert_eq!(endpoints.len(), 6);
    for endpoint in endpoints {
        assert_eq!(endpoint.property("/subnet/id"), wanted.as_str(), "{}", endpoint.id());
    }
    let links = deployment.of_kind("Microsoft.Network/privateDnsZones/virtualNetworkLinks");
    for zone in deployment.of_kind("Microsoft.Network/privateDnsZones") {
        // A name that only Azure knows is an expression, whose text the link's name repeats.
        let name = zone.name().trim_start_matches('[').trim_end_matches(']');
        let mut of_zone = links.iter().filter(|link| link.name().contains(name));
        let link = of_zone.next().unwrap_or_else(|| panic!("{name} is not linked"));
        assert_eq!(link.property("/virtualNetwork/id"), network.id(), "{name}");
        assert_eq!(link.property("/registrationEnabled"), &json!(false), "{name}");
        assert!(of_zone.next().is_none(), "{name} is linked twice");
    }
}
