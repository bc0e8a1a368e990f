//! The services of a plugin, found by the path of a request.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use crate::contained::contained;

/// The services by their full names, such as `grpc.health.v1.Health`.
#[derive(Clone, Default)]
pub(crate) struct Routes(HashMap<&'static str, Handler>);

/// Begins a call of one service.
type Handler = Arc<dyn Fn(http::Request<Body>) -> Reply + Send + Sync>;
/// The future of a call, which always ends with a response.
pub(crate) type Reply = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl Routes {
    /// Adds a service. Its panics are answered with Internal ([`contained`]).
    ///
    /// # Panics
    /// If the same service was added before.
    pub(crate) fn add<S>(&mut self, service: S)
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let handler = move |request| -> Reply {
            // A service of tonic is ready at all times.
            let call = service.clone().call(request);
            Box::pin(async {
                let answered = contained(async { Ok(call.await.unwrap_or_else(|never| match never {})) }).await;
                Ok(answered.unwrap_or_else(Status::into_http))
            })
        };
        let replaced = self.0.insert(S::NAME, Arc::new(handler));
        assert!(replaced.is_none(), "the service {} was added before", S::NAME);
    }

    /// Begins the call of a request, whose path is `/SERVICE/METHOD`.
    pub(crate) fn call(&self, request: http::Request<Body>) -> Reply {
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        match service.and_then(|(name, _)| self.0.get(name)) {
            Some(handler) => handler(request),
            None => Box::pin(async { Ok(Status::unimplemented("the plugin has no such service").into_http()) }),
        }
    }
}
