//! The binary: hands the process's arguments and environment to [`easm_export::cli`].

use std::process::ExitCode;
use std::time::Duration;

/// Longest wait for work on files to end.
const SHUTDOWN_SECONDS_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("the first and only provider");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code =
                runtime.block_on(easm_export::cli::main(std::env::args_os(), std::env::vars_os()));
            // Files that are being written are closed and removed, but a thread that hangs in a
            // system call must not keep the process.
            runtime.shutdown_timeout(SHUTDOWN_SECONDS_MAX);
            ExitCode::from(code)
        }
        Err(err) => {
            let said =
                format!("easm-export: start the runtime: {err}; free some threads or memory");
            easm_export::telemetry::Terminal::default().say(&said);
            ExitCode::FAILURE
        }
    }
}
