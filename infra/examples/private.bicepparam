// A private network: storage, vault and app are reached through private endpoints only, and whoever calls signs in
// with Entra. A workspace that signs in with a client secret from the vault.
//
// Package it with `cargo xtask package --auth entra`, and deploy it from inside the network.

using '../main.bicep'

param name = 'easmpriv'

param workspace = {
  tenantId: '33333333-0000-4000-8000-000000000001'
  subscriptionId: '33333333-0000-4000-8000-000000000002'
  resourceGroup: 'rg-easm'
  name: 'contoso'
  region: 'westeurope'
}

param credential = 'client-secret'
param clientId = 'aaaaaaaa-0000-4000-8000-000000000002'
param clientSecretName = 'easm-client-secret'

// Left out of the first deployment, when there is no such secret yet.
param readableSecrets = ['easm-client-secret']

param isPrivate = true
param networkPrefix = '10.60.0.0/24'
param hasEvents = true

param signIn = {
  clientId: 'aaaaaaaa-0000-4000-8000-000000000003'
  principals: [
    'bbbbbbbb-0000-4000-8000-000000000001'
    'bbbbbbbb-0000-4000-8000-000000000002'
  ]
}

param alertEmails = ['soc@contoso.example']
