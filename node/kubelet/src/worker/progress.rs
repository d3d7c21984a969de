//! What the runtime tells of an image while a container waits for it, as events of the pod.

use std::future::Future;

use crate::{events::PodEvents, pod::Container, shared::Shared};

/// Does the work, and meanwhile passes on what is told of the container's image, under the reason: each message once,
/// however many containers of the node have it told.
pub(super) async fn told<T>(
    shared: &Shared,
    events: &PodEvents<'_>,
    container: &Container,
    reason: &str,
    work: impl Future<Output = T>,
) -> T {
    let mut images = shared.observer.images();
    let mut last = String::new();
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Ok((reference, message)) = images.recv() => {
                if reference == container.image && message != last {
                    events.normal(Some(&container.name), reason, message.clone());
                    last = message;
                }
            }
        }
    }
}
