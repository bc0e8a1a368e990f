//! Containment of panics: each panic fails its own call and nothing else.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

/// A service whose panics are answered with Internal.
#[derive(Clone)]
pub(crate) struct Contained<S>(pub(crate) S);

impl<S: NamedService> NamedService for Contained<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Contained<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call = self.0.call(request);
        Box::pin(async {
            let answered = contained(async { Ok(call.await.unwrap_or_else(|never| match never {})) }).await;
            Ok(answered.unwrap_or_else(Status::into_http))
        })
    }
}

/// Turns a panic of a call into an Internal error. [`Services::with`](crate::Services::with) does so for every call. A
/// service may call this itself to see the outcome earlier.
///
/// State that a panic may leave half changed must not be used again. The call's future is dropped. State that calls
/// share must be swapped as a whole, or be behind locks that survive a panic.
/// whole or behind locks that outlive a panic.
///
/// # Errors
/// Those of the call, and [`tonic::Code::Internal`] for a panic.
pub async fn contained<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let mut call = pin!(call);
    std::future::poll_fn(|context| {
        std::panic::catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))).unwrap_or_else(|_| {
            Poll::Ready(Err(Status::internal("the plugin panicked: its log says where; please report it")))
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered() {
        let panics = async {
            tokio::task::yield_now().await;
            panic!("a test's")
        };
        assert_eq!(contained::<()>(panics).await.unwrap_err().code(), Code::Internal);
        assert_eq!(contained(async { Ok(1) }).await.unwrap(), 1);
    }
}
