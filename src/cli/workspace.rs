//! `easm-export workspace`: which workspaces there are; create one, delete one.

use serde::Serialize;

use super::chosen::Chosen;
use super::{print, print_json, unless_interrupted};
use crate::app::workspaces::{
    Ensured, How, Place, Serves, Workspace, Workspaces, nearest, normalised, region,
};
use crate::config::{Env, TargetSettings, is_resource_name};
use crate::error::{Error, Kind, Result, one_line};
use crate::telemetry::Terminal;

/// Arguments of `workspace`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print the result as one JSON document to stdout.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the workspaces of the subscription that the identity may see.
    List,
    /// Create the workspace that the settings name, unless it is there, and wait until it answers.
    Ensure {
        /// Where to create it, for example eastus. Default: EASM_REGION.
        #[arg(long, value_name = "REGION")]
        region: Option<String>,
    },
    /// Delete a workspace of the settings' resource group with everything in it, and wait until it is gone.
    Delete {
        /// Its whole name.
        #[arg(value_name = "NAME")]
        name: String,
        /// Do it. It cannot be undone.
        #[arg(long)]
        yes: bool,
    },
}

impl Args {
    /// `env`, where what this command does not look at need not be set: whoever lists workspaces is about
    /// to find out what they are called.
    pub fn with_what_it_needs(&self, env: Env) -> Env {
        let unused: &[&str] = match self.command {
            Command::List => &["EASM_RESOURCE_GROUP", "EASM_WORKSPACE"],
            Command::Delete { .. } => &["EASM_WORKSPACE"],
            Command::Ensure { .. } => &[],
        };
        let missing = unused.iter().filter(|name| env.get(name).is_none());
        let filled = missing.map(|name| ((*name).to_owned(), "unused".to_owned()));
        let filled = Env::new(filled.collect::<Vec<_>>());
        // An empty one counts as missing too.
        filled.or(env)
    }
}

/// Runs the command, for one target.
///
/// # Errors
/// What ARM, the data plane or signing in failed with; [`Kind::Usage`] if a flag is missing.
pub async fn run(args: Args, chosen: &Chosen<'_>, terminal: &Terminal) -> Result<u8> {
    let target = chosen.only()?;
    done(args, chosen, target, terminal).await.map_err(|err| target.concern(err))
}

async fn done(
    args: Args,
    chosen: &Chosen<'_>,
    target: &TargetSettings,
    terminal: &Terminal,
) -> Result<u8> {
    let place = Place::of(&chosen.settings, target);
    if let Command::Delete { name, yes } = &args.command {
        check_deletion(name, *yes, &place)?;
    }
    if let Command::Ensure { region: Some(flag) } = &args.command {
        // Before anybody is asked.
        region(Some(flag), None)?;
    }
    let workspaces = Workspaces::new(place, chosen.env)?;
    match &args.command {
        Command::List => unless_interrupted(list(&workspaces, args.json, terminal)).await?,
        Command::Ensure { region } => {
            let ensuring = ensure(&workspaces, region.as_deref(), args.json, terminal);
            unless_interrupted(ensuring).await.map_err(|err| goes_on(err, "a creation"))?;
        }
        Command::Delete { name, yes: _ } => {
            let deleting = delete(&workspaces, name, args.json, terminal);
            unless_interrupted(deleting).await.map_err(|err| goes_on(err, "a deletion"))?;
        }
    }
    Ok(0)
}

/// `err`, saying what an interruption did not stop.
fn goes_on(err: Error, what: &str) -> Error {
    match err.kind() {
        Kind::Interrupted => err.advise(format!(
            "{what} that was asked for goes on in Azure; start the same command again to go on \
             waiting for it"
        )),
        _ => err,
    }
}

/// `{"value": [...]}`, as other lists are.
#[derive(Serialize)]
struct Value {
    value: Vec<Workspace>,
}

async fn list(workspaces: &Workspaces, json: bool, terminal: &Terminal) -> Result<()> {
    let value = workspaces.list().await?;
    if json {
        return print_json(&Value { value });
    }
    if value.is_empty() {
        let subscription = &workspaces.place().subscription_id;
        terminal.say(&format!(
            "There is no workspace in subscription {subscription} that the identity may see."
        ));
        return Ok(());
    }
    print(table(&value).as_bytes())
}

/// The workspaces, one a line, below the names of the columns.
fn table(workspaces: &[Workspace]) -> String {
    let heading = ["NAME", "RESOURCE GROUP", "REGION", "STATE", "DATA PLANE"].map(str::to_owned);
    let row = |workspace: &Workspace| {
        let Workspace { name, resource_group, region, .. } = workspace;
        let Workspace { provisioning_state, data_plane_endpoint, .. } = workspace;
        [name, resource_group, region, provisioning_state, data_plane_endpoint]
            .map(|cell| one_line(cell.as_deref().unwrap_or("-")))
    };
    let rows = Vec::from_iter(std::iter::once(heading).chain(workspaces.iter().map(row)));
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line += &format!("{cell:<width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

async fn ensure(
    workspaces: &Workspaces,
    flag: Option<&str>,
    json: bool,
    terminal: &Terminal,
) -> Result<()> {
    let place = workspaces.place();
    let choose = || {
        let region = region(flag, place.region.as_deref())?;
        let known = nearest(&region);
        if !known.is_empty() {
            terminal.say(&format!(
                "Warning: {region} is not among the regions that Microsoft names for EASM; it is \
                 tried all the same. The nearest known names: {}.",
                known.join(", ")
            ));
        }
        Ok(region)
    };
    let Ensured { workspace, how } = workspaces.ensure(choose).await?;
    let serves = workspaces.wait_for_data_plane(&workspace).await?;
    let (name, group) = (&place.workspace, &place.resource_group);
    let found = workspace.region.as_deref().unwrap_or("an unknown region");
    let mut said = match how {
        How::WasThere => {
            format!("Workspace {name} is there already, in {found}: nothing was changed.")
        }
        How::Waited => format!("Workspace {name} is there now, in {found}."),
        How::Created => {
            format!("Workspace {name} was created in {found}, resource group {group}.")
        }
    };
    let asked = flag.or(place.region.as_deref()).and_then(normalised);
    if asked.as_deref().is_some_and(|asked| asked != found) {
        said += &format!(" It does not move to {}.", asked.unwrap_or_default());
    }
    if serves == Serves::NotUs {
        said += " Its data plane answers, but not to this identity: assign it the Reader role on \
                 the workspace; a new assignment takes some minutes to work.";
    }
    terminal.say(&said);
    if json { print_json(&workspace) } else { Ok(()) }
}

/// Refuses to delete what nobody said yes to.
fn check_deletion(name: &str, yes: bool, place: &Place) -> Result<()> {
    const OPERATION: &str = "delete the workspace";
    if !is_resource_name(name) {
        return Err(Error::new(Kind::Usage, OPERATION)
            .because(format!("{name:?} is not the name of a workspace"))
            .advise("give its whole name, as workspace list shows it"));
    }
    if yes {
        return Ok(());
    }
    let Place { resource_group, subscription_id, .. } = place;
    Err(Error::new(Kind::Usage, OPERATION)
        .because(format!(
            "workspace {name} of resource group {resource_group} in subscription {subscription_id} \
             would be deleted with its inventory, its discovery groups and its labels, and that \
             cannot be undone"
        ))
        .advise("give --yes to do it"))
}

/// What `workspace delete --json` prints.
#[derive(Serialize)]
struct Deleted {
    #[serde(flatten)]
    workspace: Workspace,
    deleted: bool,
}

async fn delete(
    workspaces: &Workspaces,
    name: &str,
    json: bool,
    terminal: &Terminal,
) -> Result<()> {
    let workspace = workspaces.delete(name).await?;
    let group = &workspaces.place().resource_group;
    terminal.say(&format!("Workspace {name} of resource group {group} is deleted."));
    if json { print_json(&Deleted { workspace, deleted: true }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_whatever_is_missing() {
        let workspace = |name: &str, group: Option<&str>| Workspace {
            name: Some(name.to_owned()),
            resource_group: group.map(str::to_owned),
            region: Some("eastus".to_owned()),
            provisioning_state: None,
            data_plane_endpoint: None,
            id: None,
        };
        let text =
            table(&[workspace("a\u{1b}[31m", Some("rg-of-many-letters")), workspace("b", None)]);
        assert_eq!(
            text,
            "NAME    RESOURCE GROUP      REGION  STATE  DATA PLANE\n\
             a [31m  rg-of-many-letters  eastus  -      -\n\
             b       -                   eastus  -      -\n"
        );
    }
}
