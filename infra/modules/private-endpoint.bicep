// One private endpoint, and its name in a zone.

import { tagsType } from 'types.bicep'

@description('Name of the endpoint.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

@description('Id of the subnet that it gets an address in.')
param subnetId string

@description('Id of the resource that it leads to.')
param privateLinkServiceId string

@description('Part of that resource.')
@allowed(['blob', 'queue', 'sites', 'vault'])
param part string

@description('Id of the zone that its name is in.')
param privateDnsZoneId string

resource endpoint 'Microsoft.Network/privateEndpoints@2024-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    subnet: { id: subnetId }
    privateLinkServiceConnections: [
      {
        name: part
        properties: { privateLinkServiceId: privateLinkServiceId, groupIds: [part] }
      }
    ]
  }

  resource names 'privateDnsZoneGroups' = {
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [{ name: part, properties: { privateDnsZoneId: privateDnsZoneId } }]
    }
  }
}
