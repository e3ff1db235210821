// The app's own identity. User-assigned, since an app registration can trust no other kind, and since it
// outlives the app: its roles stay when the app is made anew.

import { tagsType } from 'types.bicep'

@description('Name of the identity.')
@minLength(3)
@maxLength(128)
param name string

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
  tags: tags
}

@description('Client id: EASM_IDENTITY_CLIENT_ID.')
output clientId string = identity.properties.clientId

@description('Object id: the subject of a federated credential.')
output principalId string = identity.properties.principalId
