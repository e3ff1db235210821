// The function app on Flex Consumption, with the binary as a custom handler.
//
// The runtime is a property of the app here: FUNCTIONS_WORKER_RUNTIME and FUNCTIONS_EXTENSION_VERSION are refused
// on this plan.

import { namesType, settingsType, tagsType } from 'types.bicep'

@description('Names of the resources.')
param names namesType

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

@description('Container of the package, in the host account.')
param packageContainer string

@description('App settings that are known before the deployment.')
param settings settingsType

@description('Memory of an instance in megabytes.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int

@description('Most instances at once.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int

@description('Network whose subnet what the app sends goes through, or nothing.')
param networkName string?

@description('Whether the app is reached through its private endpoint only.')
param isPrivate bool

@export()
@description('The app settings that are added here: they name resources that must be there first.')
var hostSettingNames = [
  'AzureWebJobsStorage__accountName'
  'AzureWebJobsStorage__clientId'
  'AzureWebJobsStorage__credential'
  'APPLICATIONINSIGHTS_AUTHENTICATION_STRING'
  'APPLICATIONINSIGHTS_CONNECTION_STRING'
  'EASM_IDENTITY_CLIENT_ID'
]

@description('The tag that azd finds the app by; the service of azure.yaml has this name.')
var azdTag = { 'azd-service-name': 'easm-export' }

@description('Blob endpoint of the host account.')
var blobEndpoint = 'https://${names.hostStorage}.blob.${environment().suffixes.storage}'

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: names.identity
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: names.insights
}

resource network 'Microsoft.Network/virtualNetworks@2024-07-01' existing = if (networkName != null) {
  name: networkName ?? 'none'

  resource appSubnet 'subnets' existing = { name: 'app' }
}

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: names.plan
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2024-11-01' = {
  name: names.app
  location: location
  tags: union(tags, azdTag)
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    publicNetworkAccess: isPrivate ? 'Disabled' : 'Enabled'
    virtualNetworkSubnetId: networkName == null ? null : network::appSubnet.id
    functionAppConfig: {
      runtime: { name: 'custom', version: '1.0' }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${blobEndpoint}/${packageContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ftpsState: 'Disabled'
      http20Enabled: true
      appSettings: concat(map(items(settings), setting => { name: setting.key, value: setting.value }), [
        { name: 'AzureWebJobsStorage__accountName', value: names.hostStorage }
        { name: 'AzureWebJobsStorage__clientId', value: identity.properties.clientId }
        { name: 'AzureWebJobsStorage__credential', value: 'managedidentity' }
        {
          name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING'
          value: 'ClientId=${identity.properties.clientId};Authorization=AAD'
        }
        { name: 'APPLICATIONINSIGHTS_CONNECTION_STRING', value: insights.properties.ConnectionString }
        { name: 'EASM_IDENTITY_CLIENT_ID', value: identity.properties.clientId }
      ])
    }
  }
}

// Who deploys signs in with Entra; there is no password to lose.
resource ftp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'ftp'
  properties: { allow: false }
}

resource scm 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'scm'
  properties: { allow: false }
}

@description('Host name of the app.')
output hostName string = app.properties.defaultHostName
