//! File system work, off the threads that serve everybody.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::{JoinError, spawn_blocking},
};

/// Does `work` on a thread of its own. On a runtime of one thread it is done at once: there is nobody to hold up but
/// whoever waits for it, and the order of events then does not depend on how fast a disk is.
///
/// # Errors
/// The work panicked.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Ok(work()),
        _ => spawn_blocking(work).await,
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{ThreadId, current};

    async fn worker() -> ThreadId {
        super::run(|| current().id()).await.expect("works")
    }

    #[tokio::test]
    async fn works_at_once_where_there_is_one_thread() {
        assert_eq!(worker().await, current().id());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn works_elsewhere_where_there_are_several() {
        assert_ne!(worker().await, current().id());
    }
}
