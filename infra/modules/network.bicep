// A network of its own: the app sends everything through one subnet, and whatever is private is reached through
// endpoints in the other.
//
// What goes to the internet (EASM, ARM, Entra) leaves by a NAT gateway: new subnets have no other way out, and its
// address is one that others can let in.

import { namesType, tagsType } from 'types.bicep'

@description('Name of the network, and beginning of the names in it.')
@minLength(2)
@maxLength(40)
param name string

@description('Names of the resources.')
param names namesType

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

@description('Addresses of the network: at least a /24.')
@minLength(9)
@maxLength(18)
param addressPrefix string

@description('Whether the account of the exports has a queue too.')
param hasDataQueue bool

@description('A private endpoint: what it leads to, which part of it, and the zone its name is in.')
type endpointType = {
  @description('Name of the endpoint.')
  name: string
  @description('Id of the resource.')
  target: string
  @description('Part of the resource.')
  part: 'blob' | 'queue' | 'vault'
  @description('Zone, by its place in the list of zones.')
  zone: int
}

resource hostStorage 'Microsoft.Storage/storageAccounts@2025-01-01' existing = {
  name: names.hostStorage
}

resource dataStorage 'Microsoft.Storage/storageAccounts@2025-01-01' existing = {
  name: names.dataStorage
}

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' existing = {
  name: names.vault
}

@description('The zones that the names of the private endpoints are in.')
var zones = [
  'privatelink.blob.${environment().suffixes.storage}'
  'privatelink.queue.${environment().suffixes.storage}'
  'privatelink.vaultcore.azure.net'
]

@description('The endpoint of the second queue service, if there is one.')
var dataQueue endpointType[] = hasDataQueue
  ? [{ name: 'data-queue', target: dataStorage.id, part: 'queue', zone: 1 }]
  : []

@description('All private endpoints but that of the app, which is made after the app.')
var endpoints endpointType[] = concat(
  [
    { name: 'host-blob', target: hostStorage.id, part: 'blob', zone: 0 }
    { name: 'host-queue', target: hostStorage.id, part: 'queue', zone: 1 }
    { name: 'data-blob', target: dataStorage.id, part: 'blob', zone: 0 }
    { name: 'vault', target: vault.id, part: 'vault', zone: 2 }
  ],
  dataQueue
)

resource address 'Microsoft.Network/publicIPAddresses@2024-07-01' = {
  name: '${name}-out'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIPAllocationMethod: 'Static' }
}

resource nat 'Microsoft.Network/natGateways@2024-07-01' = {
  name: '${name}-nat'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIpAddresses: [{ id: address.id }] }
}

// No rule lets anything in from the internet: the default ones of a group are enough.
resource group 'Microsoft.Network/networkSecurityGroups@2024-07-01' = {
  name: '${name}-nsg'
  location: location
  tags: tags
}

resource network 'Microsoft.Network/virtualNetworks@2024-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [addressPrefix] }
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 26, 0)
          natGateway: { id: nat.id }
          networkSecurityGroup: { id: group.id }
          // Flex Consumption wants this delegation, not that of App Service.
          delegations: [{ name: 'flex', properties: { serviceName: 'Microsoft.App/environments' } }]
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 26, 1)
          defaultOutboundAccess: false
          networkSecurityGroup: { id: group.id }
          privateEndpointNetworkPolicies: 'Disabled'
        }
      }
    ]
  }

  resource endpointSubnet 'subnets' existing = { name: 'endpoints' }
}

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for zone in zones: {
    name: zone
    location: 'global'
    tags: tags
  }
]

resource link 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (_, at) in zones: {
    parent: zone[at]
    name: name
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: { id: network.id }
    }
  }
]

// One after the other: two that are made in one subnet at once can be refused (AnotherOperationInProgress).
@batchSize(1)
module endpoint 'private-endpoint.bicep' = [
  for it in endpoints: {
    params: {
      name: '${name}-${it.name}'
      location: location
      tags: tags
      subnetId: network::endpointSubnet.id
      privateLinkServiceId: it.target
      part: it.part
      privateDnsZoneId: zone[it.zone].id
    }
  }
]
