//! The door itself: connections in clear or under TLS, how long a client may take, and how the door is closed.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

use super::app::{AppState, router};

/// A client that has not sent its request's head by then is not going to. Also how long an idle connection is kept.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a drain waits for streams to finish before it lets them go.
const DRAIN_PATIENCE: Duration = Duration::from_secs(120);

/// A certificate and its key, which can be read anew while connections stay.
#[derive(Clone)]
pub struct Tls {
    config: RustlsConfig,
    certificate: PathBuf,
    key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{certificate} and {key} are no certificate chain and key in PEM ({reason}): check server.tls_cert and server.tls_key"
)]
pub struct TlsError {
    certificate: PathBuf,
    key: PathBuf,
    reason: String,
}

impl Tls {
    /// Reads the files.
    pub async fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        // A process has one provider of cryptography; a second call finds the first one's.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = RustlsConfig::from_pem_file(certificate, key).await;
        let config = config.map_err(|e| TlsError {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            reason: e.to_string(),
        })?;
        Ok(Self {
            config,
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Reads the files anew, for connections to come. With an error the old ones stay in use.
    pub async fn reload(&self) -> Result<(), TlsError> {
        let read = self
            .config
            .reload_from_pem_file(&self.certificate, &self.key)
            .await;
        read.map_err(|e| TlsError {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            reason: e.to_string(),
        })
    }
}

/// Serves until `shutdown` resolves, then takes nothing new, lets the answers under way finish, and writes down
/// everything that is still in memory. What has not finished after two minutes is cancelled and booked.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    state: AppState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let handle = Handle::new();
    let (closing, closed) = (state.clone(), handle.clone());
    let drain = tokio::spawn(async move {
        shutdown.await;
        closing.stop_taking();
        closed.graceful_shutdown(Some(DRAIN_PATIENCE));
    });
    let app = router(state.clone()).into_make_service();
    let mut server = axum_server::from_tcp(listener.into_std()?)?.handle(handle);
    patience(server.http_builder());
    let server = server.first_request_timeout(HEAD_PATIENCE);
    let served = match tls {
        Some(tls) => {
            let acceptor = RustlsAcceptor::new(tls.config).acceptor(NoDelayAcceptor::new());
            server.acceptor(acceptor).serve(app).await
        }
        None => server.acceptor(NoDelayAcceptor::new()).serve(app).await,
    };
    // Whatever ended the server, nobody waits for a signal any more.
    drain.abort();
    state.close().await;
    served
}

fn patience(builder: &mut Builder<TokioExecutor>) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_PATIENCE);
}
