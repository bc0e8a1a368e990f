//! One connection of the agent: HTTP/2, and the calls that arrive on it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::body::Body;

use crate::limits::CANCELLED_CALLS;
use crate::routes::Routes;

/// Serves a connection until it is closed. Once `stop` is true, no more calls are accepted, and those in flight end.
pub(crate) async fn serve<C>(connection: C, routes: Routes, mut stop: watch::Receiver<bool>)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<_>| routes.call(request.map(Body::new)));
    let mut builder = http2::Builder::new(PollOnArrival);
    builder
        .max_concurrent_streams(None)
        .max_pending_accept_reset_streams(Some(CANCELLED_CALLS))
        .auto_date_header(false);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(connection), service));
    let stopped = pin!(async { stop.wait_for(|&stop| stop).await.is_ok() });
    let served = tokio::select! {
        served = &mut serving => served,
        _ = stopped => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!("a connection ended: {error}");
    }
}

/// Polls each call once in the task of its connection, and gives a task of its own only to a call that waits.
///
/// Most attestations are answered at the first poll. Their replies are then written together, without a switch to another
/// task or thread.
#[derive(Clone)]
struct PollOnArrival;

impl<F> Executor<F> for PollOnArrival
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        let mut call = Box::pin(call);
        // The new task polls the call again at once, which registers the waker of that task.
        if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(call);
        }
    }
}
