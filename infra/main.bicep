// Everything that easm-export needs in one resource group, from nothing. README.md beside it says what is what,
// docs/deploy.md walks through it.
//
// The names are made here, once, and handed on, so that every name in a snapshot can be read. What must be there
// before something else stands in `dependsOn`.

targetScope = 'resourceGroup'

import {
  credentialType
  guidType
  isGuid
  isMadeOf
  kindType
  namesType
  newWorkspaceType
  settingsType
  signInType
  tagsType
  targetType
  workspaceType
} from 'modules/types.bicep'
import { hostSettingNames } from 'modules/function-app.bicep'

@description('Beginning of every name: 2 to 10 lower-case letters and digits, the first a letter.')
@minLength(2)
@maxLength(10)
param name string = 'easm'

@description('Region of all resources but a new EASM workspace. It must offer Flex Consumption.')
param location string = resourceGroup().location

@description('Tags of all resources.')
param tags tagsType = {}

// What is exported.

@description('The workspace, if there is one. Not needed with targets or newWorkspace.')
param workspace workspaceType?

@description('Several workspaces. Takes the place of workspace.')
param targets targetType[] = []

@description('An EASM workspace that is made too. Without workspace and targets, it is what is exported.')
param newWorkspace newWorkspaceType?

@description('How workspaces are signed in to, where a target does not say otherwise.')
param credential credentialType = 'managed-identity'

@description('Client id of the app registration that signs in, for federated and client-secret. With managed-identity: none.')
param clientId guidType?

@description('Name of the secret in the vault that holds the client secret, for client-secret.')
@minLength(1)
@maxLength(127)
param clientSecretName string?

@description('Names of the secrets in the vault that the app may read. They must exist, so a first deployment names none.')
param readableSecrets string[] = []

@description('EASM filter. Lines that begin with # are comments, so # alone exports everything.')
@minLength(1)
param filter string = 'state = "confirmed"'

@description('Kinds of assets. None: all of them, also those that are new.')
param kinds kindType[] = []

@description('When it is exported: six-field NCRONTAB, UTC.')
@minLength(11)
param schedule string = '0 0 6 * * *'

@description('Days for which complete runs are kept. 0: for ever.')
@minValue(0)
@maxValue(36525)
param retentionDays int = 0

@description('A tracing filter such as debug. Empty: info. What maintenance says stays at info, since an alert reads it.')
param logFilter string = ''

// Who may call.

@description('Sign-in with Entra for the HTTP functions. Without it they ask for a function key. The package must match: cargo xtask package --auth entra.')
param signIn signInType?

// Where it runs.

@description('Memory of an instance in megabytes.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('Most instances at once.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Whether everything is reached through a network of its own only, and public access is off.')
param isPrivate bool = false

@description('Addresses of that network: at least a /24.')
@minLength(9)
@maxLength(18)
param networkPrefix string = '10.60.0.0/24'

@description('Whether logs are taken in, and may be asked for, from public networks. Turn it off only where the network has an Azure Monitor private link scope of its own: without one the logs are lost.')
param isTelemetryPublic bool = true

@description('Redundancy of the account of the exports. ZRS wants a region with zones.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param dataRedundancy string = 'Standard_ZRS'

@description('Redundancy of the host account.')
@allowed(['Standard_LRS', 'Standard_ZRS'])
param hostRedundancy string = 'Standard_LRS'

@description('Days for which a file of the exports that was deleted or written over can be brought back.')
@minValue(1)
@maxValue(365)
param softDeleteDays int = 14

// What is said of it.

@description('Days for which logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Most that is logged on one day, in gigabytes. -1: no limit. Beyond it nothing is logged, and no alert fires.')
@minValue(-1)
param dailyLogGigabytesMax int = 5

@description('Whether a queue gets an event for each run that is complete.')
param hasEvents bool = false

@description('Addresses that alerts are mailed to. None: they are only seen in the portal.')
param alertEmails string[] = []

@description('Hours within which every target must have a complete run: the time between two slots, and some more.')
@minValue(1)
@maxValue(720)
param completeRunWindowHours int = 26

@description('What makes names unique that the whole world shares.')
var token = take(uniqueString(resourceGroup().id), 8)

@description('Names of the resources.')
var names namesType = {
  identity: '${name}-identity'
  hostStorage: '${name}host${token}'
  dataStorage: '${name}data${token}'
  vault: '${name}-kv-${token}'
  logs: '${name}-logs'
  insights: '${name}-insights'
  plan: '${name}-plan'
  app: '${name}-export-${token}'
}

@description('Name of the network, and beginning of the names in it.')
var networkName = '${name}-network'

@description('Container of the package.')
var packageContainer = 'app-package'

@description('Container of the exports.')
var exportContainer = 'exports'

@description('The queue of the work, and where the host puts what failed five times. host.json and functions/ name them.')
var workQueues = ['export-work', 'export-work-poison']

@description('Queue that events go to.')
var eventQueue = 'export-complete'

@description('The single target, if there is one.')
var single = workspace ?? (newWorkspace == null
  ? null
  : {
      tenantId: tenant().tenantId
      subscriptionId: subscription().subscriptionId
      resourceGroup: resourceGroup().name
      name: newWorkspace!.name
      region: newWorkspace!.region
    })

@description('Names of the targets.')
var targetNames = empty(targets)
  ? [single.?name ?? fail('Set workspace, targets or newWorkspace: nothing is exported otherwise.')]
  : map(targets, target => target.name)

@description('How each target signs in: its own values. A single workspace has none but those of the deployment.')
var signIns = empty(targets)
  ? [
      {
        tenantId: single.?tenantId ?? tenant().tenantId
        credential: credential
        clientId: null
        clientSecretName: null
      }
    ]
  : map(targets, target => {
      tenantId: target.tenantId
      credential: target.?credential ?? credential
      clientId: target.?clientId
      clientSecretName: target.?clientSecretName
    })

@description('What has to be a GUID.')
var guids = concat(
  map(signIns, it => it.tenantId),
  map(signIns, it => it.clientId ?? it.tenantId),
  map(targets, target => target.subscriptionId),
  single == null ? [] : [single!.subscriptionId],
  clientId == null ? [] : [clientId!],
  signIn == null ? [] : concat([signIn!.clientId], signIn!.principals)
)

@description('Letters, all of them small.')
var letters = 'abcdefghijklmnopqrstuvwxyz'

@description('What is wrong with the parameters and their types do not refuse. Each would be seen only when nothing is exported, or by nobody.')
var wrong = concat(
  isMadeOf(name, '${letters}0123456789') && contains(letters, take(name, 1))
    ? []
    : ['name has lower-case letters and digits only, and begins with a letter.'],
  workspace == null || empty(targets)
    ? []
    : ['workspace and targets are both set: make the workspace one of the targets.'],
  empty(sys.filter(targetNames, it => !isMadeOf(toLower(it), '${letters}0123456789-_') || isMadeOf(take(it, 1), '-_')))
    ? []
    : ['The name of a target has letters, digits, - and _ only, and begins with a letter or digit.'],
  length(union(map(targetNames, it => toLower(it)), [])) == length(targetNames) ? [] : ['Two targets have the same name; upper and lower case do not count.'],
  clientId == null || empty(sys.filter(signIns, it => it.credential == 'managed-identity' && it.clientId == null))
    ? []
    : [
        'What signs in with managed-identity would take clientId for its identity: remove it, or give it to the other targets.'
      ],
  empty(sys.filter(
      signIns,
      it => it.credential == 'managed-identity' && toLower(it.tenantId) != toLower(tenant().tenantId)
    ))
    ? []
    : ['managed-identity is good in this tenant only: use federated for a workspace in another.'],
  clientId != null || empty(sys.filter(signIns, it => it.credential != 'managed-identity' && it.clientId == null))
    ? []
    : ['federated and client-secret want clientId, the app registration that signs in.'],
  clientSecretName != null || empty(sys.filter(
      signIns,
      it => it.credential == 'client-secret' && it.clientSecretName == null
    ))
    ? []
    : ['client-secret wants clientSecretName, the secret in the vault.'],
  empty(sys.filter(guids, it => !isGuid(it)))
    ? []
    : ['Ids of tenants, subscriptions, app registrations and principals are GUIDs, such as ${tenant().tenantId}.'],
  isTelemetryPublic || isPrivate ? [] : ['isTelemetryPublic: false wants isPrivate: true: the logs are lost otherwise.'],
  length(sys.filter(split(schedule, ' '), it => !empty(it))) == 6
    ? []
    : ['schedule has six fields, the first of them seconds.'],
  dailyLogGigabytesMax != 0 ? [] : ['dailyLogGigabytesMax is -1 or at least 1: no alert fires where nothing is logged.']
)

@description('Whether a client secret is read from the vault.')
var usesVault = clientSecretName != null || !empty(sys.filter(targets, target => target.?clientSecretName != null))

@description('What says which workspaces are exported.')
var targetSettings settingsType = empty(targets)
  ? {
      EASM_TENANT_ID: single!.tenantId
      EASM_SUBSCRIPTION_ID: single!.subscriptionId
      EASM_RESOURCE_GROUP: single!.resourceGroup
      EASM_WORKSPACE: single!.name
    }
  : {
      EASM_TARGETS: string(targets)
    }

@description('App settings. One that would be empty is left out: an empty one may be lost on its way.')
var settings settingsType = union(
  targetSettings,
  {
    EASM_AUTH: !empty(wrong) ? fail(join(wrong, ' ')) : (signIn == null ? 'key' : 'entra')
    EASM_CREDENTIAL: credential
    EASM_FILTER: filter
    EASM_RETENTION_DAYS: string(retentionDays)
    EASM_STORE_URL: 'https://${names.dataStorage}.blob.${environment().suffixes.storage}/${exportContainer}'
    EXPORT_SCHEDULE: schedule
  },
  empty(targets) && single.?region != null ? { EASM_REGION: single!.?region! } : {},
  clientId == null ? {} : { EASM_CLIENT_ID: clientId! },
  clientSecretName == null ? {} : { EASM_CLIENT_SECRET_NAME: clientSecretName! },
  empty(kinds) ? {} : { EASM_KINDS: join(kinds, ',') },
  empty(logFilter) ? {} : { EASM_LOG: '${logFilter},easm_export::functions::maintenance=info' },
  signIn == null ? {} : { EASM_PRINCIPALS: join(signIn!.principals, ',') },
  usesVault ? { EASM_KEY_VAULT_URL: 'https://${names.vault}${environment().suffixes.keyvaultDns}' } : {}
)

// What the app stands on.

module identity 'modules/identity.bicep' = {
  params: {
    name: names.identity
    location: location
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  params: {
    logsName: names.logs
    insightsName: names.insights
    location: location
    tags: tags
    retentionDays: logRetentionDays
    dailyGigabytesMax: dailyLogGigabytesMax
    isPublic: isTelemetryPublic
  }
}

module hostStorage 'modules/host-storage.bicep' = {
  params: {
    name: names.hostStorage
    location: location
    tags: tags
    sku: hostRedundancy
    packageContainer: packageContainer
    queues: workQueues
    isPrivate: isPrivate
  }
}

module dataStorage 'modules/data-storage.bicep' = {
  params: {
    name: names.dataStorage
    location: location
    tags: tags
    sku: dataRedundancy
    container: exportContainer
    softDeleteDays: softDeleteDays
    eventQueue: hasEvents ? eventQueue : null
    isPrivate: isPrivate
  }
}

module vault 'modules/key-vault.bicep' = {
  params: {
    name: names.vault
    location: location
    tags: tags
    logsName: names.logs
    isPrivate: isPrivate
  }
  dependsOn: [monitoring]
}

module easmWorkspace 'modules/easm-workspace.bicep' = if (newWorkspace != null) {
  params: {
    workspace: newWorkspace!
    tags: tags
  }
}

module network 'modules/network.bicep' = if (isPrivate) {
  params: {
    name: networkName
    names: names
    location: location
    tags: tags
    addressPrefix: networkPrefix
    hasDataQueue: hasEvents
  }
  dependsOn: [hostStorage, dataStorage, vault]
}

module roles 'modules/roles.bicep' = {
  params: {
    names: names
    exportContainer: exportContainer
    queues: workQueues
    // One that is named twice would be assigned twice.
    secrets: union(readableSecrets, [])
    easmWorkspace: newWorkspace.?name
  }
  dependsOn: [identity, monitoring, hostStorage, dataStorage, vault, easmWorkspace]
}

// The app, which finds all of that when it starts.

module app 'modules/function-app.bicep' = {
  params: {
    names: names
    location: location
    tags: tags
    packageContainer: packageContainer
    settings: settings
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    networkName: isPrivate ? networkName : null
    isPrivate: isPrivate
  }
  dependsOn: [identity, monitoring, hostStorage, network, roles]
}

module appEndpoint 'modules/app-endpoint.bicep' = if (isPrivate) {
  params: {
    networkName: networkName
    appName: names.app
    location: location
    tags: tags
  }
  dependsOn: [app, network]
}

// Also without sign-in: what an earlier deployment turned on would stay on.
module signInModule 'modules/sign-in.bicep' = {
  params: {
    appName: names.app
    signIn: signIn
  }
  dependsOn: [app]
}

module events 'modules/events.bicep' = if (hasEvents) {
  params: {
    name: '${name}-events'
    location: location
    tags: tags
    storageName: names.dataStorage
    container: exportContainer
    queueName: eventQueue
  }
  dependsOn: [dataStorage]
}

module alerts 'modules/alerts.bicep' = {
  params: {
    name: '${name}-export'
    location: location
    tags: tags
    logsName: names.logs
    emails: alertEmails
    targets: targetNames
    completeRunWindowHours: completeRunWindowHours
  }
  dependsOn: [monitoring]
}

@description('Name of the function app.')
output appName string = names.app

@description('Host name of the function app.')
output appHostName string = app.outputs.hostName

@description('Names of the app settings that are set. Their values are in the app.')
output appSettingNames string[] = concat(objectKeys(settings), hostSettingNames)

@description('Where the exports go: EASM_STORE_URL.')
output storeUrl string = settings.EASM_STORE_URL

@description('The vault that client secrets belong in.')
output vaultUrl string = 'https://${names.vault}${environment().suffixes.keyvaultDns}'

@description('Name of the vault.')
output vaultName string = names.vault

@description('Client id of the identity of the app.')
output identityClientId string = identity.outputs.clientId

@description('Object id of the identity of the app: whom a role is assigned to, and the subject of a federated credential.')
output identityPrincipalId string = identity.outputs.principalId
