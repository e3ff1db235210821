//! `easm-export serve`: the custom handler. The Functions host starts it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tracing::info;

use crate::config::{Env, parse};
use crate::error::{Error, Kind, Result};
use crate::functions::{App, TABLE};
use crate::host::{self, parent::Parent};
use crate::telemetry::Terminal;

/// Where the host says which port it looks for us on.
pub const PORT: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";

/// Serves until the host is gone. Never succeeds: the host does not start a handler again that ended
/// without an error.
///
/// # Errors
/// What kept it from serving, or ended it.
pub async fn run(env: Env, terminal: &Terminal) -> Result<u8> {
    let parent = Parent::now();
    let Some(port) = env.get(PORT) else {
        return Err(Error::new(Kind::Usage, "serve")
            .because(format!("{PORT} is not set"))
            .advise("let the Functions host start it, for example with `func start`"));
    };
    let port = parse::number(PORT, port, 1..=u64::from(u16::MAX))?;
    let port = u16::try_from(port).expect("checked above");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|err| {
        Error::new(Kind::Config, format!("listen on 127.0.0.1:{port}"))
            .because(err.kind().to_string())
            .advise("end what else listens there")
    })?;
    info!(port, version = env!("CARGO_PKG_VERSION"), "Serving");
    let app = Arc::new(App::new(env, terminal));
    let time_max = app.answer_time_max();
    Err(host::serve(listener, TABLE, app, time_max, parent).await)
}
