// The private endpoint of the app itself, for its HTTP functions and for deploying to it. Apart from the others,
// since it can only be made after the app, and they have to be there before it.

import { tagsType } from 'types.bicep'

@description('Name of the network, and beginning of the names in it.')
param networkName string

@description('Name of the function app.')
param appName string

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

resource app 'Microsoft.Web/sites@2024-11-01' existing = {
  name: appName
}

resource network 'Microsoft.Network/virtualNetworks@2024-07-01' existing = {
  name: networkName

  resource endpointSubnet 'subnets' existing = { name: 'endpoints' }
}

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = {
  name: 'privatelink.azurewebsites.net'
  location: 'global'
  tags: tags

  resource link 'virtualNetworkLinks' = {
    name: networkName
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: { id: network.id }
    }
  }
}

module endpoint 'private-endpoint.bicep' = {
  params: {
    name: '${networkName}-app'
    location: location
    tags: tags
    subnetId: network::endpointSubnet.id
    privateLinkServiceId: app.id
    part: 'sites'
    privateDnsZoneId: zone.id
  }
}
