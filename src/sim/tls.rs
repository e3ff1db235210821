//! A certificate authority of the simulator's own, and a listener that it vouches for.
//!
//! The authority does not derive from the seed: keys of a known origin would be
//! no keys. Nothing here needs or sets a TLS provider for the whole process.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use axum_server::{
    Handle,
    accept::NoDelayAcceptor,
    tls_rustls::{RustlsConfig, from_tcp_rustls},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{sync::watch, task::JoinHandle};

/// How long answers that are under way may take once the simulator is closing:
/// less than [`STOP_MAX`](super::STOP_MAX), so that connections are closed by then.
const GRACE_MAX: Duration = Duration::from_secs(1);

/// Whom the simulator's certificates are signed by.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> io::Result<Self> {
        let mut params = named("easm-export simulator CA", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        CertifiedIssuer::self_signed(params, key).map(Self).map_err(io::Error::other)
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names and addresses, and its key; both PEM.
    pub fn certificate(&self, names: &[&str]) -> io::Result<(String, String)> {
        let mut params = named("easm-export simulator", names)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.0).map_err(io::Error::other)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn config(&self, names: &[&str]) -> io::Result<ServerConfig> {
        let (certificate, key) = self.certificate(names)?;
        let chain = CertificateDer::from_pem_slice(certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
        let (chain, key) = (chain.map_err(io::Error::other)?, key.map_err(io::Error::other)?);
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn named(name: &str, names: &[&str]) -> io::Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// Serves `app` over TLS on any free port of 127.0.0.1 until `closing`. Its
/// certificate is for `localhost`, 127.0.0.1 and `names`.
pub fn serve(
    authority: &Authority,
    names: &[&str],
    app: Router,
    mut closing: watch::Receiver<bool>,
) -> io::Result<(SocketAddr, JoinHandle<io::Result<()>>)> {
    let config = authority.config(&[&["localhost", "127.0.0.1"], names].concat())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    let handle = Handle::new();
    let server = from_tcp_rustls(listener, RustlsConfig::from_config(Arc::new(config)))?
        .map(|tls| tls.acceptor(NoDelayAcceptor::new()))
        .http1_only()
        .handle(handle.clone());
    tokio::spawn(async move {
        // An error means that the state is gone, which is the end as well.
        let _ended = closing.wait_for(|closing| *closing).await;
        handle.graceful_shutdown(Some(GRACE_MAX));
    });
    Ok((addr, tokio::spawn(server.serve(app.into_make_service()))))
}
