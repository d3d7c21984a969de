//! The whole-state loop: when anything changed, and once per period, do everything from the state as it is.
//!
//! Changes are gathered for a moment first, so that a burst costs one run. A failed run is retried with growing delays;
//! until one succeeds, what the last success made stays as it was (fail static).

use std::{convert::Infallible, error::Error, panic::AssertUnwindSafe, time::Duration};

use futures::{FutureExt, future::select_all};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tracing::Instrument;

use crate::backoff::Backoff;

/// A burst is over when nothing changed for this long.
const QUIET: Duration = Duration::from_millis(10);
/// A burst is not waited for any longer than this.
const LONGEST_BURST: Duration = Duration::from_millis(50);

/// Runs `f` now, after every change that one of `triggers` reports, and every `period`. Never returns; drop it to stop.
pub async fn run<F, Fut, E>(
    name: &'static str,
    period: Duration,
    mut triggers: Vec<watch::Receiver<u64>>,
    mut f: F,
) -> Infallible
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Error + 'static,
{
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(30));
    loop {
        triggers.iter_mut().for_each(watch::Receiver::mark_unchanged);
        let span = tracing::debug_span!("pass", of = name);
        let result = AssertUnwindSafe(async { f().await })
            .catch_unwind()
            .instrument(span)
            .await;
        let again = match result {
            Ok(Ok(())) => {
                backoff.reset();
                period
            }
            Ok(Err(error)) => {
                let delay = backoff.next(rand::random());
                tracing::warn!(
                    of = name,
                    error = &error as &dyn Error,
                    ?delay,
                    "pass failed and will be retried"
                );
                delay
            }
            Err(_) => {
                tracing::error!(of = name, "pass panicked and will be retried");
                backoff.next(rand::random())
            }
        };
        tokio::select! {
            () = changed(&mut triggers) => end_of_burst(&mut triggers).await,
            () = sleep(again) => {}
        }
    }
}

async fn end_of_burst(triggers: &mut Vec<watch::Receiver<u64>>) {
    let last = Instant::now() + LONGEST_BURST;
    while timeout_at((Instant::now() + QUIET).min(last), changed(triggers))
        .await
        .is_ok()
    {
        if Instant::now() >= last {
            break;
        }
    }
    sleep_until((Instant::now()).min(last)).await;
}

/// Waits until any of the counters moves. One whose informer has ended never moves again and is let go.
async fn changed(triggers: &mut Vec<watch::Receiver<u64>>) {
    loop {
        if triggers.is_empty() {
            std::future::pending::<()>().await;
        }
        let (result, at, _) = select_all(triggers.iter_mut().map(|trigger| Box::pin(trigger.changed()))).await;
        if result.is_ok() {
            return;
        }
        triggers.swap_remove(at);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_one_run_and_the_period_another() {
        let sender = watch::Sender::new(0u64);
        let start = Instant::now();
        let times = RefCell::new(Vec::new());
        let run = run("test", Duration::from_secs(10), vec![sender.subscribe()], || {
            times.borrow_mut().push(start.elapsed().as_millis());
            async { Ok::<_, std::io::Error>(()) }
        });
        let burst = async {
            sleep(Duration::from_secs(1)).await;
            for _ in 0..3 {
                sender.send_modify(|n| *n += 1);
                sleep(Duration::from_millis(5)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! { _ = run => {}, () = burst => {}, () = sleep(Duration::from_secs(15)) => {} }
        let times = times.into_inner();
        assert_eq!(times.len(), 3, "{times:?}");
        assert_eq!(times[0], 0);
        assert!(
            (1010..=1060).contains(&times[1]) && times[2] == times[1] + 10_000,
            "{times:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_burst_does_not_hold_the_run_back() {
        let sender = watch::Sender::new(0u64);
        let runs = Cell::new(0);
        let run = run("test", Duration::from_secs(1000), vec![sender.subscribe()], || {
            runs.set(runs.get() + 1);
            async { Ok::<_, std::io::Error>(()) }
        });
        let storm = async {
            loop {
                sleep(Duration::from_millis(1)).await;
                sender.send_modify(|n| *n += 1);
            }
        };
        tokio::select! { _ = run => {}, () = storm => {}, () = sleep(Duration::from_secs(1)) => {} }
        assert!(runs.get() >= 15, "{}", runs.get());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_retried_sooner_than_the_period() {
        let runs = Cell::new(0);
        let run = run("test", Duration::from_secs(1000), vec![], || {
            runs.set(runs.get() + 1);
            let fails = runs.get() < 3;
            async move {
                if fails {
                    Err(std::io::Error::other("no"))
                } else {
                    Ok(())
                }
            }
        });
        tokio::select! { _ = run => {}, () = sleep(Duration::from_secs(5)) => {} }
        assert_eq!(runs.get(), 3);
    }
}
