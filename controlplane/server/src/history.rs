//! How long the history of a store that nobody shares is kept: as long as kube-apiserver keeps it.
//!
//! Clients page and watch through history. They are promised none of it, yet some wait for it to end: a list's token that
//! never expires is as wrong as one that expires at once. How much a burst of writes may take up, the store bounds itself.

use std::{convert::Infallible, time::Duration};

use store::Backend;

/// Forgets, each time, what was history the time before.
pub(crate) async fn keep_short(store: &dyn Backend, every: Duration) -> Infallible {
    let mut before = None;
    loop {
        if let Some(before) = before.take()
            && let Err(error) = store.compact(before).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "history was not compacted");
        }
        before = store.revision().await.ok();
        tokio::time::sleep(every).await;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use store::{Error, Revision, Write, memory::Memory};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn history_lasts_for_one_period_and_less_than_two() {
        let (store, every) = (Memory::new(), Duration::from_secs(300));
        let write = |key: &str| store.write(Write::create(key.to_owned(), Bytes::from("x")));
        write("a").await.expect("written");
        let at: Revision = store.revision().await.expect("a revision");
        let readable = || async {
            match store.watch("", at).await {
                Ok(_) => true,
                Err(Error::Compacted { .. }) => false,
                Err(other) => panic!("{other}"),
            }
        };
        let look = async {
            tokio::time::sleep(every / 2).await;
            write("b").await.expect("written");
            assert!(readable().await);
            tokio::time::sleep(every).await;
            assert!(readable().await);
            tokio::time::sleep(every).await;
            assert!(!readable().await);
            assert!(store.get("a").await.expect("a read").value.is_some());
        };
        tokio::select! {
            () = look => {}
            never = keep_short(&store, every) => match never {},
        }
    }
}
