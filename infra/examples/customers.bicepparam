// Several customers, each in a tenant of its own. One app registration of ours, known in every customer's tenant,
// trusts the identity of the app: no secret anywhere.

using '../main.bicep'

@description('The app registration, the same for all customers.')
var exporter = 'aaaaaaaa-0000-4000-8000-000000000001'

param name = 'easmcust'

param targets = [
  {
    name: 'contoso'
    tenantId: '11111111-0000-4000-8000-000000000001'
    subscriptionId: '11111111-0000-4000-8000-000000000002'
    resourceGroup: 'security'
    workspace: 'contoso-easm'
    region: 'westeurope'
    credential: 'federated'
    clientId: exporter
  }
  {
    name: 'fabrikam'
    tenantId: '22222222-0000-4000-8000-000000000001'
    subscriptionId: '22222222-0000-4000-8000-000000000002'
    resourceGroup: 'rg-easm'
    workspace: 'fabrikam'
    credential: 'federated'
    clientId: exporter
    // Everything, not only what is confirmed.
    filter: '#'
  }
  {
    // In our own tenant, which the identity of the app is in too: no app registration is needed.
    name: 'ourselves'
    tenantId: '00000000-0000-4000-8000-000000000001'
    subscriptionId: '00000000-0000-4000-8000-000000000002'
    resourceGroup: 'rg-security'
    workspace: 'ourselves'
    kinds: ['domain', 'host', 'page']
  }
]

param retentionDays = 365
param maximumInstanceCount = 100
param hasEvents = true

param alertEmails = ['soc@contoso.example']
param completeRunWindowHours = 30
