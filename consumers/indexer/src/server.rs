//! Serves a router over TCP, and waits for no client without end: not for a request that does not arrive, and not for one
//! that takes no answer. Who sends the body of a request too slowly is left to who reads it.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sluice_consumer::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tracing::{debug, warn};

/// Rest after a connection could not be taken: mostly there are no file descriptors left.
const REST: Duration = Duration::from_secs(1);

/// What clients are put up with.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long a client may take to send the head of a request, counted from the end of the answer before, and how long it
    /// may take nothing of what is sent to it.
    pub client: Duration,
    /// Connections at once. More wait in the listener's queue.
    pub connections: u32,
}

/// Serves until a stop is asked for, and then what is being answered. Waits for the last connection to end.
pub async fn serve(listener: TcpListener, router: Router, patience: Patience, shutdown: Shutdown) {
    let seats = Arc::new(Semaphore::new(patience.connections as usize));
    loop {
        // Both are cancel-safe: a seat that was taken in vain is given back.
        let (socket, seat) = tokio::select! {
            accepted = accept(&listener, &seats) => accepted,
            () = shutdown.requested() => break,
        };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(socket, router, patience, &shutdown).await {
                debug!(%error, "a connection broke off");
            }
            drop(seat);
        });
    }
    drop(listener);
    // The semaphore is never closed.
    let _ = seats.acquire_many(patience.connections).await;
}

async fn accept(listener: &TcpListener, seats: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    let seat = Arc::clone(seats).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return (socket, seat),
            Err(error) if is_of_client(&error) => {}
            Err(error) => {
                warn!(%error, "failed to take a connection");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Whether the client went before it was heard.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(
    socket: TcpStream,
    router: Router,
    patience: Patience,
    shutdown: &Shutdown,
) -> hyper::Result<()> {
    forbearing(&socket, patience.client);
    let mut socket = TimeoutStream::new(socket);
    socket.set_write_timeout(Some(patience.client));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.client);
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(http.serve_connection(TokioIo::new(Box::pin(socket)), service));
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// A socket without these options serves as well, only worse.
fn forbearing(socket: &TcpStream, patience: Duration) {
    // Events are small, and are to be seen at once.
    let mut set = socket.set_nodelay(true);
    // What the system has taken from us, but a client that is gone without a word does not confirm.
    #[cfg(target_os = "linux")]
    {
        set = set.and(socket2::SockRef::from(socket).set_tcp_user_timeout(Some(patience)));
    }
    if let Err(error) = set {
        debug!(%error, "failed to set a socket's options");
    }
}
