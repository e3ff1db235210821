// Where logs go. No local authentication: whoever writes has a role, so the connection string opens nothing.

import { tagsType } from 'types.bicep'

@description('Name of the Log Analytics workspace.')
@minLength(4)
@maxLength(63)
param logsName string

@description('Name of Application Insights.')
@minLength(1)
@maxLength(255)
param insightsName string

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

@description('Days for which logs are kept.')
@minValue(30)
@maxValue(730)
param retentionDays int

@description('Most that is taken in on one day, in gigabytes; -1: no limit.')
@minValue(-1)
param dailyGigabytesMax int

@description('Whether logs are taken in, and may be asked for, from public networks.')
param isPublic bool

@description('What both resources say of public networks.')
var publicAccess = isPublic ? 'Enabled' : 'Disabled'

resource logs 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: logsName
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionDays
    workspaceCapping: { dailyQuotaGb: dailyGigabytesMax }
    features: { disableLocalAuth: true }
    publicNetworkAccessForIngestion: publicAccess
    publicNetworkAccessForQuery: publicAccess
  }
}

// Sampling is the host's: host.json leaves out traces, requests and exceptions, which the alerts count.
resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: insightsName
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: logs.id
    IngestionMode: 'LogAnalytics'
    DisableLocalAuth: true
    publicNetworkAccessForIngestion: publicAccess
    publicNetworkAccessForQuery: publicAccess
  }
}
