//! `/livez`, `/readyz` and `/metrics` over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

/// What a process says of its own state.
pub trait Health: Send + Sync + 'static {
    /// `Err` says why the main loop makes no progress. Idle counts as progress.
    fn live(&self) -> Result<(), String>;
    /// `Err` says why it cannot serve now.
    fn ready(&self) -> Result<(), String>;
}

#[derive(Clone)]
struct App {
    health: Arc<dyn Health>,
    metrics: PrometheusHandle,
}

/// Binds the address and returns it (port 0 is replaced by the real one) with the server, to be awaited.
///
/// # Errors
/// The address cannot be bound; the error names it.
pub async fn serve(
    address: SocketAddr,
    health: Arc<dyn Health>,
    metrics: PrometheusHandle,
    stop: crate::shutdown::Shutdown,
) -> anyhow::Result<(SocketAddr, impl Future<Output = std::io::Result<()>>)> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("failed to listen on {address}"))?;
    let bound = listener.local_addr()?;
    let app = Router::new()
        .route("/livez", get(|State(app): State<App>| async move { answer(app.health.live()) }))
        .route("/readyz", get(|State(app): State<App>| async move { answer(app.health.ready()) }))
        .route("/metrics", get(|State(app): State<App>| async move { app.metrics.render() }))
        .with_state(App { health, metrics });
    let server = axum::serve(listener, app).with_graceful_shutdown(async move { stop.requested().await });
    Ok((bound, server.into_future()))
}

fn answer(state: Result<(), String>) -> (StatusCode, String) {
    match state {
        Ok(()) => (StatusCode::OK, "ok\n".into()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
    }
}
