//! Alerts: what they ask for is what is logged, and no line falls between two askings.

use super::snapshots::query;
use super::{Deployment, Resource, deployments, read};

/// Fields of the line that says how old the newest complete run is, as maintenance writes them.
const FIELDS: [(&str, &str); 3] =
    [("event", "\"newest_complete\""), ("target_name", "target"), ("age_hours", "hours")];

fn rule<'a>(deployment: &'a Deployment, name: &str) -> &'a Resource {
    let rules = deployment.of_kind("Microsoft.Insights/scheduledQueryRules");
    rules.into_iter().find(|rule| rule.name().ends_with(name)).unwrap()
}

/// Minutes of `PT15M` or `PT1H`.
fn minutes(text: &str) -> u32 {
    let number = |unit: char| text.strip_prefix("PT").unwrap().strip_suffix(unit);
    match number('M') {
        Some(minutes) => minutes.parse().unwrap(),
        None => 60 * number('H').unwrap().parse::<u32>().unwrap(),
    }
}

#[test]
fn every_rule_asks_about_more_time_than_passes_between_two_askings() {
    for deployment in deployments() {
        for rule in deployment.of_kind("Microsoft.Insights/scheduledQueryRules") {
            let time = |pointer: &str| minutes(rule.property(pointer).as_str().unwrap());
            let (window, frequency) = (time("/windowSize"), time("/evaluationFrequency"));
            // Lines take some minutes until they can be asked for.
            assert!(window >= 30 && window >= 2 * frequency, "{}: {window}", rule.id());
        }
    }
}

#[test]
fn every_rule_keeps_its_alerts_apart_by_a_column_that_its_query_gives() {
    for deployment in deployments() {
        for rule in deployment.of_kind("Microsoft.Insights/scheduledQueryRules") {
            let text = query(rule);
            let (_, columns) = text.rsplit_once("| project ").unwrap();
            let columns: Vec<&str> = columns.split(", ").map(str::trim).collect();
            let by = rule.property("/criteria/allOf/0/dimensions/0/name").as_str().unwrap();
            assert!(columns.contains(&by), "{}: {by} of {columns:?}", rule.id());
            assert!(columns[0].starts_with("TimeGenerated"), "{}: {columns:?}", rule.id());
            let table = text.lines().next().unwrap();
            assert!(table.chars().all(char::is_alphanumeric), "{}: {table}", rule.id());
        }
    }
}

#[test]
fn the_line_that_the_first_alert_reads_is_the_one_that_maintenance_writes() {
    let source = read("src/functions/maintenance.rs");
    for deployment in deployments() {
        let text = query(rule(&deployment, "no-complete-run"));
        for (field, value) in FIELDS {
            assert!(source.contains(&format!("{field} = {value}")), "{field}");
            assert!(text.contains(&format!("line.fields.{field})")), "{field}: {text}");
        }
    }
}

#[test]
fn a_target_is_late_after_the_hours_that_were_asked_for() {
    let declared = read("infra/main.bicep");
    let hours_of = |text: &str, start: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(start).map(str::to_owned));
        line.map(|hours| hours.trim().to_owned())
    };
    let mut seen = Vec::new();
    for deployment in deployments() {
        let file = read(&format!("infra/{}.bicepparam", deployment.name));
        let hours = hours_of(&file, "param completeRunWindowHours = ")
            .or_else(|| hours_of(&declared, "param completeRunWindowHours int = "))
            .unwrap();
        let text = query(rule(&deployment, "no-complete-run"));
        let found = text.lines().any(|line| line.ends_with(&format!("age_hours > {hours}")));
        assert!(found, "{}: {hours}: {text}", deployment.name);
        seen.push(hours);
    }
    seen.sort();
    seen.dedup();
    assert!(seen.len() > 1, "one example has hours of its own");
}

/// What an operator is told to run is what the rule runs.
#[test]
fn the_query_in_the_docs_is_that_of_the_rule() {
    let docs = read("docs/deploy.md");
    let (_, shown) = docs.split_once("```kusto\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let deployments = deployments();
    let of_main = deployments.iter().find(|deployment| deployment.name == "main").unwrap();
    let text = query(rule(of_main, "no-complete-run"));
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    assert_eq!(lines(shown), lines(&text));
}
