//! The command line of xtask.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::level::Auth;
use crate::{Failure, Result};

/// What `--help` prints.
pub const HELP: &str = "\
cargo xtask package [--auth key|entra] [--target TRIPLE] [--include PATH]... [--out DIR] [--binary PATH]

Makes what a Functions host can run: DIR/easm-export/ and DIR/easm-export.zip.

  --auth WHO       who asks callers who they are, as EASM_AUTH of the app is set: key (default), the host,
                   or entra, the platform's authentication, behind which no function demands a key
  --target TRIPLE  what to build for: x86_64-unknown-linux-gnu (default), or aarch64-unknown-linux-gnu.
                   Always linked statically, with the release profile and without the simulator
  --include PATH   a file or folder below the current folder, put at the same place in the package,
                   for example what EASM_TARGETS=@targets.json names
  --out DIR        where both go (default: dist)
  --binary PATH    package this binary and build none";

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Say how it is used.
    Help,
    /// Make a package.
    Package(Options),
}

/// How to make a package.
#[derive(Debug)]
pub struct Options {
    /// Who stands in front of the functions.
    pub auth: Auth,
    /// What to build for, and what a binary must be made for.
    pub target: String,
    /// What else belongs into it, as written.
    pub include: Vec<PathBuf>,
    /// Where folder and zip go.
    pub out: PathBuf,
    /// A binary that is there already.
    pub binary: Option<PathBuf>,
}

/// The command that `args` ask for.
///
/// # Errors
/// [`Failure::Usage`] for what is not understood.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let mut args = args.into_iter();
    match args.next().as_ref().and_then(|word| word.to_str()) {
        Some("package") => {}
        Some("--help" | "-h" | "help") => return Ok(Command::Help),
        _ => return Err(usage("the one command there is, is `package`")),
    }
    let mut options = Options {
        auth: Auth::Key,
        target: "x86_64-unknown-linux-gnu".to_owned(),
        include: Vec::new(),
        out: PathBuf::from("dist"),
        binary: None,
    };
    while let Some(flag) = args.next() {
        let flag = flag.to_string_lossy().into_owned();
        if flag == "--help" || flag == "-h" {
            return Ok(Command::Help);
        }
        let is_known =
            ["--auth", "--target", "--include", "--out", "--binary"].contains(&flag.as_str());
        if !is_known {
            return Err(usage(&format!("{flag} is not an option of `package`")));
        }
        let is_given = |value: &OsString| !value.is_empty() && !is_flag(value);
        let Some(value) = args.next().filter(is_given) else {
            return Err(usage(&format!("{flag} needs a value")));
        };
        match flag.as_str() {
            "--auth" => {
                let word = value.to_string_lossy().into_owned();
                let auth = Auth::parse(&word);
                options.auth =
                    auth.ok_or_else(|| usage(&format!("--auth {word}: use key or entra")))?;
            }
            "--target" => options.target = value.to_string_lossy().into_owned(),
            "--include" => options.include.push(value.into()),
            "--out" => options.out = value.into(),
            _ => options.binary = Some(value.into()),
        }
    }
    Ok(Command::Package(options))
}

fn is_flag(value: &OsString) -> bool {
    value.to_string_lossy().starts_with("--")
}

fn usage(reason: &str) -> Failure {
    Failure::Usage(format!("{reason}; `cargo xtask --help` says what there is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Command> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let check = |words: &[&str], want: &str| match read(words) {
            Err(Failure::Usage(text)) => assert!(text.contains(want), "{words:?}: {text}"),
            other => panic!("{words:?}: {other:?}"),
        };
        check(&[], "`package`");
        check(&["pack"], "`package`");
        check(&["package", "extra"], "extra is not an option");
        check(&["package", "--included", "a"], "--included is not an option");
        check(&["package", "--out"], "--out needs a value");
        check(&["package", "--out", ""], "--out needs a value");
        check(&["package", "--include", "--out", "x"], "--include needs a value");
        check(&["package", "--auth", "none"], "--auth none: use key or entra");
    }

    #[test]
    fn options_have_defaults_and_include_adds_up() {
        let Ok(Command::Package(options)) =
            read(&["package", "--include", "a", "--include", "b", "--out", "x"])
        else {
            panic!("it is understood");
        };
        assert_eq!(
            (options.target.as_str(), options.auth),
            ("x86_64-unknown-linux-gnu", Auth::Key)
        );
        assert_eq!(options.include, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!((options.out, options.binary), (PathBuf::from("x"), None));
        let Ok(Command::Package(options)) = read(&["package", "--auth", "entra"]) else {
            panic!("it is understood");
        };
        assert_eq!(options.auth, Auth::Entra);
        assert!(matches!(read(&["package", "--help"]), Ok(Command::Help)));
    }
}
