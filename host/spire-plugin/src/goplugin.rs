//! The services that go-plugin itself requires: broker, stdio and controller.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::limits::SHUTDOWN_PAUSE;
use crate::proto::goplugin::grpc_broker_server::GrpcBroker;
use crate::proto::goplugin::grpc_controller_server::GrpcController;
use crate::proto::goplugin::grpc_stdio_server::GrpcStdio;
use crate::proto::goplugin::{ConnInfo, StdioData};
use crate::socket::NETWORK;

/// The broker id under which the agent offers its host services.
const HOST_SERVICES: u32 = 1;

type Silent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The broker, which receives the address of the agent's host services. The agent sends the address unprompted when the
/// stream opens, perhaps after Init.
pub(crate) struct Broker {
    host_services: watch::Sender<Option<PathBuf>>,
}

impl Broker {
    /// Creates the broker, and a receiver of the host services' socket once it is known.
    pub(crate) fn new() -> (Broker, watch::Receiver<Option<PathBuf>>) {
        let (host_services, receiver) = watch::channel(None);
        (Broker { host_services }, receiver)
    }
}

#[tonic::async_trait]
impl GrpcBroker for Broker {
    type StartStreamStream = Silent<ConnInfo>;

    /// Keeps the stream open until the connection closes. The agent would otherwise fail to load the plugin.
    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        let host_services = self.host_services.clone();
        let offers = request.into_inner().filter_map(move |offer| {
            match offer {
                Ok(offer) if offer.service_id == HOST_SERVICES && offer.network == NETWORK && offer.knock.is_none() => {
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

/// The plugin's stdout and stderr over gRPC. The stream stays open and empty, because the agent reads stderr itself.
pub(crate) struct Stdio;

#[tonic::async_trait]
impl GrpcStdio for Stdio {
    type StreamStdioStream = Silent<StdioData>;

    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<Self::StreamStdioStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::pending())))
    }
}

/// The controller, which ends the plugin. The controller answers before the plugin stops, because the agent's streams
/// end only after the answer.
pub(crate) struct Controller {
    stop: Arc<watch::Sender<bool>>,
}

impl Controller {
    pub(crate) fn new(stop: Arc<watch::Sender<bool>>) -> Controller {
        Controller { stop }
    }
}

#[tonic::async_trait]
impl GrpcController for Controller {
    async fn shutdown(&self, _: Request<()>) -> Result<Response<()>, Status> {
        let stop = Arc::clone(&self.stop);
        tokio::spawn(async move {
            // The graceful stop still sends answers that are complete, and the pause makes this answer one of them.
            tokio::time::sleep(SHUTDOWN_PAUSE).await;
            let _ = stop.send(true);
        });
        Ok(Response::new(()))
    }
}
