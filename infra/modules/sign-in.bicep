// The platform's authentication in front of the app: it refuses whoever is not signed in with Entra, and says to
// the app who calls. Without it anybody could claim to be somebody, so main.bicep sets EASM_AUTH=entra exactly
// where it turns this on.

import { signInType } from 'types.bicep'

@description('Name of the function app.')
param appName string

@description('Who is signed in, and for what; nothing: nobody, and the functions ask for a key.')
param signIn signInType?

resource app 'Microsoft.Web/sites@2024-11-01' existing = {
  name: appName
}

@description('What the platform is told where nobody signs in.')
var off = {
  platform: { enabled: false }
  globalValidation: {
    requireAuthentication: false
    unauthenticatedClientAction: 'AllowAnonymous'
  }
}

resource auth 'Microsoft.Web/sites/config@2024-11-01' = {
  parent: app
  name: 'authsettingsV2'
  properties: signIn == null
    ? off
    : {
        platform: { enabled: true, runtimeVersion: '~1' }
        globalValidation: {
          requireAuthentication: true
          unauthenticatedClientAction: 'Return401'
          // Says only whether the app is well, and is what a load balancer asks.
          excludedPaths: ['/api/health']
        }
        httpSettings: { requireHttps: true }
        login: { tokenStore: { enabled: false } }
        identityProviders: {
          azureActiveDirectory: {
            enabled: true
            // No secret: nobody signs in with a browser here, callers bring a token.
            registration: {
              clientId: signIn!.clientId
              openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
            }
            validation: {
              allowedAudiences: [signIn!.clientId, 'api://${signIn!.clientId}']
            }
          }
        }
      }
}
