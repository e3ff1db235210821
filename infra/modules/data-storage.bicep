// The account of the exports.
//
// Soft delete brings back what somebody deleted by mistake. It also keeps the states of a checkpoint that were
// written over, for as many days and no longer. There is no versioning, since that would keep them for ever, and no
// lifecycle rule, since a rule goes by age and cannot know which run is the newest complete one: what goes, and in
// which order, is the app's own decision (EASM_RETENTION_DAYS).

import { tagsType } from 'types.bicep'

@description('Name of the account.')
@minLength(3)
@maxLength(24)
param name string

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

@description('Kind of redundancy.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param sku string

@description('Container of the exports.')
@minLength(3)
@maxLength(63)
param container string

@description('Days for which something that was deleted or written over can be brought back.')
@minValue(1)
@maxValue(365)
param softDeleteDays int

@description('Queue for events, or nothing.')
param eventQueue string?

@description('Whether the account is reached through private endpoints only.')
param isPrivate bool

resource account 'Microsoft.Storage/storageAccounts@2025-01-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: sku }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    publicNetworkAccess: isPrivate ? 'Disabled' : 'Enabled'
    networkAcls: {
      // Event Grid has no address in our network: it comes as a trusted service, with its identity.
      bypass: isPrivate && eventQueue != null ? 'AzureServices' : 'None'
      defaultAction: isPrivate ? 'Deny' : 'Allow'
    }
    supportsHttpsTrafficOnly: true
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-01-01' = {
  parent: account
  name: 'default'
  properties: {
    isVersioningEnabled: false
    deleteRetentionPolicy: { enabled: true, days: softDeleteDays }
    containerDeleteRetentionPolicy: { enabled: true, days: softDeleteDays }
  }
}

resource exports 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-01-01' = {
  parent: blobs
  name: container
  properties: { publicAccess: 'None' }
}

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2025-01-01' = if (eventQueue != null) {
  parent: account
  name: 'default'
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-01-01' = if (eventQueue != null) {
  parent: queueService
  name: eventQueue ?? 'none'
}
