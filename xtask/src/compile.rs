//! Builds the binary that is packaged: static, with the release profile, without the simulator.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, Result};

/// Builds the binary for `target`, which must be one that [`crate::elf::machine`] knows, and gives its path.
///
/// # Errors
/// [`Failure::Usage`] if Rust's library for `target` is not installed, [`Failure::Failed`] if it does
/// not build.
pub fn release(root: &Path, target: &str) -> Result<PathBuf> {
    check_installed(target)?;
    let target_dir = root.join(var_or("CARGO_TARGET_DIR", "target"));
    let status = Command::new(var_or("CARGO", "cargo"))
        .current_dir(root)
        .args([
            "build",
            "--locked",
            "--release",
            "--package",
            "easm-export",
            "--bin",
            "easm-export",
        ])
        .args(["--no-default-features", "--target", target])
        .arg("--target-dir")
        .arg(&target_dir)
        .arg("--config")
        .arg(format!("target.{target}.rustflags=[\"-Ctarget-feature=+crt-static\"]"))
        // Either would win over the line above, and the binary would not be static.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .map_err(|err| Failure::Failed(format!("start cargo: {err}; is it on the path?")))?;
    if !status.success() {
        return Err(Failure::Failed(format!(
            "the binary for {target} did not build; see above, and docs/functions.md for what it needs"
        )));
    }
    Ok(target_dir.join(target).join("release/easm-export"))
}

fn check_installed(target: &str) -> Result<()> {
    let output = Command::new(var_or("RUSTC", "rustc"))
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .map_err(|err| Failure::Failed(format!("start rustc: {err}; is it on the path?")))?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() && Path::new(&folder).is_dir() {
        true => Ok(()),
        false => Err(Failure::Usage(format!(
            "Rust's library for {target} is not installed; run `rustup target add {target}`"
        ))),
    }
}

fn var_or(name: &str, default: impl Into<OsString>) -> OsString {
    std::env::var_os(name).unwrap_or_else(|| default.into())
}
