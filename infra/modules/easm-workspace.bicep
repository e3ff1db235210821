// An EASM workspace, for those who have none yet. Deleting the resource group deletes it, with its inventory.

import { newWorkspaceType, tagsType } from 'types.bicep'

@description('Name and region.')
param workspace newWorkspaceType

@description('Tags.')
param tags tagsType

resource easm 'Microsoft.Easm/workspaces@2023-04-01-preview' = {
  name: workspace.name
  location: workspace.region
  tags: tags
}
