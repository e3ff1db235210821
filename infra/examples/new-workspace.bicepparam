// Nothing is there yet: the EASM workspace is made too, and the identity of the app may read it.

using '../main.bicep'

param name = 'easmnew'

param newWorkspace = {
  name: 'contoso'
  region: 'westeurope'
}
