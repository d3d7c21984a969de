//! What the runtime tells of an image while a container waits for it, as events of the pod.

use std::future::Future;

use crate::{events::PodEvents, shared::Shared};

/// Does the work, and meanwhile passes on what is told of the image that a container waits for, under the reason: each
/// message once, however many containers of the node have it told.
pub(super) async fn told<T>(
    shared: &Shared,
    events: &PodEvents<'_>,
    container: &str,
    image: &str,
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
                if reference == image && message != last {
                    events.normal(Some(container), reason, message.clone());
                    last = message;
                }
            }
        }
    }
}
