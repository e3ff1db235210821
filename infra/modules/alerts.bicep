// What somebody should look at: no complete run for too long, failing functions, work that killed the process five
// times, and a vault that refuses.
//
// The first one does not depend on the timer: Maintenance logs for every target how old its newest complete run is
// (event newest_complete), and a target of which it says nothing counts as late. So a timer that never goes off,
// a maintenance that does not run and a run that fails are all found.

import { tagsType } from 'types.bicep'

@description('Beginning of the names of the rules.')
@minLength(2)
@maxLength(40)
param name string

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

@description('Log Analytics workspace that is asked.')
param logsName string

@description('Addresses that mails go to. None: the alerts are only seen in the portal.')
param emails string[]

@description('Names of the targets.')
@minLength(1)
param targets string[]

@description('Hours within which every target must have a complete run.')
@minValue(1)
@maxValue(720)
param completeRunWindowHours int

@description('A rule: what it asks for, how often and of which time.')
type ruleType = {
  @description('End of its name.')
  name: string
  @description('What is wrong if it fires.')
  title: string
  @description('0 (critical) to 4 (verbose).')
  severity: int
  @description('Kusto query; each row is one thing that is wrong.')
  query: string
  @description('Column by which alerts are kept apart.')
  by: string
  @description('How often it is asked.')
  frequency: string
  @description('Time that it asks about: more than its frequency, since lines come late.')
  window: string
}

@description('The targets as a list in Kusto.')
var targetList = join(map(targets, target => '"${target}"'), ', ')

@description('The rules. The texts of log lines that they look for are those of the app, and of the host for the poison queue.')
var rules ruleType[] = [
  {
    name: 'no-complete-run'
    title: 'A target has had no complete run for more than ${completeRunWindowHours} hours, or maintenance says nothing of it'
    severity: 1
    query: '''
      AppTraces
        | where Message has "newest_complete"
        | extend line = parse_json(Message)
        | where tostring(line.fields.event) == "newest_complete"
        | extend key = tolower(tostring(line.fields.target_name)), age_hours = todouble(line.fields.age_hours)
        | summarize arg_max(TimeGenerated, age_hours) by key
        | join kind=rightouter (datatable(target: string) [{0}] | extend key = tolower(target)) on key
        | where isnull(age_hours) or age_hours < 0 or age_hours > {1}
        | project TimeGenerated = coalesce(TimeGenerated, now()), target, age_hours
    '''
    by: 'target'
    frequency: 'PT15M'
    window: 'PT1H'
  }
  {
    name: 'failing'
    title: 'A function fails: a run that ended badly, or work that comes again'
    severity: 2
    query: '''
      AppRequests
        | where Name in ("ExportTimer", "ExportWorker", "Maintenance") and Success == false
        | project TimeGenerated, Name
    '''
    by: 'Name'
    frequency: 'PT15M'
    window: 'PT30M'
  }
  {
    name: 'poison'
    title: 'A message failed five times and lies in export-work-poison'
    severity: 2
    query: '''
      AppTraces
        | where Message has "Moving message to queue" and Message has "export-work-poison"
        | project TimeGenerated, AppRoleName
    '''
    by: 'AppRoleName'
    frequency: 'PT15M'
    window: 'PT30M'
  }
  {
    name: 'vault-refusals'
    title: 'The vault refuses somebody: a role is missing, the network stands in the way, or somebody tries'
    severity: 2
    query: '''
      AZKVAuditLogs
        | where HttpStatusCode == 403
        | project TimeGenerated, OperationName
    '''
    by: 'OperationName'
    frequency: 'PT15M'
    window: 'PT30M'
  }
]

resource logs 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: logsName
}

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(emails)) {
  name: '${name}-people'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'easm-export'
    emailReceivers: [
      for (email, at) in emails: {
        name: 'email-${at}'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

resource rule 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for it in rules: {
    name: '${name}-${it.name}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: '${name}: ${it.name}'
      description: it.title
      severity: it.severity
      enabled: true
      scopes: [logs.id]
      evaluationFrequency: it.frequency
      windowSize: it.window
      // The tables do not exist before the first line is written to them.
      skipQueryValidation: true
      autoMitigate: true
      criteria: {
        allOf: [
          {
            query: trim(format(it.query, targetList, completeRunWindowHours))
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            dimensions: [{ name: it.by, operator: 'Include', values: ['*'] }]
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      actions: { actionGroups: empty(emails) ? [] : [people.id] }
    }
  }
]
