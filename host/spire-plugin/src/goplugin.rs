//! go-plugin's own services: broker, stdio, controller.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::proto::broker_server::GrpcBroker;
use super::proto::controller_server::GrpcController;
use super::proto::stdio_server::GrpcStdio;
use super::proto::{ConnInfo, StdioData};

/// The id under which the agent offers its host services.
const HOST_SERVICES: u32 = 1;

type Silent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The broker: takes the address of the agent's host services. It comes unprompted when the stream opens, perhaps after Init.
pub(super) struct Broker {
    host_services: watch::Sender<Option<PathBuf>>,
}

impl Broker {
    /// The broker, and the socket of the host services once it is known.
    pub(super) fn new() -> (Broker, watch::Receiver<Option<PathBuf>>) {
        let (host_services, receiver) = watch::channel(None);
        (Broker { host_services }, receiver)
    }
}

#[tonic::async_trait]
impl GrpcBroker for Broker {
    type StartStreamStream = Silent<ConnInfo>;

    /// Stays open until the connection closes: the agent fails the load otherwise.
    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        let host_services = self.host_services.clone();
        let offers = request.into_inner().filter_map(move |offer| {
            match offer {
                Ok(offer) if offer.service_id == HOST_SERVICES && offer.network == "unix" && offer.knock.is_none() => {
                    host_services.send_replace(Some(PathBuf::from(offer.address)));
                }
                Ok(offer) => {
                    tracing::debug!(service = %offer.service_id, network = ?offer.network, "broker offer passed over")
                }
                Err(_) => {}
            }
            None
        });
        Ok(Response::new(Box::pin(offers.chain(tokio_stream::pending()))))
    }
}

/// Our stdout and stderr through gRPC: nothing, stderr is read as it is. The stream stays open.
pub(super) struct Stdio;

#[tonic::async_trait]
impl GrpcStdio for Stdio {
    type StreamStdioStream = Silent<StdioData>;

    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<Self::StreamStdioStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::pending())))
    }
}

/// Ends the plugin. Answers first: the agent's streams end only after the answer.
pub(super) struct Controller {
    stop: Arc<watch::Sender<bool>>,
}

impl Controller {
    pub(super) fn new(stop: Arc<watch::Sender<bool>>) -> Controller {
        Controller { stop }
    }
}

#[tonic::async_trait]
impl GrpcController for Controller {
    async fn shutdown(&self, _: Request<()>) -> Result<Response<()>, Status> {
        let stop = Arc::clone(&self.stop);
        tokio::spawn(async move {
            // The graceful stop sends what is answered, this answer too.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            let _ = stop.send(true);
        });
        Ok(Response::new(()))
    }
}
