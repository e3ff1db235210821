// The shapes that main.bicep and its modules share.

@export()
@description('A GUID.')
@minLength(36)
@maxLength(36)
type guidType = string

@export()
@description('Tags: names and values.')
type tagsType = {
  @description('Value of the tag.')
  *: string
}

@export()
@description('Whether text has no character but those of characters.')
func isMadeOf(text string, characters string) bool =>
  empty(join(split(text, map(range(0, length(characters)), at => substring(characters, at, 1))), ''))

@export()
@description('Whether a text has the form of a GUID.')
func isGuid(text string) bool =>
  isMadeOf(toLower(text), '0123456789abcdef-') && join(map(split(text, '-'), it => string(length(it))), '-') == '8-4-4-4-12'

@export()
@description('App settings: names and values.')
type settingsType = {
  @description('Value of the setting.')
  *: string
}

@export()
@description('How a workspace is signed in to. Those of EASM_CREDENTIAL that work in a Functions app.')
type credentialType = 'managed-identity' | 'federated' | 'client-secret'

@export()
@description('A kind of asset.')
type kindType = 'as' | 'contact' | 'domain' | 'host' | 'ipAddress' | 'ipBlock' | 'page' | 'sslCert'

@export()
@sealed()
@description('The EASM workspace of a deployment with a single target.')
type workspaceType = {
  @description('Tenant of the workspace.')
  tenantId: guidType

  @description('Subscription of the workspace.')
  subscriptionId: guidType

  @description('Resource group of the workspace.')
  @minLength(1)
  @maxLength(90)
  resourceGroup: string

  @description('Name of the workspace. The target is named after it.')
  @minLength(1)
  @maxLength(63)
  name: string

  @description('Region of the workspace, for example eastus. Asked from ARM if it is not given.')
  @minLength(2)
  @maxLength(32)
  region: string?
}

@export()
@sealed()
@description('One of several targets: the members of EASM_TARGETS, with the values that this version takes, but for clientSecret. A secret belongs in the vault.')
type targetType = {
  @description('Name of the target, letters, digits, - and _, unique in the deployment whatever the case: its folder in the store.')
  @minLength(1)
  @maxLength(63)
  name: string

  @description('Tenant of the workspace.')
  tenantId: guidType

  @description('Subscription of the workspace.')
  subscriptionId: guidType

  @description('Resource group of the workspace.')
  @minLength(1)
  @maxLength(90)
  resourceGroup: string

  @description('Name of the workspace.')
  @minLength(1)
  workspace: string

  @description('Region of the workspace. Asked from ARM if it is not given.')
  @minLength(2)
  @maxLength(32)
  region: string?

  @description('How the workspace is signed in to.')
  credential: credentialType?

  @description('Client id of the app registration.')
  clientId: guidType?

  @description('Name of the secret in the vault that holds the client secret of the app registration.')
  @minLength(1)
  @maxLength(127)
  clientSecretName: string?

  @description('Base URL of the data plane, if it is not that of the region.')
  @minLength(8)
  dataPlaneUrl: string?

  @description('EASM filter. A line that begins with # is a comment, so # alone exports everything.')
  @minLength(1)
  filter: string?

  @description('Kinds of assets.')
  @minLength(1)
  kinds: kindType[]?

  @description('Datasets.')
  @minLength(1)
  datasets: ('assets')[]?

  @description('Format of the files.')
  format: 'ndjson'?

  @description('Compression of the files.')
  compression: ('none' | 'gzip')?

  @description('Columns, for csv and parquet.')
  @minLength(1)
  columns: string[]?

  @description('Whether a run is compared with the one before.')
  delta: 'off'?

  @description('What a change of members or types does.')
  schemaPolicy: 'record'?
}

@export()
@sealed()
@description('Sign-in with Entra, which the platform demands before the app sees a request.')
type signInType = {
  @description('Client id of the app registration that stands for this API.')
  clientId: guidType

  @description('Object ids and application ids of those that may call.')
  @minLength(1)
  principals: guidType[]
}

@export()
@sealed()
@description('A new EASM workspace.')
type newWorkspaceType = {
  @description('Name of the workspace.')
  @minLength(1)
  @maxLength(63)
  name: string

  @description('Region of the workspace. EASM is not offered everywhere.')
  @minLength(2)
  @maxLength(32)
  region: string
}

@export()
@sealed()
@description('Names of the resources, made once in main.bicep, so that every module says the same.')
type namesType = {
  @description('User-assigned identity.')
  identity: string

  @description('Storage account of the Functions host.')
  hostStorage: string

  @description('Storage account of the exports.')
  dataStorage: string

  @description('Key Vault.')
  vault: string

  @description('Log Analytics workspace.')
  logs: string

  @description('Application Insights.')
  insights: string

  @description('Plan of the app.')
  plan: string

  @description('Function app.')
  app: string
}
