//! Containment of panics: each panic fails its own call and nothing else.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::Poll;

use tonic::Status;

/// Turns a panic of a call into an Internal error. [`Services::with`](crate::Services::with) does so for every call. A
/// service may call this itself to see the outcome earlier.
///
/// State that a panic may leave half changed must not be used again. The call's future is dropped. State that calls
/// share must be swapped as a whole, or be behind locks that survive a panic.
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
