//! The administrator's listener: an accept loop on the control runtime, so that it answers however
//! busy the workers are.

use super::admin::{Admin, AdminState};
use super::listen::Bound;
use log::warn;
use pingora::apps::ServerApp;
use pingora::apps::http_app::HttpServer;
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as Transport;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// More than scrapers, probes and people need; fewer than could starve the workers of descriptors.
const MOST: usize = 256;

/// After a failed accept, the wait before the next try.
const BREATHER: Duration = Duration::from_millis(50);

/// Serves the administrator until the runtime ends.
///
/// # Errors
/// When the runtime cannot watch the socket.
pub(super) fn start(bound: Bound, token: Option<&str>, state: Arc<dyn AdminState>) -> io::Result<()> {
    let Bound::Tcp(listener) = bound else {
        return Err(io::Error::other("the admin address is ip:port"));
    };
    let listener = TcpListener::from_std(listener)?;
    let app = Arc::new(HttpServer::new_app(Admin::new(state, token)));
    tokio::spawn(accept(listener, app));
    Ok(())
}

async fn accept(listener: TcpListener, app: Arc<HttpServer<Admin>>) {
    let room = Arc::new(Semaphore::new(MOST));
    // Never told to end: it answers until the very last, and says that the process is ending.
    let (_ending, shutdown) = watch::channel(false);
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
                tokio::spawn(async move {
                    let stream: Stream = Box::new(Transport::from(socket));
                    let mut next = app.process_new(stream, &shutdown).await;
                    while let Some(stream) = next {
                        next = app.process_new(stream, &shutdown).await;
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(error:%; "the administrator's connection could not be accepted");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
}
