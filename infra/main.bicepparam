// One tenant, its workspace read with the identity of the app.
//
// The values come from the environment, which is how azd and the workflow hand them in; without them they are
// made up.

using 'main.bicep'

param workspace = {
  tenantId: readEnvironmentVariable('EASM_TENANT_ID', '00000000-0000-4000-8000-000000000001')
  subscriptionId: readEnvironmentVariable('EASM_SUBSCRIPTION_ID', '00000000-0000-0000-0000-000000000000')
  resourceGroup: readEnvironmentVariable('EASM_RESOURCE_GROUP', 'rg-easm')
  name: readEnvironmentVariable('EASM_WORKSPACE', 'contoso')
}

@description('Client id of the app registration that callers sign in to; none: they have a function key.')
var signInClientId = readEnvironmentVariable('SIGN_IN_CLIENT_ID', '')

// The package is made to match: azure.yaml and the workflow look at the same variable.
param signIn = empty(signInClientId)
  ? null
  : {
      clientId: signInClientId
      principals: map(split(readEnvironmentVariable('SIGN_IN_PRINCIPALS', ''), ','), it => trim(it))
    }

@description('Addresses that alerts are mailed to, with commas between them.')
var emails = readEnvironmentVariable('ALERT_EMAILS', '')

param alertEmails = empty(emails) ? [] : map(split(emails, ','), it => trim(it))

@description('When it is exported; none: at six every day.')
var wanted = readEnvironmentVariable('EXPORT_SCHEDULE', '')

param schedule = empty(wanted) ? '0 0 6 * * *' : wanted
