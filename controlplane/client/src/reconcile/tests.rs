use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{sync::mpsc, time::timeout};

use super::*;

fn channel_trigger() -> (mpsc::UnboundedSender<&'static str>, Trigger<&'static str>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (
        sender,
        stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|key| (key, receiver))
        })
        .boxed(),
    )
}

#[tokio::test(start_paused = true)]
async fn one_key_never_runs_twice_at_once_and_others_do() {
    let (sender, trigger) = channel_trigger();
    for key in ["a", "b", "a", "c", "a"] {
        sender.send(key).unwrap();
    }
    let now: RefCell<HashMap<&str, usize>> = RefCell::default();
    let most = AtomicUsize::new(0);
    let run = keyed("test", 2, vec![trigger], |key| {
        let (now, most) = (&now, &most);
        async move {
            *now.borrow_mut().entry(key).or_default() += 1;
            assert_eq!(now.borrow()[key], 1);
            most.fetch_max(now.borrow().values().sum(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            *now.borrow_mut().get_mut(key).unwrap() -= 1;
            Ok::<_, std::io::Error>(Action::Done)
        }
    });
    timeout(Duration::from_secs(20), run).await.unwrap_err();
    assert_eq!(most.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_caught_and_the_key_is_retried() {
    let (sender, trigger) = channel_trigger();
    sender.send("a").unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let seen = runs.clone();
    let run = keyed("test", 1, vec![trigger], move |_| {
        let run = seen.fetch_add(1, Ordering::Relaxed);
        async move {
            assert!(run > 1, "fails twice");
            Ok::<_, std::io::Error>(Action::Done)
        }
    });
    timeout(Duration::from_secs(5), run).await.unwrap_err();
    assert_eq!(runs.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn after_runs_the_key_again_at_its_time() {
    let (sender, trigger) = channel_trigger();
    sender.send("a").unwrap();
    let start = Instant::now();
    let times = RefCell::new(Vec::new());
    let run = keyed("test", 1, vec![trigger], |_| {
        times.borrow_mut().push(start.elapsed().as_secs());
        async { Ok::<_, std::io::Error>(Action::After(Duration::from_secs(10))) }
    });
    timeout(Duration::from_secs(35), run).await.unwrap_err();
    assert_eq!(*times.borrow(), [0, 10, 20, 30]);
}
