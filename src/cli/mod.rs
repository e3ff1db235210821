//! The command line: one file per command, and this one that picks it.
//!
//! Data and machine-readable results go to stdout, everything else to stderr. A failure is one line
//! on stderr and an exit code (contract, section 3).

mod chosen;
#[cfg(feature = "sim")]
mod demo;
mod doctor;
mod export;
mod progress;
mod query;
mod runs;
mod schema;
mod serve;
#[cfg(feature = "sim")]
mod simulate;
mod workspace;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use clap::{CommandFactory, Parser, Subcommand};
use tokio::sync::watch;
use tracing::warn;

use crate::app;
use crate::config::{Env, STORE_URL, Settings, check_store, files, names, parse};
use crate::error::{Error, Kind, Result};
use crate::net::retry::RetryPolicy;
use crate::secret::holds_credential;
use crate::store::Store;
use crate::telemetry::{self, LogFormat, Terminal};
use chosen::Chosen;

/// What is logged unless `EASM_LOG` says otherwise: `info` of our own, warnings of libraries.
const LOG_DEFAULT: &str = "warn,easm_export=info";

/// Done, but the answer is no (contract, section 3).
const EXIT_ANSWER_IS_NO: u8 = 3;

/// Exports Microsoft Defender EASM inventories, whole and every day.
#[derive(Parser)]
#[command(name = "easm-export", version, subcommand_required = true)]
struct Cli {
    /// Target to work on, by name; may be repeated. Default: all.
    #[arg(long, global = true, value_name = "NAME")]
    target: Vec<String>,

    /// Read settings from the environment only, not from .env or local.settings.json.
    #[arg(long, global = true)]
    no_env_files: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the functions to the Azure Functions host that started this program.
    Serve,
    /// Export the inventory to the store.
    Export(export::Args),
    /// Print assets, one a line.
    Query(query::Args),
    /// Look at runs in the store, cancel, publish and verify them.
    Runs(runs::Args),
    /// List workspaces, create one, delete one.
    Workspace(workspace::Args),
    /// Look whether an export could work, and say what to do where it could not.
    Doctor(doctor::Args),
    /// Print what settings may look like.
    Schema(schema::Args),
    /// Export a made-up inventory from a simulator to ./exports. Needs no Azure and no settings.
    #[cfg(feature = "sim")]
    Demo(demo::Args),
    /// Run the simulator until Ctrl-C, and print the settings to use with it.
    #[cfg(feature = "sim")]
    Simulate(simulate::Args),
}

/// Runs the command that `args` names in the environment `env`, and gives its exit code.
pub async fn main(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> u8 {
    listen_for_signals();
    let terminal = Terminal::default();
    telemetry::catch_panics(&terminal);
    let (mut args, env) = (Vec::from_iter(args), Vec::from_iter(env));
    // Before anything can be said.
    Env::of_any(&env).keep_secrets();
    if args.len() == 1 && env.iter().any(|(name, _)| name == serve::PORT) {
        args.push("serve".into());
    }
    let outcome = match Cli::try_parse_from(args) {
        Ok(cli) => run(cli, env, &terminal).await,
        Err(err) => return usage(&err, &terminal),
    };
    terminal.hide_bar();
    match outcome {
        Ok(code) => code,
        Err(err) => {
            if err.kind() != Kind::PipeClosed {
                terminal.say(&format!("easm-export: {err}"));
            }
            err.kind().facts().exit_code
        }
    }
}

async fn run(
    cli: Cli,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    terminal: &Terminal,
) -> Result<u8> {
    let mut env = Env::of_process(env)?;
    let needs_settings = matches!(
        cli.command,
        Command::Export(_)
            | Command::Query(_)
            | Command::Runs(_)
            | Command::Workspace(_)
            | Command::Doctor(_)
    );
    if needs_settings && !cli.no_env_files && !env.is_in_azure() {
        let files = Env::new(read_env_files()?);
        files.keep_secrets();
        refuse_platform_names(&env, &files)?;
        env = env.or(files);
    }
    if !needs_settings && !cli.target.is_empty() {
        return Err(Error::new(Kind::Usage, "read --target")
            .because("this command is for no target")
            .advise("leave it out"));
    }
    if let Command::Serve = cli.command {
        log_as_handler(&env, terminal);
        return unless_interrupted(serve::run(env, terminal)).await;
    }
    telemetry::install(env.get("EASM_LOG").unwrap_or(LOG_DEFAULT), log_format(&env)?, terminal)?;
    match cli.command {
        Command::Serve => unreachable!("served above"),
        Command::Export(args) => {
            args.check()?;
            export::run(args, &Chosen::read(&env, &cli.target, terminal)?, terminal).await
        }
        Command::Query(args) => {
            query::run(args, &Chosen::read(&env, &cli.target, terminal)?, terminal).await
        }
        Command::Runs(args) => {
            runs::run(args, &Chosen::read(&env, &cli.target, terminal)?, terminal).await
        }
        Command::Workspace(args) => {
            let env = args.with_what_it_needs(env);
            workspace::run(args, &Chosen::read(&env, &cli.target, terminal)?, terminal).await
        }
        Command::Doctor(args) => doctor::run(&args, &cli.target, &env).await,
        Command::Schema(args) => schema::run(&args),
        #[cfg(feature = "sim")]
        Command::Demo(args) => demo::run(args).await,
        #[cfg(feature = "sim")]
        Command::Simulate(args) => simulate::run(args).await,
    }
}

/// Settings in the current folder's files. `.env` wins over `local.settings.json`.
fn read_env_files() -> Result<Vec<(String, String)>> {
    let read = |name: &'static str| match std::fs::read_to_string(Path::new(name)) {
        Ok(text) => Ok(Some(text)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(Error::new(Kind::Config, format!("read {name}"))
            .because(err.kind().to_string())
            .advise("make it readable, or use --no-env-files")),
    };
    let mut vars = Vec::new();
    if let Some(text) = read("local.settings.json")? {
        vars.extend(files::parse_local_settings(&text)?);
    }
    if let Some(text) = read(".env")? {
        vars.extend(files::parse_dotenv(&text)?);
    }
    // The last of equal names stays when this becomes an environment, so `.env` wins.
    Ok(Vec::from_iter(std::collections::BTreeMap::from_iter(vars)))
}

/// What a library reads in the environment itself would have no effect in a file.
fn refuse_platform_names(env: &Env, files: &Env) -> Result<()> {
    let is_idle = |name: &&&str| files.raw(name).is_some() && env.get(name).is_none();
    match names::READ_BY_LIBRARIES.iter().find(is_idle) {
        None => Ok(()),
        Some(name) => Err(Error::new(Kind::Config, format!("read {name}"))
            .because("in a file it has no effect")
            .advise("export it in the environment, as the platform does")),
    }
}

/// Log lines to stdout, JSON unless the settings say otherwise. What is wrong with these settings is no
/// reason not to serve: the host would start this program again and again, and then stop itself.
fn log_as_handler(env: &Env, terminal: &Terminal) {
    terminal.log_to_stdout();
    let (format, bad_format) = match env.get("EASM_LOG_FORMAT") {
        None => (LogFormat::Json, None),
        Some(_) => match log_format(env) {
            Ok(format) => (format, None),
            Err(err) => (LogFormat::Json, Some(err)),
        },
    };
    let wanted = env.get("EASM_LOG").unwrap_or(LOG_DEFAULT);
    let bad_filter = telemetry::install(wanted, format, terminal).err();
    if bad_filter.is_some() {
        telemetry::install(LOG_DEFAULT, format, terminal).expect("the default is a filter");
    }
    for err in bad_format.iter().chain(&bad_filter) {
        warn!("{err}");
    }
}

fn log_format(env: &Env) -> Result<LogFormat> {
    match env.get("EASM_LOG_FORMAT") {
        None | Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(other) => Err(parse::refuse("EASM_LOG_FORMAT", "json or text", other)),
    }
}

/// Prints help as it is, and anything else as one line.
fn usage(err: &clap::Error, terminal: &Terminal) -> u8 {
    use clap::error::ErrorKind;
    match err.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody is left to tell if stdout is closed.
            err.print().unwrap_or(());
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            terminal.say(&Cli::command().render_help().to_string());
            2
        }
        _ => {
            let text = err.render().to_string();
            let is_end = |line: &str| line.starts_with("Usage:") || line.starts_with("For more");
            let said = text.lines().map(str::trim).take_while(|line| !is_end(line));
            let said: Vec<&str> = said.filter(|line| !line.is_empty()).collect();
            let said = said.join("; ").replacen("error: ", "", 1);
            terminal.say(&format!("easm-export: {said}; see easm-export --help"));
            2
        }
    }
}

/// Whether this process was asked to end.
static INTERRUPTED: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

/// Notes from now on that the user (Ctrl-C) or the system asks this process to end. Whoever asks
/// twice does not want to wait: the second time it ends at once.
fn listen_for_signals() {
    tokio::spawn(async {
        loop {
            signal().await;
            if INTERRUPTED.send_replace(true) {
                std::process::exit(Kind::Interrupted.facts().exit_code.into());
            }
        }
    });
}

/// Completes at the next signal to end.
async fn signal() {
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler Ctrl-C ends the process anyway.
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = ctrl_c => {}
        () = terminate => {}
    }
}

/// Completes when this process was asked to end.
async fn interrupt() {
    let mut interrupted = INTERRUPTED.subscribe();
    interrupted.wait_for(|is_so| *is_so).await.map(drop).expect("the sender is never dropped");
}

/// Whether this process was asked to end.
fn is_interrupted() -> bool {
    *INTERRUPTED.borrow()
}

/// `work`, unless the user interrupts it.
async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        outcome = work => outcome,
        () = interrupt() => Err(interrupted()),
    }
}

fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "stop").because("interrupted").advise("start the command again")
}

/// The store that the flag `--store` names, or else the settings, if it can be used here.
fn store(flag: Option<&str>, settings: &Settings, env: &Env) -> Result<Arc<dyn Store>> {
    const FLAG: &str = "--store";
    let (name, url) = match flag {
        Some(url) => (FLAG, parse::store_url(FLAG, url)?),
        None => (STORE_URL, settings.store.clone()),
    };
    check_store(name, &url, env)?;
    app::store(&url, &settings.own, env, RetryPolicy::default())
}

/// `text` as a shell takes it for one word.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/.:_-".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// The filter that a `--filter` flag means: itself, `@file`, or `@-` for stdin.
fn read_filter(flag: &str) -> Result<String> {
    /// Longest filter file. A URL of more than some ten thousand bytes gets through nowhere.
    const FILTER_BYTES_MAX: u64 = 64 << 10;
    let Some(file) = flag.strip_prefix('@').filter(|_| !flag.starts_with("@saved:")) else {
        return parse::filter("--filter", flag);
    };
    let refuse = |reason: String| {
        Error::new(Kind::Usage, "read --filter")
            .because(format!("{file:?} {reason}"))
            .advise("name a file that holds the filter, or - for stdin")
    };
    let open = || -> io::Result<Box<dyn io::Read>> {
        match file {
            "-" => Ok(Box::new(io::stdin())),
            path => Ok(Box::new(std::fs::File::open(path)?)),
        }
    };
    let mut text = String::new();
    let read = open().and_then(|input| {
        io::Read::read_to_string(&mut io::Read::take(input, FILTER_BYTES_MAX + 1), &mut text)
    });
    read.map_err(|err| refuse(format!("cannot be read: {}", err.kind())))?;
    if text.len() as u64 > FILTER_BYTES_MAX {
        return Err(refuse(format!("is larger than {} KiB", FILTER_BYTES_MAX >> 10)));
    }
    parse::filter("--filter", &text)
}

/// `json` and a line feed to stdout.
fn print_json(json: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(json)
        .map_err(|err| Error::new(Kind::Internal, "write JSON").because(err.to_string()))?;
    text.push(b'\n');
    print(&text)
}

/// `bytes` to stdout, as they are: a program may read them.
///
/// # Errors
/// [`Kind::Leak`] if a credential of ours is in them.
fn print(bytes: &[u8]) -> Result<()> {
    use io::Write;
    if holds_credential(bytes) {
        return Err(Error::leak("print the result"));
    }
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|err| crate::export::stream::from_io(&err))
}

/// `1234567` as `1,234,567`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_result_with_a_credential_of_ours_is_not_printed() {
        let secret = crate::secret::Secret::new("canary-of-a-result-0123456789".to_owned());
        let err = print_json(&serde_json::json!({ "path": secret.expose() })).expect_err("refused");
        assert_eq!(err.kind(), Kind::Leak);
        assert!(!err.to_string().contains("canary"), "{err}");
    }

    #[test]
    fn numbers_are_grouped() {
        let check = |number, want| assert_eq!(thousands(number), want);
        check(0, "0");
        check(999, "999");
        check(1000, "1,000");
        check(1_234_567, "1,234,567");
    }
}
