//! The services that go-plugin itself requires: broker, stdio and controller.

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
use crate::socket::{Address, NETWORK};

/// The broker id under which the agent offers its host services.
const HOST_SERVICES: u32 = 1;

type Silent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The broker, which receives the address of the agent's host services. The agent sends the address unprompted when the
/// stream opens, perhaps after Init.
pub(crate) struct Broker {
    host_services: watch::Sender<Option<Address>>,
}

impl Broker {
    /// Creates the broker, and a receiver of the host services' address once it is known.
    pub(crate) fn new() -> (Broker, watch::Receiver<Option<Address>>) {
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
            let offer = offer.ok()?;
            match address_of_host_services(&offer) {
                Some(address) => drop(host_services.send_replace(Some(address))),
                None => tracing::debug!(
                    service = %offer.service_id, network = ?offer.network, address = ?offer.address,
                    "broker offer passed over"
                ),
            }
            None
        });
        Ok(Response::new(Box::pin(offers.chain(tokio_stream::pending()))))
    }
}

/// The address of the agent's host services. `None` if the offer is of something else, or of what cannot be dialled.
fn address_of_host_services(offer: &ConnInfo) -> Option<Address> {
    let fits = offer.service_id == HOST_SERVICES && offer.network == NETWORK && offer.knock.is_none();
    fits.then(|| Address::parse(&offer.address)).flatten()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::goplugin::conn_info::Knock;

    #[test]
    fn only_an_offer_of_the_host_services_is_taken() {
        let good = ConnInfo {
            service_id: HOST_SERVICES,
            network: NETWORK.to_owned(),
            address: "127.0.0.1:10001".to_owned(),
            knock: None,
        };
        assert_eq!(address_of_host_services(&good), Address::parse("127.0.0.1:10001"));
        for other in [
            ConnInfo { service_id: 2, ..good.clone() },
            ConnInfo { network: "udp".to_owned(), ..good.clone() },
            ConnInfo { network: String::new(), ..good.clone() },
            ConnInfo { knock: Some(Knock::default()), ..good },
        ] {
            assert_eq!(address_of_host_services(&other), None, "{other:?}");
        }
    }
}
