// What the app's identity may do: each role as narrow as it goes, on a container, a queue or one secret rather than
// on its account or vault. The table in docs/deploy.md says the same, held by a test.
//
// An assignment is named after scope, identity and role, so a second deployment finds the first one's.

import { namesType } from 'types.bicep'

@description('Names of the resources.')
param names namesType

@description('Container of the exports.')
param exportContainer string

@description('Queues of the host account that the app reads and writes.')
@minLength(1)
param queues string[]

@description('Secrets of the vault that the app reads. They must exist: a role cannot be assigned on what is not there.')
param secrets string[]

@description('EASM workspace of this resource group that the app reads, or nothing.')
param easmWorkspace string?

@description('Ids of the roles, the same in every tenant: https://learn.microsoft.com/azure/role-based-access-control/built-in-roles.')
var roles = {
  blobDataContributor: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  blobDataOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  metricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
  queueDataContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  reader: 'acdd72a7-3385-48ef-bd42-f606fba81ae7'
  secretsUser: '4633458b-17de-408a-b874-0445c86b69e6'
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: names.identity
}

resource hostStorage 'Microsoft.Storage/storageAccounts@2025-01-01' existing = {
  name: names.hostStorage

  resource queueService 'queueServices' existing = {
    name: 'default'

    resource queue 'queues' existing = [
      for queue in queues: {
        name: queue
      }
    ]
  }
}

resource dataStorage 'Microsoft.Storage/storageAccounts@2025-01-01' existing = {
  name: names.dataStorage

  resource blobService 'blobServices' existing = {
    name: 'default'

    resource container 'containers' existing = {
      name: exportContainer
    }
  }
}

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' existing = {
  name: names.vault

  resource secret 'secrets' existing = [
    for secret in secrets: {
      name: secret
    }
  ]
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: names.insights
}

resource easm 'Microsoft.Easm/workspaces@2023-04-01-preview' existing = if (easmWorkspace != null) {
  name: easmWorkspace ?? 'none'
}

// The host keeps its locks, the state of its timers and its keys in containers that it makes itself.
resource hostBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: hostStorage
  name: guid(hostStorage.id, identity.id, roles.blobDataOwner)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobDataOwner)
  }
}

resource work 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (queue, at) in queues: {
    scope: hostStorage::queueService::queue[at]
    name: guid(hostStorage::queueService::queue[at].id, identity.id, roles.queueDataContributor)
    properties: {
      principalId: identity.properties.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.queueDataContributor)
    }
  }
]

resource exports 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: dataStorage::blobService::container
  name: guid(dataStorage::blobService::container.id, identity.id, roles.blobDataContributor)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobDataContributor)
  }
}

resource clientSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (secret, at) in secrets: {
    scope: vault::secret[at]
    name: guid(vault::secret[at].id, identity.id, roles.secretsUser)
    properties: {
      principalId: identity.properties.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.secretsUser)
    }
  }
]

resource telemetry 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: insights
  name: guid(insights.id, identity.id, roles.metricsPublisher)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.metricsPublisher)
  }
}

resource inventory 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (easmWorkspace != null) {
  scope: easm
  name: guid(easm.id, identity.id, roles.reader)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.reader)
  }
}
