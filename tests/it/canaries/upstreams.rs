//! Each thing behind us fails in each way, on a command line.

use std::time::Duration;

use easm_export::sim::{Fault, SignIn};

use super::scene::{EXPORT, FORMATS, Scene, all, assert_none, watched};

/// Something behind us, as a request to it looks.
#[derive(Clone, Copy)]
pub struct Upstream {
    pub name: &'static str,
    pub sign_in: SignIn,
    pub path: &'static str,
    pub query: &'static str,
}

const fn upstream(
    name: &'static str,
    sign_in: SignIn,
    path: &'static str,
    query: &'static str,
) -> Upstream {
    Upstream { name, sign_in, path, query }
}

use SignIn::{ClientSecret, Federated, KeyVault, ManagedIdentity, WorkloadIdentity};

/// Everything that is asked for something, or handed something, by an export.
pub const UPSTREAMS: [Upstream; 13] = [
    upstream("identity endpoint, for ARM", ManagedIdentity, "/msi/token", "management"),
    upstream("identity endpoint, for EASM", ManagedIdentity, "/msi/token", "easm"),
    upstream("identity endpoint, to vouch", Federated, "/msi/token", ""),
    upstream("Entra, secret", ClientSecret, "/oauth2/v2.0/token", ""),
    upstream("Entra, federated", Federated, "/oauth2/v2.0/token", ""),
    upstream("Entra, workload", WorkloadIdentity, "/oauth2/v2.0/token", ""),
    upstream("identity endpoint, for the vault", KeyVault, "/msi/token", "vault"),
    upstream("vault", KeyVault, "/secrets/", ""),
    upstream("Entra, secret of the vault", KeyVault, "/oauth2/v2.0/token", ""),
    upstream("ARM", ManagedIdentity, "/providers/", ""),
    upstream("count", ManagedIdentity, "/assets", "maxpagesize=1"),
    upstream("list", ManagedIdentity, "/assets", "mark=*"),
    upstream("next page", ManagedIdentity, "/assets", "mark=AoE"),
];

/// Every way to fail that the simulator plays. Where it can, it repeats what it was sent.
fn ways(elsewhere: &str) -> Vec<Fault> {
    let mut all: Vec<Fault> =
        [400, 401, 403, 404, 408, 409, 429, 500, 503].map(Fault::EchoToken).into();
    all.extend([
        Fault::Status { status: 429, retry_after: Some("3600".to_owned()) },
        Fault::Status { status: 503, retry_after: Some("soon".to_owned()) },
        Fault::NotJson(502),
        Fault::NotJson(200),
        Fault::Garbage,
        Fault::Truncated,
        Fault::CutBody,
        Fault::Reset,
        Fault::Hang,
        Fault::Redirect(elsewhere.to_owned()),
        Fault::Slow(Duration::from_millis(500)),
    ]);
    all
}

#[tokio::test]
async fn whatever_fails_in_whatever_way_no_credential_is_told() {
    let elsewhere = "https://elsewhere.easm-export.invalid/signin?from=here";
    let mut cases = Vec::new();
    for (n, upstream) in UPSTREAMS.into_iter().enumerate() {
        for (at, fault) in ways(elsewhere).into_iter().enumerate() {
            cases.push(fails(upstream, fault, FORMATS[(n + at) % FORMATS.len()]));
        }
    }
    assert_none(&all(cases).await);
}

/// An answer that never ends is read up to a limit of many megabytes, so these are few.
#[tokio::test]
async fn an_answer_without_end_tells_no_credential() {
    let of = ["identity endpoint, for ARM", "Entra, secret", "vault", "ARM", "list"];
    let of = UPSTREAMS.into_iter().filter(|upstream| of.contains(&upstream.name));
    let cases = of.zip(FORMATS.into_iter().cycle());
    assert_none(&all(cases.map(|(of, format)| fails(of, Fault::EndlessBody, format))).await);
}

/// What an export tells whose `upstream` always fails like that.
async fn fails(upstream: Upstream, fault: Fault, format: &str) -> Vec<String> {
    let Upstream { name, sign_in, path, query } = upstream;
    let case = format!("{name}, {fault:?}, {format}");
    let is_right = matches!(fault, Fault::Slow(_));
    let scene = Scene::failing(path, query, fault).await;
    let mut command = scene.command(sign_in, &EXPORT);
    // A second page, and so a cursor.
    command.env("EASM_PAGE_SIZE", "2").env("EASM_LOG_FORMAT", format);
    let told = watched(command, || !is_right && scene.was_asked(path, query)).await;
    let mut found = scene.findings(&case, &told);
    if !scene.was_asked(path, query) {
        found.push(format!("{case}: nobody was asked: {}", told.stderr_text()));
    }
    if (told.code == 0) != is_right {
        found.push(format!("{case}: exit code {}", told.code));
    }
    if told.stderr.len() < 500 {
        found.push(format!("{case}: the log says nothing: {}", told.stderr_text()));
    }
    found
}
