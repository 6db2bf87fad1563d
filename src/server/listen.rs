//! The door itself: connections in clear or under TLS, how long a client may take, and how the door is closed.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

use super::app::{AppState, router};
use super::limits::Limits;
use super::patience::PatientAcceptor;

/// Bytes that a request's head may have, and that are read ahead of a body.
const MOST_HEAD: usize = 64 << 10;

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
    let limits = state.limits().clone();
    let drain_patience = limits.drain_patience;
    let handle = Handle::new();
    let (closing, closed) = (state.clone(), handle.clone());
    let drain = tokio::spawn(async move {
        shutdown.await;
        closing.stop_taking();
        closed.graceful_shutdown(Some(drain_patience));
    });
    let app = router(state.clone()).into_make_service();
    let mut server = axum_server::from_tcp(listener.into_std()?)?.handle(handle);
    bound(server.http_builder(), &limits);
    let server = server.first_request_timeout(limits.head_patience);
    let acceptor = PatientAcceptor(limits.write_patience);
    let served = match tls {
        Some(tls) => {
            let acceptor = RustlsAcceptor::new(tls.config).acceptor(acceptor);
            server.acceptor(acceptor).serve(app).await
        }
        None => server.acceptor(acceptor).serve(app).await,
    };
    // Whatever ended the server, nobody waits for a signal any more.
    drain.abort();
    state.close().await;
    served
}

fn bound(builder: &mut Builder<TokioExecutor>, limits: &Limits) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(MOST_HEAD)
        .header_read_timeout(limits.head_patience);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MOST_HEAD as u32)
        .keep_alive_interval(limits.head_patience);
}
